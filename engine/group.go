package engine

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// group is the receivers of one channel that one drainer serves.
type group struct {
	// Static after construction.
	ch      *Channel
	drainer *drainer

	// Atomic.
	dirty   atomic.Bool   // there is work: queued or resting, unless the poller makes the pass
	urgent  atomic.Bool   // not only new packets: nothing is put off
	resting atomic.Bool   // put off, until the drainer's alarm or wakeNow
	size    atomic.Int32  // receivers, also those in joining
	low     atomic.Uint64 // lowest sequence a receiver wants; stored under mu

	// Guarded by mu, which is held for moments only.
	mu      sync.Mutex
	joining []member
	parting []*session // a shutdown closes them once they have everything

	// Owned by the publisher's poller: the bytes that were published when the group
	// became dirty.
	dirtyFrom uint64

	// Owned by the drainer.
	pace      pace
	restUntil int64 // Server.now when the rest after the last pass is over; 0: none

	// Guarded by passing: held during a pass. fresh are those that have not been handed a
	// byte of a packet yet, or are in a detour (see ring), leavers are closed once they
	// have everything.
	passing        sync.Mutex
	members        []member
	fresh          []member
	leavers        []member
	lookedForSkips int64 // Server.now when it was last looked who is to skip

	// Guarded by survey.mu: the last walk that came by, and what tells that the goroutine
	// is done that waits for a long pass; nil: there was none.
	walk  uint64
	noted chan struct{}
}

func newGroup(ch *Channel, d *drainer) *group {
	g := &group{ch: ch, drainer: d, pace: newPace(ch.srv.now(), ch.ring.Head())}
	g.low.Store(math.MaxUint64)
	return g
}

// add gives a receiver its place, false if the ring does not have that any more. It is
// not written to before its hand-over. Any goroutine that holds the channel's lock.
func (g *group) add(s *session, to place) bool {
	g.size.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	cur, ok := g.ch.enter(s, to, func(seq uint64) {
		if seq < g.low.Load() {
			g.low.Store(seq)
		}
	})
	if !ok {
		g.size.Add(-1)
		g.wakeNow() // a pass lets go of what was pinned
		return false
	}
	g.joining = append(g.joining, member{s, cur})
	s.group.Store(g) // before a pass can take it out again
	return true
}

// wake marks the group dirty, for what was published grew from so many bytes to so
// many, and has its drainer make a pass, after the group's rest. When enough for a
// good write has gathered the rest is over. Called on the publisher's poller.
func (g *group) wake(from, to uint64) {
	switch {
	case !g.dirty.Load() && !g.dirty.Swap(true):
		g.dirtyFrom = from
		g.drainer.add(g)
	case to-g.dirtyFrom >= goodWrite:
		g.wakeNow()
	}
}

// wakeNow is wake for what is not to be put off: everything but new packets. Any
// goroutine.
func (g *group) wakeNow() {
	g.urgent.Store(true)
	if !g.dirty.Swap(true) || g.resting.Swap(false) {
		g.drainer.add(g)
	}
}

// run is the group's turn on its drainer.
//
// The policy: where packets come fast a group rests after a pass, so that what comes
// meanwhile is written together; pace says how long. It does not rest after a pass
// that was urgent, nor when one is wanted.
//
// resting is stored before urgent is looked at again, and wakeNow stores urgent
// before it takes resting back: one of the two sees the other. Who takes resting
// back (wakeNow, the drainer's alarm or this) sees to it that there is a pass.
func (g *group) run() {
	if g.restUntil != 0 && !g.urgent.Load() {
		if now := g.ch.srv.now(); now < g.restUntil {
			g.resting.Store(true)
			if !g.urgent.Load() || !g.resting.Swap(false) {
				g.drainer.putOff(g, now)
				return
			}
		}
	}
	urgent := g.urgent.Swap(false)
	g.passing.Lock()
	begin := g.ch.srv.now()
	g.pace.note(begin, g.ch.ring.Head())
	again := g.pass(begin)
	g.passing.Unlock()
	g.restUntil = 0
	switch end := g.ch.srv.now(); {
	case again:
		g.wakeNow()
	case !urgent:
		longest := int64(g.ch.srv.cfg.GatherMS) * int64(time.Millisecond)
		if rest := g.pace.rest(end-begin, longest); rest > 0 {
			g.restUntil = end + rest
		}
	}
}

// tryPass makes a pass on this goroutine, false if another one is at it.
func (g *group) tryPass(now int64) bool {
	if !g.passing.TryLock() {
		return false
	}
	again := g.pass(now)
	g.passing.Unlock()
	if again {
		g.wakeNow()
	}
	return true
}

