package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

const (
	watched = 76 * time.Second // how long the long tests look
	silence = 60 * time.Second
)

// outlive reads from a client until it is dropped or until d has passed, while
// act (if any) is called every pace. It returns how long the connection lived.
func outlive(c *wstest.Conn, d, pace time.Duration, act func() error) (lived time.Duration, last wstest.Msg, dropped bool) {
	start := time.Now()
	next := start.Add(pace)
	for time.Since(start) < d {
		wait := start.Add(d)
		if act != nil && next.Before(wait) {
			wait = next
		}
		m, err := c.NextFrame(time.Until(wait))
		switch {
		case err == nil:
			last = m
			if m.Op == wstest.Close {
				return time.Since(start), m, true
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if act == nil || time.Now().Before(next) {
				continue
			}
			if err := act(); err != nil {
				return time.Since(start), last, true
			}
			next = next.Add(pace)
		default:
			return time.Since(start), last, true
		}
	}
	return time.Since(start), last, false
}

// Every client gets TEXT `h` and a ping, one that asked for pings a ping only.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t)
	live := s.publish("live", "key")
	live.Send(wstest.Binary, []byte("p"))
	var wg sync.WaitGroup
	for _, path := range []string{
		"/live/key/receive", "/idle/key/receive", "/idle/key/receive-clear-cache", "/idle/key/probe", "/pub/key/publish",
		"/live/key/receive?heartbeat=text",
		"/live/key/receive?heartbeat=ping", "/idle/key/receive-clear-cache?heartbeat=ping", "/idle/key/probe?heartbeat=ping",
		"/quiet/key/publish?heartbeat=ping",
	} {
		c := wstest.Dial(t, s.addr, path)
		_, pingsOnly := strings.CutSuffix(path, "=ping")
		beat := func(m wstest.Msg) bool { return m.Op == wstest.Text && string(m.Payload) == "h" }
		if pingsOnly {
			beat = func(m wstest.Msg) bool { return m.Op == wstest.Ping }
		}
		wg.Go(func() {
			last := time.Now()
			for range 2 {
				for {
					m, err := c.NextFrame(30 * time.Second)
					if err != nil {
						t.Errorf("%s: wanted a heartbeat about every 20 s, got %v after %v", path, err, time.Since(last))
						return
					}
					if beat(m) {
						break
					}
					if m.Op == wstest.Text {
						t.Errorf("%s: wanted the client's own kind of heartbeat, got %v", path, m)
					}
				}
				// The first may come at any moment of the server's round.
				if d := time.Since(last); d > 26*time.Second {
					t.Errorf("%s: wanted a heartbeat about every 20 s, got it after %v", path, d)
				}
				last = time.Now()
			}
			if !pingsOnly && c.Pings() == 0 {
				t.Errorf("%s: wanted pings beside the TEXT, got none", path)
			}
		})
	}
	wg.Wait()
}

// Who asked for pings only is told everything by the close frame.
func TestNoTextForClientsThatAskForPings(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const ping = "?x=y&heartbeat=ping&%zz"
	pub := wstest.Dial(t, s.addr, "/cam/key/publish"+ping)
	pub.Send(wstest.Binary, []byte("p"))
	r := wstest.Dial(t, s.addr, "/cam/key/receive"+ping)
	r.WantPacket([]byte("p"))
	p := wstest.Dial(t, s.addr, "/cam/key/probe"+ping)
	p.WantPacket([]byte("p"))
	p.WantClose(1000)
	for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
		c := wstest.Dial(t, s.addr, "/cam/wrong/"+kind+ping)
		if why := c.WantClose(1008); why != "invalid streaming key" {
			t.Errorf("%s: wanted the close frame to say why, got %q", kind, why)
		}
		c.WantEOF()
	}
	pub.SendText("\xff") // the publisher errs
	if why := pub.WantClose(1007); why != "invalid UTF-8" {
		t.Errorf("wanted the close frame to say why, got %q", why)
	}
	r.WantClose(1000)

	s.receive("cam", "key").Sync() // as before
	wstest.Dial(t, s.addr, "/cam/key/receive?heartbeat=text").Sync()
	for _, query := range []string{
		"heartbeat", "heartbeat=", "heartbeat=PING", "heartbeat=pong", "heartbeat=%zz", "heartbeat=ping;", "heartbeat=+ping", "heartbeat=ping%00",
		"heartbeat=ping&heartbeat=ping", "heartbeat=text&h%65artbeat=ping",
	} {
		for _, kind := range []string{"receive", "publish"} {
			resp := s.refuses(400, "/cam/key/"+kind+"?"+query)
			if !strings.Contains(resp.Body, "ping or text") {
				t.Errorf("%s: wanted to be told what is allowed, got %v", query, resp)
			}
		}
	}
	s.refuses(404, "/cam/key/play?heartbeat=x") // the path comes first
}

