package ring

import (
	"bytes"
	"math"
	"testing"
)

// joinAt is join with a lead.
func (r *reader) joinAt(t *testing.T, ring *Ring, seq uint64, lead *Lead) *reader {
	t.Helper()
	c, ok := ring.JoinAt(seq, lead, func(seq uint64) { r.low = seq })
	if !ok {
		t.Fatalf("no cursor at packet %d of %d with a lead", seq, ring.Head())
	}
	if r.Cursor = c; r.Seq() != r.low || r.MidPacket() {
		t.Fatalf("the cursor is at packet %d (in it: %v), pinned at %d", r.Seq(), r.MidPacket(), r.low)
	}
	return r
}

// numbers puts n packets of size bytes into a ring.
func numbers(r *Ring, n, size int) {
	for range n {
		seq := r.Head()
		copy(r.Reserve(size), numbered(int(seq), size))
		r.Commit(uint32(seq) * 10)
	}
}

// numberedFrom is the packets of a ring that numbers filled, from one up to another.
func numberedFrom(from, to, size int) (b []byte) {
	for seq := from; seq < to; seq++ {
		b = append(b, numbered(seq, size)...)
	}
	return b
}

// Each cursor at a lead gives its packets, one by one as far as sequence, time, position
// and lag are concerned, and then the ring's.
func TestLeadComesBeforeThePackets(t *testing.T) {
	const size, packets = 10_000, 60 // a segment has up to 25
	header, rest := []byte("how to decode what follows"), []byte("the end of a packet")
	lead := NewLead(77, header, rest)
	if n := lead.Size(); n != len(header)+len(rest)+2*entrySize {
		t.Errorf("the lead holds %d bytes", n)
	}
	r := New(Config{Cache: 10 << 20})
	numbers(r, packets, size)
	for seq := 2; seq <= packets; seq++ {
		x := nobody().joinAt(t, r, uint64(seq), lead)
		left := uint64((packets - seq) * size)
		for i, want := range [][]byte{header, rest} {
			ahead := len(rest)*(1-i) + len(want)
			at, known := x.Position()
			if !known || at != uint64(seq*size-ahead) {
				t.Fatalf("packet %d of the lead to %d: Position() is %d, %v", i, seq, at, known)
			}
			if n, b := x.Lag(r); n != uint64(packets-seq+2-i) || b != left+uint64(ahead) {
				t.Fatalf("packet %d of the lead to %d: the lag is %d packets and %d bytes", i, seq, n, b)
			}
			if came, ok := x.Arrived(); !ok || came != 77 || x.Seq() != uint64(seq-2+i) || !x.Detour() || x.Overrun() {
				t.Fatalf("packet %d of the lead to %d came at %d as packet %d", i, seq, came, x.Seq())
			}
			first := x.Take(3)
			if x.Back(1); !bytes.Equal(first, want[:3]) || !x.MidPacket() {
				t.Fatalf("packet %d of the lead to %d: took %q", i, seq, first)
			}
			if b := x.TakeRest(1 << 20); !bytes.Equal(b, want[2:]) || x.MidPacket() {
				t.Fatalf("packet %d of the lead to %d: took the rest %q", i, seq, b)
			}
		}
		if x.Seq() != uint64(seq) || x.More() != (seq < packets) || x.Detour() {
			t.Fatalf("after the lead to %d the cursor is at %d, and in a detour", seq, x.Seq())
		}
		if at, known := x.Position(); !known || at != uint64(seq*size) {
			t.Fatalf("after the lead to %d: Position() is %d, %v", seq, at, known)
		}
		if came, ok := x.Arrived(); ok != (seq < packets) || ok && came != uint32(seq)*10 {
			t.Fatalf("after the lead to %d the next packet came at %d", seq, came)
		}
		if got := x.rest(); !bytes.Equal(got, numberedFrom(seq, packets, size)) {
			t.Fatalf("after the lead to %d: got %d bytes, wrong ones", seq, len(got))
		}
	}
}

