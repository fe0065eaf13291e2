package ring

import (
	"math"
	"sync/atomic"
)

const (
	// Overhead is what a packet counts in the cache beside its own bytes. Its
	// real bookkeeping is 8 bytes in the slab and its share of the segment's
	// own fields; 64 is what users were promised, and leaves room.
	Overhead = 64

	// MaxPacket is the largest packet in bytes: offsets in a slab are 32 bits.
	MaxPacket = math.MaxUint32 - entrySize

	firstSlab = 4 << 10   // a new ring's first slab, unless the first packet is larger
	slabSize  = 256 << 10 // what slabs grow to
	pageSize  = 8 << 10   // Go's allocator rounds large objects up to this
)

// Config sizes a ring.
type Config struct {
	Cache int64 // bytes the cache may count; 0: no cache
	Lag   int64 // bytes the slabs may have beyond Cache for readers that are behind

	// Lowest returns the lowest sequence that a reader still wants,
	// math.MaxUint64 if there is none. The writer calls it when it could drop a
	// segment. nil: nobody wants anything beyond the cache.
	Lowest func() uint64

	// Limit returns the most bytes that the slabs may have together now, given how
	// many they have: less than Cache plus Lag when memory is short. The writer asks
	// when it needs a slab. nil: always Cache plus Lag.
	Limit func(slabs int64) int64

	// Account is told of each change of the bytes that the ring holds, Pin of those
	// that detached cursors still need, in slabs of segments that have left the ring (a
	// slab that another segment shares may count in both). They must not block. nil:
	// nobody counts.
	Account, Pin func(delta int64)

	// Poison overwrites a slab as soon as it may be used again, so that whoever
	// still looks at it is seen. For tests.
	Poison bool
}

// Ring is the packets of one publishing session.
type Ring struct {
	// Static after construction.
	cfg Config

	// Owned by the writer.
	cacheSeg   *segment // where the cache's tail is
	cacheIdx   uint32   // its packet in cacheSeg
	cacheBytes int64    // what the packets from the cache's tail to the head count
	slabs      int64    // bytes of the slabs from first to last
	spare      []byte   // slab of a dropped segment that nobody can read any more
	rest       *segment // has room that later packets may use; nil: none has
	reserved   int      // bytes of the reservation that is open

	// Atomic. Stored by the writer once a packet, read by every reader once a
	// pass: kept off the cache lines above.
	_     [64]byte
	head  atomic.Uint64
	tail  atomic.Uint64 // the cache's tail while cacheOff is not set
	first atomic.Pointer[segment]
	last  atomic.Pointer[segment]
	_     [64]byte

	// Atomic, any goroutine; once they are true they stay so.
	cacheOff atomic.Bool
	ended    atomic.Bool

	// Atomic. Bytes of the slabs and of spare, stored by the writer, read by any
	// goroutine.
	held atomic.Int64
}

// New returns an empty ring.
func New(cfg Config) *Ring {
	if cfg.Lowest == nil {
		cfg.Lowest = func() uint64 { return math.MaxUint64 }
	}
	if cfg.Limit == nil {
		most := cfg.Cache + cfg.Lag
		cfg.Limit = func(int64) int64 { return most }
	}
	if cfg.Account == nil {
		cfg.Account = func(int64) {}
	}
	if cfg.Pin == nil {
		cfg.Pin = func(int64) {}
	}
	r := &Ring{cfg: cfg}
	r.cacheOff.Store(cfg.Cache == 0)
	s := &segment{}
	r.first.Store(s)
	r.last.Store(s)
	r.cacheSeg = s
	return r
}

// Reserve returns n bytes to write the next packet to. Nobody else sees them
// before Commit; a second Reserve takes the place of the first. n is at most
// MaxPacket. Called by the writer.
func (r *Ring) Reserve(n int) []byte {
	s := r.last.Load()
	if s.room() < n {
		s = r.grow(n)
	}
	r.reserved = n
	at := int(s.start(s.count.Load()))
	return s.buf[at : at+n : at+n]
}

// Commit publishes the reserved bytes as the next packet. arrived is the time in
// milliseconds since the ring's start. Called by the writer.
func (r *Ring) Commit(arrived uint32) {
	s := r.last.Load()
	i := s.count.Load()
	s.set(i, s.start(i)+uint32(r.reserved), arrived)
	r.cacheBytes += int64(r.reserved) + Overhead
	r.reserved = 0
	s.count.Store(i + 1)
	r.head.Store(s.seq + uint64(i) + 1)
	r.trimCache()
}

// trimCache moves the cache's tail until the cache counts no more than it may,
// and drops the segments that nobody needs any more.
func (r *Ring) trimCache() {
	limit := r.cfg.Cache
	if r.cacheOff.Load() {
		limit = 0
	}
	if r.cacheBytes <= limit {
		return
	}
	for r.cacheBytes > limit {
		r.dropFromCache()
	}
	r.storeTail()
}

