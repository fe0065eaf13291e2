package engine

import (
	"crypto/subtle"
	"sync"
	"sync/atomic"
	"time"

	"ws-stream-server/ring"
)

const (
	// groupShare is how many receivers a group has before the channel opens
	// another one, as long as there are drainers without one.
	groupShare = 16

	// inPlace is how many receivers the publisher's poller serves itself: waking
	// a drainer would cost more than the writes.
	inPlace = 2
)

// Channel is one life of a named live stream: from the first receiver that waits,
// or the publisher, to the end of the last receiver. When its publisher ends, the
// name is free at once; receivers stay with this Channel until they have its last
// packet, and whoever comes then finds a new one.
type Channel struct {
	// Static after construction.
	srv  *Server
	name string

	// Guarded by mu. Lock order: registry.mu, mu, the publisher's in.mu, group.mu, index.mu.
	mu        sync.Mutex
	publisher *session // from claim on; nil again if that ends before start, else static from start on
	waiting   []waiter

	// Set by start under mu before anybody is in a group, then static.
	ring  *ring.Ring
	since int64 // Server.now of the ring's start

	// Atomic. groups is replaced under mu, never changed.
	groups atomic.Pointer[[]*group]
	over   atomic.Int64 // Server.now when the publisher ended; 0 before

	// Atomic. What the ring keeps for those in waiting. awaited: from the packet on with which
	// the next sync point may begin, for there are some. keepAll: all that it has, if it is not
	// 0, for so many of them have a waiter.since. Both are stored under mu. found is one more
	// than the packet with the sync point that was just found, else 0: stored with the
	// publisher's in.mu held, until they have their places.
	awaited atomic.Bool
	keepAll atomic.Int32
	found   atomic.Uint64

	// Atomic: what the first packet that is not empty looks like. Stored by the
	// publisher's poller when that is in the ring, before it wakes anybody.
	container atomic.Uint32

	index index // has owners of its own
}

// join makes a session a receiver: of the live stream if its key is right, else
// one that waits. The caller holds mu.
func (ch *Channel) join(s *session) reason {
	if ch.ring == nil {
		ch.keepWaiting(waiter{session: s})
		return notEnded
	}
	if !sameKey(s.key, ch.publisher.key) {
		return wrongKey
	}
	for {
		to := ch.choose(s)
		if to.wait {
			ch.keepWaiting(waiter{s, to.since})
			break
		}
		if to.point != nil {
			to.point.refused = false // that of an earlier one
		}
		if ch.admit(s, to) {
			break
		}
		if to.point != nil && to.point.refused {
			ch.keepWaiting(waiter{session: s})
			break
		}
		// The point has left the ring meanwhile: the join point lies behind it.
	}
	if s.kind == receiveClearCache {
		ch.ring.ClearCache()
	}
	return notEnded
}

