package admin

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// limited is a listener with so many connections at a time. When one more comes, one has
// to go: of the address that has the most, the oldest that waits for no answer. So
// whoever opens many cuts off connections of its own, and locks nobody else out.
type limited struct {
	net.Listener
	most int // static

	mu   sync.Mutex
	here []*placed // guarded by mu; oldest first
}

// placed is one connection.
type placed struct {
	net.Conn
	of   *limited     // static
	from netip.Prefix // static; whose it is

	asks bool // guarded by of.mu; its request is being answered
}

func limit(l net.Listener, most int) *limited { return &limited{Listener: l, most: most} }

func (l *limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &placed{Conn: c, of: l, from: source(c.RemoteAddr())}
	if gone := l.enter(p); gone != nil {
		_ = gone.Close() // net/http finds out, also if it is the newcomer
	}
	return p, nil
}

// enter takes a newcomer, and returns who has to go; nil: nobody.
func (l *limited) enter(p *placed) *placed {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.here = append(l.here, p)
	if len(l.here) <= l.most {
		return nil
	}
	count := map[netip.Prefix]int{}
	for _, x := range l.here {
		count[x.from]++
	}
	gone := p
	for _, x := range slices.Backward(l.here) {
		if !x.asks && count[x.from] >= count[gone.from] {
			gone = x
		}
	}
	return gone
}

// Close gives the place back.
func (p *placed) Close() error {
	p.of.mu.Lock()
	p.of.here = slices.DeleteFunc(p.of.here, func(x *placed) bool { return x == p })
	p.of.mu.Unlock()
	return p.Conn.Close()
}

// source is whose a connection is: of an address, of a /64 in IPv6.
func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	p, _ := ip.Prefix(min(64, ip.BitLen()))
	return p
}

// placeKey is where a request's context has its connection.
type placeKey struct{}

// withPlace is net/http's ConnContext.
func withPlace(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, c)
}

// asking says whether the request of this context is being answered.
func asking(ctx context.Context, asks bool) {
	if p, ok := ctx.Value(placeKey{}).(*placed); ok {
		p.of.mu.Lock()
		p.asks = asks
		p.of.mu.Unlock()
	}
}
