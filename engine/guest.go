package engine

import (
	"container/list"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// guest is one connection at the front door: the TCP connection below TLS and the PROXY
// protocol, from its acceptance to the hand-over. It knows which side is waited for: who
// is slow because the server is must not lose its place for that.
type guest struct {
	net.Conn // static

	by *entrance // static; the listener that it came by

	// Guarded by gate.mu.
	from   *source       // whose it is, while it waits or has a place
	placed bool          // it has a place
	since  time.Time     // when its time began: with its place, its last request, or a step of the server's
	in     *list.List    // its source's silent or asking; nil: neither, it is kept
	at     *list.Element // where it is in there

	// Atomic.
	read    atomic.Uint64 // twice the bytes that were read, and 1 while Read is called: both change at once
	writing atomic.Int32  // calls of Write under way

	// Owned by net/http's goroutine until there was a request, then static.
	heard bool      // there was a request
	until time.Time // the deadline for reading; zero: none
	armed time.Time // when that was set: before, nobody was to read
	came  time.Time // when the last bytes that were read had come, or armed if that was later
	moved int       // how often the deadline was moved

	saved int // owned by who reads: how many bytes were read after a deadline
	steps int // owned by who writes: how many writes began its time anew
}

const (
	// mostSaved is how many bytes of a guest are read after a deadline, more than TLS and a
	// request's header have at most times: a client that sends without end must not have
	// time without end.
	mostSaved = 64 << 10

	// mostSteps is how many writes begin a guest's time anew: those of TLS's handshake, and
	// an answer's first. More of them a client could cause itself, by TLS's key updates.
	mostSteps = 4

	// mostMoved is how often a server that is late gives a handshake guestGrace to go on: a
	// client that sends all the time can have it look late.
	mostMoved = 10

	// lateAfter is how long the server may take for its step in a handshake that the
	// client's time is not touched.
	lateAfter = 100 * time.Millisecond
)

// Read reads what came in time, also if the server comes to it only when the time is over:
// net has an error for it then, and leaves the bytes where they are. What came in time and
// waited for the server leaves the client as much time to go on.
func (g *guest) Read(b []byte) (int, error) {
	g.read.Add(1)
	n, err := g.Conn.Read(b)
	saved := false
	if n == 0 && g.saved < mostSaved && errors.Is(err, os.ErrDeadlineExceeded) {
		if n = readNow(g.Conn, b); n > 0 {
			g.saved += n
			err, saved = nil, true
		}
	}
	g.read.Add(uint64(2*n) - 1)
	if !g.heard {
		g.came = time.Now()
		if n > 0 {
			g.came = g.came.Add(-min(waited(g.Conn), g.came.Sub(g.armed)))
		}
		if saved || g.isLate() {
			g.move()
		}
	}
	return n, err
}

// Write writes what there is room for also when the time is over: it was the server that
// was not fast enough, then. It is the server's step that the client waited for: its own
// time begins with it.
func (g *guest) Write(b []byte) (int, error) {
	g.writing.Add(1)
	defer g.writing.Add(-1)
	if g.by != nil && g.steps < mostSteps {
		g.steps++
		defer g.by.gate.stepped(g)
	}
	if g.isLate() {
		g.move()
	}
	n, err := g.Conn.Write(b)
	if g.isLate() {
		g.move() // it may have stood still just before
	}
	if n < len(b) && errors.Is(err, os.ErrDeadlineExceeded) {
		if n += writeNow(g.Conn, b[n:]); n == len(b) {
			err = nil
		}
	}
	return n, err
}

// isLate reports whether the server took long for its step in a handshake. Called by who
// reads or writes.
func (g *guest) isLate() bool { return !g.heard && time.Since(g.came) > lateAfter }

// move gives a handshake that the server was late for some time to go on, if it has less.
// After that, deadlines are net/http's alone.
func (g *guest) move() {
	until := time.Now().Add(guestGrace)
	if g.heard || g.moved == mostMoved || g.until.IsZero() || until.Sub(g.until) < lateAfter {
		return // there would be nothing to gain
	}
	g.moved++
	g.until = until
	_ = g.Conn.SetDeadline(until)
}

// SetReadDeadline is net/http's, which knows how long a handshake may take.
func (g *guest) SetReadDeadline(t time.Time) error {
	if !g.heard {
		g.until, g.armed = t, time.Now()
	}
	return g.Conn.SetReadDeadline(t)
}

// SetWriteDeadline sets one also where net/http takes it away, while it awaits a request:
// TLS may have to write then, what a client causes by its key updates and does not take.
func (g *guest) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		t = time.Now().Add(idleTimeout + answerTimeout)
	}
	return g.Conn.SetWriteDeadline(t)
}

// CloseWrite is what net/http calls, if it is there, so that a client can read the last
// answer before the connection's end.
func (g *guest) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// late reports whether the next step is the server's, which has not come to it: to read
// what was sent, to answer, or to write what the client has room for. The caller holds
// gate.mu.
func (g *guest) late() bool {
	switch {
	case g.writing.Load() > 0:
		return takes(g.Conn)
	case g.in == &g.from.asking:
		// Whoever reads then awaits the request after the answer, or a body that nobody
		// wants, for bodyTimeout.
		return true
	}
	read := g.read.Load()
	return read&1 == 0 || brings(g.Conn, read/2)
}

// guestOf returns the guest below TLS and the PROXY protocol; all connections of net/http's
// have one, those of tests may have none: nil.
func guestOf(c net.Conn) *guest {
	x, _ := lowest(c).(*guest)
	return x
}

// lowest returns the connection below TLS and the PROXY protocol.
func lowest(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn().(*wire).Conn
	}
	if p, ok := c.(*proxied); ok {
		return p.Conn
	}
	return c
}
