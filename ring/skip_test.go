package ring

import (
	"bytes"
	"math"
	"testing"
)

// skip is Skip that has to succeed.
func (r *reader) skip(t *testing.T, ring *Ring, from uint64, lead *Lead, to uint64) {
	t.Helper()
	at := r.Seq()
	if !r.Skip(ring, from, lead, to) {
		t.Fatalf("at packet %d of %d: no skip from %d to %d", at, ring.Head(), from, to)
	}
	if r.Seq() > from && from > at || r.Seq() < at {
		t.Fatalf("at packet %d: after Skip from %d to %d the cursor is at %d", at, from, to, r.Seq())
	}
}

// Who skips gets what it has begun, up to the packet from which it jumps, then the
// lead, then the ring from the packet to which it jumps: from the middle of packets,
// over any number of segments, with and without a lead. Position and lag are those of
// what it gets.
func TestSkip(t *testing.T) {
	const size, packets = 10_000, 80 // a segment has up to 25
	lead := NewLead(1, []byte("how to decode"), []byte("what follows"))
	const leadBytes = "how to decodewhat follows"
	x := nobody()
	r := New(Config{Lag: 1 << 30, Lowest: x.lowest, Poison: true})
	x.join(r)
	numbers(r, packets, size)
	all := numberedFrom(0, packets, size)
	for _, taken := range []int{0, 1, size, 25*size - 1, 25*size + 7} {
		for _, from := range []int{0, 1, 25, 26, 60, packets} {
			for _, to := range []int{from, from + 2, packets} {
				for _, l := range []*Lead{nil, lead} {
					at := (taken + size - 1) / size
					if from < at || to > packets || l != nil && to < from+2 {
						continue
					}
					y := *x // x stays where it is, and protects
					for n := taken; n > 0; {
						n -= len(y.TakeRest(n))
					}
					before, _ := y.Position()
					y.skip(t, r, uint64(from), l, uint64(to))
					want := bytes.Clone(all[taken : from*size])
					jump := to - from
					if l != nil {
						want = append(want, leadBytes...)
						jump -= 2
					}
					want = append(want, all[to*size:]...)
					y.reads(t, r, want, packets-jump)
					if after, _ := y.Position(); after-before > packets*size || after != packets*size {
						t.Fatalf("Position() is %d at the head after a jump, was %d", after, before)
					}
				}
			}
		}
	}
}

