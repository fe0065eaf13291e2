package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// stormSize is how many clients a storm has: 10,000, fewer only where the race detector
// makes each one slow. A descriptor is needed for each, and 500 for the tests that run
// beside: CI has to allow 10,500.
func stormSize(t *testing.T) int {
	t.Helper()
	n := 10_000
	if raceEnabled {
		n = 2_000
	}
	if limit := descriptors(); limit < n+500 {
		wstest.Skip(t, "%d descriptors are allowed, %d clients need %d", limit, n, n+500)
	}
	return n
}

// A server that was restarted has all its clients back at once. All get in, and a
// stream that is live meanwhile goes on: nothing is missing, and it does not stand still
// for seconds.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	heavy(t)
	requireLoopbackRange(t)
	n := stormSize(t)
	s := startServer(t, "LOG_REQUESTS=NO", "CONCURRENT_LIMIT_WHITELIST=*")

	live := s.receive("live", "key")
	pub := s.publish("live", "key")
	var wg sync.WaitGroup
	over, sent := make(chan struct{}), 0
	var late, worst time.Duration // longest from a packet sent to the next tick; from one that came to the next
	wg.Go(func() {
		var err error
		late, err = everyTick(over, func() error {
			err := pub.SendE(wstest.Binary, numbered(sent, 2000))
			if err == nil {
				sent++
			}
			return err
		})
		if err != nil {
			t.Errorf("the live publisher: %v", err)
			return
		}
		_ = pub.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
	})
	last, code := 0, 0
	wg.Go(func() {
		var err error
		before := time.Now()
		_, last, code, err = follow(live, func(int) {
			worst = max(worst, time.Since(before))
			before = time.Now()
		})
		if err != nil {
			t.Errorf("the live receiver: %v", err)
		}
	})

	start := time.Now()
	h := newHerd()
	defer h.leave()
	clients := storm(t, s.addr, n, h)
	took := time.Since(start)
	if t.Failed() {
		close(over)
		wg.Wait()
		return
	}
	t.Logf("%d clients in after %v, %.0f a second; the server has %d MiB", n, took.Round(10*time.Millisecond), float64(n)/took.Seconds(), s.memory()>>20)
	s.publish("storm", "key").Send(wstest.Binary, []byte("packet"))
	each(clients, func(c *net.TCPConn) {
		if err := readTo(c, "\x82\x06packet"); err != nil {
			t.Errorf("wanted the packet at everybody who got in: %v", err)
		}
	})
	close(over)
	wg.Wait()
	if last != sent-1 || code != 1000 {
		t.Errorf("wanted the live stream's packets to %d and 1000, got them to %d and %d", sent-1, last, code)
	}
	if worst > late+5*time.Second {
		t.Errorf("the live stream stood still for %v; its publisher was late by %v at most", worst, late)
	}
	t.Logf("a packet every 20 ms meanwhile: %d; the worst gap was %v at the receiver, and %v at the publisher, which runs beside the clients",
		sent, worst.Round(time.Millisecond), late.Round(time.Millisecond))
}

// herd is clients that show signs of life: on a busy machine it takes longer than a minute
// until all are in.
type herd struct {
	stop chan struct{}
	over sync.WaitGroup

	mu      sync.Mutex
	clients []*net.TCPConn // guarded by mu
}

func newHerd() *herd {
	h := &herd{stop: make(chan struct{})}
	h.over.Go(func() {
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				for _, c := range h.all() {
					_, _ = c.Write(wstest.Bytes(frame{Op: wstest.Pong}))
				}
			case <-h.stop:
				return
			}
		}
	})
	return h
}

func (h *herd) join(c *net.TCPConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients = append(h.clients, c)
}

func (h *herd) all() []*net.TCPConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.clients)
}

// leave resets all connections, so that no port is kept from the next test.
func (h *herd) leave() {
	close(h.stop)
	h.over.Wait()
	for _, c := range h.all() {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// storm opens n connections that wait for the channel storm, all at once, and fails
// unless all get in.
func storm(t *testing.T, addr string, n int, h *herd) []*net.TCPConn {
	inParts(n, func(first, last int) { enter(t, knock(t, addr, first, last), h) })
	return h.all()
}

// inParts has 20 of n clients on each goroutine: the kernel connects without the server.
func inParts(n int, f func(first, last int)) {
	const each = 20
	var wg sync.WaitGroup
	for first := 0; first < n; first += each {
		wg.Go(func() { f(first, min(first+each, n)) })
	}
	wg.Wait()
}

// knock connects clients from one number to before another, who ask to receive the
// channel storm.
func knock(t *testing.T, addr string, first, last int) (clients []*net.TCPConn) {
	request := []byte(wstest.UpgradeRequest("/storm/key/receive"))
	for i := first; i < last; i++ {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 7, byte(1+i%100))}}
		nc, err := d.Dial("tcp", addr)
		if err == nil {
			clients = append(clients, nc.(*net.TCPConn))
			_, err = nc.Write(request)
		}
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	return clients
}

// enter has clients who have knocked join the herd, and fails unless all are let in.
func enter(t *testing.T, clients []*net.TCPConn, h *herd) {
	for _, c := range clients {
		if err := readTo(c, "\r\n\r\n"); err != nil {
			t.Errorf("wanted 101, got %v", err)
		}
		h.join(c)
	}
}

// readTo reads to these bytes, and what came along with them. An HTTP answer has to be a 101.
func readTo(c net.Conn, end string) error {
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	var b []byte
	var buf [256]byte
	for !bytes.Contains(b, []byte(end)) {
		n, err := c.Read(buf[:])
		b = append(b, buf[:n]...)
		if bytes.HasPrefix(b, []byte("HTTP")) && len(b) > 12 && string(b[9:12]) != "101" {
			return fmt.Errorf("the answer %q", b)
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the end of the connection after %q", b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls f for all clients, on some goroutines.
func each(clients []*net.TCPConn, f func(*net.TCPConn)) {
	const workers = 100
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(clients); i += workers {
				f(clients[i])
			}
		})
	}
	wg.Wait()
}