// pass serves every receiver of the group once, from its cursor to the head, and
// reports whether one that could have taken more used up its budget. The caller
// holds passing.
func (g *group) pass(now int64) (again bool) {
	g.dirty.Store(false) // before the head is read: what comes later wakes anew
	g.mu.Lock()
	g.fresh = append(g.fresh, g.joining...)
	clear(g.joining)
	g.joining = g.joining[:0]
	parting := g.parting
	g.parting = nil
	g.mu.Unlock()
	if parting != nil {
		g.seeOff(parting)
	}

	over := g.ch.ring.Ended() && !g.ch.srv.parting.Load() // before the last packets are read
	low := uint64(math.MaxUint64)
	for i := 0; i < len(g.members); {
		m := &g.members[i]
		stays, more := m.drain(over, now)
		again = again || more
		if stays {
			low = min(low, m.cur.Seq())
			i++
			continue
		}
		g.members = g.letGo(g.members, i)
	}
	if g.ch.srv.cfg.SlowReceiver == skipThem && low < g.ch.ring.JoinPoint() {
		g.skipSlow(now)
	}
	if len(g.fresh) > 0 {
		fresh, more := g.begin(over, now)
		low, again = min(low, fresh), again || more
	}
	if len(g.leavers) > 0 {
		leavers, more := g.dismiss(now)
		low, again = min(low, leavers), again || more
	}

	g.mu.Lock()
	for i := range g.joining {
		low = min(low, g.joining[i].cur.Seq())
	}
	g.low.Store(low)
	g.mu.Unlock()
	return again
}

// begin serves those of the group who have nothing yet, or are in a detour; who has its
// first bytes, and is through with the detour, is one of the members from then on. It
// returns the lowest sequence that they want, and reports whether one used up its budget.
// The caller holds passing.
func (g *group) begin(over bool, now int64) (low uint64, again bool) {
	low = math.MaxUint64
	for i := 0; i < len(g.fresh); {
		m := &g.fresh[i]
		m.cur.Detour()  // overrun if what it goes on with has left the ring
		joined := m.cur // as long as the pass goes on it may be read there
		stays, more := m.drain(over, now)
		again = again || more
		begun := m.begun(joined)
		if stays {
			low = min(low, m.cur.Seq())
		}
		switch {
		case !stays:
			g.fresh = g.letGo(g.fresh, i)
		case begun:
			g.members = append(g.members, *m)
			g.fresh = takeOut(g.fresh, i)
		default:
			i++
		}
	}
	return low, again
}

// part has a receiver closed once it has everything. Any goroutine.
func (g *group) part(s *session) {
	g.mu.Lock()
	g.parting = append(g.parting, s)
	g.mu.Unlock()
	g.wakeNow()
}

// seeOff makes leavers of receivers, unless they have left by themselves. The caller
// holds passing.
func (g *group) seeOff(parting []*session) {
	leaves := make(map[*session]bool, len(parting))
	for _, s := range parting {
		leaves[s] = true
	}
	for _, list := range []*[]member{&g.members, &g.fresh} {
		for i := 0; i < len(*list); {
			if !leaves[(*list)[i].s] {
				i++
				continue
			}
			g.leavers = append(g.leavers, (*list)[i])
			*list = takeOut(*list, i)
		}
	}
}

// dismiss serves the leavers as a pass serves those of a stream that has ended: who has
// everything is closed. It returns the lowest sequence that the others want, and reports
// whether one used up its budget. The caller holds passing.
func (g *group) dismiss(now int64) (low uint64, again bool) {
	low = math.MaxUint64
	for i := 0; i < len(g.leavers); {
		m := &g.leavers[i]
		m.cur.Detour() // see begin
		joined := m.cur
		stays, more := m.drain(true, now)
		again = again || more
		m.begun(joined) // it may have been one of fresh
		if stays {
			low = min(low, m.cur.Seq())
			i++
			continue
		}
		g.leavers = g.letGo(g.leavers, i)
	}
	return low, again
}

// letGo takes a receiver out of the group, and out of list, which it returns. The caller
// holds passing.
func (g *group) letGo(list []member, i int) []member {
	m := &list[i]
	s := m.s
	m.leave()
	list = takeOut(list, i)
	if g.size.Add(-1) == 0 && g.ch.over.Load() != 0 {
		g.ch.srv.budget.releaseIfRead(g.ch)
	}
	s.group.Store(nil)
	s.run() // what came while the group was still its owner
	if s.released.Load() {
		g.drainer.add(farewell{s})
	}
	return list
}

// takeOut returns the list without one of it; the last one takes its place.
func takeOut(list []member, i int) []member {
	last := len(list) - 1
	list[i] = list[last]
	list[last] = member{}
	return list[:last]
}
