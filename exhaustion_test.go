package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

const (
	shortageBegins = "no file descriptors are left"
	shortageEnds   = "newcomers are served again"
)

// fill joins receivers until there are no descriptors left for one more, and takes
// the last one with a connection that says nothing. They and the others, that were there
// before, show life meanwhile.
func (s *server) fill(others ...*wstest.Conn) (in []*wstest.Conn, last net.Conn) {
	s.t.Helper()
	var life wstest.LifeSigns
	for {
		life.From(slices.Concat(others, in)...)
		c, resp, err := wstest.Open(s.addr, "/full/key/receive")
		switch {
		case err != nil:
			s.t.Fatalf("receiver %d: wanted an answer, got %v", len(in), err)
		case c == nil:
			if resp.Status != 503 || resp.Header.Get("Retry-After") == "" || strings.Count(resp.Body, "\n") != 1 {
				s.t.Fatalf("receiver %d: wanted 503 with Retry-After and one line, got %v %v", len(in), resp, resp.Header)
			}
			return in, silent(s.t, s.addr, "")
		}
		in = append(in, c.On(s.t))
		c.Sync()
		if len(in) > 200 {
			s.t.Fatal("200 receivers with 64 descriptors")
		}
	}
}

// A server without descriptors stays, says so once, waits without spinning, carries
// what is live, and lets newcomers in as soon as somebody leaves.
func TestDescriptorsUsedUp(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ulimit:64", "GOMAXPROCS=2", "HANDSHAKE_TIMEOUT_SECONDS=300")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Sync()
	r.Sync()
	before := s.descriptors()
	in, last := s.fill(pub, r)
	t.Logf("%d receivers beside %d descriptors in use", len(in), before)
	s.wantLog(shortageBegins, "limit=64")

	// Newcomers wait: neither answered nor refused. Once there is room they get in; the
	// first may find that there is room for half of it, is told so and tries again.
	answers := make(chan error, 5)
	for range cap(answers) {
		go func() {
			c, resp, err := wstest.Open(s.addr, "/late/key/receive")
			for end := time.Now().Add(patience); err == nil && resp.Status == 503 && time.Now().Before(end); {
				c, resp, err = wstest.Open(s.addr, "/late/key/receive")
			}
			if c == nil {
				answers <- fmt.Errorf("%v, %w", resp, err)
				return
			}
			answers <- alive(c)
		}()
	}
	cpu, start, sent := s.processorTime(), time.Now(), 0
	for ; time.Since(start) < 2*time.Second; sent++ {
		pub.Send(wstest.Binary, numbered(sent, 1000))
		r.WantPacket(numbered(sent, 1000))
		time.Sleep(10 * time.Millisecond) // between two packets
	}
	took, cpu := time.Since(start), s.processorTime()-cpu
	t.Logf("%v of CPU in %v, with %d packets", cpu, took.Round(time.Millisecond), sent)
	if limit := took / 2; cpu > limit {
		t.Errorf("wanted little CPU used while descriptors are used up, got %v in %v", cpu, took)
	}
	if len(answers) > 0 {
		t.Errorf("wanted newcomers to wait while there is no descriptor, got %v", <-answers)
	}
	s.wantLogs(1, shortageBegins)
	s.wantLogs(0, shortageEnds)

	// Somebody leaves.
	start = time.Now()
	_ = last.Close()
	for _, c := range in {
		c.Close()
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Errorf("wanted newcomers in once descriptors are free, got %v", err)
		}
	}
	t.Logf("%d newcomers in %v after the others left", cap(answers), time.Since(start).Round(time.Millisecond))
	s.wantLog(shortageEnds)
	s.wantLogs(1, shortageBegins)
	s.wantLogs(1, shortageEnds)
	pub.Send(wstest.Binary, numbered(sent, 1000))
	r.WantPacket(numbered(sent, 1000))
	eventually(t, "every descriptor is given back", func() bool { return s.descriptors() <= before })
}