func TestSilentClientsAreDroppedAfterAMinuteAndNotBefore(t *testing.T) {
	t.Parallel()
	slow(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	live := s.publish("live", "key")
	keep := time.NewTicker(10 * time.Second)
	defer keep.Stop()
	over := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { // its publisher stays
		for {
			select {
			case <-over:
				return
			case <-keep.C:
				_ = live.SendE(wstest.Text, []byte("h"))
			}
		}
	})
	var wg sync.WaitGroup
	for _, path := range []string{"/pub/key/publish", "/idle/key/receive", "/idle/key/probe", "/live/key/receive"} {
		c := wstest.Dial(t, s.addr, path, wstest.NoPong())
		wg.Go(func() {
			lived, last, dropped := outlive(c, 90*time.Second, time.Hour, nil)
			if !dropped || lived < silence-2*time.Second {
				t.Errorf("%s: wanted a silent client dropped after 60 s, got dropped: %v after %v (%v)", path, dropped, lived, last)
			} else {
				t.Logf("%s: dropped after %v, %v", path, lived.Round(time.Second/10), last)
			}
		})
	}
	if runtime.GOOS == "linux" { // elsewhere no client can vanish
		vanishedAreFound(t, s, id, &wg)
	}
	wg.Wait()
	close(over)
	background.Wait()
	live.Sync()
}

// vanishedAreFound has the hosts of some clients vanish, without a FIN or a reset, and
// wants them found within 90 s: a publisher, so that its receivers are told and its
// channel is free, and receivers that are written to all the time, so little that
// the kernel could take minutes of it.
func vanishedAreFound(t *testing.T, s *server, id wstest.Identity, wg *sync.WaitGroup) {
	const soon = 90 * time.Second
	lost, told := s.publish("lost", "key"), s.receive("lost", "key")
	lost.Send(wstest.Binary, []byte("p"))
	told.WantPacket([]byte("p"))
	busy := s.publish("busy", "key")
	gone := []*wstest.Conn{lost, s.receive("busy", "key"), s.tlsDial(t, "/busy/key/receive", id)}
	busy.Send(wstest.Binary, []byte("p"))
	start := time.Now()
	for _, c := range gone {
		if c != lost {
			c.WantPacket([]byte("p"))
		}
		c.Vanish()
	}
	wg.Go(func() {
		lived, last, _ := outlive(told, soon, time.Hour, nil)
		if last.Op != wstest.Close || last.Code() != 1000 {
			t.Errorf("wanted the receivers of a publisher that has vanished told within %v, got %v after %v", soon, last, lived)
		}
		c, resp, err := wstest.Open(s.addr, "/lost/key/publish")
		if c == nil {
			t.Errorf("wanted the channel of a publisher that has vanished free, got %v, %v", resp, err)
			return
		}
		c.Close()
	})
	wg.Go(func() {
		found := regexp.MustCompile(`"session ends" channel=busy kind=receive .* reason=no_sign_of_life`)
		for len(found.FindAllString(s.logs(), -1)) < 2 {
			if time.Since(start) > soon {
				t.Errorf("wanted receivers that have vanished found within %v; the server's log ends:\n%s", soon, tail(s.logs()))
				return
			}
			if err := busy.SendE(wstest.Binary, payload(200, 1)); err != nil {
				t.Errorf("the publisher of a receiver that has vanished: %v", err)
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
		t.Logf("receivers that have vanished were found after %v", time.Since(start).Round(time.Second))
	})
}

func TestMistake08EveryByteIsLife(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t)
	var wg sync.WaitGroup
	stays := func(name string, c *wstest.Conn, pace time.Duration, act func() error) {
		wg.Go(func() {
			if lived, last, dropped := outlive(c, watched, pace, act); dropped {
				t.Errorf("%s: wanted the connection to stay, it ended after %v: %v", name, lived, last)
			} else {
				t.Logf("%s: stayed; pings %d, heartbeats %d", name, c.Pings(), c.Heartbeats())
			}
		})
	}
	for _, kind := range []string{"publish", "receive", "receive-clear-cache", "probe"} {
		stays(kind+" that only answers pings", wstest.Dial(t, s.addr, "/pongs-"+kind+"/key/"+kind), time.Hour, nil)
		c := wstest.Dial(t, s.addr, "/h-"+kind+"/key/"+kind, wstest.NoPong())
		stays(kind+" that only sends h", c, 25*time.Second, func() error { return c.SendE(wstest.Text, []byte("h")) })
		p := wstest.Dial(t, s.addr, "/ping-"+kind+"/key/"+kind, wstest.NoPong())
		stays(kind+" that only pings", p, 40*time.Second, func() error { return p.SendE(wstest.Ping, nil) })
	}
	// Pieces of a large message.
	big := wstest.Dial(t, s.addr, "/pieces/key/publish", wstest.NoPong())
	big.SendRaw(wstest.Bytes(frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 1 << 20}))
	stays("publisher in the middle of a message", big, 20*time.Second, func() error { return big.SendRawE([]byte{0}) })
	// A receiver that says nothing but takes what it is sent.
	pub := s.publish("takes", "key")
	takes := s.receive("takes", "key", wstest.NoPong())
	stays("receiver that takes packets", takes, time.Hour, nil)
	stays("its publisher", pub, 2*time.Second, func() error { return pub.SendE(wstest.Binary, []byte("p")) })
	wg.Wait()
}