// One may join with a lead before the packet is there that comes after it.
func TestLeadToTheHead(t *testing.T) {
	for _, packets := range []int{1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 30, 31, 32, 33, 55} {
		r := New(Config{Lag: 1 << 20, Poison: true})
		numbers(r, packets, 10_000)
		x := nobody()
		r.cfg.Lowest = x.lowest
		x.joinAt(t, r, r.Head(), NewLead(0, []byte("lead")))
		if got := x.rest(); string(got) != "lead" || x.More() || x.MidPacket() {
			t.Fatalf("the lead is %q, wanted %q and nothing more", got, "lead")
		}
		if at, known := x.Position(); !known || at != uint64(packets)*10_000 {
			t.Fatalf("at the head after %d packets Position() is %d, %v", packets, at, known)
		}
		numbers(r, 30, 10_000)
		if got := x.rest(); !bytes.Equal(got, numberedFrom(packets, packets+30, 10_000)) {
			t.Fatalf("joined after %d packets: got %d bytes, not those that came after", packets, len(got))
		}
	}
}

// A lead is as many packets of the stream that the cursor does not get: there must be so
// many. Without packets it is none.
func TestLeadNeedsSequences(t *testing.T) {
	r := New(Config{Cache: 1 << 20})
	numbers(r, 3, 10)
	lead := NewLead(0, []byte("a"), nil, []byte("c"))
	pin := func(uint64) { t.Error("a sequence is pinned that nobody can have") }
	for _, seq := range []uint64{0, 2, 4, math.MaxUint64} {
		if _, ok := r.JoinAt(seq, lead, pin); ok {
			t.Errorf("a lead of 3 packets leads to packet %d of 3", seq)
		}
	}
	if x := nobody().joinAt(t, r, 3, lead); x.Seq() != 0 || string(x.rest()) != "ac" {
		t.Error("a lead of 3 packets does not lead to packet 3")
	}
	for _, none := range []*Lead{nil, NewLead(0)} {
		if x := nobody().joinAt(t, r, 1, none); !bytes.Equal(x.rest(), numberedFrom(1, 3, 10)) || x.Detour() {
			t.Error("a lead without packets is not like none")
		}
	}
}

// A cursor can be had at every packet from the cache's tail to the head, and nowhere else.
func TestAt(t *testing.T) {
	const packets = 300
	old := nobody()
	r := New(Config{Cache: 100 * (3000 + Overhead), Lag: 1 << 30, Lowest: old.lowest})
	numbers(r, 1, 3000)
	old.join(r) // so that all packets are kept
	numbers(r, packets-1, 3000)
	for seq := range packets + 2 {
		x := nobody()
		c, ok := r.At(uint64(seq), func(seq uint64) { x.low = seq })
		if want := seq >= packets-100 && seq <= packets; ok != want {
			t.Fatalf("At(%d) is %v, the cache has packets %d to %d", seq, ok, r.tail.Load(), packets)
		}
		if !ok {
			continue
		}
		if x.Cursor = c; x.Seq() != uint64(seq) || x.low != uint64(seq) || x.Detour() {
			t.Fatalf("At(%d) is at %d, pinned at %d", seq, x.Seq(), x.low)
		}
		if got := x.rest(); !bytes.Equal(got, numberedFrom(seq, packets, 3000)) {
			t.Fatalf("At(%d) gives %d bytes, wrong ones", seq, len(got))
		}
	}
}

// Whoever asks for a packet that leaves the cache between the look and the pin gets no
// cursor: the packet may be dropped at any moment.
func TestAtLooksAgainAfterThePin(t *testing.T) {
	for _, lead := range []*Lead{nil, NewLead(0, []byte("lead"))} {
		old := nobody()
		r := New(Config{Cache: 1000, Lag: 1 << 30, Lowest: old.lowest})
		put(r, numbered(0, 500))
		put(r, numbered(1, 100))
		old.join(r) // so that packet 0 could still be found
		if _, ok := r.JoinAt(1, lead, func(uint64) { overrunMore(r) }); ok {
			t.Error("a cursor at a packet that was below the tail when it was pinned")
		}
	}
}

