package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/engine/page"
)

const (
	// answerTimeout bounds the answer to a request; the coordinator has 20 s of it.
	answerTimeout = 30 * time.Second

	// bodyTimeout is how long a body that nobody wants may come, so that its sender
	// reads the answer before the connection's end.
	bodyTimeout = time.Second

	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = 60 * time.Second

	// headerSlack is how much more than its MaxHeaderBytes net/http reads of a header, in
	// bytes (Server.initialReadLimitSize).
	headerSlack = 4096
)

// front answers HTTP: pages, refusals, and the handshakes that make sessions.
type front struct {
	srv    *Server            // static
	http   *http.Server       // static
	cancel context.CancelFunc // static; ends what handlers wait for
	gate   *gate              // static; bounds the handshakes under way
	plain  net.Addr           // static; of the plain listener

	own ownAddrs // who Alive asks as

	shaking  atomic.Int64 // handshakes under way
	serving  sync.WaitGroup
	shutdown sync.WaitGroup
}

// newFront serves the listeners.
func newFront(srv *Server, listeners []net.Listener) *front {
	ctx, cancel := context.WithCancel(context.Background())
	f := &front{srv: srv, cancel: cancel, plain: listeners[0].Addr(), gate: newGate(srv.cfg.MaxHandshakes, srv.log)}
	srv.short.relieve = f.gate.relieve
	handshake := time.Duration(srv.cfg.HandshakeTimeoutSeconds) * time.Second
	f.http = &http.Server{
		Handler:           f,
		ReadHeaderTimeout: handshake, // bounds the TLS handshake, and then the header
		ReadTimeout:       handshake + answerTimeout,
		WriteTimeout:      max(handshake, answerTimeout), // from the header's end on; the TLS handshake has it, too
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    srv.cfg.MaxHeaderKB<<10 - headerSlack,
		ConnState:         f.gate.track,

		DisableGeneralOptionsHandler: true, // OPTIONS * is a path like others: 404

		ErrorLog:    slog.NewLogLogger(srv.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return withProxied(withGuest(ctx, c), c) },
	}
	f.http.Protocols = new(http.Protocols)
	f.http.Protocols.SetHTTP1(true) // HTTP/2 cannot be upgraded
	for i, l := range listeners {
		srv.log.Info("listening", "address", l.Addr().String(), "tls", i > 0)
		e := newEntrance(tireless{l, &srv.short}, f.gate)
		l = proxyListener{e, srv.filter, handshake, f.refuseProxied}
		if i > 0 {
			l = tlsListener{l, srv.cert.config()}
		}
		f.serving.Add(2)
		go func() {
			defer f.serving.Done()
			e.run()
		}()
		go func() {
			defer f.serving.Done()
			if err := f.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				srv.log.Error("cannot accept connections any more", "error", err)
			}
		}()
	}
	return f
}

// close stops accepting and cancels the handshakes that wait.
func (f *front) close() {
	f.cancel()
	f.gate.close()
	f.shutdown.Add(1)
	go func() {
		defer f.shutdown.Done()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if f.http.Shutdown(ctx) != nil {
			_ = f.http.Close()
		}
	}()
	f.serving.Wait()
}

// wait waits until the answers under way are written, a second at most. Called
// after close.
func (f *front) wait() { f.shutdown.Wait() }

// idle reports whether no handshake is under way any more.
func (f *front) idle() bool { return f.shaking.Load() == 0 }

// ServeHTTP answers one request.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.contain(r)
	addr, unclear := f.client(r)
	if f.srv.short.on.Load() {
		w.Header().Set("Connection", "close") // a kept connection would keep its descriptor
	}
	t, ok := parseTarget(r.URL.EscapedPath(), f.srv.cfg.IDMaxLength)
	if !ok || !bringsStream(r, t.kind) {
		refuseBody(w, r)
	}
	if ok {
		f.shaking.Add(1)
		defer f.srv.shaken.Add(1)
		defer f.shaking.Add(-1)
		status, why := f.shake(w, r, t, addr, unclear)
		more := []slog.Attr{slog.String("channel", t.channel), slog.String("kind", t.kind.String())}
		if why != "" {
			more = append(more, slog.String("refusal", why))
		}
		f.logRequest(r, addr, status, more...)
		return
	}
	f.logRequest(r, addr, f.static(w, r))
}

