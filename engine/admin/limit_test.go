package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// places is a limited listener with clients of several addresses.
type places struct {
	*limited
	t *testing.T
}

func newPlaces(t *testing.T, most int) *places {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &places{limit(l, most), t}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// guest is both sides of a connection.
type guest struct {
	net.Conn
	server *placed
}

// come connects from an address, and is accepted.
func (p *places) come(from string) guest {
	p.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: wstest.Timeout}
	_, port, _ := net.SplitHostPort(p.Addr().String())
	c, err := d.Dial("tcp4", "127.0.0.1:"+port)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	s, err := p.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = s.Close() })
	return guest{c, s.(*placed)}
}

// wants fails unless these guests are there and no others.
func (p *places) wants(there ...guest) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.here) != len(there) {
		p.t.Fatalf("wanted %d connections, got %d", len(there), len(p.here))
	}
	for i, g := range there {
		if p.here[i] != g.server {
			p.t.Fatalf("wanted %v at place %d, got %v", g.LocalAddr(), i, p.here[i].RemoteAddr())
		}
	}
}

// wantGone waits for the end of a guest's connection.
func (p *places) wantGone(g guest) {
	p.t.Helper()
	_ = g.SetReadDeadline(time.Now().Add(wstest.Timeout))
	if _, err := g.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("wanted the connection of %v to end, got %v", g.LocalAddr(), err)
	}
}

// Whoever has the most connections loses one when there are too many: those of others,
// and those that wait for an answer, stay.
func TestOneAddressDoesNotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	const crowd, alone, third = "127.0.0.2", "127.0.0.3", "127.0.0.4"
	p := newPlaces(t, 4)
	a := []guest{p.come(crowd), p.come(crowd), p.come(crowd), p.come(crowd)}
	asking(withPlace(context.Background(), a[0].server), true)
	b := p.come(alone)
	p.wantGone(a[1])
	p.wants(a[0], a[2], a[3], b)

	a = append(a, p.come(crowd)) // goes on, and cuts off its own
	p.wantGone(a[2])
	p.wants(a[0], a[3], b, a[4])

	c := p.come(third)
	p.wantGone(a[3])
	p.wants(a[0], b, a[4], c)

	asking(withPlace(context.Background(), a[0].server), false)
	_ = b.server.Close() // its place is free again
	d := p.come(third)
	p.wants(a[0], a[4], c, d)

	for _, g := range []guest{a[0], a[4], c, d} {
		asking(withPlace(context.Background(), g.server), true)
	}
	p.wantGone(p.come(alone)) // all are being answered
	p.wants(a[0], a[4], c, d)
}

// Silent connections of one address neither hold up others nor grow in number.
func TestSilentConnectionsHoldUpNobody(t *testing.T) {
	t.Parallel()
	l := listen(t, "0.0.0.0:0", aToken, slowServer())
	_, port, _ := net.SplitHostPort(l.addr)
	l.addr = net.JoinHostPort("127.0.0.1", port)
	crowd := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	first, err := crowd.Dial("tcp4", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	// A request that is half there is no request.
	_, _ = fmt.Fprint(first, "GET /healthz HTTP/1.1\r\n")
	for range 2 * maxConns {
		c, err := crowd.Dial("tcp4", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	l.wants(200, "GET", "/api/v1/server", "Authorization", bearer)
	l.net.(*limited).mu.Lock()
	n := len(l.net.(*limited).here)
	l.net.(*limited).mu.Unlock()
	if n > maxConns {
		t.Errorf("%d connections are there, wanted %d at most", n, maxConns)
	}
	_ = first.SetReadDeadline(time.Now().Add(wstest.Timeout))
	if b, err := io.ReadAll(first); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wanted the oldest silent connection hung up, got %q, %v", b, err)
	}
}

// A source is an address, a /64 in IPv6.
func TestSources(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "::1": "::/64",
	} {
		if got := source(&net.TCPAddr{IP: net.ParseIP(ip), Port: 1}).String(); got != want {
			t.Errorf("%s: wanted %s, got %s", ip, want, got)
		}
	}
}
