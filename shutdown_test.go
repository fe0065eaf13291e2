package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// endsWithin is how soon after SIGTERM a server must have ended: what is promised.
// TestSystemdUnit adds up what there is to wait for.
const endsWithin = 10 * time.Second

// unhurried, given to startServer, has the shutdown wait for receivers for as long as the
// tests do: with the real time, which the tests of the time itself have, a busy machine
// may cut off a receiver that takes all it can.
const unhurried = shutdownVariable + "=60s"

// shutdownTimeOf is the shutdownTimeout of a child with this shutdownVariable.
func shutdownTimeOf(value string) time.Duration {
	if value == "" {
		return shutdownTimeout
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		panic(err)
	}
	return d
}

// end sends the signal. The function that it returns waits for the server's end, in
// order, which must come as soon as is promised, but for what this machine was late
// meanwhile and for what an unhurried server has more. It returns how long the end took.
func (s *server) end(sig os.Signal) (wantEnd func() time.Duration) {
	s.t.Helper()
	start, late := time.Now(), lateness(s.t)
	s.signal(sig)
	return func() time.Duration {
		s.t.Helper()
		code, took := s.wait(), time.Since(start)
		if code != 0 {
			s.t.Errorf("wanted exit code 0, got %d", code)
		}
		most := endsWithin - shutdownTimeout + s.shutdownTime
		if late := late(); took > most+late {
			s.t.Errorf("wanted the end within %v whatever clients do, got it after %v; this machine was late by %v at most", most, took, late)
		}
		return took
	}
}

// wantLeft fails if the sockets between the server and a client of the plain listener, which
// has read nothing of what was published, have room for all of it. The client's has 64 KiB,
// which the kernel doubles.
func (s *server) wantLeft(c *wstest.Conn, published int) {
	s.t.Helper()
	if held, ok := s.inKernel(c); ok && held+(128<<10) >= int64(published) {
		s.t.Fatalf("the kernel may hold all of %d bytes, of which the server's socket has %d", published, held)
	}
}

func TestMistake15ShutdownDeliversEverythingAndSays1001(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := startServer(t, unhurried)
			const n, size = 60, 30_000 // more than the sockets take
			rs := []*wstest.Conn{
				s.receive("cam", "key", wstest.ReceiveBuffer(64<<10)),
				s.receive("cam", "key", wstest.ReceiveBuffer(64<<10)),
				s.receiveClear("cam", "key", wstest.ReceiveBuffer(64<<10)),
			}
			waiting := []*wstest.Conn{s.receive("nobody", "key"), s.probe("nobody", "key")}
			pub := s.publish("cam", "key")
			for i := range n {
				pub.Send(wstest.Binary, numbered(i, size))
			}
			pub.Sync()
			for _, r := range rs {
				s.wantLeft(r, n*size)
			}
			wantEnd := s.end(sig)
			var wg sync.WaitGroup
			for _, r := range rs {
				wg.Go(func() {
					first, last, code, err := follow(r, nil)
					if err != nil || first != 0 || last != n-1 || code != 1001 {
						t.Errorf("wanted packets 0 to %d and CLOSE 1001, got %d to %d and %d, %v", n-1, first, last, code, err)
					}
				})
			}
			wg.Wait()
			for _, r := range rs {
				r.WantEOF()
			}
			for _, c := range append(waiting, pub) {
				c.WantClose(1001)
				c.WantEOF()
			}
			wantEnd()
		})
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	stalled := s.receive("cam", "key", wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	deaf := s.receive("cam", "key", wstest.NoEcho())
	for i := range 60 {
		pub.Send(wstest.Binary, payload(200_000, uint64(i)))
		deaf.WantPacket(payload(200_000, uint64(i)))
	}
	nc, err := net.Dial("tcp", s.addr) // a handshake that never comes
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = nc.Write([]byte("GET /cam"))
	wantEnd := s.end(syscall.SIGTERM)
	deaf.WantClose(1001)
	wantEnd()
}

