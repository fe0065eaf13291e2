//go:build !windows

package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
)

// beginTimeout bounds the wait for the pollers at the start, which take a moment.
const beginTimeout = 20 * time.Second

// handover gives connections to nbio's pollers.
//
// An event that epoll reports carries only the number of a descriptor. Between the
// moment a poller is told of events and the moment it looks at one of them, that
// descriptor may have been closed by whoever wrote to it, and its number given to
// a new connection: the event of the dead one would then close the living one. So
// a new number enters nbio's table only when its poller has begun a batch of
// events that was collected after the number was taken.
//
// Each poller has a wake connection for that. Woken, it wakes itself once more,
// and in that second turn the poller adds what waited: the first turn may belong to
// a batch that was under way, the second cannot. One turn serves all that wait.
type handover struct {
	engine *nbio.Engine
	wakers []*waker // by poller
}

// waker is one poller's wake connection.
type waker struct {
	h     *handover     // static after construction
	begun chan struct{} // static after construction; closed by the first turn
	first sync.Once     // closes it

	// Guarded by mu, for nbio orders nothing between AddConn and its pollers. rx
	// and tx do not change from begin to close.
	mu    sync.Mutex
	rx    *nbio.Conn // on the poller
	tx    int        // the other end, written to by anybody; -1 before and after
	fresh []*session // taken since the last turn
	ready []*session // one turn old: added in the next one
	asked []func()   // called in the next turn, see Server.Alive
}

// newHandover prepares the hand-over. It is made before engine starts, so that the
// pollers see it.
func newHandover(engine *nbio.Engine, pollers int) *handover {
	h := &handover{engine: engine}
	for range pollers {
		h.wakers = append(h.wakers, &waker{h: h, begun: make(chan struct{}), tx: -1})
	}
	return h
}

// begin makes the wake connections. engine has been started.
func (h *handover) begin() error {
	var surplus []*nbio.Conn
	defer func() {
		for _, c := range surplus {
			_ = c.Close()
		}
	}()
	// A connection's poller is its descriptor's number modulo the number of
	// pollers: numbers are taken until every poller has one.
	for found := 0; found < len(h.wakers); {
		rx, tx, err := wakePair()
		if err != nil {
			return err
		}
		w := h.wakers[rx.Hash()%len(h.wakers)]
		if !w.set(rx, tx) {
			surplus = append(surplus, rx)
			_ = syscall.Close(tx)
			continue
		}
		found++
		rx.SetSession(w)
		if _, err := h.engine.AddConn(rx); err != nil {
			return fmt.Errorf("cannot add a wake connection: %w", err)
		}
	}
	return h.awaitPollers()
}

// awaitPollers waits until every poller has made a turn. One that begins only after
// nbio was stopped forgets that it was, and never ends.
func (h *handover) awaitPollers() error {
	late := time.NewTimer(beginTimeout)
	defer late.Stop()
	for _, w := range h.wakers {
		w.wake()
		select {
		case <-w.begun:
		case <-late.C:
			return errors.New("cannot start the pollers: one does not run")
		}
	}
	return nil
}

// set gives the waker its connection; false if it has one.
func (w *waker) set(rx *nbio.Conn, tx int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rx != nil {
		return false
	}
	w.rx, w.tx = rx, tx
	return true
}

// wakePair returns a connected pair of sockets, one end for nbio.
func wakePair() (rx *nbio.Conn, tx int, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot make a wake connection: %w", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		_ = syscall.SetNonblock(fd, true)
	}
	f := os.NewFile(uintptr(fds[0]), "wake")
	defer f.Close()
	c, err := net.FileConn(f)
	if err == nil {
		rx, err = nbio.NBConn(c)
	}
	if err != nil {
		_ = syscall.Close(fds[1])
		return nil, 0, fmt.Errorf("cannot make a wake connection: %w", err)
	}
	return rx, fds[1], nil
}

