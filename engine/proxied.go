package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"ws-stream-server/netfilter"
)

const (
	// aheadBuffer is what is read at once while the header of the PROXY protocol is
	// awaited, in bytes: most headers as a whole.
	aheadBuffer = 256

	// maxProxyLine is the longest header of version 1, in bytes with its CR LF (PROXY
	// protocol, section 2.1).
	maxProxyLine = 107
)

// proxyListener gives connections that begin with a header of the PROXY protocol if
// their peer is a trusted proxy. Accept does not wait for the header.
type proxyListener struct {
	net.Listener
	filter *netfilter.Filter
	within time.Duration // how long a header may take
	refuse func(peer net.Addr, why error)
}

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); !ok || !l.filter.OwesHeader(a.AddrPort().Addr()) {
		return c, nil
	}
	return &proxied{Conn: c, within: l.within, refuse: l.refuse, ahead: bufio.NewReaderSize(c, aheadBuffer)}, nil
}

// proxied is a connection from a trusted proxy, below TLS. Its header is read by the
// first call that needs it, which waits for it: Read, Write or RemoteAddr, and net/http
// asks for the latter first, before it sets any deadline, on the connection's own
// goroutine. Without a proper header the connection is at its end: there is no client
// to answer.
type proxied struct {
	// Static after construction.
	net.Conn // the proxy's TCP connection
	within   time.Duration
	refuse   func(peer net.Addr, why error)

	once sync.Once
	// Set by once, then static.
	bad     bool         // there was no proper header
	from    *net.TCPAddr // the client that the header names; nil: none
	unclear error        // why it names none; nil: the connection is the proxy's own

	ahead *bufio.Reader // owned by who reads; nil: what was read ahead is used up
}

// proxiedKey is where a request's context has its *proxied.
type proxiedKey struct{}

// withProxied is part of net/http's ConnContext.
func withProxied(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn().(*wire).Conn
	}
	if p, ok := c.(*proxied); ok {
		return context.WithValue(ctx, proxiedKey{}, p)
	}
	return ctx
}

var (
	errSilent      = errors.New("no header came")
	errNoTCPClient = errors.New("the header names no client that came by TCP")

	// errUnknown is told to the client.
	errUnknown = errors.New("the PROXY protocol does not name the client's address")
)

// meet reads the header, once.
func (p *proxied) meet() {
	p.once.Do(func() {
		_ = p.SetReadDeadline(time.Now().Add(p.within))
		defer func() { _ = p.SetReadDeadline(time.Time{}) }()
		from, err := readProxyHeader(p.ahead)
		switch {
		case err == nil:
			p.from = from
		case errors.Is(err, errUnknown):
			p.unclear = err
		default:
			p.bad = true
			if !errors.Is(err, errSilent) && !errors.Is(err, net.ErrClosed) {
				p.refuse(p.Conn.RemoteAddr(), err)
			}
		}
	})
}

// readProxyHeader reads the header, v1 or v2, and returns the client that it names;
// nil: the connection is the proxy's own (LOCAL). errUnknown says that the header is
// proper, and that the proxy does not know the client (UNKNOWN, in version 1).
func readProxyHeader(r *bufio.Reader) (*net.TCPAddr, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, errSilent
	}
	awaitLine(r)
	h, err := proxyproto.Read(r)
	switch {
	case err != nil:
		return nil, err
	case h.Version == 1 && h.TransportProtocol.IsUnspec():
		return nil, errUnknown
	case h.Command.IsLocal():
		return nil, nil
	}
	from, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok { // a Unix socket, or UDP
		return nil, errNoTCPClient
	}
	return from, nil
}

// awaitLine waits until the line of a version 1 header is buffered: the parser takes
// it only as a whole. That something else came, or too little, the parser will find.
func awaitLine(r *bufio.Reader) {
	for n := len(proxyproto.SIGV1); n <= maxProxyLine; n = r.Buffered() + 1 {
		b, err := r.Peek(n)
		if err != nil || !bytes.HasPrefix(b, proxyproto.SIGV1) {
			return
		}
		if b, _ = r.Peek(r.Buffered()); bytes.IndexByte(b, '\n') >= 0 {
			return
		}
	}
}

// named reports whether the header names a client.
func (p *proxied) named() bool {
	p.meet()
	return p.from != nil
}

// RemoteAddr returns the client's address, or the proxy's own.
func (p *proxied) RemoteAddr() net.Addr {
	if p.named() {
		return p.from
	}
	return p.Conn.RemoteAddr()
}

func (p *proxied) Read(b []byte) (int, error) {
	p.meet()
	switch {
	case p.bad:
		return 0, io.EOF
	case p.ahead != nil && p.ahead.Buffered() > 0:
		return p.ahead.Read(b)
	}
	p.ahead = nil
	return p.Conn.Read(b)
}

func (p *proxied) Write(b []byte) (int, error) {
	p.meet()
	if p.bad {
		return 0, net.ErrClosed
	}
	return p.Conn.Write(b)
}

// unwrap returns the proxy's connection and a copy of what was read from it beyond
// the header and not used up. The connection is read through it from now on.
func (p *proxied) unwrap() (tcp net.Conn, ahead []byte) {
	if p.ahead != nil {
		b, _ := p.ahead.Peek(p.ahead.Buffered())
		ahead = bytes.Clone(b)
		p.ahead = nil
	}
	return p.Conn, ahead
}

// refuseProxied logs that a trusted proxy sent no proper header.
func (f *front) refuseProxied(peer net.Addr, why error) {
	if f.srv.cfg.LogRequests {
		f.srv.log.LogAttrs(context.Background(), slog.LevelWarn, "connection refused: a header of the PROXY protocol is needed",
			slog.String("addr", peer.String()), slog.String("error", why.Error()))
	}
}