// KeepFrom lets go of what joiners are not to get any more, and of nothing else.
func TestKeepFrom(t *testing.T) {
	const packets, size = 200, 5000
	for _, from := range []uint64{0, 1, 49, 50, 51, 52, 53, 150, 199, 200, 1000} {
		old := nobody()
		r := New(Config{Cache: 10 << 20, Lag: 1 << 20, Lowest: old.lowest})
		numbers(r, packets, size)
		old.join(r)
		want := min(from, packets)
		r.KeepFrom(from)
		r.KeepFrom(from / 2) // it never moves back
		if b, _ := r.Cached(); b != int64(packets-want)*(size+Overhead) {
			t.Errorf("KeepFrom(%d): the cache counts %d bytes", from, b)
		}
		if x := nobody().join(r); !bytes.Equal(x.rest(), numberedFrom(int(want), packets, size)) {
			t.Errorf("KeepFrom(%d): a joiner does not get the packets from there on", from)
		}
		if got := old.rest(); !bytes.Equal(got, numberedFrom(0, packets, size)) {
			t.Errorf("KeepFrom(%d): who wants the packets before does not get them", from)
		}
		numbers(r, 1, size)
		r.KeepFrom(want + 1) // the reader does not want the others any more
		if most := int64(packets-want)*(size+2*entrySize) + 2*slabSize; r.slabs > most {
			t.Errorf("KeepFrom(%d): %d bytes are held, wanted %d at most", from, r.slabs, most)
		}
		numbers(r, 100, size) // and the cache works on
		if b, _ := r.Cached(); b != int64(packets-want+100)*(size+Overhead) {
			t.Errorf("KeepFrom(%d): the cache counts %d bytes at last", from, b)
		}
	}
}

// A packet that is reserved, in a segment of its own, does not disturb KeepFrom.
func TestKeepFromWhileAPacketIsReserved(t *testing.T) {
	r := New(Config{Cache: 10 << 20})
	numbers(r, 10, 5000)
	copy(r.Reserve(1<<20), numbered(10, 1<<20))
	r.KeepFrom(10)
	if b, _ := r.Cached(); b != 0 || r.first.Load() != r.last.Load() {
		t.Errorf("the cache counts %d bytes, and there are more segments than the last one", b)
	}
	r.Commit(0)
	if x := nobody().join(r); !bytes.Equal(x.rest(), numbered(10, 1<<20)) {
		t.Error("the packet that was reserved is not what comes next")
	}
}

// A cursor in a lead is overrun when the packet has left the ring that it leads to. It
// gets the rest of the packet that it has begun, and what it keeps alive is accounted
// for, once for all who are in the same lead.
func TestOverrunInALead(t *testing.T) {
	one, two := nobody(), nobody()
	var pinned int64
	r := New(Config{Cache: 1 << 20, Lag: 1 << 20, Lowest: func() uint64 { return min(one.low, two.low) },
		Pin: func(delta int64) { pinned += delta }})
	numbers(r, 20, 1000)
	lead := NewLead(0, []byte("first"), []byte("second"))
	for i, x := range []*reader{one, two} {
		x.joinAt(t, r, uint64(5+i), lead)
		x.Take(2)
	}
	for r.first.Load().seq == 0 {
		if !one.Detour() || one.Overrun() {
			t.Fatal("overrun in a lead while the packet that comes after it is there")
		}
		numbers(r, 1, 3000)
	}
	for _, x := range []*reader{one, two} {
		if x.Overrun() {
			t.Error("overrun before anybody has looked for the packet that comes after the lead")
		}
		if !x.Detour() || !x.Overrun() {
			t.Error("not overrun in a lead, though the packet that comes after it is gone")
		}
		x.Detach(r)
		if got := x.TakeRest(100); string(got) != "rst" || x.More() || x.Detour() {
			t.Errorf("the rest of a lead's packet is %q", got)
		}
		if pinned != int64(lead.Size()) {
			t.Errorf("%d bytes are accounted for, wanted those of the lead, %d", pinned, lead.Size())
		}
	}
	one.Close(r)
	if two.Close(r); pinned != 0 {
		t.Errorf("%d bytes are accounted for at last", pinned)
	}
}

// A cursor that waits in a lead to a packet that begins a segment keeps nothing alive
// of the segment before.
func TestDetourLetsGoOfTheSegmentBefore(t *testing.T) {
	x := nobody()
	r := New(Config{Lag: 1 << 20, Lowest: x.lowest})
	numbers(r, 1, 300<<10) // a segment of its own
	before := r.last.Load()
	x.joinAt(t, r, 1, NewLead(0, []byte("lead")))
	numbers(r, 3, 300<<10)
	if r.first.Load() == before {
		t.Fatal("the segment before is still there: the test shows nothing")
	}
	if !x.Detour() || x.Overrun() {
		t.Error("overrun, though packet 1 is still there")
	}
	if x.seg.next.Load() == before {
		t.Error("a segment without anything for the cursor is kept alive")
	}
	if got := x.rest(); string(got[:4]) != "lead" || !bytes.Equal(got[4:], numberedFrom(1, 4, 300<<10)) {
		t.Error("after the lead come other packets")
	}
}