// storeTail has joiners start at the cache's tail, and drops the segments that nobody
// needs any more.
func (r *Ring) storeTail() {
	r.tail.Store(r.cacheSeg.seq + uint64(r.cacheIdx))
	if r.first.Load() != r.cacheSeg {
		r.dropUnwanted()
	}
}

// dropFromCache moves the cache's tail by one packet.
func (r *Ring) dropFromCache() {
	s, i := r.cacheSeg, r.cacheIdx
	r.cacheBytes -= int64(s.end(i)-s.start(i)) + Overhead
	r.cacheIdx++
	r.settleTail()
}

// dropSegmentFromCache moves the cache's tail to the next segment.
func (r *Ring) dropSegmentFromCache() { r.dropTo(r.cacheSeg.count.Load()) }

// dropTo moves the cache's tail to packet i of the segment that it is in, or behind
// the last one of that.
func (r *Ring) dropTo(i uint32) {
	if s := r.cacheSeg; r.cacheIdx < i {
		r.cacheBytes -= int64(s.end(i-1)-s.start(r.cacheIdx)) + int64(i-r.cacheIdx)*Overhead
		r.cacheIdx = i
	}
	r.settleTail()
}

// KeepFrom moves the cache's tail up to seq, at most to the head, if it lies below;
// it never moves back. What only the cache wanted leaves the ring at once. Called by
// the writer or under the lock that excludes it.
func (r *Ring) KeepFrom(seq uint64) {
	seq = min(seq, r.head.Load())
	if seq <= r.tail.Load() {
		return
	}
	for next := r.cacheSeg.next.Load(); next != nil && next.seq <= seq; next = r.cacheSeg.next.Load() {
		r.dropSegmentFromCache()
	}
	r.dropTo(uint32(seq - r.cacheSeg.seq))
	r.storeTail()
}

// settleTail moves the cache's tail from the end of a segment to the start of
// the next one.
func (r *Ring) settleTail() {
	for r.cacheIdx == r.cacheSeg.count.Load() {
		next := r.cacheSeg.next.Load()
		if next == nil {
			return
		}
		r.cacheSeg, r.cacheIdx = next, 0
	}
}

// dropUnwanted drops the segments below the cache's tail that no reader wants.
// The tail was stored before Lowest is asked: see Join.
func (r *Ring) dropUnwanted() {
	lowest := r.cfg.Lowest()
	for s := r.first.Load(); s != r.cacheSeg; s = r.first.Load() {
		if next := s.next.Load(); next.seq > lowest {
			return
		}
		r.drop(s, true)
	}
}

// drop takes the oldest segment out of the ring. unread says that nobody can
// hold a slice of it.
func (r *Ring) drop(s *segment, unread bool) {
	r.first.Store(s.next.Load())
	s.dropped.Store(true)
	if r.rest == s {
		r.rest = nil
	}
	unread = unread && !s.held
	if s.heir != nil {
		s.heir.held = s.heir.held || !unread
		return
	}
	r.slabs -= s.size
	if !unread || len(s.slab) <= len(r.spare) || len(s.slab) > slabSize {
		r.hold(-s.size)
		return
	}
	r.dropSpare()
	r.spare = s.slab
	if r.cfg.Poison {
		for i := range s.slab {
			s.slab[i] = 0xDB
		}
	}
}

// dropSpare leaves the spare slab to the garbage collector.
func (r *Ring) dropSpare() {
	r.hold(-int64(len(r.spare)))
	r.spare = nil
}

// hold accounts for bytes that the ring has got, or given up.
func (r *Ring) hold(delta int64) {
	if delta != 0 {
		r.held.Add(delta)
		r.cfg.Account(delta)
	}
}

// grow appends a segment with room for a packet of n bytes.
//
// Slow path: once in a slab's worth of packets.
func (r *Ring) grow(n int) *segment {
	last := r.last.Load()
	count := last.count.Load()
	s := &segment{seq: last.seq + uint64(count), base: last.base + uint64(last.start(count))}
	limit := r.cfg.Limit(r.slabs)
	r.makeRoom(0, limit) // the newest packet may have been larger than that
	if r.rest != nil && r.rest.room() >= n {
		r.rest.cede(s)
		r.rest = nil
	} else {
		r.allocate(s, n, limit)
	}
	r.keepRest(last)
	last.next.Store(s)
	r.last.Store(s)
	r.settleTail()
	return s
}

// allocate gives a segment a slab for a packet of n bytes, within limit if that is
// possible.
func (r *Ring) allocate(s *segment, n int, limit int64) {
	size := slabFor(n, s.base, limit)
	r.makeRoom(int64(size), limit)
	if len(r.spare) >= size && len(r.spare) <= 2*size {
		s.buf, r.spare = r.spare, nil
	} else {
		r.dropSpare()
		r.hold(int64(size))
		s.buf = make([]byte, size)
	}
	s.slab, s.size = s.buf, int64(len(s.buf))
	r.slabs += s.size
}

// keepRest remembers a segment in which the next packet has no room, for smaller ones that
// follow that: otherwise each key frame of a video would leave a slab half empty. It
// takes the place of one with less room. What is below a sixteenth of the slab is not worth
// a segment.
func (r *Ring) keepRest(s *segment) {
	room := s.room()
	if room > int(s.size/16) && (r.rest == nil || room > r.rest.room()) {
		r.rest = s
	}
}

