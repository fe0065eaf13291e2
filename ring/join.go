package ring

// JoinPoint returns the sequence at which a joiner starts. Any goroutine.
func (r *Ring) JoinPoint() uint64 {
	if r.cacheOff.Load() {
		return r.head.Load()
	}
	return r.tail.Load()
}

// Join returns a cursor at the first packet of the cache, or at the head if there
// is none. pin is called with the sequence before the cursor exists; from then on
// Lowest must not return more than that until the cursor has passed it. It may
// be called more than once, with rising sequences; the last one counts. Any
// goroutine.
//
// Why nothing is dropped in between: the writer stores the tail, then asks
// Lowest; Join pins, then loads the tail again. If the tail has not moved, the
// pin came before the writer's next question. If it has, Join tries again.
func (r *Ring) Join(pin func(seq uint64)) Cursor {
	for {
		seq := r.JoinPoint()
		pin(seq)
		if r.JoinPoint() != seq {
			continue
		}
		if c, ok := r.find(seq); ok {
			return c
		}
	}
}

// At returns a cursor at packet seq, which may be the head; false if that lies above
// the head or below the cache's tail: what is kept there is kept for those who have
// pinned it. pin is as in Join, called at most once, also when false is returned. Any
// goroutine.
//
// Why nothing is dropped in between: as in Join. The segment with packet seq is dropped
// only after a tail above seq was stored and Lowest was asked, in this order. At pins,
// then loads the tail: if that is not above seq yet, the question is still to come.
func (r *Ring) At(seq uint64, pin func(seq uint64)) (Cursor, bool) {
	return r.at(seq, seq, pin)
}

// JoinAt is At with a lead: the cursor gives its packets before those from seq on. The
// sequences of the lead's packets are those just below seq: pin is called with the first
// of them, and false is returned also if there are none so low. A nil lead is one
// without packets. Any goroutine.
func (r *Ring) JoinAt(seq uint64, lead *Lead, pin func(seq uint64)) (Cursor, bool) {
	n := uint64(lead.packets())
	if n > seq {
		return Cursor{}, false
	}
	c, ok := r.at(seq, seq-n, pin)
	if !ok || n == 0 {
		return c, ok
	}
	// Where packet seq begins stands in the entry before its own, that of a packet that
	// is pinned as well, for the lead is not empty. The slab is not used again: the
	// segment has packet seq, see At; or it had no successor when find saw it, after the
	// pin, and without one it is not dropped: the question is still to come.
	c.off = c.seg.start(c.idx)
	return lead.before(c), true
}

// Recall is JoinAt for a packet that may lie below the cache's tail, as long as the ring
// has it. Called by the writer or under the lock that excludes it: nothing is dropped
// in between; or by any goroutine for a packet that is pinned already, and pin is not
// needed: then what it returns is as good as that pin's owner's cursor.
func (r *Ring) Recall(seq uint64, lead *Lead, pin func(seq uint64)) (Cursor, bool) {
	n := uint64(lead.packets())
	if n > seq || seq > r.head.Load() || seq < r.Oldest() {
		return Cursor{}, false
	}
	pin(seq - n)
	c, ok := r.find(seq)
	if !ok || n == 0 {
		return c, ok
	}
	c.off = c.seg.start(c.idx)
	return lead.before(c), true
}

// Oldest returns the sequence of the oldest packet that the ring still has, or, if it has
// none, of the next one. Any goroutine.
func (r *Ring) Oldest() uint64 { return r.first.Load().seq }

// at returns a cursor at packet seq, and pins low, which is not above that.
func (r *Ring) at(seq, low uint64, pin func(seq uint64)) (Cursor, bool) {
	if seq > r.head.Load() || seq < r.tail.Load() {
		return Cursor{}, false
	}
	pin(low)
	if seq < r.tail.Load() {
		return Cursor{}, false
	}
	return r.find(seq)
}

// find returns a cursor at seq, which lies between the retained tail and the
// head; false if the retained tail has passed it meanwhile.
func (r *Ring) find(seq uint64) (Cursor, bool) {
	s := r.last.Load()
	if seq < s.seq {
		s = r.first.Load()
	}
	if seq < s.seq {
		return Cursor{}, false
	}
	for next := s.next.Load(); next != nil && next.seq <= seq; next = s.next.Load() {
		s = next
	}
	i := uint32(seq - s.seq)
	// Where packet i begins stands in the entry before its own. A segment without
	// packet i holds nothing that is pinned, and its slab may be used again now.
	return Cursor{seg: s, idx: i, off: unknownOff}, true
}
