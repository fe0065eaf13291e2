package engine

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// Receivers that reset while they are written to have their descriptors closed by
// a drainer, and the numbers go to the next connections at once. None of the living
// may be closed by an event that was meant for a dead one: neither the quiet ones
// that stay, nor those that come while the others are torn down.
func TestResetsCloseNobodyElse(t *testing.T) {
	quiet, rounds := 1000, 60
	if testing.Short() || raceEnabled {
		quiet, rounds = 200, 15
	}
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 1 })
	for _, n := range []int{1, 8} {
		t.Run(fmt.Sprintf("dialers=%d", n), func(t *testing.T) {
			stay := make([]*wstest.Conn, quiet)
			var life wstest.LifeSigns
			for i := range stay {
				life.From(stay[:i]...)
				stay[i] = s.receive(fmt.Sprintf("quiet%d", i%10), "key")
			}
			pub := s.publish("busy", "key")
			stop := make(chan struct{})
			var packets atomic.Int64
			var publishing sync.WaitGroup
			publishing.Go(func() {
				packet := numbered(1, 2000)
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := pub.SendE(wstest.Binary, packet); err != nil {
						t.Errorf("the publisher: %v", err)
						return
					}
					packets.Add(1)
				}
			})

			var dialers sync.WaitGroup
			for d := range n {
				dialers.Go(func() {
					for range rounds {
						if err := s.churn(fmt.Sprintf("fresh%d", d)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			var attending sync.WaitGroup
			for some := range slices.Chunk(stay, quiet/4) {
				attending.Go(func() {
					if err := attend(some, stop); err != nil {
						t.Errorf("a quiet receiver: %v", err)
					}
				})
			}
			dialers.Wait()
			close(stop)
			attending.Wait()
			publishing.Wait()
			pub.CloseHandshake(1000)
			if packets.Load() == 0 {
				t.Error("nothing was published meanwhile")
			}
			for i, c := range stay {
				life.From(stay[i:]...)
				if err := alive(c); err != nil {
					t.Fatalf("quiet receiver %d: %v", i, err)
				}
			}
			for _, c := range stay {
				c.Close()
			}
			eventually(t, "all are gone", func() bool { return s.roster.size() == 0 })
		})
	}
}

// attend has clients show that they live every ten seconds, until stop is closed: who shows
// nothing for a minute is closed. No answer is waited for, which takes long on a busy machine.
func attend(conns []*wstest.Conn, stop <-chan struct{}) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		for _, c := range conns {
			if err := c.SendE(wstest.Pong, nil); err != nil {
				return err
			}
		}
	}
}

// churn resets eight receivers of a busy channel while it opens eight others, which
// must be alive afterwards.
func (s *testServer) churn(channel string) error {
	const each = 8
	doomed := make([]*wstest.Conn, 0, each)
	for range each {
		c, resp, err := wstest.Open(s.addr, "/busy/key/receive", wstest.ReceiveBuffer(4096))
		if err != nil || c == nil {
			return fmt.Errorf("cannot join the busy channel: %v, %w", resp, err)
		}
		doomed = append(doomed, c)
	}
	var resets sync.WaitGroup
	resets.Go(func() {
		for _, c := range doomed {
			c.Reset()
		}
	})
	var err error
	for i := range each {
		c, resp, dialErr := wstest.Open(s.addr, "/"+channel+"/key/receive")
		if dialErr != nil || c == nil {
			err = fmt.Errorf("cannot come in: %v, %w", resp, dialErr)
			break
		}
		defer c.Close()
		if pingErr := alive(c); pingErr != nil {
			err = fmt.Errorf("fresh receiver %d: %w", i, pingErr)
			break
		}
	}
	resets.Wait()
	return err
}

// alive pings, and wants the answer.
func alive(c *wstest.Conn) error {
	if err := c.SendE(wstest.Ping, []byte("alive?")); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; {
		m, err := c.NextFrame(time.Until(deadline))
		if err != nil {
			return err
		}
		if m.Op == wstest.Pong && string(m.Payload) == "alive?" {
			return nil
		}
		if m.Op == wstest.Close {
			return fmt.Errorf("closed with %d %s", m.Code(), m.Reason())
		}
	}
}

// A connection that nbio does not take is closed like any other: everything comes
// back, and the others are served.
func TestAHandOverThatFails(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	pub.Sync()
	ps := s.session(pub)

	// The session is made as a handshake makes it; its connection is closed before
	// the poller's turn, as nbio leaves one that it refuses.
	rec := s.newSession(target{"cam", "key", receive}, ps.addr)
	if !s.filter.Acquire(rec.addr.Addr()) || !s.places.take() {
		t.Fatal("no place")
	}
	if r := s.registry.join(rec); r != notEnded {
		t.Fatal(r)
	}
	s.roster.add(rec)
	pub.Send(wstest.Binary, numbered(0, 1000)) // for a receiver that cannot take it
	pub.Sync()
	rec.closed()
	rec.closed() // once only
	eventually(t, "its place in the group is free", func() bool { return rec.group.Load() == nil })
	eventually(t, "its address has its place back", func() bool { return s.filter.Open() == 1 })

	other := s.receive("cam", "key")
	other.WantPacket(numbered(0, 1000))
	pub.CloseHandshake(1000)
	other.WantClose(1000)
}
