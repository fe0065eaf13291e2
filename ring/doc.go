// Package ring holds the packets of one publishing session: written once, by
// one writer, read by any number of readers, without a lock.
//
// # Shape
//
// A Ring is a list of segments. A segment is a slab of bytes, used as a
// slotted page: packets stand one behind the other from the front, an 8-byte
// entry for each of them (where it ends, when it came) grows from the back.
//
//	first                         last
//	 ┌─────────┐   next  ┌─────────┐   next  ┌─────────┐
//	 │ segment │ ──────→ │ segment │ ──────→ │ segment │ ← the writer appends
//	 └─────────┘         └─────────┘         └─────────┘
//	      ▲ retained tail     ▲ cache's tail            ▲ head
//
//	a segment   [packet 0][packet 1][packet 2] … free … [entry 2][entry 1][entry 0]
//
// Packets that follow each other in a segment follow each other in memory, so
// what a reader has not got yet is one slice, however many packets it is: no
// joining, no copying, one write. A packet never crosses the end of a
// segment; one that is larger than a slab gets a slab of its own. What is free of a slab
// when a packet has no room in it is not lost: the packets after that one get a segment
// in it, so that what a ring may hold is packets, whatever their sizes.
//
//	[packet 0][packet 1][ packet 3 … free … entry 3 ][entry 1][entry 0]   [packet 2][entry 2]
//
// # Marks
//
//   - head: the sequence the next packet will have.
//   - the cache's tail: where a joiner starts. It follows the head so that the
//     packets between them count at most the cache's size, a packet counting
//     its bytes plus [Overhead]. It equals the head when the cache is off. The writer
//     may move it further with [Ring.KeepFrom].
//   - the retained tail: the oldest packet that can still be read. Segments are
//     dropped whole, from the oldest on, once they lie below the cache's tail
//     and below everything [Config.Lowest] still wants; or, whoever wants
//     them, when the slabs together would exceed the cache's size plus the lag,
//     or less if memory is short: see [Config.Limit] and [Ring.Shrink].
//
// # Detours
//
// A joiner may need other bytes before its first packet: what a decoder has to know,
// and the part of a packet from which it can start. They are a [Lead], packets made
// once for all who need them; a cursor may join with one ([Ring.JoinAt]). One that is
// behind may jump ([Cursor.Skip]): it reads on to the end of what it has begun, then a
// lead, then from a later packet on. Such a cursor is in a detour: in private segments,
// its own, whose slabs are the lead's or, before a jump, those of the ring's segments,
// of which they show the packets up to the jump. The last one is followed by the ring's
// segment with the packet that comes next, at this packet.
//
//	private   [window: 0 to 2] ─→ [lead: 8 and 9] ──┐ next, enter
//	           ▒ same slab                          ▼
//	ring      [0 1 2 3 4] ──→ [5 6 7] ──→ [8 9 10 11 12] ──→ [13 …
//
// The cursor shown gets packets 0 to 2, the lead's two, and then 10, 11 and so on. A
// lead's packets have the sequences just below that of the packet they lead to, and a
// window's have their own: so Seq never falls, and what it says protects all that the
// cursor still wants. Reading takes no notice: at the end of a segment a cursor goes on
// where that segment says, which in the ring's own is the beginning of the next. One
// thing a private segment cannot tell: that a packet which is still to come has left the
// ring. The cursor's owner has to ask for that ([Cursor.Detour]).
//
// # Who does what
//
// One goroutine at a time is the writer: it alone calls Reserve, Commit, Newest and
// Written. KeepFrom, Cached, Shrink, End, Forsake and Release are called by it or under a lock
// that excludes it, as Recall is. Any goroutine may call Join, At, JoinAt, ClearCache and
// the methods that only report. A [Cursor] belongs to whoever holds it, one goroutine at a time.
//
// The writer publishes a packet by storing the segment's count after the bytes
// and the entry are in place; a reader loads the count before it looks at them.
// Bytes below the count never change while anybody can read them. A segment
// that was dropped because nobody wants it any more gives its slab to the next
// segment; one that was dropped under a reader (the lag was used up) is left
// to the garbage collector, so a slice taken from it stays what it was. A slab that
// several segments share goes with the last of them, and to the garbage collector if
// one was dropped under a reader.
//
// Why nobody can hold bytes of a slab that is used again: its owner told the
// lowest sequence it still wants, through Lowest, and that lies above the
// segment. Owners only raise it when the slices taken below it are no longer
// used, and Join, At and JoinAt pin a sequence before they return a cursor to it
// (see [Ring.Join]). A cursor may still point at the dropped segment when it has
// read it to the end; then it looks at the count and the successor only, and
// these are never used again.
package ring
