package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// loaded is a channel under load: a publisher that sends as fast as its receivers
// take, and no faster, for the server's time for what is on its way at the end is limited.
type loaded struct {
	channel string
	pub     *wstest.Conn
	rs      []*wstest.Conn
	got     []atomic.Int64 // packets by receiver
	size    int

	sent     atomic.Int64 // packets
	answered atomic.Int64 // of these, packets that the server has read for certain
	over     chan struct{}
	closed   int // the close code of the publisher, then the result of its reading
	err      error
}

// load opens the channel and joins n receivers.
func (s *server) load(w way, channel string, n, size int) *loaded {
	s.t.Helper()
	l := &loaded{channel: channel, size: size, got: make([]atomic.Int64, n), over: make(chan struct{})}
	for range n {
		l.rs = append(l.rs, w.dial(s, "/"+channel+"/key/receive"))
	}
	l.pub = w.dial(s, "/"+channel+"/key/publish")
	go l.listen()
	return l
}

// listen takes the answers to the publisher's pings, until its end.
func (l *loaded) listen() {
	defer close(l.over)
	for {
		m, err := l.pub.NextFrame(30 * time.Second)
		switch {
		case err != nil:
			l.err = err
			return
		case m.Op == wstest.Close:
			l.closed = m.Code()
			return
		case m.Op == wstest.Pong:
			var i int64
			_, _ = fmt.Sscan(string(m.Payload), &i)
			l.answered.Store(i)
		}
	}
}

// publish sends until the server says that it is over.
func (l *loaded) publish() {
	const window, every = 64, 16 // packets on their way to the slowest; between two pings
	for i := int64(0); ; i++ {
		for i-l.slowest() > window {
			select {
			case <-l.over:
				return
			case <-time.After(time.Millisecond):
			}
		}
		b := frame{Op: wstest.Binary, Payload: numbered(int(i), l.size)}.AppendTo(nil)
		l.sent.Store(i + 1)
		if i%every == 0 {
			b = frame{Op: wstest.Ping, Payload: fmt.Append(nil, i+1)}.AppendTo(b)
		}
		if l.pub.SendRawE(b) != nil {
			<-l.over
			return
		}
	}
}

func (l *loaded) slowest() int64 {
	low := l.got[0].Load()
	for i := range l.got {
		low = min(low, l.got[i].Load())
	}
	return low
}

// follow has the receivers read to the end, and fails unless each got all that was
// published, from the first packet to the same last one, then 1001.
func (l *loaded) follow(t *testing.T) {
	lasts := make([]int, len(l.rs))
	var wg sync.WaitGroup
	for i, r := range l.rs {
		wg.Go(func() {
			first, last, code, err := follow(r, func(n int) { l.got[i].Store(int64(n) + 1) })
			if lasts[i] = last; err != nil || first != 0 || code != 1001 {
				t.Errorf("%s, receiver %d: wanted packets from 0 on and 1001, got %d to %d and %d, %v", l.channel, i, first, last, code, err)
				return
			}
			if _, err := r.NextE(); !errors.Is(err, io.EOF) {
				t.Errorf("%s, receiver %d: wanted the end, got %v", l.channel, i, err)
			}
		})
	}
	wg.Wait()
	<-l.over
	if l.closed != 1001 {
		t.Errorf("%s, publisher: wanted 1001, got %d, %v", l.channel, l.closed, l.err)
	}
	for i, last := range lasts {
		if last != lasts[0] || int64(last) < l.answered.Load()-1 || int64(last) >= l.sent.Load() {
			t.Errorf("%s, receiver %d: got packets up to %d, another up to %d; %d were sent, %d of them for certain before the end",
				l.channel, i, last, lasts[0], l.sent.Load(), l.answered.Load())
		}
	}
}