// A receiver that neither speaks nor takes anything is not alive, however little
// it is behind.
func TestStalledReceiverIsDroppedAfterAMinute(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	pub := s.publish("cam", "key", wstest.From("127.0.6.1"))
	stalled := s.receive("cam", "key", wstest.From("127.0.6.2"), wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	start := time.Now()
	for i := range 60 { // 15 MiB: within what is kept
		pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
	}
	// Its slot is the sign: nobody reads from the connection.
	for {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.From("127.0.6.2"))
		if c != nil {
			c.Close()
			break
		}
		if err != nil || resp.Status != 429 {
			t.Fatalf("wanted 429 while it is held, got %v, %v", resp, err)
		}
		if time.Since(start) > 90*time.Second {
			t.Fatal("wanted a stalled receiver dropped after 60 s, it is still there after 90 s")
		}
		_ = pub.SendE(wstest.Text, []byte("h"))
		time.Sleep(500 * time.Millisecond)
	}
	if d := time.Since(start); d < silence-2*time.Second {
		t.Errorf("wanted it dropped after 60 s, got %v", d)
	}
}

// After the end of a stream a receiver that takes nothing is let go after 30 s.
func TestReceiverThatTakesNothingAfterTheEnd(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	stalled := s.receive("cam", "key", wstest.From("127.0.7.2"), wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	slowly := s.receive("cam", "key", wstest.From("127.0.7.3"), wstest.ReceiveBuffer(256<<10))
	leaver := s.receive("cam", "key", wstest.From("127.0.7.4"), wstest.ReceiveBuffer(2048))
	pub := s.publish("cam", "key", wstest.From("127.0.7.1"))
	const n = 40
	for i := range n {
		pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
	}
	eventually(t, "the kernel holds something for one that is about to leave", func() bool {
		held, ok := s.inKernel(leaver)
		return held > 0 || !ok
	})
	leaver.CloseWrite() // the server closes, the kernel goes on
	pub.CloseHandshake(1000)
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		for i := range n {
			m, err := slowly.NextE()
			if err != nil || len(m.Payload) != 256<<10 {
				done <- fmt.Errorf("slow but steady receiver: wanted packet %d, got %v, %v after %v", i, m, err, time.Since(start))
				return
			}
			time.Sleep(time.Second)
		}
		if m, err := slowly.NextE(); err != nil || m.Code() != 1000 {
			done <- fmt.Errorf("slow but steady receiver: wanted CLOSE 1000, got %v, %v", m, err)
			return
		}
		if _, err := slowly.NextE(); !errors.Is(err, io.EOF) {
			done <- fmt.Errorf("slow but steady receiver: wanted the end, got %v", err)
			return
		}
		done <- nil
	}()
	for {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.From("127.0.7.2"))
		if c != nil {
			c.Close()
			break
		}
		if err != nil || resp.Status != 429 {
			t.Fatalf("wanted 429 while it is held, got %v, %v", resp, err)
		}
		if time.Since(start) > 55*time.Second {
			t.Fatal("wanted it closed after 30 s, it is still there after 55 s")
		}
		time.Sleep(500 * time.Millisecond)
	}
	if d := time.Since(start); d < 28*time.Second {
		t.Errorf("wanted it closed after 30 s, got %v", d)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	eventually(t, "the kernel holds nothing for one that left 40 s ago and took nothing since", func() bool {
		held, _ := s.inKernel(leaver)
		return held == 0
	})
}

// trickle reads a few KiB a second for a while, and nothing else: no pong, no text.
// tick is called all the time.
func trickle(c *wstest.Conn, d time.Duration, tick func()) error {
	b := make([]byte, 1400)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_ = c.TCP().SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c.TCP(), b); err != nil {
			return err
		}
		tick()
	}
	return nil
}

// Taking is life, and progress, however slow: also when so little is taken that
// the kernel does not think it worth telling for minutes.
func TestTakingAFewKilobytesASecondIsLife(t *testing.T) {
	t.Parallel()
	slow(t)
	for name, c := range map[string]struct {
		ended bool
		d     time.Duration
	}{
		"live":          {false, 75 * time.Second},
		"after the end": {true, 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			rec := s.receive("cam", "key", wstest.ReceiveBuffer(8<<10))
			pub := s.publish("cam", "key")
			for i := range 50 {
				pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
			}
			if c.ended {
				pub.CloseHandshake(1000)
			}
			alive := func() {
				if !c.ended {
					pub.SendText("h")
				}
			}
			if err := trickle(rec, c.d, alive); err != nil {
				t.Fatalf("the receiver was cut: %v; the server's log ends:\n%s", err, tail(s.logs()))
			}
			if !c.ended {
				pub.CloseHandshake(1000)
			}
			_ = rec.TCP().SetReadDeadline(time.Now().Add(patience))
			rest, err := io.ReadAll(rec.TCP())
			if err != nil || !bytes.HasSuffix(rest, []byte("\x88\x0e\x03\xe8stream ended")) {
				t.Errorf("wanted the rest and CLOSE 1000, got %d bytes that end in %q, %v", len(rest), rest[max(0, len(rest)-20):], err)
			}
		})
	}
}
