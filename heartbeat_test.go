package main

import (
	"errors"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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

// lateInAll returns by how much a ticker has been late so far, all in all: on a machine
// with too much to do it is as much for the server's.
func lateInAll(t *testing.T) func() time.Duration {
	const every = 100 * time.Millisecond
	var sum atomic.Int64
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for before := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := time.Now()
			sum.Add(int64(max(0, now.Sub(before)-every)))
			before = now
		}
	}()
	return func() time.Duration { return time.Duration(sum.Load()) }
}

// Every client gets TEXT `h` and a ping, one that asked for pings a ping only.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t)
	late := lateInAll(t)
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
			last, before := time.Now(), late()
			for range 2 {
				for {
					m, err := c.NextFrame(time.Until(last.Add(patience)))
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
				// The first may come at any moment of the server's round. A machine that
				// stands still takes ticks from that, and what they cost adds up; but 40 s would
				// be a beat that was missed.
				if d, stood := time.Since(last), late()-before; d > min(26*time.Second+stood, 39*time.Second) {
					t.Errorf("%s: wanted a heartbeat about every 20 s, got it after %v, of which the machine stood still for %v", path, d, stood)
				}
				last, before = time.Now(), late()
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
