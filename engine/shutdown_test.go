package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// Each receiver has its turn at its share of the time, the last one at the end.
func TestTurnsOfAShutdown(t *testing.T) {
	for _, c := range []struct {
		over      time.Duration
		receivers int
	}{{time.Second, 1}, {time.Second, 3}, {300 * time.Second, 100_000}, {time.Second, 0}} {
		turn := turns{c.over, c.receivers}
		if got := turn.had(0); got != 0 && c.receivers > 0 {
			t.Errorf("%+v: %d had their turn at the beginning", c, got)
		}
		for i := range min(c.receivers, 1000) {
			at := c.over * time.Duration(i+1) / time.Duration(c.receivers)
			if got := turn.had(at + time.Microsecond); got != i+1 {
				t.Errorf("%+v: %d had their turn after %v, wanted %d", c, got, at, i+1)
			}
		}
		if got := turn.had(c.over); got != c.receivers {
			t.Errorf("%+v: %d had their turn at the end", c, got)
		}
	}
}

// The order is one of chance, and nobody is missing or there twice.
func TestReceiversAreClosedInAnOrderOfChance(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	const n = 40
	for range n {
		s.session(s.receive("cam", "key"))
	}
	one, other := s.shuffledReceivers(), s.shuffledReceivers()
	if slices.Equal(one, other) {
		t.Error("two shutdowns would close the receivers in the same order")
	}
	seen := map[*session]bool{}
	for _, r := range one {
		seen[r] = true
	}
	if len(one) != n || len(seen) != n || seen[s.session(pub)] {
		t.Errorf("%d receivers, %d different ones, wanted %d", len(one), len(seen), n)
	}
}

// A receiver whose turn has come gets what is published until then, also when it is
// behind, and also one that has just joined; the others of its group go on.
func TestAReceiverThatParts(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 16 })
	pub := s.publish("cam", "key")
	const n, size = 50, 200_000
	slow := s.receive("cam", "key", wstest.ReceiveBuffer(4096))
	stays, goes := s.receive("cam", "key"), s.receive("cam", "key")
	s.stopping.Store(true)
	defer s.stopping.Store(false)
	for i := range n {
		pub.Send(wstest.Binary, numbered(i, size))
		stays.WantPacket(numbered(i, size))
		goes.WantPacket(numbered(i, size))
	}
	for _, c := range []*wstest.Conn{slow, goes} {
		s.session(c).part()
		s.session(c).part() // twice does no harm
	}
	goes.WantClose(1001)
	for i := range n {
		slow.WantPacket(numbered(i, size))
	}
	slow.WantClose(1001)
	pub.Send(wstest.Binary, numbered(n, size))
	stays.WantPacket(numbered(n, size))
}

// What a receiver gets counts, though its turn comes before its first byte.
func TestAReceiverThatPartsBeforeItsFirstByteCounts(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 16 })
	pub := s.publish("cam", "key")
	goes := s.receive("cam", "key")
	rs := s.session(goes)
	goes.Sync()
	s.stopping.Store(true)
	defer s.stopping.Store(false)
	g := rs.group.Load()
	g.passing.Lock()
	pub.Send(wstest.Binary, numbered(0, 1000))
	pub.Sync()
	rs.part()
	g.passing.Unlock()
	goes.WantPacket(numbered(0, 1000))
	goes.WantClose(1001)
	eventually(t, "the session is gone", func() bool { return s.roster.find(rs.id) == nil })
	if got := s.roster.totals(); got.SentPackets != 1 || got.SentBytes != wireSize(1000) {
		t.Errorf("%+v; wanted one packet of %d bytes sent", got, wireSize(1000))
	}
}

// One that has everything of a stream that has ended waits for its turn, however long
// that takes, and everybody is let go when the time is over.
func TestAReceiverOfAStreamThatHasEndedWaitsForItsTurn(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	first, last := s.receive("cam", "key"), s.receive("cam", "key")
	s.stopping.Store(true)
	s.parting.Store(true)
	defer s.stopping.Store(false)
	pub.Send(wstest.Binary, numbered(0, 1000))
	pub.CloseHandshake(1000)
	for _, c := range []*wstest.Conn{first, last} {
		c.WantPacket(numbered(0, 1000))
	}
	x := s.session(last)
	x.ch.over.Store(1)
	x.progress.Store(1)
	if r := x.verdict(int64(endedTotal) + s.now()); r == slowReceiver {
		t.Error("who waits for its turn is taken for slow")
	}
	s.session(first).part()
	first.WantClose(1001)
	last.Sync()
	g := x.group.Load()
	g.passing.Lock() // the pass that lets it go is late
	x.ch.over.Store(-int64(endedTotal))
	s.endParting()
	if r := x.verdict(s.now()); r == slowReceiver {
		t.Error("who has just waited for its turn is taken for slow")
	}
	g.passing.Unlock()
	last.WantClose(1001)
}

// A shutdown whose context ends parts with nobody else.
func TestPartingEndsWithItsContext(t *testing.T) {
	s := newTestServer(t)
	r := s.receive("cam", "key")
	s.session(r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.partReceivers(ctx, time.Hour)
	}()
	r.Sync()
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	r.Sync()
}
