package engine

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// A panic is a fault of ours. Where it happens in what is done for one session (its bytes
// are decoded, it is served by a pass, a control frame is written), it is that session's
// end and the others notice nothing: the client gets the close code 1011, unless it is in
// the middle of a frame, and the log gets the stack. In a request's handler it is the
// connection's end.
//
// What is done for many is not contained: nobody could tell what is left behind. There the
// process ends. A fault in session.closed is only logged: what it did not come to give
// back is lost. One in session.written may leave the socket taken: then the session's time
// to close runs out, and it is cut off.

// fault has the session ended for a panic of which it was recovered. It only logs, marks
// and wakes: any goroutine, whatever locks it holds.
func (s *session) fault(p any) {
	if s.broken.Swap(true) {
		return
	}
	s.srv.log.LogAttrs(context.Background(), slog.LevelError, "a fault ends a session",
		append(s.logAttrs(), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))...)
	s.srv.drainers[0].add(breaking{s})
}

// breaking ends a session for a fault, on a drainer.
type breaking struct{ s *session }

func (b breaking) run() {
	s := b.s
	s.end(internalFault)
	s.mu.Lock()
	torn := s.torn || s.mid && s.group.Load() == nil // who is in a group is sent the rest of its packet
	s.mu.Unlock()
	if torn {
		s.srv.closing.add(s, s.srv.now()) // no close frame may follow: it is cut off
	}
}

// contain is deferred where something is done for one session only. What it held is
// given back by whatever was deferred behind it.
func (s *session) contain() {
	if p := recover(); p != nil {
		s.fault(p)
	}
}

// contain is deferred in a request's handler: the log gets the stack, the client the
// connection's end.
func (f *front) contain(r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	f.srv.log.Error("a fault ends a request", "addr", r.RemoteAddr, "panic", p, "stack", string(debug.Stack()))
	panic(http.ErrAbortHandler)
}
