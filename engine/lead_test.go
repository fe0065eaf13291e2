package engine

import (
	"net/netip"
	"slices"
	"testing"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/media"
	"ws-stream-server/ring"
)

// newPacked returns a channel of so many packets, of ten bytes each, without a publisher,
// whose init segment is given.
func newPacked(t *testing.T, packets int, init []byte) *Channel {
	t.Helper()
	srv := newServer(t, Config{ReceiverLagMB: 16, MaxMessageMB: 1, GOPCacheSizeMB: 16})
	srv.drainers = []*drainer{newDrainer()}
	ch := &Channel{srv: srv, name: "cam"}
	ch.ring = ring.New(ring.Config{Cache: 16 * mib, Lag: 16 * mib, Lowest: ch.lowest})
	for range packets {
		ch.ring.Reserve(10)
		ch.ring.Commit(0)
	}
	ch.index.init = init
	return ch
}

// pointsAt returns sync points at the beginning of packets, from one up to another.
func pointsAt(from, to int) (points []media.Point) {
	for seq := from; seq < to; seq++ {
		points = append(points, media.Point{Seq: uint64(seq)})
	}
	return points
}

// However many sync points come at once, no more than so many are remembered: the newest
// ones, and of those before every second, in order, the first one always.
func TestSyncPointsAreThinnedOut(t *testing.T) {
	for _, at := range []int{2, 3, 5, 1000, maxPoints, maxPoints + 1, maxPoints + 1003} {
		const packets = maxPoints + 1003
		ch := newPacked(t, packets, []byte("init"))
		for from := 0; from < packets; from += at {
			ch.note(pointsAt(from, min(from+at, packets)), 0)
			checkPoints(t, &ch.index, min(from+at, packets))
		}
	}
}

// checkPoints fails unless the points of so many that came are in order, and the newest
// and the first are among them.
func checkPoints(t *testing.T, x *index, came int) {
	t.Helper()
	n := len(x.points)
	if n > maxPoints || n < min(came, maxPoints/2) {
		t.Fatalf("%d of %d points are remembered", n, came)
	}
	for i, p := range x.points {
		if p == nil || i > 0 && p.at.Seq <= x.points[i-1].at.Seq {
			t.Fatalf("point %d of %d is %v", i, n, p)
		}
	}
	if first, last := x.points[0].at.Seq, x.points[n-1].at.Seq; first != 0 || last != uint64(came-1) {
		t.Fatalf("points from %d to %d, wanted 0 to %d", first, last, came-1)
	}
}

// What is made for joiners counts once, as long as somebody may need it: each that is in
// the middle of it, and, of the last few, whoever is still to come. In the end nothing
// counts.
func TestLeadsCountWhileTheyAreHeld(t *testing.T) {
	const packets, init, size = 50, 1000, 1000 + 4 + 8 // a frame's header, an entry in the slab
	if n := frame.HeaderSize(init); n != 4 {
		t.Fatalf("the header has %d bytes", n)
	}
	ch := newPacked(t, packets, make([]byte, init))
	srv, x := ch.srv, &ch.index
	ch.note(pointsAt(1, packets), 0)
	wants := func(what string, leads int64) {
		t.Helper()
		if used := srv.budget.used.Load(); used != init+leads*size {
			t.Errorf("%s: %d bytes are counted, wanted %d of %d", what, used, leads, size)
		}
	}
	var all []*session
	for _, p := range slices.Clone(x.points) {
		for range 3 {
			s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
			s.ch = ch
			if !ch.admit(s, place{point: p}) {
				t.Fatalf("no place at packet %d", p.at.Seq)
			}
			all = append(all, s)
		}
	}
	wants("three receivers at each point", packets-1)
	if len(x.led) != maxLeads {
		t.Errorf("%d leads are kept for those who are still to come", len(x.led))
	}
	g := (*ch.groups.Load())[0]
	pass := func() {
		g.passing.Lock()
		defer g.passing.Unlock()
		g.pass(srv.now())
	}
	pass() // no socket is free
	for i, s := range all {
		if i%3 > 0 {
			s.gone.Store(true)
		}
	}
	pass()
	wants("one receiver at each point", packets-1)
	for _, s := range all {
		s.gone.Store(true)
	}
	pass()
	wants("nobody", maxLeads)

	x.release(&srv.budget)
	if used := srv.budget.used.Load(); used != 0 {
		t.Errorf("the stream is over: %d bytes are counted", used)
	}
}

// When memory is short, what was made for joiners goes with the packets that it leads to.
func TestLeadsGoWithTheirPackets(t *testing.T) {
	const size = 1000
	ch := newPacked(t, 0, make([]byte, size))
	ch.publisher = ch.newcomer(publish)
	budget := &ch.srv.budget
	for range 2 * mib / size {
		ch.ring.Reserve(size)
		ch.ring.Commit(0)
	}
	ch.note(pointsAt(1, 3), 0)
	s := ch.newcomer(receive)
	if !ch.admit(s, place{point: ch.index.points[0]}) {
		t.Fatal("no place")
	}
	x := &ch.index
	x.mu.Lock()
	x.setBridge(budget, x.points[0], x.points[1], newLead(0, 3, [][]byte{make([]byte, size)}))
	x.mu.Unlock()
	if budget.used.Load() < 3*size {
		t.Fatalf("%d bytes are counted, wanted an init segment, a lead and a bridge", budget.used.Load())
	}
	budget.shrink(ch, 0)
	s.through()
	if used := budget.used.Load(); used != size || ch.ring.Oldest() < 3 {
		t.Errorf("the ring begins with packet %d, and %d bytes are counted besides, wanted the newest init segment", ch.ring.Oldest(), used)
	}
}

// A sync point at a stream's first byte needs nothing before it. As no lead has room there,
// a joiner that had to have one would choose it for ever.
func TestJoinAtTheFirstByte(t *testing.T) {
	ch := newPacked(t, 3, []byte("init"))
	ch.note(pointsAt(0, 3), 0)
	s := ch.srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
	s.ch = ch
	if !ch.admit(s, place{point: ch.index.points[0]}) {
		t.Fatal("no place")
	}
	g := (*ch.groups.Load())[0]
	if c := g.joining[0].cur; c.Seq() != 0 || c.Detour() || g.low.Load() != 0 {
		t.Errorf("it begins at packet %d, and %d is pinned", c.Seq(), g.low.Load())
	}
}
