package ring

import (
	"math/rand/v2"
	"time"
)

// What the torture's readers do beside joining at the cache's first packet: they join
// anywhere, with leads, and skip.

// ofLead marks a lead's packets: no packet of the ring has such a sequence.
const ofLead = 1 << 63

// due returns what the next packet says that it is.
func (s *stream) due() uint64 {
	if s.next >= s.lead && s.next < s.to {
		return s.next | ofLead
	}
	return s.next
}

// advance goes on by a packet.
func (s *stream) advance() {
	if s.next++; s.next == s.from {
		s.next = s.lead
	}
}

// jump is told of a detour that begins at a packet.
func (s *stream) jump(at, from uint64, packets int, to uint64) {
	s.from, s.lead, s.to = from, to-uint64(packets), to
	if s.next = at; at == from {
		s.next = s.lead
	}
}

// drawnLead makes a lead of up to three packets for one who goes on at a packet.
func drawnLead(rnd *rand.Rand, to uint64) (lead *Lead, n int) {
	var packets [][]byte
	n = min(rnd.IntN(4), int(to))
	for i := range n {
		b := make([]byte, tortureHead+rnd.IntN(5000))
		describe(b, (to-uint64(n-i))|ofLead)
		packets = append(packets, b)
	}
	return NewLead(0, packets...), n
}

// join joins at the first packet of the cache, or anywhere.
func (x *torture) join(p *place, rnd *rand.Rand) (Cursor, *stream) {
	pin := func(seq uint64) {
		if rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Microsecond) // the tail may move now
		}
		p.low.Store(seq)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for range rnd.IntN(4) { // the packet may have left the cache meanwhile
		tail := x.ring.tail.Load()
		seq := tail + rnd.Uint64N(x.ring.Head()-tail+1)
		lead, n := drawnLead(rnd, seq)
		if c, ok := x.ring.JoinAt(seq, lead, pin); ok {
			if n > 0 {
				x.leads.Add(1)
			}
			s := &stream{}
			s.jump(seq-uint64(n), 0, n, seq)
			return c, s
		}
	}
	c := x.ring.Join(pin)
	return c, &stream{next: c.Seq()}
}

// skip has a reader jump ahead, if there is something to jump over.
func (x *torture) skip(c *Cursor, s *stream, rnd *rand.Rand) {
	at, head := c.Seq(), x.ring.Head()
	from := at + rnd.Uint64N(4)
	if rnd.IntN(4) == 0 {
		from += rnd.Uint64N(400) // through segments
	}
	if from >= head {
		return
	}
	to := from + 1 + rnd.Uint64N(head-from)
	lead, n := drawnLead(rnd, to)
	if !c.Skip(x.ring, from, lead, to) {
		return // it is in a detour, or in the middle of packet from, or the lead is too long
	}
	x.skips.Add(1)
	s.jump(at, from, n, to)
}

// waitForLap has a reader in a detour wait until the writer has overrun it, which does
// not wait.
func (x *torture) waitForLap(c *Cursor) {
	for c.Detour() && !c.Overrun() && !x.stop.Load() {
		time.Sleep(50 * time.Microsecond)
	}
}
