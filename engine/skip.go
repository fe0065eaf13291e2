package engine

import (
	"math"
	"time"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/media"
)

// SLOW_RECEIVER=skip: a receiver that falls behind the cache jumps to the newest sync
// point, where else it would drift until it is closed. What it gets up to the jump ends
// where a unit of the container does, and what follows begins with one.

const (
	// skipThem is SLOW_RECEIVER's other value.
	skipThem = "skip"

	// skipEvery is how often a group looks for receivers that are to skip: often enough
	// for the other half of the least RECEIVER_LAG_MB at 400 Mbit/s.
	skipEvery = 10 * time.Millisecond

	// maxSkipLead is the most that a receiver gets for its jump, in bytes: of the packets
	// in which that begins and ends, and the init segment. It may be held for it alone.
	maxSkipLead = mib
)

// skipSlow has those of the group skip who are too far behind, and can: whom more than half
// of RECEIVER_LAG_MB separates from the cache. It leaves the jump the other half to be
// reached. They are among those that begin from then on, until they are through with the
// jump. When the stream has ended nothing presses: who is behind gets all of it. Called
// where one of the group is behind the cache; the caller holds passing.
func (g *group) skipSlow(now int64) {
	r := g.ch.ring
	if now-g.lookedForSkips < int64(skipEvery) || r.Ended() {
		return
	}
	g.lookedForSkips = now
	cache, ok := r.At(r.JoinPoint(), func(uint64) {}) // one of the group has pinned less
	if !ok {
		return
	}
	_, cached := cache.Lag(r)
	most := cached + uint64(g.ch.srv.cfg.ReceiverLagMB)*mib/2
	for i := 0; i < len(g.members); {
		m := &g.members[i]
		if _, lag := m.cur.Lag(r); lag < most || !g.ch.skip(m) {
			i++
			continue
		}
		g.fresh = append(g.fresh, *m)
		g.members = takeOut(g.members, i)
	}
}

// skip has a receiver jump from the next sync point on its way to the newest one, false if
// that cannot be. The caller holds the group's passing.
func (ch *Channel) skip(m *member) bool {
	s, r := m.s, ch.ring
	if s.kind != receive || s.ending.Load() != 0 {
		return false
	}
	x := &ch.index
	x.mu.Lock()
	defer x.mu.Unlock()
	to := x.newest(0)
	from := x.first(m.cur.Seq())
	if from != nil && from.at.Seq == m.cur.Seq() && m.cur.MidPacket() {
		from = x.first(m.cur.Seq() + 1)
	}
	if from == nil || from.at.Seq >= to.at.Seq {
		return false
	}
	lead := ch.bridge(from, to)
	if lead == nil {
		return false
	}
	next := to.at.Seq
	if to.at.Offset > 0 {
		next++
	}
	bytes, _ := m.cur.Position()
	packets := m.cur.Seq()
	if !m.cur.Skip(r, from.at.Seq, lead.Lead, next) {
		return false
	}
	s.takes(lead)
	at, _ := m.cur.Position() // behind the jump already, as far as bytes go
	s.tallied().skip(at-bytes, m.cur.Seq()+m.cur.Jump()-packets)
	ch.srv.skips.Add(1)
	return true
}

// bridge is what stands between the packet before the one with from in it, and the one
// after that with to: the beginning of the one and the end of the other, and the init
// segment if it is another one. nil: it is too large. The caller holds the index's mu, and
// somebody has pinned what lies before from.
func (ch *Channel) bridge(from, to *syncPoint) *lead {
	x := &ch.index
	if x.bridge.from == from && x.bridge.to == to {
		return x.bridge.lead
	}
	head, ok1 := ch.payload(from.at)
	tail, ok2 := ch.payload(to.at)
	if !ok1 || !ok2 {
		return nil
	}
	var payloads [][]byte
	if from.at.Offset > 0 {
		payloads = append(payloads, head[:from.at.Offset])
	}
	if from.begun != to.begun { // also if it is the same once more: times begin anew
		payloads = append(payloads, to.init.payload)
	}
	if to.at.Offset > 0 {
		payloads = append(payloads, tail[to.at.Offset:])
	}
	size := 0
	for _, p := range payloads {
		size += len(p)
	}
	if size > maxSkipLead {
		return nil
	}
	l := newLead(uint32(to.came), to.at.Seq, payloads)
	x.setBridge(&ch.srv.budget, from, to, l)
	return l
}

// payload returns that of the packet in which a point lies. Somebody has pinned that, so
// that its bytes stay what they are, though the writer goes on: if the packet leaves the
// ring meanwhile, it does so under a reader.
func (ch *Channel) payload(at media.Point) ([]byte, bool) {
	c, ok := ch.ring.Recall(at.Seq, nil, func(uint64) {})
	if !ok || !c.More() {
		return nil, false
	}
	return frame.Payload(c.TakeRest(math.MaxInt)), true
}

// skip is told that a receiver jumps over so many bytes and packets.
func (t *tally) skip(bytes, packets uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base += bytes
	t.seq += packets
	t.skips++
}