// refuseBody is called before the answer to a request whose body nobody wants. net/http
// would wait for it before it answers; and after the answer, to take it off the
// connection, as long as a request may last.
func refuseBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}

// refuseStream answers a request whose body is a stream that is not let in. To close
// at once would have the kernel send a reset for what has come of it, which destroys the
// answer on its way: the client gets a moment to read that, and to stop.
func refuseStream(w http.ResponseWriter, r *http.Request, status int, text string) {
	refuseBody(w, r)
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // the answer does not wait for the body
	refuse(w, status, text)
	_ = c.Flush()
	if len(r.Header["Expect"]) == 0 { // else it waits for a word that does not come
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// static answers what is no stream.
func (f *front) static(w http.ResponseWriter, r *http.Request) int {
	path := r.URL.EscapedPath()
	body, contentType, ok := f.page(path)
	if !ok {
		refuse(w, http.StatusNotFound, "Not found: the path is /{CHANNEL}/{KEY}/{publish|receive|receive-clear-cache|probe}")
		return http.StatusNotFound
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "Method not allowed: use GET")
		return http.StatusMethodNotAllowed
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", page.ContentSecurityPolicyOf(path))
	if page.Importable(path) {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(body)
	return http.StatusOK
}

// page returns what a path shows.
func (f *front) page(path string) (body []byte, contentType string, ok bool) {
	switch {
	case path == "/healthz":
		return []byte("ok\n"), "text/plain; charset=utf-8", true
	case !f.srv.cfg.DisableTestClient:
		return page.File(path)
	case path == "/":
		return []byte("ws-stream-server " + f.srv.version + "\n"), "text/plain; charset=utf-8", true
	}
	return nil, "", false
}

// logRequest writes the request's line. The path is not in it: it has the key.
func (f *front) logRequest(r *http.Request, addr netip.AddrPort, status int, more ...slog.Attr) {
	if !f.srv.cfg.LogRequests || f.own.has(addr) {
		return
	}
	f.srv.log.LogAttrs(context.Background(), slog.LevelInfo, "request", append([]slog.Attr{
		slog.String("method", shownMethod(r.Method)),
		slog.Int("status", status),
		slog.String("addr", shownAddr(addr)),
	}, more...)...)
}

// shake answers a stream's handshake, through either door, in this order: the upgrade's
// headers or what stands for them, what the query says of heartbeats, the origin, the
// address, the limit per address, the limit in total, descriptors, the channel, the
// coordinator. It returns the status, and what a refused client is told: a status alone
// stands for several refusals. unclear says why the client's address is not known, nil if
// it is.
func (f *front) shake(w http.ResponseWriter, r *http.Request, t target, addr netip.AddrPort, unclear error) (status int, why string) {
	say := func(status int, text string) int {
		why = text
		if bringsStream(r, t.kind) {
			refuseStream(w, r, status, text)
		} else {
			refuse(w, status, text)
		}
		return status
	}
	o, status, text := f.open(w.Header(), r, t.kind)
	if status == 0 {
		status, text = f.mayCome(r, t, o, addr, unclear)
	}
	switch {
	case status != 0:
		return say(status, text), text
	case o.http != nil && r.Method == http.MethodOptions:
		return preflight(w, t.kind), ""
	case o.http != nil && r.Method == http.MethodHead:
		if status, text = f.head(w, t); status == http.StatusOK {
			return status, ""
		}
		return say(status, text), text
	}
	status = f.admit(w, r, t, addr, o, say)
	return status, why
}

// mayCome returns the refusal of a client that may not come in whoever else is there;
// status 0 if it may.
func (f *front) mayCome(r *http.Request, t target, o opening, addr netip.AddrPort, unclear error) (status int, text string) {
	if f.srv.stopping.Load() {
		return http.StatusServiceUnavailable, "Service unavailable: " + errStopping.Error()
	}
	allowed := f.srv.origins.allow(r.Header["Origin"])
	if o.http != nil {
		allowed = f.srv.origins.allowFetch(r.Header)
	}
	if !allowed {
		return http.StatusForbidden, "Forbidden: pages of this origin may not connect"
	}
	if unclear != nil {
		return http.StatusBadRequest, "Bad request: " + unclear.Error()
	}
	if t.kind != publish && !f.srv.filter.MayPlay(addr.Addr()) {
		return http.StatusForbidden, "Forbidden: this address may not play"
	}
	return 0, ""
}

// admit makes a client that may come in a session, if there is a place for it.
func (f *front) admit(w http.ResponseWriter, r *http.Request, t target, addr netip.AddrPort, o opening, say func(status int, text string) int) int {
	if !f.srv.filter.Acquire(addr.Addr()) {
		return say(http.StatusTooManyRequests, "Too many connections from this address")
	}
	if !f.srv.places.take() {
		f.srv.filter.Release(addr.Addr())
		return say(http.StatusServiceUnavailable, "Service unavailable: the server has all the connections it may have")
	}
	s := f.srv.newSession(t, addr)
	s.noText, s.start = o.noText, o.start
	s.secure = r.TLS != nil
	if o.http != nil {
		s.door, s.http = httpDoor, o.http
	}
	upgrading := false
	defer func() { // whatever comes in between, a panic too
		if !upgrading {
			s.discard(nil)
		}
	}()
	spare, status, text := f.spare()
	if status != 0 {
		s.freeSlot() // before the answer: who reads it finds the place free
		return say(status, text)
	}
	defer spare.release()
	if t.kind == publish {
		if status, text := f.authorize(r.Context(), s); status != 0 {
			spare.release()
			// A body may go on for a second after the answer, and may have no place at the
			// door any more: so long it keeps this one, which discard frees.
			if !bringsStream(r, t.kind) {
				s.freeSlot() // before the answer, as above
			}
			return say(status, text)
		}
	}
	upgrading = true
	if !f.upgrade(w, s, o.answer, spare) {
		return say(http.StatusForbidden, wrongKeyText)
	}
	if o.http != nil {
		return http.StatusOK // or what the session is answered yet
	}
	return http.StatusSwitchingProtocols
}

// authorize makes a session the publisher of its channel if the coordinator says
// so, or returns the refusal.
func (f *front) authorize(ctx context.Context, s *session) (status int, text string) {
	const taken = "Forbidden: the channel already has a publisher"
	if f.srv.registry.busy(s.name) {
		return http.StatusForbidden, taken
	}
	if f.srv.budget.closed.Load() {
		return http.StatusServiceUnavailable, "Service unavailable: the server is short of memory"
	}
	f.gate.leave(ctx)
	grant, err := f.srv.auth.Authorize(ctx, auth.Request{Channel: s.name, Key: s.key, Addr: s.addr.Addr()})
	switch {
	case errors.Is(err, auth.ErrDenied):
		return http.StatusForbidden, "Forbidden: the streaming key was refused"
	case err != nil:
		return http.StatusServiceUnavailable, "Service unavailable: the coordinator cannot be asked"
	case ctx.Err() != nil: // the client has left, or the server goes away
		grant.End()
		return http.StatusServiceUnavailable, "Service unavailable: " + errStopping.Error()
	}
	s.grant = grant
	if !f.srv.registry.claim(s) {
		grant.End()
		return http.StatusForbidden, taken
	}
	grant.OnRevoke(func(why auth.Revocation) {
		if why == auth.LinkReset {
			s.end(publisherReset)
		} else {
			s.end(publisherKilled)
		}
	})
	return 0, ""
}
