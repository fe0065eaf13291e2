package engine

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"ws-stream-server/engine/body"
)

// doorway is how a client speaks to the server once it is in.
type doorway uint8

const (
	websocketDoor doorway = iota
	httpDoor
)

var doorNames = [...]string{websocketDoor: "websocket", httpDoor: "http"}

func (d doorway) String() string { return doorNames[d] }

// httpSide is what a session has more when its client speaks plain HTTP: a GET that is
// answered with the stream, or a PUT whose body is one.
type httpSide struct {
	// Static after construction.
	more    string // header lines for whatever is answered, each with its CR LF
	chunked bool   // the stream is answered in chunks: the client speaks HTTP/1.1

	body body.Decoder // guarded by the session's in.mu; publishers only

	// Atomic: the header of the stream's 200 was written. Set under the write lock.
	begun atomic.Bool
}

// opening is what a request for a stream asks for, beside the path.
type opening struct {
	answer string    // what is written to it before the hand-over
	noText bool      // no TEXT may be written
	start  start     // where a receiver begins
	http   *httpSide // nil: a WebSocket
}

// open reads what a request for a stream asks for, or returns the refusal. h is the
// answer's header.
func (f *front) open(h http.Header, r *http.Request, k kind) (o opening, status int, text string) {
	start, startOK := f.parseStart(r.URL.RawQuery, k)
	o.start = start
	if wantsHTTP(r, k) {
		if o, status, text = f.openHTTP(h, r, k); status == 0 && !startOK {
			status, text = http.StatusBadRequest, badStart
		}
		o.start = start
		return o, status, text
	}
	accept, status, text := checkUpgrade(r)
	if status != 0 {
		h.Set("Upgrade", "websocket")
		h.Set("Sec-WebSocket-Version", "13")
		return opening{}, status, text
	}
	var ok bool
	if o.noText, ok = parseHeartbeat(r.URL.RawQuery); !ok {
		return opening{}, http.StatusBadRequest, "Bad request: heartbeat is ping or text, and given once"
	}
	if !startOK {
		return opening{}, http.StatusBadRequest, badStart
	}
	o.answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n"
	return o, 0, ""
}

// wantsHTTP reports whether a request is meant for the door for plain HTTP. One with
// any header of WebSocket's handshake is not, however wrong: a proxy may have taken the
// others away, and its client is told so. Nor is a GET that is to publish.
func wantsHTTP(r *http.Request, k kind) bool {
	for _, name := range []string{"Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		if _, found := r.Header[name]; found {
			return false
		}
	}
	if hasToken(r.Header["Connection"], "upgrade") {
		return false
	}
	return k != publish || r.Method != http.MethodGet && r.Method != http.MethodHead
}

// openHTTP is open for a request that speaks plain HTTP.
func (f *front) openHTTP(h http.Header, r *http.Request, k kind) (o opening, status int, text string) {
	more := f.srv.origins.share(r.Header["Origin"])
	for _, line := range more {
		h.Set(line.name, line.value)
	}
	h.Set("Cache-Control", "no-store")
	o.http = &httpSide{more: joinLines(more), chunked: r.ProtoAtLeast(1, 1)}
	methods := methodsOf(k)
	switch {
	case !slices.Contains(strings.Split(methods, ", "), r.Method):
		h.Set("Allow", methods)
		return o, http.StatusMethodNotAllowed, "Method not allowed: use one of " + methods
	case r.Method == http.MethodOptions:
		return o, 0, ""
	case k == publish:
		status, text = openBody(&o, r)
		return o, status, text
	case r.ContentLength != 0:
		return o, http.StatusBadRequest, "Bad request: what receives has no body"
	}
	return o, 0, ""
}

// openBody is open for a request whose body is a stream.
func openBody(o *opening, r *http.Request) (status int, text string) {
	switch _, sized := r.Header["Content-Length"]; {
	case len(r.Header["Content-Range"]) > 0: // RFC 9110, 14.5
		return http.StatusBadRequest, "Bad request: a stream has no ranges"
	case r.ContentLength > 0:
		o.http.body = body.Sized(r.ContentLength)
	case r.ContentLength < 0: // net/http knows no other encoding
		o.http.body = body.Chunked()
	case sized:
		return http.StatusBadRequest, "Bad request: the body is empty"
	default:
		return http.StatusLengthRequired, "Length required: a body in chunks, or with a Content-Length"
	}
	if r.ProtoAtLeast(1, 1) && hasToken(r.Header["Expect"], "100-continue") {
		o.answer = "HTTP/1.1 100 Continue\r\n\r\n"
	}
	return 0, ""
}

// bringsStream reports whether a request's body is a stream, if it is let in.
func bringsStream(r *http.Request, k kind) bool {
	return k == publish && (r.Method == http.MethodPut || r.Method == http.MethodPost) && wantsHTTP(r, k)
}

// methodsOf returns the methods that a stream's path takes.
func methodsOf(k kind) string {
	if k == publish {
		return "GET, PUT, POST, OPTIONS" // a GET with an upgrade
	}
	return "GET, HEAD, OPTIONS"
}

// headerLine is a line of an answer's header.
type headerLine struct{ name, value string }

func joinLines(lines []headerLine) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.name + ": " + l.value + "\r\n")
	}
	return b.String()
}

// preflight answers a browser's question whether a page may send what it wants to
// (Fetch standard, "CORS-preflight request"). Whoever asks may.
func preflight(w http.ResponseWriter, k kind) int {
	h := w.Header()
	h.Set("Allow", methodsOf(k))
	h.Set("Access-Control-Allow-Methods", methodsOf(k))
	h.Set("Access-Control-Allow-Headers", "Content-Type, Cache-Control, Range")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// head answers as a GET would be by its header, as far as that is known without
// waiting: a channel without a publisher has no Content-Type yet. It takes no place.
func (f *front) head(w http.ResponseWriter, t target) (status int, text string) {
	contentType, ok := f.srv.registry.contentType(t.channel, t.key)
	if !ok {
		return http.StatusForbidden, wrongKeyText
	}
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("X-Content-Type-Options", "nosniff")
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	w.WriteHeader(http.StatusOK)
	return http.StatusOK, ""
}

const wrongKeyText = "Forbidden: Invalid streaming key"
