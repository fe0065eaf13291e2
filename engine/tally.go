package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"ws-stream-server/ring"
)

// tally is what a session has done, as it was last looked at. Nothing of it is counted
// where packets are delivered: a receiver's numbers are those of its cursor, a
// publisher's those of its ring, and somebody has to look (see survey).
//
// A receiver that has nothing yet, and is behind nothing, has none: it may wait among many
// thousands.
type tally struct {
	mu sync.Mutex // held for moments, nothing is taken under it
	numbers

	// Atomic, stored under the index's mu: what a receiver gets that is not in the ring,
	// until it is through with that; nil: nothing, see lead.
	lead atomic.Pointer[lead]
}

// numbers is what stands in a tally, guarded by its mu.
type numbers struct {
	// Of a receiver: where it joined, known once it has its first byte.
	seq   uint64 // the first packet that it gets
	base  uint64 // bytes of the stream before that
	first int64  // Server.now at the first byte that it was handed; 0: none yet

	// Bytes are as receivers get them, with the header of each frame.
	sum        sum
	lagBytes   int64
	lagPackets uint32
	lag        millis // how long ago the packet came that is next for it

	skips uint32 // how often it has jumped ahead

	// The last look of the survey's own, or the first byte, for the rate.
	lookAt, lookBytes int64   // Server.now, sum.bytes; lookAt 0: none yet
	rate              float64 // bytes per second up to then
}

// tallied returns the session's tally, which it has from now on. Any goroutine.
func (s *session) tallied() *tally {
	if t := s.tally.Load(); t != nil {
		return t
	}
	s.tally.CompareAndSwap(nil, &tally{})
	return s.tally.Load()
}

// numbers returns what is known of the session. Any goroutine.
func (s *session) numbers() numbers {
	t := s.tally.Load()
	if t == nil {
		return numbers{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.numbers
}

// millis is a time in milliseconds.
type millis uint32

func (m millis) duration() time.Duration { return time.Duration(m) * time.Millisecond }

func (m millis) seconds() float64 { return m.duration().Seconds() }

// sum counts packets and their bytes.
type sum struct{ bytes, packets int64 }

// begin is told that a receiver has its first byte, of which packet, and how many bytes of
// the stream stood before that. What it is told later changes nothing.
func (t *tally) begin(seq, base uint64, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first != 0 {
		return
	}
	t.seq, t.base, t.first = seq, base, now
	if t.lookAt == 0 {
		t.lookAt = now // it may have waited for hours
	}
}

// rateSpan is the shortest time over which a rate is taken.
const rateSpan = time.Second

// rateAt returns the bytes per second, by now: since the last look, or as of that if it
// was just now; since began if there was none.
func (n *numbers) rateAt(now, began int64) float64 {
	since, bytes := n.lookAt, n.sum.bytes-n.lookBytes
	if since == 0 {
		since = began
	}
	if span := time.Duration(now - since); span >= rateSpan {
		return float64(bytes) / span.Seconds()
	}
	return n.rate
}

// noteRate keeps the rate up to now, and begins a new time for the next one. Any
// goroutine.
func (s *session) noteRate(now int64) {
	t := s.tally.Load()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = t.rateAt(now, s.began)
	t.lookAt, t.lookBytes = now, t.sum.bytes
}

// begun reports whether a receiver that stood at joined has got anything since, and
// notes it; one that was given packets of its own first has begun once it is through with
// them. The pass that it joined in, or a later one, goes on: what it gets first is
// still there. The caller holds the group's passing.
func (m *member) begun(joined ring.Cursor) bool {
	defer m.s.contain()
	if m.cur.Seq() == joined.Seq() && !m.cur.MidPacket() {
		return false
	}
	base, _ := joined.Position() // known: there is a packet
	m.s.tallied().begin(joined.Seq(), base, m.s.srv.now())
	if m.cur.Detour() {
		return false
	}
	m.s.through()
	return true
}

// observe notes what a receiver has got, and its lag. age is the stream's, in
// milliseconds. The caller holds the group's passing.
func (m *member) observe(r *ring.Ring, age uint32) {
	packets, bytes := m.cur.Lag(r)
	at, _ := m.cur.Position()
	came, waits := m.cur.Arrived()
	if packets == 0 && m.s.tally.Load() == nil {
		return // there is nothing to note
	}
	t := m.s.tallied()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first != 0 {
		t.sum = sum{int64(at - t.base), int64(m.cur.Seq() + m.cur.Jump() - t.seq)}
	}
	t.lagPackets, t.lagBytes = uint32(packets), int64(bytes) // so many fit into no ring
	switch {
	case waits:
		t.lag = since(age, came)
	case packets == 0:
		t.lag = 0
	default: // it has lost its next packet: what is known of that stays
	}
}

// since returns how long before age, the stream's milliseconds, a packet came. Both
// begin anew after 49 days; a packet may have come after age was taken.
func since(age, came uint32) millis {
	const justCame = 1<<32 - 60_000
	ms := age - came
	if ms >= justCame {
		return 0
	}
	return millis(ms)
}

// observe notes what each receiver of the group has got. The caller holds passing, the
// next pass waits for a fraction of what it takes itself.
func (g *group) observe() {
	age := g.ch.age(g.ch.srv.now())
	for _, list := range [][]member{g.members, g.fresh, g.leavers} {
		for i := range list {
			list[i].look(g.ch.ring, age)
		}
	}
}

// look is observe; a cursor that is broken (see fault.go) is its session's end. The
// caller holds the group's passing.
func (m *member) look(r *ring.Ring, age uint32) {
	defer m.s.contain()
	m.observe(r, age)
}

// observeLater does it when the pass under way is over, and closes what it returns: who
// asks meanwhile is told by the same. The caller holds survey.mu.
func (g *group) observeLater() <-chan struct{} {
	if g.noted != nil {
		select {
		case <-g.noted:
		default:
			return g.noted
		}
	}
	noted := make(chan struct{})
	g.noted = noted
	go func() {
		g.passing.Lock()
		g.observe()
		g.passing.Unlock()
		close(noted)
	}()
	return noted
}

// observePublished notes what a publisher has sent. Any goroutine that holds neither
// in.mu nor the channel's lock.
func (s *session) observePublished() {
	s.ch.mu.Lock()
	r := s.ch.ring
	if s.ch.publisher != s {
		r = nil // it was ended before its start
	}
	s.ch.mu.Unlock()
	if r == nil {
		return
	}
	s.in.mu.Lock() // excludes the writer, until it is noted: who looked before must not note after
	defer s.in.mu.Unlock()
	t := s.tallied()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum = sum{int64(r.Written()), int64(r.Head())}
}