// leaveBehind publishes more than the kernel takes for the receiver, which reads nothing.
func (s *server) leaveBehind() (pub, stalled *wstest.Conn) {
	s.t.Helper()
	pub = s.publish("cam", "key")
	stalled = s.receive("cam", "key", wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	for i := range 60 {
		pub.Send(wstest.Binary, payload(200_000, uint64(i)))
	}
	pub.Sync()
	return pub, stalled
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, unhurried)
	pub, _ := s.leaveBehind()
	s.signal(syscall.SIGTERM)
	pub.WantClose(1001)
	time.Sleep(200 * time.Millisecond)
	if !s.running() {
		t.Fatal("wanted the shutdown to wait for a receiver that is behind")
	}
	start := time.Now()
	s.signal(syscall.SIGTERM)
	code, took := s.wait(), time.Since(start)
	if code != 1 || took > s.shutdownTime/2 { // one that waits for the receiver ends with 0
		t.Errorf("wanted the end at once, with exit code 1, got %d after %v", code, took)
	}
}

func TestNoNewClientsDuringShutdown(t *testing.T) {
	t.Parallel()
	s := startServer(t, "SHUTDOWN_SECONDS=300") // as long as the receiver is there
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	r.Sync()
	s.signal(syscall.SIGTERM)
	s.wantNoNewcomers()
	for _, path := range []string{"/other/key/publish", "/cam/key/receive"} {
		if c, resp, err := wstest.Open(s.addr, path); c != nil {
			t.Errorf("%s during shutdown: wanted a refusal, got %v, %v", path, resp, err)
			c.Close()
		}
	}
	r.Close()
	pub.WantClose(1001)
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

func TestIdleServerStopsQuickly(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.wantStop()
}

func TestShutdownTellsTheCoordinator(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	acceptAll(c)
	want := map[string]bool{}
	for i := range 5 {
		channel := fmt.Sprint("cam", i)
		want[channel] = true
		s.publish(channel, "key").Sync()
	}
	waiting := ask(s, "/late/key/publish")
	waiting.want(t, 101)
	want["late"] = true
	s.signal(syscall.SIGTERM)
	for range 6 {
		delete(want, c.WantMessage("PUBLISH-END").Get("Stream-Channel"))
	}
	if len(want) != 0 {
		t.Errorf("wanted PUBLISH-END for every publisher, none came for %v", want)
	}
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

func TestShutdownWithAPublisherThatWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	a := ask(s, "/cam/key/publish")
	c.WantMessage("PUBLISH-REQUEST")
	s.end(syscall.SIGTERM)()
	if resp := <-a.answer; a.err == nil && resp.Status != 503 {
		t.Errorf("wanted 503 or the end of the connection, got %v", resp)
	}
}

func TestShutdownOverTLS(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c, unhurried)
	r := s.tlsDial(t, "/cam/key/receive", c, wstest.ReceiveBuffer(256<<10))
	pub := s.tlsDial(t, "/cam/key/publish", c)
	for i := range 30 {
		pub.Send(wstest.Binary, numbered(i, 100_000))
	}
	pub.Sync()
	s.signal(syscall.SIGTERM)
	for i := range 30 {
		r.WantPacket(numbered(i, 100_000))
	}
	r.WantClose(1001)
	r.WantEOF()
	pub.WantClose(1001)
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

func TestShutdownWithoutACoordinator(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"that is gone", func(nc net.Conn) { _ = nc.Close() }},
		{"that hangs in the handshake", func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }},
		{"that never reads", func(nc net.Conn) { _ = acceptUpgrade(nc); time.Sleep(12 * time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url, dials := rawCoordinator(t, c.serve)
			s := startServer(t, "CONTROL_BASE_URL="+url)
			eventually(t, "the coordinator is dialled", func() bool { return dials() > 0 })
			r := s.receive("cam", "key")
			wantEnd := s.end(syscall.SIGTERM)
			r.WantClose(1001)
			wantEnd()
		})
	}
}
