package engine

import (
	"math"
	"sync"
	"sync/atomic"

	"ws-stream-server/ring"
)

const (
	// directPiece is the most of one write to a plain socket, in bytes; the packets
	// go to the kernel straight from the ring.
	directPiece = 1 << 20

	// keptPiece is the most that nbio keeps of it when the socket is full, in
	// bytes: what a receiver that stopped reading costs.
	keptPiece = 16 << 10

	// sealedPiece is the most that is sealed and handed to a TLS session's socket
	// at once, in bytes, and so what one that stopped reading costs.
	sealedPiece = 64 << 10

	// passBudget is what a receiver gets in one pass before the next one has its
	// turn, in bytes, so that one far behind cannot starve those that are live.
	passBudget = 512 << 10
)

// task is work for a drainer: a group that is dirty, or a session without one.
type task interface{ run() }

// drainer is a goroutine that serves groups, one after the other.
type drainer struct {
	wakeup chan struct{} // holds one token while the queue may have work

	mu    sync.Mutex
	queue []task
}

func newDrainer() *drainer { return &drainer{wakeup: make(chan struct{}, 1)} }

// add queues a task. Any goroutine.
func (d *drainer) add(t task) {
	d.mu.Lock()
	d.queue = append(d.queue, t)
	first := len(d.queue) == 1
	d.mu.Unlock()
	if first {
		select {
		case d.wakeup <- struct{}{}:
		default:
		}
	}
}

// run works until stop is closed.
func (d *drainer) run(stop <-chan struct{}) {
	var batch []task
	for {
		select {
		case <-d.wakeup:
		case <-stop:
			return
		}
		d.mu.Lock()
		batch, d.queue = d.queue, batch[:0]
		d.mu.Unlock()
		for i, t := range batch {
			t.run()
			batch[i] = nil
		}
	}
}

// group is the receivers of one channel that one drainer serves.
type group struct {
	// Static after construction.
	ch      *Channel
	drainer *drainer

	// Atomic.
	dirty atomic.Bool   // queued, or about to look at the head
	size  atomic.Int32  // receivers, also those in joining
	low   atomic.Uint64 // lowest sequence a receiver wants; stored under mu

	// Guarded by mu, which is held for moments only.
	mu      sync.Mutex
	joining []member

	// Guarded by passing: held during a pass.
	passing sync.Mutex
	members []member
}

// member is a receiver in its group.
type member struct {
	s   *session
	cur ring.Cursor
}

func newGroup(ch *Channel, d *drainer) *group {
	g := &group{ch: ch, drainer: d}
	g.low.Store(math.MaxUint64)
	return g
}

// add gives a receiver a place, starting at the ring's join point. It is not
// written to before its hand-over. Any goroutine.
func (g *group) add(s *session) {
	g.size.Add(1)
	g.mu.Lock()
	cur := g.ch.ring.Join(func(seq uint64) {
		if seq < g.low.Load() {
			g.low.Store(seq)
		}
	})
	g.joining = append(g.joining, member{s, cur})
	s.group.Store(g) // before a pass can take it out again
	g.mu.Unlock()
}

// wake marks the group dirty and wakes its drainer; a group is queued once. Any
// goroutine.
func (g *group) wake() {
	if !g.dirty.Load() && !g.dirty.Swap(true) {
		g.drainer.add(g)
	}
}

// run is the group's turn on its drainer.
func (g *group) run() {
	g.passing.Lock()
	again := g.pass(g.ch.srv.now())
	g.passing.Unlock()
	if again {
		g.wake()
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
		g.wake()
	}
	return true
}

// pass serves every receiver of the group once, from its cursor to the head, and
// reports whether one that could have taken more used up its budget. The caller
// holds passing.
func (g *group) pass(now int64) (again bool) {
	g.dirty.Store(false) // before the head is read: what comes later wakes anew
	g.mu.Lock()
	g.members = append(g.members, g.joining...)
	clear(g.joining)
	g.joining = g.joining[:0]
	g.mu.Unlock()

	over := g.ch.ring.Ended() // before the last packets are read
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
		last := len(g.members) - 1
		s := m.s
		g.members[i] = g.members[last]
		g.members[last] = member{}
		g.members = g.members[:last]
		g.size.Add(-1)
		s.group.Store(nil)
		s.run() // what came while the group was still its owner
	}

	g.mu.Lock()
	for i := range g.joining {
		low = min(low, g.joining[i].cur.Seq())
	}
	g.low.Store(low)
	g.mu.Unlock()
	return again
}

// drain serves one receiver: what is pending, then packets, as long as its socket
// is free. It reports whether the receiver stays in the group, and whether it used
// up its budget. over says that the ring has no packets but those that can be read
// now. The caller holds the group's passing.
//
// The policy: a receiver that is behind is kept as long as the ring keeps its next
// packet. When it does not, the receiver gets the rest of the packet it has begun
// and the close frame with slowReceiver's code; nothing waits for it.
func (m *member) drain(over bool, now int64) (stays, again bool) {
	s := m.s
	// Fast path: it has everything.
	if !over && !m.cur.More() && s.pending.Load() == 0 && s.ending.Load() == 0 {
		return true, false
	}
	if s.gone.Load() {
		return false, false
	}
	if m.cur.Overrun() { // asked once: the writer may drop the segment between two looks
		s.end(slowReceiver)
		m.cur.Detach()
	}
	if !s.free() {
		s.skipped.Store(true)
		if !s.free() {
			return true, false // who frees it sees skipped
		}
	}
	s.mu.Lock()
	again = m.drainLocked(over, now)
	stays = !s.closeSent
	s.skipped.Store(false)
	s.mu.Unlock()
	s.flushPending()
	return stays, again
}

// drainLocked is drain with the write lock held and a socket that is free.
func (m *member) drainLocked(over bool, now int64) (again bool) {
	s := m.s
	for sent := 0; ; {
		if !s.mid {
			if s.pending.Load() != 0 {
				s.flushLocked()
			}
			if s.closeSent || s.ending.Load() != 0 || !s.free() {
				return false
			}
		}
		if sent >= passBudget {
			return true
		}
		b := m.next()
		if b == nil {
			if !over {
				return false
			}
			s.end(s.srv.endOfStream())
			continue // writes the close frame
		}
		used := s.writePackets(b)
		if used < len(b) {
			m.cur.Back(len(b) - used)
		}
		sent += used
		s.mid = m.cur.MidPacket()
		s.progress.Store(now)
		if s.kind == probe && !s.mid {
			s.end(probeDone)
		}
		if !s.free() {
			return false
		}
	}
}

// next takes the next piece for the receiver: only the rest of the current packet
// if it is the last one it gets.
func (m *member) next() []byte {
	limit := directPiece
	if m.s.tls != nil {
		limit = sealedPiece
	}
	if m.s.kind == probe || m.s.ending.Load() != 0 {
		return m.cur.TakeRest(limit)
	}
	return m.cur.Take(limit)
}
