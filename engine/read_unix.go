//go:build !windows

package engine

import (
	"errors"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
)

// reader is how pollers read.
type reader struct {
	srv     *Server       // static
	gather  time.Duration // static: how long a poller waits for more to read; 0: not
	polling []polling     // by poller, each owned by it
}

// read has the pollers read what clients send. Called before nbio starts.
func (srv *Server) read(pollers int) {
	srv.reader = reader{srv: srv, gather: min(longestGather, time.Duration(srv.cfg.GatherMS)*time.Millisecond)}
	for range pollers {
		srv.reader.polling = append(srv.reader.polling, newPolling(srv.now()))
	}
	srv.engine.OnRead(srv.onRead)
}

// of returns the polling of a connection's poller, which nbio chooses so. Called on
// the poller.
func (r *reader) of(c *nbio.Conn) *polling { return &r.polling[c.Hash()%len(r.polling)] }

// handled is told that the poller has just done something for a connection. Called
// on the poller.
func (r *reader) handled(c *nbio.Conn) {
	if r.gather > 0 {
		r.of(c).done = r.srv.now()
	}
}

// onRead is nbio's news that a connection can be read, on its poller.
func (srv *Server) onRead(c *nbio.Conn) {
	switch s := c.Session().(type) {
	case *session:
		if p := srv.reader.of(c); srv.reader.gather > 0 && p.waits(srv.now()) {
			// No lock is held. Whatever else this poller was told of waits along:
			// other connections, slow ones too, full sockets, hand-overs.
			time.Sleep(srv.reader.gather)
			p.waited(srv.now(), srv.reader.gather)
		}
		s.readable(srv.engine.PollerBuffer(c))
	case *waker:
		s.turn()
	}
	srv.reader.handled(c)
}

// readable reads what has arrived: at most readsPerEvent times buf, but to the end
// if the client has closed its side, for then nbio closes the connection when this
// returns. Called on the poller; buf is the poller's.
func (s *session) readable(buf []byte) {
	for reads := 1; ; reads++ {
		n, err := s.conn.Read(buf)
		switch {
		case n > 0:
			s.received(buf[:n])
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return
		default: // the end, or an error
			s.close()
			return
		}
		if n > 0 && n < len(buf) {
			return // all that was there
		}
		if reads >= readsPerEvent && !hungUp(s.conn) {
			return // the rest makes another event
		}
	}
}