// Connections that are kept for their next request take no descriptor from newcomers:
// they are hung up, and as long as there are too few none is kept.
func TestKeptConnectionsGiveDescriptorsUp(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ulimit:64", "GOMAXPROCS=2")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	page := func() (closed bool) {
		nc := silent(t, s.addr, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		_ = nc.SetReadDeadline(time.Now().Add(30 * time.Second)) // half of what a kept one has
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatalf("wanted an answer, got %v", err)
		}
		return resp.Close
	}
	kept := 0
	for ; kept < 100 && !strings.Contains(s.logs(), shortageBegins); kept++ {
		page()
	}
	t.Logf("%d connections kept", kept)
	s.wantLog(shortageBegins)
	if closed := page(); !closed && !s.log.waitFor(func(log string) bool { return strings.Contains(log, shortageEnds) }) {
		t.Error("wanted no connection kept while there are too few descriptors")
	}
	for range 5 {
		s.dialSoon("/cam/key/receive").Sync()
	}
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
}

// alive pings over a connection made by Open, wants the answer, and closes it.
func alive(c *wstest.Conn) error {
	defer c.Close()
	if err := c.SendE(wstest.Ping, []byte("alive?")); err != nil {
		return err
	}
	for {
		m, err := c.NextFrame(patience)
		if err != nil {
			return err
		}
		if m.Op == wstest.Pong {
			return nil
		}
	}
}

// More connections or handshakes than descriptors, 32 of which are the server's own, are
// a promise that cannot be kept: the server says so at its start.
func TestMoreConnectionsThanDescriptors(t *testing.T) {
	t.Parallel()
	const connections, handshakes = "MAX_CONNECTIONS cannot be reached", "MAX_HANDSHAKES cannot be reached"
	for _, c := range []struct {
		env                     []string
		connections, handshakes int // lines
	}{
		{[]string{"MAX_CONNECTIONS=33", "MAX_HANDSHAKES=32"}, 1, 0},
		{[]string{"MAX_CONNECTIONS=32", "MAX_HANDSHAKES=33"}, 0, 1},
		{[]string{"MAX_HANDSHAKES=0"}, 0, 0},
		{nil, 0, 1}, // 1024
	} {
		s := startServer(t, append([]string{"ulimit:64", "GOMAXPROCS=2"}, c.env...)...)
		s.wantLogs(c.connections, connections)
		s.wantLogs(c.handshakes, handshakes)
	}
}

// A storm of handshakes on the last descriptors: each one is served whole or told to
// come again, never upgraded and dropped; each gives its places back; nobody else is
// harmed.
func TestHandshakesThatRaceForTheLastDescriptors(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "ulimit:64", "GOMAXPROCS=2", "MAX_CONNECTIONS=60") // never so many
	start := time.Now()
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Sync()
	r.Sync()
	before := s.descriptors()
	in, last := s.fill(pub, r)
	_ = last.Close()
	for _, c := range in[:4] { // room for some
		c.Close()
	}
	var mu sync.Mutex
	status := map[int]int{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			addr, opts := s.addr, []wstest.Option{wstest.Patience(60 * time.Second)}
			if i%4 == 0 {
				addr, opts = s.tlsAddr, append(opts, wstest.TLS(id.Trust()))
			}
			for range 8 {
				c, resp, err := wstest.Open(addr, "/late/key/receive", opts...)
				if c != nil {
					err = alive(c)
				}
				if err != nil {
					t.Errorf("wanted an upgrade that lasts, or 503: %v", err)
					return
				}
				if resp.Status != 101 && resp.Status != 503 {
					t.Errorf("wanted 101 or 503, got %v", resp)
				}
				mu.Lock()
				status[resp.Status]++
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var life wstest.LifeSigns
	sent := 0
	for running := true; running; sent++ {
		life.From(in[4:]...)
		pub.Send(wstest.Binary, numbered(sent, 1000))
		r.WantPacket(numbered(sent, 1000))
		select {
		case <-done:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Logf("answers %v while %d packets went through", status, sent)
	if status[101] == 0 {
		t.Errorf("wanted some in, got %v", status)
	}
	for _, c := range in[4:] {
		if err := alive(c); err != nil {
			t.Errorf("a receiver that was in: %v", err)
		}
	}
	s.wantLog(shortageBegins)
	most := 1 + int(time.Since(start)/(5*time.Second)) // it is over when nobody has met it for 5 s
	if n := strings.Count(s.logs(), shortageBegins); n > most {
		t.Errorf("wanted 1 to %d lines about descriptors, got %d:\n%s", most, n, tail(s.logs()))
	}

	// Nothing is left of all that: not a descriptor, not a place.
	eventually(t, "every descriptor is given back", func() bool { return s.descriptors() <= before })
}
