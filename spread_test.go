package main

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// parted is how a receiver was closed during a shutdown.
type parted struct {
	who               string
	first, last, code int
	err               error
	after             time.Duration // since just before the signal
}

// SHUTDOWN_SECONDS: the receivers are closed one after the other, those of a live stream,
// of one that ends meanwhile, and those that wait; the stream goes on for the others.
func TestShutdownSpreadsTheReceivers(t *testing.T) {
	t.Parallel()
	const spread, each = 10 * time.Second, 12
	s := startServer(t, "SHUTDOWN_SECONDS=10", "MAX_MESSAGE_MB=1", unhurried)
	pub, ends := s.publish("live", "key"), s.publish("over", "key")
	clients := map[string][]*wstest.Conn{}
	for i := range each {
		clients["live"] = append(clients["live"], s.receive("live", "key", wstest.ReceiveBuffer(64<<10)))
		clients["over"] = append(clients["over"], s.receive("over", "key"))
		if i%2 == 0 {
			clients["waits"] = append(clients["waits"], s.receive("nobody", "key"))
		} else {
			clients["waits"] = append(clients["waits"], s.probe("nobody", "key"))
		}
	}
	const before, size = 20, 10_000
	for i := range before {
		pub.Send(wstest.Binary, numbered(i, size))
		ends.Send(wstest.Binary, numbered(i, size))
	}
	pub.Sync()
	ends.Sync()

	start := time.Now()
	results, gone := make(chan parted), make(chan struct{})
	for who, conns := range clients {
		for _, c := range conns {
			go func() {
				p := parted{who: who}
				p.first, p.last, p.code, p.err = follow(c, nil)
				p.after = time.Since(start)
				results <- p
			}()
		}
	}
	s.signal(syscall.SIGTERM)
	var published int
	var publisherAfter time.Duration
	go func() { // publishes until it is closed
		defer close(gone)
		for published = before; ; published++ {
			if pub.SendE(wstest.Binary, numbered(published, size)) != nil {
				break
			}
			m, err := pub.NextWithin(20 * time.Millisecond)
			if err == nil && m.Op == wstest.Close {
				break
			}
		}
		publisherAfter = time.Since(start)
	}()
	s.wantLog("shutting down")
	ends.CloseHandshake(1000) // before anything else: at the spread's end it would be 1001
	s.wantNoNewcomers()

	var all []parted
	for range 3 * each {
		all = append(all, <-results)
	}
	<-gone
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
	heads := map[int]bool{}
	slices.SortFunc(all, func(a, b parted) int { return int(a.after - b.after) })
	for i, p := range all {
		if p.err != nil || p.code != 1001 {
			t.Errorf("%s: wanted everything and CLOSE 1001, got %+v", p.who, p)
		}
		if turn := spread * time.Duration(i+1) / time.Duration(len(all)); p.after < turn {
			t.Errorf("%d receivers are closed after %v, wanted that not before %v", i+1, p.after, turn)
		}
		switch p.who {
		case "live":
			heads[p.last] = true
			if p.first != 0 || p.last < before-1 || p.last > published {
				t.Errorf("wanted packets 0 to %d at least, of %d, got %+v", before-1, published, p)
			}
		case "over":
			if p.first != 0 || p.last != before-1 {
				t.Errorf("wanted packets 0 to %d, got %+v", before-1, p)
			}
		}
	}
	if len(heads) < 3 {
		t.Errorf("wanted the stream to go on between one receiver's turn and another's, they end at %v", heads)
	}
	if publisherAfter < spread {
		t.Errorf("wanted the publisher closed after the receivers, it was after %v", publisherAfter)
	}
}

// wantNoNewcomers waits until a shutdown has begun, and nobody is let in.
func (s *server) wantNoNewcomers() {
	s.t.Helper()
	s.wantLog("shutting down")
	eventually(s.t, "newcomers are refused", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// Who does not take what it is sent, and who does not read at all, is not waited for.
func TestShutdownSpreadDoesNotWaitForTheSlow(t *testing.T) {
	t.Parallel()
	s := startServer(t, "SHUTDOWN_SECONDS=1")
	pub := s.publish("cam", "key")
	s.receive("cam", "key", wstest.ReceiveBuffer(2048)).StopReading()
	for i := range 60 {
		pub.Send(wstest.Binary, payload(200_000, uint64(i)))
	}
	pub.Sync()
	wantEnd := s.end(syscall.SIGTERM)
	pub.WantClose(1001)
	if d := wantEnd(); d < time.Second {
		t.Errorf("wanted the end after 1 s, got %v", d)
	}
}

// The time is for receivers: without any, or when they have left, there is nothing to
// wait for.
func TestShutdownSpreadEndsWithTheLastReceiver(t *testing.T) {
	t.Parallel()
	s := startServer(t, "SHUTDOWN_SECONDS=300")
	pub := s.publish("cam", "key")
	var wg sync.WaitGroup
	for i := range 4 {
		r := s.receive(fmt.Sprintf("cam%d", i%2), "key")
		r.Sync()
		wg.Go(func() {
			if s.log.waitFor(func(log string) bool { return containsAll(log, "shutting down") }) {
				r.Close()
			}
		})
	}
	s.signal(syscall.SIGTERM)
	wg.Wait()
	pub.WantClose(1001)
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

func TestSecondSignalEndsASpreadAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, "SHUTDOWN_SECONDS=300")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	r.Sync()
	s.signal(syscall.SIGTERM)
	s.wantLog("shutting down")
	for i := range 3 { // it goes on
		pub.Send(wstest.Binary, numbered(i, 100))
		r.WantPacket(numbered(i, 100))
	}
	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != 1 {
		t.Errorf("wanted exit code 1, got %d", code)
	}
}
