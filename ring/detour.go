package ring

// A detour is what a cursor reads instead of a piece of the ring: private segments,
// the last of which leads back into it. See doc.go.

// Lead is packets that cursors give before those of the ring. It is never changed,
// and any number of cursors may read it at once, in any ring.
type Lead struct{ slab segment }

// NewLead returns a lead with a copy of the packets' bytes, at most MaxPacket together
// with 8 for each. arrived is when they came, as in Commit: what Arrived returns of
// each.
func NewLead(arrived uint32, packets ...[]byte) *Lead {
	size := entrySize * len(packets)
	for _, p := range packets {
		size += len(p)
	}
	l := &Lead{segment{buf: make([]byte, size)}}
	end := 0
	for i, p := range packets {
		end += copy(l.slab.buf[end:], p)
		l.slab.set(uint32(i), uint32(end), arrived)
	}
	l.slab.count.Store(uint32(len(packets)))
	return l
}

// Size returns the bytes that the lead holds: its packets' and 8 for each of them. No
// ring's account has them.
func (l *Lead) Size() int { return len(l.slab.buf) }

// packets returns how many there are.
func (l *Lead) packets() uint32 {
	if l == nil {
		return 0
	}
	return l.slab.count.Load()
}

// before returns a cursor at the first packet of the lead, which is not empty, that
// goes on at target, whose offset is known.
func (l *Lead) before(target Cursor) Cursor {
	n := l.slab.count.Load()
	s := &segment{
		seq:  target.Seq() - uint64(n),
		base: target.seg.base + uint64(target.off) - uint64(l.slab.start(n)),
		buf:  l.slab.buf,
		size: int64(len(l.slab.buf)),
		of:   &l.slab,
	}
	s.count.Store(n)
	s.leadTo(target)
	return Cursor{seg: s}
}

// leadTo has the cursor whose private segment this is go on at a place.
func (s *segment) leadTo(c Cursor) {
	s.enter, s.enterOff = c.idx, c.off
	s.next.Store(c.seg)
}

// Detour reports whether the cursor is in a detour. If the packet that it gives next,
// or the one of the ring that comes after the lead, has left the ring, Overrun is
// true from then on. Who knows of a detour has to ask in every pass until it is over:
// nobody else looks, and the cursor keeps alive what has left the ring.
func (c *Cursor) Detour() bool {
	c.settle()
	s := c.seg
	if s.of == nil {
		return false
	}
	on := Cursor{s.next.Load(), s.enter, s.enterOff}
	if on.Overrun() || s.of.dropped.Load() {
		s.dropped.Store(true)
	}
	s.leadTo(on) // not to a segment that has nothing for it, and may have left the ring
	return true
}

// Jump returns how many packets the cursor will jump over in its detour: Seq will rise
// by so many more than there are packets. 0 if it is in none, or behind the jump.
func (c *Cursor) Jump() (packets uint64) {
	for s := c.seg; s.of != nil; {
		next := s.next.Load()
		packets += next.seq + uint64(s.enter) - s.seq - uint64(s.count.Load())
		s = next
	}
	return packets
}

// Skip has the cursor jump: it reads on up to packet from, without that one, then the
// lead's packets, then the ring's from packet to on. from is not below Seq, and above
// it in the middle of a packet; to is not above the head; the lead, nil for none, has at
// most as many packets as lie between from and to, whose sequences the last of these are
// its own. False if that is not so, if the cursor is in a detour or detached, or if what
// it needs has left the ring; then nothing has changed. Called by the cursor's owner,
// while Lowest is at or below Seq.
//
// Position counts the jump at once, so that what it rises by from then on is what is
// read; Seq does when the jump comes: see Jump.
//
// What is read before the jump is seen through windows, private segments that show the
// slabs of the ring's. No window shows a slab that is used again: as long as there is
// something to read in it, Seq is below the end of the ring's segment whose slab it is,
// so that the ring does not drop that, or drops it under a reader and leaves the slab to
// the garbage collector. Behind that only the window's count and what follows it are
// looked at.
func (c *Cursor) Skip(r *Ring, from uint64, lead *Lead, to uint64) bool {
	head, n := r.head.Load(), c.settle() // in this order: then it sees all packets below head
	switch at := c.Seq(); {
	case c.seg.of != nil, from < at, to < from, to > head, uint64(lead.packets()) > to-from,
		from == at && c.MidPacket():
		return false
	case to == at:
		return !c.seg.dropped.Load() // nothing to jump over
	case c.idx == n:
		return false // it is detached
	}
	on, ok := r.find(to)
	if !ok {
		return false
	}
	// Where packet to begins stands in the entry of the one before: not below Seq, so wanted.
	on.off = on.seg.start(on.idx)
	if lead.packets() > 0 {
		on = lead.before(on)
	}
	if from > c.Seq() {
		if on, ok = c.upTo(from, on, r); !ok {
			return false
		}
	}
	*c = on
	return true
}

// upTo returns a cursor at the same place that reads on up to packet from, without that
// one, and then goes on at another place. False if it is overrun, or detached.
func (c *Cursor) upTo(from uint64, on Cursor, r *Ring) (Cursor, bool) {
	end, ok := r.find(from)
	if !ok || c.seg.dropped.Load() { // the oldest are dropped first: here none was
		return Cursor{}, false
	}
	end.off = end.seg.start(end.idx)
	jump := on.seg.base + uint64(on.off) - end.seg.base - uint64(end.off)
	first := c.seg.window(from, jump)
	s, w := c.seg, first
	for w.seq+uint64(w.count.Load()) < from {
		s = s.next.Load()
		next := s.window(from, jump)
		w.next.Store(next)
		w = next
	}
	w.leadTo(on)
	return Cursor{first, c.idx, c.off}, true
}

// window returns a private segment that shows the packets below from of a segment of the
// ring, followed by nothing yet. jump is by how many bytes its packets lie further on in
// the stream for who reads them so.
func (s *segment) window(from, jump uint64) *segment {
	w := &segment{seq: s.seq, base: s.base + jump, buf: s.buf, size: s.size, of: s}
	w.count.Store(uint32(min(uint64(s.count.Load()), from-s.seq)))
	return w
}
