package engine

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
)

const (
	// acceptPause is how long nothing is accepted after an attempt that failed: who
	// waits is let in so soon after a descriptor is free, and a server that has none
	// makes 10 attempts a second.
	acceptPause = 100 * time.Millisecond

	// calmTime is how long nobody must have met a shortage before it is over.
	calmTime = 5 * time.Second

	// ownDescriptors is how many files the server has open without a client, about:
	// listeners, log, three for each poller, certificate files for a moment.
	ownDescriptors = 32

	// handoverPause is how long a hand-over waits that has found no descriptor.
	handoverPause = 5 * time.Millisecond
)

// tireless is a listener that goes on whatever an attempt to accept meets: used up
// descriptors or kernel memory, a connection that ended meanwhile. Accept fails only
// once the listener is closed.
type tireless struct {
	net.Listener
	short *shortage
}

func (l tireless) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		l.short.met(err)
		time.Sleep(acceptPause)
	}
}

// shortage is a time in which newcomers cannot be served for want of something, of
// descriptors above all. The log has one line when it begins and one when it is
// over, however many met it.
type shortage struct {
	// Static after construction.
	log     *slog.Logger
	now     func() int64 // Server.now
	relieve func()       // gives descriptors back that can be spared; any goroutine; nil: nobody can

	// Atomic.
	on   atomic.Bool
	last atomic.Int64 // when it was met last
}

// met tells that a newcomer could not be served. Any goroutine.
func (s *shortage) met(err error) {
	s.last.Store(s.now())
	if usedUp(err) && s.relieve != nil {
		s.relieve()
	}
	if s.on.Swap(true) {
		return
	}
	if usedUp(err) {
		s.log.Warn("no file descriptors are left: newcomers wait or get 503 until clients leave; raise the limit (ulimit -n, LimitNOFILE) or set MAX_CONNECTIONS below it",
			"limit", descriptorLimit(), "error", err)
		return
	}
	s.log.Warn("cannot accept connections for now: newcomers wait", "error", err)
}

// look ends the shortage once nobody has met it for a while and what was missing is
// there. Called by the sweep.
func (s *shortage) look(room func() bool) {
	now := s.now()
	if !s.on.Load() || now-s.last.Load() < int64(calmTime) {
		return
	}
	if !room() {
		s.last.Store(now)
		return
	}
	s.on.Store(false)
	s.log.Info("newcomers are served again")
}

// usedUp reports whether an error says that the process, or the system, has as many
// files open as it may.
func usedUp(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// room reports whether there are descriptors for a newcomer: its own and the spare one.
func (srv *Server) room() bool {
	a, err := srv.handover.spare()
	if err != nil {
		return false
	}
	defer a.release()
	b, err := srv.handover.spare()
	if err != nil {
		return false
	}
	b.release()
	return true
}

// checkDescriptors says at the start if MAX_CONNECTIONS or MAX_HANDSHAKES promises too
// much.
func (srv *Server) checkDescriptors() {
	limit := descriptorLimit()
	for _, c := range []struct {
		name string
		most int
	}{{"MAX_CONNECTIONS", srv.cfg.MaxConnections}, {"MAX_HANDSHAKES", srv.cfg.MaxHandshakes}} {
		if limit > 0 && c.most > 0 && uint64(c.most)+ownDescriptors > limit {
			srv.log.Warn(c.name+" cannot be reached: each connection needs a file descriptor; raise the limit (ulimit -n, LimitNOFILE)",
				c.name, c.most, "limit", limit)
		}
	}
}

// spare takes the descriptor that the hand-over will need beside the connection's,
// so that no client is told 101, and no coordinator asked, for nothing. It returns
// the refusal if there is none.
func (f *front) spare() (sp *spare, status int, text string) {
	sp, err := f.srv.handover.spare()
	if err != nil {
		f.srv.short.met(err)
		return nil, http.StatusServiceUnavailable, "Service unavailable: the server has no file descriptors left"
	}
	return sp, 0, ""
}

// toNBIO makes a TCP connection nbio's, which needs a second descriptor for a
// moment: the spare one is given up for that. A connection that is accepted just
// then may be faster; it will not get a spare one itself and go, so that trying
// again, for patience at most, helps. After an error the connection is as it was.
func toNBIO(tcp net.Conn, sp *spare, patience time.Duration) (*nbio.Conn, error) {
	for end := time.Now().Add(patience); ; time.Sleep(handoverPause) {
		sp.release()
		c, err := nbio.NBConn(tcp)
		if err == nil || !usedUp(err) || time.Now().After(end) {
			return c, err
		}
	}
}
