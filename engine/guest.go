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
	since  time.Time     // when it got its place, or sent its last request
	in     *list.List    // its source's silent or asking; nil: neither, it is kept
	at     *list.Element // where it is in there

	// Atomic.
	read    atomic.Uint64 // twice the bytes that were read, and 1 while Read is called: both change at once
	writing atomic.Int32  // calls of Write under way

	saved int // owned by who reads: how many bytes were read after a deadline
}

// mostSaved is how many bytes of a guest are read after a deadline, more than TLS and a
// request's header have at most times: a client that sends without end must not have
// time without end.
const mostSaved = 64 << 10

// Read reads what came in time, also if the server comes to it only when the time is over:
// net has an error for it then, and leaves the bytes where they are.
func (g *guest) Read(b []byte) (int, error) {
	g.read.Add(1)
	n, err := g.Conn.Read(b)
	if n == 0 && g.saved < mostSaved && errors.Is(err, os.ErrDeadlineExceeded) {
		if n = readNow(g.Conn, b); n > 0 {
			g.saved += n
			err = nil
		}
	}
	g.read.Add(uint64(2*n) - 1)
	return n, err
}

// Write writes what there is room for also when the time is over: it was the server that
// was not fast enough, then.
func (g *guest) Write(b []byte) (int, error) {
	g.writing.Add(1)
	defer g.writing.Add(-1)
	n, err := g.Conn.Write(b)
	if n < len(b) && errors.Is(err, os.ErrDeadlineExceeded) {
		if n += writeNow(g.Conn, b[n:]); n == len(b) {
			err = nil
		}
	}
	return n, err
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
	case g.in == &g.from.asking: // whoever reads then awaits the request after the next answer
		return true
	}
	read := g.read.Load()
	return read&1 == 0 || brings(g.Conn, read/2)
}

// guestOf returns the guest below TLS and the PROXY protocol; nil: there is none.
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
