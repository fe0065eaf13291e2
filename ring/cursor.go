package ring

import "math"

// Cursor is a reader's place in a ring: a packet, and a byte of it. It is a plain
// value; one goroutine at a time may use it. The zero Cursor is at no place, and
// only Valid may be called.
type Cursor struct {
	seg *segment
	idx uint32 // packet in seg; equal to seg.count when everything was read
	off uint32 // next byte in seg.buf; unknownOff until packet idx is there
}

// unknownOff stands for the offset of a packet that was not looked at yet. No
// slab is that large.
const unknownOff = math.MaxUint32

// Valid reports whether the cursor is at a place.
func (c *Cursor) Valid() bool { return c.seg != nil }

// Seq returns the sequence of the packet that is read next, or whose rest is.
func (c *Cursor) Seq() uint64 { return c.seg.seq + uint64(c.idx) }

// MidPacket reports whether a part of the packet was taken and a part was not.
func (c *Cursor) MidPacket() bool {
	return c.idx < c.seg.count.Load() && c.off != unknownOff && c.off != c.seg.start(c.idx)
}

// More reports whether there is something to take.
func (c *Cursor) More() bool {
	return c.settle() > c.idx
}

// settle moves the cursor from the end of a segment to the start of the next one
// if there is one, and returns how many packets of the segment can be read.
func (c *Cursor) settle() uint32 {
	n := c.seg.count.Load()
	for c.idx == n {
		next := c.seg.next.Load()
		if next == nil {
			return n
		}
		// The count is final once there is a successor, but may have grown
		// between the two loads.
		if n = c.seg.count.Load(); c.idx == n {
			c.seg, c.idx, c.off = next, c.seg.enter, c.seg.enterOff // 0, but at the end of a detour
			n = next.count.Load()
		}
	}
	if c.off == unknownOff {
		c.off = c.seg.start(c.idx)
	}
	return n
}

// Overrun reports whether the next packet has left the ring. A cursor in the
// middle of a packet may still take the rest of it with TakeRest.
func (c *Cursor) Overrun() bool {
	return c.settle() > c.idx && c.seg.dropped.Load()
}

// Detach lets go of the ring: only the rest of the current packet can be taken
// then, and the cursor keeps alive only the slab that this is in, which Config.Pin
// is told of; Close ends that. For a cursor that is overrun: a segment dropped under
// a reader is never used again. It reports whether there is such a rest; called again it
// does nothing.
func (c *Cursor) Detach(r *Ring) (rest bool) {
	if c.seg.detached != nil {
		return false // it is
	}
	s := &segment{seq: c.seg.seq + c.Jump(), base: c.seg.base}
	s.dropped.Store(true)
	s.count.Store(c.idx)
	if rest = c.MidPacket(); rest {
		s.buf, s.size = c.seg.buf, c.seg.size
		s.count.Store(c.idx + 1)
		s.detached = c.seg.holders()
		if s.detached.Add(1) == 1 {
			r.cfg.Pin(s.size)
		}
	}
	c.seg = s
	return rest
}

// Close says that nothing is read at the cursor any more, and leaves it at no place.
func (c *Cursor) Close(r *Ring) {
	if n := c.seg.detached; n != nil && n.Add(-1) == 0 {
		r.cfg.Pin(-c.seg.size)
	}
	*c = Cursor{}
}

// Take returns the bytes that follow and moves behind them: as many whole packets
// as limit bytes can hold and the segment has, or limit bytes of a packet that is
// larger. nil if there is nothing.
//
// The bytes are the ring's: not to be changed, and valid as long as the reader's
// owner keeps Config.Lowest at or below the sequence that Seq returned before.
func (c *Cursor) Take(limit int) []byte {
	n := c.settle()
	if c.idx == n {
		return nil
	}
	s, from := c.seg, c.off

	// Fast path: all there is.
	if end := s.end(n - 1); int(end-from) <= limit {
		c.idx, c.off = n, end
		return s.buf[from:end:end]
	}

	// Slow path: the last packet that ends within the limit, or a part of the
	// first one.
	lo, hi := c.idx, n-1 // packets below lo fit, hi does not
	for lo < hi {
		mid := lo + (hi-lo)/2
		if int(s.end(mid)-from) <= limit {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == c.idx {
		c.off += uint32(limit)
	} else {
		c.idx, c.off = lo, s.end(lo-1)
	}
	return s.buf[from:c.off:c.off]
}

// Back moves the cursor back over the last n bytes of what Take or TakeRest has
// just returned.
func (c *Cursor) Back(n int) {
	s := c.seg
	c.off -= uint32(n)
	lo, hi := uint32(0), c.idx // packets below lo end at or before off, hi does not
	for lo < hi {
		mid := lo + (hi-lo)/2
		if s.end(mid) <= c.off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	c.idx = lo
}

// TakeRest returns the rest of the packet the cursor is in, at most limit bytes,
// and moves behind them. nil if there is no packet.
func (c *Cursor) TakeRest(limit int) []byte {
	if c.settle() == c.idx {
		return nil
	}
	s, from := c.seg, c.off
	if end := s.end(c.idx); int(end-from) <= limit {
		c.idx++
		c.off = end
	} else {
		c.off += uint32(limit)
	}
	return s.buf[from:c.off:c.off]
}

// Position returns how many bytes of packets stand before the cursor in the stream,
// also the part that was taken of a packet; false as long as nothing is known of it:
// it was made at the head, and no packet has come since. In a detour it is counted back
// from where that enters the ring: by the bytes that come before. It may pass zero so;
// only differences mean something.
func (c *Cursor) Position() (uint64, bool) {
	if c.settle(); c.off == unknownOff {
		return 0, false
	}
	return c.seg.base + uint64(c.off), true
}

// Lag returns how many packets there are from the cursor to the head, the one it is in
// among them, and how many bytes it has not taken of them; of a cursor that is detached
// too. In a detour they are those that it will get. The ring's bytes are looked at, so the reader's owner keeps Config.Lowest at or
// below Seq, as for Take.
func (c *Cursor) Lag(r *Ring) (packets, bytes uint64) {
	head := r.head.Load()
	if head <= c.Seq() {
		return 0, 0
	}
	at, known := c.Position()
	if !known {
		return 0, 0 // cannot be: its packet is there
	}
	// The last segment has what the cursor wants, or what follows it: as long as that
	// is wanted its slab is not used again, also when it is dropped meanwhile.
	s := r.last.Load()
	n := s.count.Load()
	return s.seq + uint64(n) - c.Seq() - c.Jump(), s.base + uint64(s.start(n)) - at
}

// Arrived returns when the next packet came, in milliseconds since the ring's
// start; false if there is none.
func (c *Cursor) Arrived() (uint32, bool) {
	if c.settle() == c.idx {
		return 0, false
	}
	return c.seg.arrived(c.idx), true
}
