package ring

import (
	"encoding/binary"
	"sync/atomic"
)

// entrySize is what a packet costs in its slab beside its bytes: the offset
// where it ends and the milliseconds from the ring's start to its arrival, four
// bytes each.
const entrySize = 8

// segment is packets in one slab, or in what was free of one.
type segment struct {
	// Static after construction.
	seq  uint64 // sequence of the first packet
	base uint64 // bytes of all packets before the first one
	buf  []byte // packets from the front, entries from the back
	size int64  // bytes of the slab that buf is, or is a part of

	// Static after construction, in the copy of a segment that a detached cursor
	// has: how many such copies there are.
	detached *atomic.Int32

	// Atomic, stored by the writer. count publishes: packets below it are
	// complete and do not change. It is final once next is set.
	count   atomic.Uint32
	next    atomic.Pointer[segment] // set once
	dropped atomic.Bool             // the segment has left the ring

	// Atomic, set once, by the first cursor that is detached: what detached is in
	// the copies.
	copies atomic.Pointer[atomic.Int32]

	// Owned by the writer; zero in private segments. The slab goes with the last
	// segment that has a part of it.
	slab []byte   // the slab of buf; nil once heir has what was free of it
	heir *segment // has what was free of the slab
	held bool     // somebody may hold bytes of the slab that lie outside buf

	// Owned by the cursor's owner, in a private segment (see detour.go), where next is
	// stored again with enter, and dropped by nobody else; zero in the ring's own.
	of       *segment // whose slab buf is
	enter    uint32   // the packet of next at which the cursor goes on
	enterOff uint32   // where that begins
}

// holders returns the count of the copies of the segment, or of the one whose slab it
// shows, that detached cursors have.
func (s *segment) holders() *atomic.Int32 {
	if s.of != nil {
		s = s.of
	}
	s.copies.CompareAndSwap(nil, new(atomic.Int32))
	return s.copies.Load()
}

// end returns where packet i ends in buf. i must be below count, or be the
// writer's own.
func (s *segment) end(i uint32) uint32 {
	return binary.LittleEndian.Uint32(s.buf[len(s.buf)-entrySize*int(i+1):])
}

// arrived returns when packet i came, in milliseconds since the ring's start.
func (s *segment) arrived(i uint32) uint32 {
	return binary.LittleEndian.Uint32(s.buf[len(s.buf)-entrySize*int(i+1)+4:])
}

// start returns where packet i begins in buf.
func (s *segment) start(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	return s.end(i - 1)
}

// room returns how many bytes a next packet may have. Called by the writer.
func (s *segment) room() int {
	n := s.count.Load()
	return len(s.buf) - int(s.start(n)) - entrySize*int(n+1)
}

// cede gives the part of the slab between the packets and their entries to heir, and the
// slab with it. Called by the writer, of a segment that gets no more packets.
func (s *segment) cede(heir *segment) {
	n := s.count.Load()
	from, to := int(s.start(n)), len(s.buf)-entrySize*int(n)
	heir.buf, heir.slab, heir.size = s.buf[from:to:to], s.slab, s.size
	s.slab, s.heir = nil, heir
	heir.copies.Store(s.holders()) // the slab is what counts, whichever segment shows it
}

// set writes the entry of packet i. Called by the writer before it raises count.
func (s *segment) set(i, end, arrived uint32) {
	e := s.buf[len(s.buf)-entrySize*int(i+1):]
	binary.LittleEndian.PutUint32(e, end)
	binary.LittleEndian.PutUint32(e[4:], arrived)
}
