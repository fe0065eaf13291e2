package engine

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455, 1.3 wants it; nothing is secured by it
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// acceptGUID is appended to the client's key (RFC 6455, 1.3).
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

	// switchTimeout bounds the writing of the 101 or the 100, which a new socket takes at once.
	switchTimeout = 5 * time.Second
)

// checkUpgrade reads the handshake's headers (RFC 6455, 4.2.1) and returns the
// value of Sec-WebSocket-Accept, or the refusal.
func checkUpgrade(r *http.Request) (accept string, status int, text string) {
	switch {
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1):
		return "", http.StatusBadRequest, "Bad request: a WebSocket handshake is a GET of HTTP/1.1"
	case r.ContentLength != 0:
		return "", http.StatusBadRequest, "Bad request: a WebSocket handshake has no body"
	case !hasToken(r.Header["Upgrade"], "websocket") || !hasToken(r.Header["Connection"], "upgrade"):
		return "", http.StatusUpgradeRequired, "Upgrade required: this path speaks WebSocket"
	case len(r.Header["Sec-Websocket-Version"]) != 1 || r.Header.Get("Sec-WebSocket-Version") != "13":
		return "", http.StatusUpgradeRequired, "Upgrade required: WebSocket version 13"
	}
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return "", http.StatusBadRequest, "Bad request: one Sec-WebSocket-Key is needed"
	}
	if k, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(k) != 16 {
		return "", http.StatusBadRequest, "Bad request: Sec-WebSocket-Key is not 16 bytes in base64"
	}
	sum := sha1.Sum([]byte(keys[0] + acceptGUID)) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:]), 0, ""
}

// hasToken reports whether a header that is a comma-separated list has a token, in
// any case. Tokens are ASCII and stand between blanks and tabs (RFC 9110, 5.6): the
// length keeps EqualFold from taking the letter ſ for an s.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			part = strings.Trim(part, " \t")
			if len(part) == len(token) && strings.EqualFold(part, token) {
				return true
			}
		}
	}
	return false
}

// early is what the client sent along with its handshake and what was read already:
// by net/http, and below TLS along with the PROXY protocol's header.
type early struct{ plain, sealed []byte }

// upgrade joins a receiver to its channel, takes the connection from net/http, writes
// the answer that there is before the hand-over (a WebSocket's 101) and hands the
// connection over. Whatever fails, a panic too, the session is closed. sp is a descriptor
// for the hand-over. A receiver over HTTP whose key is wrong is left to net/http: then
// this returns false.
//
// The receiver joins before anything is answered: who has seen the 101 gets every packet
// that is published from then on. It is not written to before the hand-over.
func (f *front) upgrade(w http.ResponseWriter, s *session, answer string, sp *spare) bool {
	srv := f.srv
	var conn net.Conn
	given := false
	defer func() {
		if !given {
			s.discard(conn)
		}
	}()
	refusal := notEnded
	if s.kind != publish {
		refusal = srv.registry.join(s)
	}
	if refusal != notEnded && s.door == httpDoor {
		given = true
		s.freeSlot() // before the answer: who reads it finds the place free
		return false
	}
	srv.roster.add(s)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return true
	}
	_ = conn.SetDeadline(time.Now().Add(switchTimeout))
	if answer != "" {
		_, err = conn.Write([]byte(answer))
	}
	if err != nil {
		return true
	}
	if s.kind == publish {
		s.ch.start(s) // or it has ended: then it is handed over to be told why
	}
	_ = conn.SetDeadline(time.Time{})
	if err := s.attach(conn, rw.Reader, sp); err != nil {
		if usedUp(err) {
			srv.short.met(err)
		} else {
			srv.log.Warn("cannot hand a connection over", "error", err)
		}
		return true
	}
	s.logBegin()
	if refusal != notEnded {
		s.end(refusal)
	}
	given = true
	srv.handover.add(s)
	return true
}

// discard closes a session that is not handed over, and its connection if it has one
// already. conn is nil while net/http has it. Called by the handshake.
func (s *session) discard(conn net.Conn) {
	if conn != nil {
		_ = conn.Close()
	}
	if s.conn != nil { // conn's descriptor, or a second one
		_ = s.conn.Close()
	}
	if s.ch == nil { // in no channel
		s.freeSlot()
		return
	}
	s.closed()
}

// attach makes the connection nbio's. The bytes that were read already are kept
// for takeEarly.
func (s *session) attach(conn net.Conn, r *bufio.Reader, sp *spare) error {
	b, _ := r.Peek(r.Buffered())
	plain, sealed := bytes.Clone(b), []byte(nil)
	tcp := conn
	if t, ok := conn.(*tls.Conn); ok {
		w := t.NetConn().(*wire)
		tcp = w.Conn
		s.tls = &tlsLink{conn: t, wire: w}
		w.live.Store(true)
	}
	if p, ok := tcp.(*proxied); ok {
		if tcp, sealed = p.unwrap(); s.tls == nil {
			plain, sealed = append(plain, sealed...), nil
		}
	}
	if x, ok := tcp.(*guest); ok {
		tcp = x.Conn
	}
	if len(plain)+len(sealed) > 0 {
		s.early = &early{plain, sealed}
	}
	if s.door == httpDoor && s.kind != publish {
		keepAlive(tcp)
	}
	c, err := toNBIO(tcp, sp, switchTimeout)
	if err != nil {
		return err
	}
	boundUnsent(c, s.srv.cfg.SendBufferKB<<10)
	c.SetSession(s)
	s.conn = c
	return nil
}

// takeEarly takes what the client sent along with its handshake, and then what TLS
// holds already. Called on the poller, before any event of the connection.
func (s *session) takeEarly() {
	e := s.early
	s.early = nil
	if e == nil && s.tls == nil {
		return
	}
	now := s.srv.now() // the coordinator may have taken its time since the session began
	s.life.Store(now)
	s.heed(now, s.hearEarly(e))
}

// hearEarly is hear for what came along with the handshake; e is nil where nothing did.
func (s *session) hearEarly(e *early) (h heard) {
	s.in.mu.Lock()
	defer s.heardAll()
	h.before = s.published()
	h.after = h.before
	var sealed []byte
	if e != nil {
		h.r, h.code = s.decode(e.plain)
		sealed = e.sealed
	}
	if h.r == notEnded && s.tls != nil {
		h.r, h.code = s.tls.open(s, sealed)
	}
	h.after = s.published()
	return h
}
