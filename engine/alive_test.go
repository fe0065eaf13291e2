package engine

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// alive asks with so much time.
func (s *testServer) alive(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return s.Alive(ctx)
}

func TestAServerThatIsAlive(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plain": func(*Config) {}, "with TLS": withTLS(t), "on all interfaces": func(c *Config) { c.BindAddress = "" },
		"by name": func(c *Config) { c.BindAddress = "localhost" }, "without room": func(c *Config) { c.MaxHandshakes = 1 },
	} {
		s := newTestServer(t, change)
		if name == "without room" { // the one place is taken by somebody slow, and the next one waits
			for range 2 {
				nc, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				_, _ = io.WriteString(nc, "GET /")
			}
			eventually(t, "somebody waits", s.front.gate.crowded)
		}
		for range 3 {
			if err := s.alive(patience); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAServerThatAcceptsNobody(t *testing.T) {
	s := newTestServer(t)
	_ = s.front.http.Close() // the listener with it
	if err := s.alive(patience); err == nil || !strings.Contains(err.Error(), "/healthz") {
		t.Errorf("nobody listens: %v", err)
	}
	s.stopping.Store(true)
	if err := s.alive(patience); err != nil {
		t.Errorf("while it goes away that is as it should be: %v", err)
	}
}

// A server that has all it can do is alive.
func TestABusyServerIsAlive(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	for range 50 {
		r := s.receive("cam", "key", wstest.ReceiveBuffer(64<<10))
		r.StopReading()
	}
	done := make(chan error, 1)
	go func() { done <- s.alive(patience) }()
	for i := range 50 {
		pub.Send(wstest.Binary, numbered(i, 100_000))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The server knows its own requests, also those that it has given up and comes to late.
func TestOwnAddresses(t *testing.T) {
	var own ownAddrs
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i)) }
	for i := 1; i <= 20; i++ {
		own.add(at(i))
		for j := range 30 {
			if is := j > max(0, i-len(own.last)) && j <= i; own.has(at(j)) != is {
				t.Fatalf("asked from ports 1 to %d: is %d one's own: %v, wanted %v", i, j, !is, is)
			}
		}
	}
}