// sameKey compares in constant time.
func sameKey(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// admit gives a receiver its place in a group, false if the ring does not have that any
// more. The caller holds mu.
func (ch *Channel) admit(s *session, to place) bool {
	var groups []*group
	if p := ch.groups.Load(); p != nil {
		groups = *p
	}
	var g *group
	for _, o := range groups {
		if g == nil || o.size.Load() < g.size.Load() {
			g = o
		}
	}
	if g == nil || g.size.Load() >= groupShare && len(groups) < len(ch.srv.drainers) {
		g = newGroup(ch, ch.srv.nextDrainer())
		groups = append(groups[:len(groups):len(groups)], g)
		ch.groups.Store(&groups)
	}
	return g.add(s, to)
}

// start begins the stream: the publisher is about to be handed over. Receivers
// that waited join at the beginning, those with another key are ended. A publisher
// that was ended meanwhile starts nothing. Called by the publisher's handshake.
func (ch *Channel) start(s *session) {
	srv := ch.srv
	ch.mu.Lock()
	if s.ending.Load() != 0 {
		ch.mu.Unlock()
		return
	}
	ch.since = srv.now()
	ch.ring = ring.New(ring.Config{
		Cache:  int64(srv.cfg.GOPCacheSizeMB) * mib,
		Lag:    int64(srv.cfg.ReceiverLagMB) * mib,
		Lowest: ch.lowest,
		Limit: func(slabs int64) int64 {
			return srv.budget.limit(slabs, int64(srv.cfg.GOPCacheSizeMB+srv.cfg.ReceiverLagMB)*mib)
		},
		Account: srv.budget.add,
		Pin:     srv.budget.pin,
		Poison:  srv.poison,
	})
	s.ring = ch.ring
	srv.streams.Add(1)
	var wrong []*session
	clear := false
	for _, w := range ch.takeWaiting() {
		if w.ending.Load() != 0 {
			continue // it has left, its connection is being closed
		}
		if !sameKey(w.key, s.key) {
			wrong = append(wrong, w.session)
			continue
		}
		if w.kind == probe {
			ch.keepWaiting(waiter{w.session, sinceFirst}) // until it is known what the stream is
			continue
		}
		ch.admit(w.session, place{})
		clear = clear || w.kind == receiveClearCache
	}
	if clear {
		ch.ring.ClearCache()
	}
	ch.mu.Unlock()
	for _, w := range wrong {
		w.end(wrongKey)
	}
}

// age returns the milliseconds from the ring's start to now.
func (ch *Channel) age(now int64) uint32 {
	return uint32((now - ch.since) / int64(time.Millisecond))
}

// lowest returns the lowest sequence that a receiver still wants, or one that waits.
// Called by the ring's writer, with in.mu held.
func (ch *Channel) lowest() uint64 {
	oldest := ch.ring.Oldest() // what has left the ring is not waited for
	if ch.keepAll.Load() > 0 {
		return oldest
	}
	low := ch.found.Load() - 1 // math.MaxUint64 if it is 0
	if ch.awaited.Load() {
		if p, some := ch.index.stream.Pending(); some && p.Seq >= oldest {
			low = min(low, p.Seq)
		}
	}
	if p := ch.groups.Load(); p != nil {
		for _, g := range *p {
			low = min(low, g.low.Load())
		}
	}
	return low
}

// wake has the receivers served: what was published grew from so many bytes to so
// many. A few receivers are served at once, on this goroutine. Called on the
// publisher's poller.
func (ch *Channel) wake(now int64, from, to uint64) {
	p := ch.groups.Load()
	if p == nil {
		return
	}
	groups := *p
	if len(groups) == 1 && groups[0].size.Load() <= inPlace && groups[0].tryPass(now) {
		return
	}
	for _, g := range groups {
		if g.size.Load() > 0 {
			g.wake(from, to)
		}
	}
}

// receivers returns how many receivers are in the groups. Any goroutine.
func (ch *Channel) receivers() (n int32) {
	if p := ch.groups.Load(); p != nil {
		for _, g := range *p {
			n += g.size.Load()
		}
	}
	return n
}

// wakeNow has the receivers served without a write on this goroutine, and not
// put off: the stream has ended.
func (ch *Channel) wakeNow() {
	if p := ch.groups.Load(); p != nil {
		for _, g := range *p {
			g.wakeNow()
		}
	}
}

// end ends the publisher's part: what was published stays for the receivers, the
// coordinator is told, the name becomes free, and the receivers may come to the end,
// in this order. Called once, by the publisher's end.
func (ch *Channel) end(s *session) {
	ch.mu.Lock() // after this, start sees that the publisher is ending
	r := ch.ring
	ch.mu.Unlock()
	if r != nil {
		s.in.mu.Lock() // excludes the poller: no packet is published after this
		s.in.phase = phaseOver
		s.dropMessage()
		ch.unfollow()
		s.in.mu.Unlock()
		ch.srv.streams.Add(-1)
	}
	if s.grant != nil {
		s.grant.End()
	}
	ch.srv.registry.update(ch, func() (forget bool) {
		if r == nil { // claimed, never started: who waits goes on waiting
			ch.publisher = nil
			return len(ch.waiting) == 0
		}
		ch.over.Store(ch.srv.now())
		return true
	})
	if r != nil {
		// Only now, when the name is free: a receiver that is told the end and comes back
		// at once must not find this stream again.
		s.in.mu.Lock()
		r.End()
		s.in.mu.Unlock()
		ch.dismissWaiting()
		ch.srv.budget.hasEnded(ch)
	}
	ch.wakeNow() // this may be the goroutine for all closed connections
}

// leave forgets a session that is closed. Any goroutine, once a session.
func (ch *Channel) leave(s *session) {
	if g := s.group.Load(); g != nil {
		g.wakeNow() // it sees that the session is gone
		return
	}
	if s.kind == publish {
		return // end has done it
	}
	ch.srv.registry.update(ch, func() (forget bool) {
		if s.waiting < 0 {
			return false
		}
		if ch.waiting[s.waiting].since > 0 {
			ch.keepAll.Add(-1)
		}
		last := len(ch.waiting) - 1
		ch.waiting[s.waiting] = ch.waiting[last]
		ch.waiting[s.waiting].waiting = s.waiting
		ch.waiting[last] = waiter{}
		ch.waiting = ch.waiting[:last]
		s.waiting = -1
		ch.awaited.Store(last > 0)
		return last == 0 && ch.publisher == nil
	})
	if g := s.group.Load(); g != nil { // start was faster
		g.wakeNow()
	}
}