// close gives the other ends back; nbio closes its own. Called after nbio has
// stopped.
func (h *handover) close() {
	for _, w := range h.wakers {
		w.mu.Lock()
		if w.tx >= 0 {
			_ = syscall.Close(w.tx)
			w.tx = -1
		}
		w.mu.Unlock()
	}
}

// add hands a session's connection over. s.conn is set, and the caller does not
// touch it any more. Any goroutine.
func (h *handover) add(s *session) {
	w := h.wakers[s.conn.Hash()%len(h.wakers)]
	w.mu.Lock()
	w.fresh = append(w.fresh, s)
	first := len(w.fresh) == 1
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// wake makes the poller take a turn. If the socket is full, it is awake.
func (w *waker) wake() {
	w.mu.Lock() // a number that close has given back is not written to
	defer w.mu.Unlock()
	if w.tx >= 0 {
		_, _ = syscall.Write(w.tx, []byte{1})
	}
}

// turn adds what is ready and makes ready what is fresh. Called on the poller.
func (w *waker) turn() {
	w.first.Do(func() { close(w.begun) })
	w.mu.Lock()
	rx := w.rx
	w.mu.Unlock()
	var drop [64]byte
	for n := len(drop); n == len(drop); { // before the lists: what comes later wakes anew
		n, _ = rx.Read(drop[:])
	}
	w.mu.Lock()
	ready := w.ready
	w.ready, w.fresh = w.fresh, nil
	asked := w.asked
	w.asked = nil
	again := len(w.ready) > 0
	w.mu.Unlock()
	for _, answer := range asked {
		answer()
	}
	if again {
		w.wake()
	}
	for _, s := range ready {
		w.h.addNow(s)
	}
}

// ask asks every poller for a turn. Any goroutine.
func (h *handover) ask(a *asking) {
	for i, w := range h.wakers {
		a.ask(fmt.Sprintf("poller %d", i), func(answer func()) {
			w.mu.Lock()
			w.asked = append(w.asked, answer)
			w.mu.Unlock()
			w.wake()
		})
	}
}

// addNow is the second turn. nbio calls OnOpen before it listens to the socket,
// and that takes what the client sent along with its handshake.
func (h *handover) addNow(s *session) {
	if _, err := h.engine.AddConn(s.conn); err != nil {
		s.srv.log.Warn("cannot hand a connection over", "error", err)
		s.closed()
		return
	}
	s.handedOver()
}

// writeDirect writes to the socket what it takes, and returns how much that was.
// Nothing is kept; an error that ends the connection is left to the next call of
// nbio's Write, which meets it again. The caller is the only writer, and nbio has
// nothing left to write.
func writeDirect(c *nbio.Conn, b []byte) (n int) {
	c.Lock() // nbio closes under it: the number is still ours
	defer c.Unlock()
	if closed, _ := c.IsClosed(); closed {
		return 0
	}
	for {
		n, err := syscall.Write(c.Hash(), b)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0)
		}
	}
}

// beforeWrite does nothing: writes never block here.
func beforeWrite(*nbio.Conn) {}

// whileOpen calls f with the number of a connection's descriptor, unless it is closed.
// nbio closes under the lock that is held meanwhile: the number is ours, and f must not
// block. Any goroutine.
func whileOpen(c *nbio.Conn, f func(fd int)) {
	c.Lock()
	defer c.Unlock()
	if closed, _ := c.IsClosed(); !closed {
		f(c.Hash())
	}
}

// forgetUnsent has the kernel forget what it holds for the client when the connection is
// closed, and send a reset. Any goroutine.
func forgetUnsent(c *nbio.Conn) {
	whileOpen(c, func(fd int) {
		_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	})
}

// shutdownWrite ends the sending side, so that the client sees the end and its own
// last bytes are still read. Any goroutine.
func shutdownWrite(c *nbio.Conn) {
	whileOpen(c, func(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) })
}