// reads takes everything in small pieces and compares. Seq, with the jump that is to
// come, is left packets below its last value at the beginning.
func (r *reader) reads(t *testing.T, ring *Ring, want []byte, packets int) {
	t.Helper()
	var got []byte
	begin, _ := r.Position()
	last := r.Seq()
	for {
		lag, left := r.Lag(ring)
		at, _ := r.Position()
		if left != uint64(len(want)-len(got)) || at-begin != uint64(len(got)) {
			t.Fatalf("%d of %d bytes were read: the lag is %d, Position() has moved by %d", len(got), len(want), left, at-begin)
		}
		if lag != ring.Head()-r.Seq()-r.Jump() || lag > uint64(packets) || r.Seq() < last {
			t.Fatalf("the lag is %d packets at %d of %d, %d to jump over", lag, r.Seq(), ring.Head(), r.Jump())
		}
		last = r.Seq()
		b := r.Take(7777)
		if b == nil {
			break
		}
		if r.Back(len(b) / 3); len(b) > 2 {
			b = b[:len(b)-len(b)/3]
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, wanted %d, or other ones", len(got), len(want))
	}
	if r.Seq() != ring.Head() || r.Jump() != 0 || r.Detour() {
		t.Fatalf("at %d after all of %d packets, %d to jump over", r.Seq(), ring.Head(), r.Jump())
	}
}

// A skip that cannot be changes nothing.
func TestSkipThatCannotBe(t *testing.T) {
	const size = 1000
	lead := NewLead(0, []byte("a"), []byte("b"))
	for _, c := range []struct {
		what     string
		taken    int
		from, to uint64
		lead     *Lead
	}{
		{"back", 2 * size, 1, 5, nil},
		{"over nothing, backwards", 0, 5, 4, nil},
		{"above the head", 0, 5, 11, nil},
		{"far above it", 0, 5, math.MaxUint64, nil},
		{"from above the head", 0, 11, 11, nil},
		{"a lead of more packets than there are between", 0, 5, 6, lead},
		{"in the middle of a packet, from that one", 1, 0, 5, lead},
	} {
		r := New(Config{Cache: 1 << 20})
		numbers(r, 10, size)
		x := nobody().join(r)
		for n := c.taken; n > 0; {
			n -= len(x.TakeRest(n))
		}
		if x.Skip(r, c.from, c.lead, c.to) {
			t.Errorf("%s: Skip from %d to %d at byte %d", c.what, c.from, c.to, c.taken)
		}
		if x.Jump() != 0 || x.Detour() || !bytes.Equal(x.rest(), numberedFrom(0, 10, size)[c.taken:]) {
			t.Errorf("%s: Skip is refused and has changed the cursor", c.what)
		}
	}
}

// Who is in a detour does not skip before it is over.
func TestSkipInADetour(t *testing.T) {
	r := New(Config{Cache: 1 << 20})
	numbers(r, 10, 1000)
	lead := NewLead(0, []byte("lead"))
	x := nobody().joinAt(t, r, 3, lead)
	if x.Skip(r, 3, nil, 5) {
		t.Error("a skip in a lead")
	}
	x.Take(1 << 20)
	x.skip(t, r, 4, nil, 5) // the detour is over with the last byte of the lead
	if x.Take(1); x.Skip(r, 4, nil, 6) {
		t.Error("a skip in a window")
	}
	want := append(numbered(3, 1000)[1:], numberedFrom(5, 10, 1000)...)
	if !bytes.Equal(x.rest(), want) {
		t.Error("after a skip that was refused other bytes are read")
	}
	if x.skip(t, r, 10, nil, 10); x.More() || x.Detour() {
		t.Error("a skip at the head from there to there does something")
	}
}

// What is before the jump is protected until it is read, and what is jumped over not any
// more than until then.
func TestSkipProtectsWhatIsRead(t *testing.T) {
	const size, packets = 10_000, 1000
	x := nobody()
	r := New(Config{Lag: 1 << 30, Lowest: x.lowest, Poison: true})
	x.join(r)
	numbers(r, packets, size)
	x.Take(5 * size / 2)
	x.low = x.Seq()
	x.skip(t, r, 70, NewLead(0, []byte("lead")), packets-10)
	for x.Seq() < 70 {
		seq, off := int(x.Seq()), 0
		if x.MidPacket() {
			off = size / 2
		}
		b := x.TakeRest(size)
		numbers(r, 1, size) // drops what nobody wants
		if x.Overrun(); !bytes.Equal(b, numbered(seq, size)[off:]) {
			t.Fatalf("packet %d before the jump is not what it was", seq)
		}
		x.low = x.Seq()
	}
	if got := r.Size(); got < (packets-100)*size {
		t.Fatalf("only %d bytes are held before the jump: the test shows nothing", got)
	}
	if b := x.Take(100); string(b) != "lead" {
		t.Fatalf("the lead is %q", b)
	}
	x.low = x.Seq()
	if numbers(r, 1, size); r.Size() > 6*slabSize {
		t.Errorf("%d bytes are held for who has jumped over them", r.Size())
	}
	if !bytes.Equal(x.rest(), numberedFrom(packets-10, int(r.Head()), size)) {
		t.Error("after the jump come other packets")
	}
}

// Who is overrun before the jump gets the rest of the packet that it has begun, like
// everybody, and the bytes that it keeps alive are accounted for once.
func TestOverrunBeforeTheJump(t *testing.T) {
	for _, begun := range []int{0, 1, 999} {
		var pinned int64
		x, plain := nobody(), nobody()
		r := New(Config{Lag: 1 << 20, Poison: true, Lowest: func() uint64 { return min(x.low, plain.low) },
			Pin: func(delta int64) { pinned += delta }})
		x.join(r)
		plain.join(r)
		numbers(r, 600, 1000)
		x.rest()
		plain.rest()
		numbers(r, 600, 1000)
		at := int(x.Seq())
		x.TakeRest(begun)
		plain.TakeRest(1)
		x.skip(t, r, x.Seq()+500, NewLead(0, []byte("lead")), r.Head()-3)
		for !plain.Overrun() {
			if !x.Detour() || x.Overrun() {
				t.Fatal("overrun in a window, though the segment is there that it shows")
			}
			numbers(r, 1, 1000)
		}
		slab := x.seg.size
		if !x.Detour() || !x.Overrun() {
			t.Error("not overrun before the jump, though the next packet is gone")
		}
		if n, _ := x.Lag(r); n != r.Head()-x.Seq()-x.Jump() {
			t.Errorf("the lag is %d packets", n)
		}
		lagPackets, lagBytes := x.Lag(r)
		x.Detach(r)
		plain.Detach(r)
		if n, b := x.Lag(r); n != lagPackets || b != lagBytes {
			t.Errorf("the lag was %d packets and %d bytes, and is %d and %d after Detach", lagPackets, lagBytes, n, b)
		}
		if pinned != slab {
			t.Errorf("%d bytes are accounted for, wanted those of one slab, %d", pinned, slab)
		}
		want := numbered(at, 1000)[begun:]
		if begun == 0 {
			want = nil
		}
		if got := x.TakeRest(2000); !bytes.Equal(got, want) || x.More() || x.Detour() {
			t.Errorf("%d bytes were taken: the rest is %d bytes", begun, len(got))
		}
		if at := x.Seq(); x.Skip(r, at, nil, r.Head()) || x.Skip(r, at+1, nil, r.Head()) || x.Skip(r, at, nil, at) {
			t.Error("a cursor that is detached skips")
		}
		x.Close(r)
		plain.Close(r)
		if pinned != 0 {
			t.Errorf("%d bytes are accounted for at last", pinned)
		}
	}
}

// Who is overrun between two packets may still jump to one that is there; in the middle
// of one it needs what is gone. Nobody jumps to what is gone.
func TestSkipOfWhoIsOverrun(t *testing.T) {
	x := nobody()
	r := New(Config{Lag: 1 << 20, Poison: true, Lowest: x.lowest})
	x.join(r)
	overrun(t, r, x)
	mid := *x
	mid.Take(1)
	head := r.Head()
	if mid.Skip(r, mid.Seq()+1, nil, head) || x.Skip(r, 1, nil, head) {
		t.Error("a skip of who needs a packet that is gone")
	}
	if x.Skip(r, 0, nil, 1) || x.Skip(r, 0, nil, 0) {
		t.Error("a skip to a packet that is gone")
	}
	put(r, numbered(1, 1000))
	if x.skip(t, r, 0, NewLead(0, []byte("lead")), head); x.Overrun() {
		t.Error("overrun after the jump")
	}
	if got := x.rest(); string(got[:4]) != "lead" || !bytes.Equal(got[4:], numbered(1, 1000)) {
		t.Error("after the jump come other bytes")
	}
}