// slabFor returns the size of a slab for a packet of n bytes in a ring that has
// written so much and may hold limit bytes: a slab grows with what its ring carries,
// so that a small channel stays small, is a quarter of the limit at most, so that a
// ring that may hold little does not lose half of it at once, and holds a whole number
// of packets like this one, so that a stream of equal packets wastes nothing.
func slabFor(n int, written uint64, limit int64) int {
	want := n + entrySize
	target := int(min(max(written, firstSlab), slabSize, max(uint64(limit/4), firstSlab)))
	if target <= want {
		return want
	}
	size := target / want * want
	if size > 4*pageSize {
		size = (size + pageSize - 1) / pageSize * pageSize
	}
	return size
}

// makeRoom drops the oldest segments, wanted or not, until a slab of n bytes
// fits within a limit of the slabs together. A reader that is still in one is
// overrun. The newest segment always stays.
func (r *Ring) makeRoom(n, limit int64) {
	for s := r.first.Load(); r.slabs+n > limit; s = r.first.Load() {
		next := s.next.Load()
		if next == nil {
			return
		}
		if r.cacheSeg == s {
			r.dropSegmentFromCache()
		}
		r.tail.Store(r.cacheSeg.seq + uint64(r.cacheIdx))
		r.drop(s, next.seq <= r.cfg.Lowest()) // asked after the tail was stored: see Join
	}
}

// Shrink drops the oldest segments, wanted or not, until the slabs have at most
// limit bytes together, as far as the newest one allows, and reports whether that
// dropped anything. Called by the writer or under the lock that excludes it.
func (r *Ring) Shrink(limit int64) bool {
	first := r.first.Load()
	r.makeRoom(0, limit)
	if first == r.first.Load() {
		return false
	}
	r.dropSpare()
	return true
}

// Forsake drops every packet: whoever has not read them is overrun. Called after End under
// the lock that excludes the writer.
func (r *Ring) Forsake() {
	last := r.last.Load()
	empty := &segment{seq: r.head.Load(), base: r.Written()}
	last.next.Store(empty)
	r.last.Store(empty)
	r.settleTail()
	r.Shrink(0)
}

// Size returns the bytes that the ring holds. Any goroutine.
func (r *Ring) Size() int64 { return r.held.Load() }

// Release gives up everything that the ring holds: it has ended, and nobody reads it
// any more. Called under the lock that excludes the writer.
func (r *Ring) Release() {
	empty := &segment{seq: r.head.Load(), base: r.Written()}
	r.first.Store(empty)
	r.last.Store(empty)
	r.cacheSeg, r.cacheIdx, r.cacheBytes, r.slabs, r.spare, r.rest = empty, 0, 0, 0, nil, nil
	r.hold(-r.held.Load())
}

// End says that no packet follows. Called by the writer or under the lock that
// excludes it, once.
func (r *Ring) End() {
	r.dropSpare()
	r.ended.Store(true)
}

// Ended reports whether End was called. What was committed before is visible to
// whoever sees true. Any goroutine.
func (r *Ring) Ended() bool { return r.ended.Load() }

// ClearCache empties the cache and keeps it off: the next joiner starts at the
// head. Memory goes back when the next packet is committed. Any goroutine.
func (r *Ring) ClearCache() { r.cacheOff.Store(true) }

// CacheOff reports whether there is no cache, or none any more. Any goroutine.
func (r *Ring) CacheOff() bool { return r.cacheOff.Load() }

// Head returns the sequence of the next packet. Any goroutine.
func (r *Ring) Head() uint64 { return r.head.Load() }

// Written returns the bytes of all packets so far. Called by the writer.
func (r *Ring) Written() uint64 {
	s := r.last.Load()
	return s.base + uint64(s.start(s.count.Load()))
}

// Cached returns how many bytes the cache counts, and how long after its first packet
// the last one came, in milliseconds. Called by the writer or under the lock that
// excludes it.
func (r *Ring) Cached() (bytes int64, span uint32) {
	if r.cacheOff.Load() || r.cacheIdx == r.cacheSeg.count.Load() {
		return 0, 0
	}
	newest := r.last.Load()
	if newest.count.Load() == 0 { // a packet is reserved, the first of its segment
		for newest = r.cacheSeg; newest.next.Load() != r.last.Load(); newest = newest.next.Load() {
			continue
		}
	}
	return r.cacheBytes, newest.arrived(newest.count.Load()-1) - r.cacheSeg.arrived(r.cacheIdx) // also where the milliseconds have begun anew
}

// Newest returns the packet that was committed last, nil if there is none. It is not to
// be changed, and valid until the next call of Commit. Called by the writer.
func (r *Ring) Newest() []byte {
	s := r.last.Load()
	n := s.count.Load()
	if n == 0 {
		return nil
	}
	from, to := s.start(n-1), s.end(n-1)
	return s.buf[from:to:to]
}