// SIGTERM while hundreds of receivers, plain and over TLS, are served by publishers
// that send all the time, and others come and go.
func TestShutdownUnderFullLoad(t *testing.T) {
	t.Parallel()
	heavy(t)
	each := 50
	if raceEnabled {
		each = 25
	}
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "LOG_REQUESTS=NO", unhurried)
	var load []*loaded
	for i := range 4 {
		load = append(load, s.load(s.ways(id)[i%2], fmt.Sprint("cam", i), each, []int{200, 3000}[i/2]))
	}
	var wg sync.WaitGroup
	for _, l := range load {
		wg.Go(l.publish)
		wg.Go(func() { l.follow(t) })
	}
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() { // served, refused or cut off, as it happens
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, _, _ := wstest.Open(s.addr, "/cam0/key/receive"); c != nil {
					_, _ = c.NextE()
					c.Close()
				}
			}
		})
	}
	for _, l := range load {
		eventually(t, "it runs", func() bool { return l.slowest() > 100 })
	}
	took := s.end(syscall.SIGTERM)()
	close(stop)
	wg.Wait()
	if strings.Contains(s.logs(), "cut short") {
		t.Errorf("wanted nobody cut off:\n%s", tail(s.logs()))
	}
	t.Logf("the end took %v", took.Round(time.Millisecond))
}

// The server is killed and started again on the same ports while everybody tries to
// come back: everybody is served, each receiver from the first packet on.
func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	heavy(t)
	const receivers, packets, again = 200, 100, 1 << 20
	id := wstest.NewIdentity(t, "one")
	s, dir := startTLS(t, id, "LOG_REQUESTS=NO")
	ways := s.ways(id)
	var served, whole atomic.Int64
	var wg sync.WaitGroup
	for i := range receivers {
		wg.Go(func() {
			if err := comeBack(ways[i%2], again, again+packets-1, &served, &whole); err != nil {
				t.Errorf("receiver %d: %v", i, err)
			}
		})
	}
	pub := s.publish("cam", "key")
	cut := make(chan struct{})
	go func() { // without an end, until it is cut
		defer close(cut)
		for i := 0; pub.SendE(wstest.Binary, numbered(i, 300)) == nil; i++ {
			time.Sleep(time.Millisecond)
		}
	}()
	eventually(t, "everybody is served", func() bool { return served.Load() == receivers })
	s.signal(syscall.SIGKILL)
	s.wait()
	<-cut

	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	s = startServer(t, "LOG_REQUESTS=NO", "HTTP_PORT="+port(s.addr), "SSL_PORT="+port(s.tlsAddr),
		"SSL_CERT="+filepath.Join(dir, "cert.pem"), "SSL_KEY="+filepath.Join(dir, "key.pem"))
	pub = s.publish("cam", "key")
	for i := range packets {
		pub.Send(wstest.Binary, numbered(again+i, 3000))
	}
	eventually(t, "everybody is back", func() bool { return whole.Load() == receivers })
	pub.CloseHandshake(1000)
	wg.Wait()
}

// comeBack receives until a stream from one number to another has ended in order. As
// often as its connection is cut, in a stream that begins with 0, it comes back. It
// counts the connections that got packet 0, and those that got the last one.
func comeBack(w way, again, end int, served, whole *atomic.Int64) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		c, resp, err := wstest.Open(w.addr, "/cam/key/receive", w.options(wstest.Patience(30*time.Second))...)
		if c == nil {
			if time.Now().After(deadline) {
				return fmt.Errorf("not served: %v, %w", resp, err)
			}
			time.Sleep(50 * time.Millisecond) // its pause between two tries
			continue
		}
		first, last, code, err := follow(c, func(i int) {
			switch i {
			case 0:
				served.Add(1)
			case end:
				whole.Add(1)
			}
		})
		c.Close()
		var bad *wstest.ProtocolError
		switch {
		case first == again && last == end && code == 1000:
			return nil
		case err == nil || first > 0 || errors.As(err, &bad) || errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("wanted packets %d to %d and 1000, got %d to %d and %d, %v", again, end, first, last, code, err)
		}
	}
}
