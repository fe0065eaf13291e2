package ring

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// twin is the naive ring: every packet ever published, and arithmetic. It knows
// nothing of segments, so it says exactly what the cache is, what a reader must
// get, and what may be dropped.
type twin struct {
	written uint64 // bytes of all packets
	packets [][]byte
	cache   int64
	tail    int   // first packet of the cache
	counted int64 // what the packets from there on count
	off     bool
}

// commit appends a packet and evicts: whole packets, oldest first, each counting
// its bytes and Overhead.
func (w *twin) commit(p []byte) {
	w.packets = append(w.packets, bytes.Clone(p))
	w.written += uint64(len(p))
	limit := w.cache
	if w.off {
		limit = 0
	}
	w.counted += int64(len(p)) + Overhead
	for w.counted > limit {
		w.counted -= int64(len(w.packets[w.tail])) + Overhead
		w.tail++
	}
}

func (w *twin) joinPoint() int {
	if w.off {
		return len(w.packets)
	}
	return w.tail
}

// keepFrom has joiners start at seq or later.
func (w *twin) keepFrom(seq int) {
	for w.tail < min(seq, len(w.packets)) {
		w.counted -= int64(len(w.packets[w.tail])) + Overhead
		w.tail++
	}
}

// noise is what packets are cut from.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(b)
	return b
}()

// twinReader is a reader with its place by the twin's arithmetic. held is what it
// took last and still looks at: its owner must not let go of the ring below
// heldSeq before that.
type twinReader struct {
	cur      Cursor
	seq, off int
	held     []byte
	want     []byte
	low      uint64
	detached bool
	detour   twinDetour
}

// twinDetour is what a reader gets instead of the packets in between: up to packet from
// it reads on, from packet to on it gets the stream's again, and the lead's before.
type twinDetour struct {
	from, to int
	lead     twinLead
}

// twinLead is a lead, and what is in it.
type twinLead struct {
	*Lead
	packets [][]byte
	arrived uint32
}

// first is the sequence of the first packet after the jump.
func (d *twinDetour) first() int { return d.to - len(d.lead.packets) }

// packet returns the bytes that have to come at the reader's seq, and when they came.
func (r *twinReader) packet(w *twin, seq int) ([]byte, uint32) {
	if d := &r.detour; seq >= d.first() && seq < d.to {
		return d.lead.packets[seq-d.first()], d.lead.arrived
	}
	return w.packets[seq], arrival(seq)
}

// after returns the sequence that comes after seq for the reader.
func (r *twinReader) after(seq int) int {
	if seq++; seq == r.detour.from {
		return r.detour.first()
	}
	return seq
}

// jump returns how many sequences the reader has not jumped over yet.
func (r *twinReader) jump() int {
	if r.seq < r.detour.from {
		return r.detour.first() - r.detour.from
	}
	return 0
}

// seen is the sequence that the cursor is at, after the jump if that is still to come.
func (r *twinReader) seen() int { return int(r.cur.Seq() + r.cur.Jump()) }

// draws turns bytes into decisions; when they are used up it goes on with 200, which
// stands for nothing rare.
type draws struct{ b []byte }

func (d *draws) byte() int {
	if len(d.b) == 0 {
		return 200
	}
	n := d.b[0]
	d.b = d.b[1:]
	return int(n)
}

// size draws a packet's size: the usual ones, and all that may matter.
func (d *draws) size() int {
	switch n := d.byte(); {
	case n < 10:
		return 0
	case n < 20:
		return 2
	case n < 150:
		return n
	case n < 230:
		return n << 5
	case n < 250:
		return n<<8 + d.byte()
	default:
		return slabSize + n<<8 + d.byte()
	}
}

func (d *draws) limit() int {
	switch n := d.byte(); {
	case n < 64:
		return 1 + n
	case n < 128:
		return n << 6
	case n < 250:
		return 64 << 10
	default:
		return 4 << 20
	}
}

// twinTest is a ring and its twin that are told the same.
type twinTest struct {
	t       *testing.T
	d       *draws
	ring    *Ring
	twin    *twin
	readers []*twinReader
	ended   bool
	shrunk  bool
	lead    twinLead // the last one, of no packets at first
	account int64    // what the ring says it holds
	fill    int
}

func newTwinTest(t *testing.T, data []byte) *twinTest {
	x := &twinTest{t: t, d: &draws{data}}
	cfg := Config{
		Cache:  []int64{0, 50, 1000, 20_000, 300_000, 2 << 20}[x.d.byte()%6],
		Lag:    []int64{0, 10_000, 300_000, 2 << 20, 1 << 40}[x.d.byte()%5],
		Poison: true,
	}
	cfg.Lowest = func() uint64 {
		low := uint64(math.MaxUint64)
		for _, r := range x.readers {
			low = min(low, r.low)
		}
		return low
	}
	cfg.Account = func(delta int64) { x.account += delta }
	cfg.Pin = cfg.Account
	x.ring = New(cfg)
	x.twin = &twin{cache: cfg.Cache, off: cfg.Cache == 0}
	return x
}

func (x *twinTest) publish() {
	n := x.d.size()
	if x.d.byte() < 10 {
		x.ring.Reserve(n / 2) // never committed
	}
	b := x.ring.Reserve(n)
	if len(b) != n || cap(b) != n {
		x.t.Fatalf("Reserve(%d) returned %d bytes, capacity %d", n, len(b), cap(b))
	}
	x.fill = (x.fill + 7919) % 100_000
	copy(b, noise[x.fill:])
	arrived := arrival(len(x.twin.packets))
	head := x.ring.Head()
	if head != uint64(len(x.twin.packets)) {
		x.t.Fatalf("Head() is %d before the commit, wanted %d", head, len(x.twin.packets))
	}
	x.twin.commit(b)
	x.ring.Commit(arrived)
	if !x.bounded() && x.ring.cacheBytes != x.twin.counted {
		x.t.Fatalf("the cache counts %d, wanted %d", x.ring.cacheBytes, x.twin.counted)
	}
}

func (x *twinTest) join() {
	r := x.newReader()
	r.cur = x.ring.Join(func(seq uint64) { r.low = seq })
	if r.cur.Seq() != r.low {
		x.t.Fatalf("joined at %d, but pinned %d", r.cur.Seq(), r.low)
	}
	if !r.cur.Valid() || r.cur.MidPacket() {
		x.t.Fatal("a joiner's cursor is invalid, or in the middle of a packet")
	}
	r.seq = int(r.low)
	want := x.twin.joinPoint()
	if x.bounded() { // makeRoom may have taken more of the cache
		if r.seq < want || r.seq > len(x.twin.packets) {
			x.t.Fatalf("joined at %d, wanted %d to %d", r.seq, want, len(x.twin.packets))
		}
	} else if r.seq != want {
		x.t.Fatalf("joined at %d, wanted %d", r.seq, want)
	}
}

func (x *twinTest) newReader() *twinReader {
	r := &twinReader{low: math.MaxUint64}
	x.readers = append(x.readers, r)
	return r
}

// joinAt joins at any packet, with a lead or without.
func (x *twinTest) joinAt() {
	tail, head := int(x.ring.tail.Load()), len(x.twin.packets)
	seq := max(0, tail-2+x.d.byte()%(head-tail+4))
	r := x.newReader()
	lead := x.drawLead()
	var ok bool
	if lead.packets == nil {
		r.cur, ok = x.ring.At(uint64(seq), func(seq uint64) { r.low = seq })
	} else {
		r.cur, ok = x.ring.JoinAt(uint64(seq), lead.Lead, func(seq uint64) { r.low = seq })
	}
	if want := seq >= tail && seq <= head && len(lead.packets) <= seq; ok != want || ok != r.cur.Valid() {
		x.t.Fatalf("a cursor at %d of %d to %d with a lead of %d: %v", seq, tail, head, len(lead.packets), ok)
	}
	if !ok {
		x.forget()
		return
	}
	r.detour = twinDetour{to: seq, lead: lead}
	if r.seq = r.detour.first(); r.cur.Seq() != r.low || r.seq != int(r.low) || r.cur.MidPacket() {
		x.t.Fatalf("joined at %d, pinned %d, wanted %d", r.cur.Seq(), r.low, r.seq)
	}
	x.place(r)
}

// drawLead draws the last lead, a new one, or one without packets.
func (x *twinTest) drawLead() twinLead {
	switch n := x.d.byte(); {
	case n < 64:
		return twinLead{}
	case n < 200:
		l := twinLead{arrived: uint32(n)}
		for range n % 4 {
			x.fill = (x.fill + 7919) % 100_000
			l.packets = append(l.packets, noise[x.fill:x.fill+x.d.size()])
		}
		l.Lead = NewLead(l.arrived, l.packets...)
		x.lead = l
	}
	return x.lead
}

// skip has a reader jump, or asks for what cannot be.
func (x *twinTest) skip(r *twinReader) {
	head := len(x.twin.packets)
	from := r.seq + x.d.byte()%8
	to := from + x.d.byte()%(max(0, head-from)+2)
	lead := x.drawLead()
	possible := from <= to && to <= head && len(lead.packets) <= to-from && !(from == r.seq && r.off > 0) &&
		!r.cur.Detour() && !r.detached
	gone := possible && (uint64(to) < x.ring.first.Load().seq || from > r.seq && r.cur.Overrun())
	if ok := r.cur.Skip(x.ring, uint64(from), lead.Lead, uint64(to)); ok != (possible && !gone) {
		x.t.Fatalf("at packet %d byte %d of %d Skip(%d, lead of %d, %d) is %v: possible %v, gone %v",
			r.seq, r.off, head, from, len(lead.packets), to, ok, possible, gone)
	} else if ok {
		r.detour = twinDetour{from, to, lead}
		if r.seq == from {
			r.seq = r.detour.first()
		}
	}
	x.place(r)
}

// bounded reports whether the slabs' limit may have dropped something.
func (x *twinTest) bounded() bool { return x.shrunk || x.ring.cfg.Lag < 1<<40 }

// shrink has the ring hold less.
func (x *twinTest) shrink() {
	limit := int64(x.d.byte()) << 10
	before, first := x.ring.Size(), x.ring.first.Load()
	if x.ring.Shrink(limit) != (x.ring.first.Load() != first) {
		x.t.Fatal("Shrink does not say whether it has dropped anything")
	}
	x.shrunk = x.shrunk || x.ring.Size() != before
	if sum, newest := x.slabs(); x.ring.Size()-int64(len(x.ring.spare)) > max(limit, newest) {
		x.t.Fatalf("the ring holds %d bytes (%d in slabs, the newest of %d) after it shrank to %d", x.ring.Size(), sum, newest, limit)
	}
}

// leave closes the last reader's cursor.
func (x *twinTest) leave() {
	last := len(x.readers) - 1
	x.readers[last].cur.Close(x.ring)
	x.forget()
}

// forget takes the last reader away.
func (x *twinTest) forget() {
	x.readers = append(x.readers[:0:0], x.readers[:len(x.readers)-1]...)
}

// held adds up the slabs that the ring and detached readers hold, each once.
func (x *twinTest) held() int64 {
	sum, _ := x.slabs()
	seen := map[*atomic.Int32]bool{}
	for _, r := range x.readers {
		if s := r.cur.seg; r.detached && len(s.buf) > 0 && !seen[s.detached] {
			seen[s.detached] = true
			sum += s.size
		}
	}
	return sum + int64(len(x.ring.spare))
}

// verify looks at what a reader took last: it must still be what it was.
func (x *twinTest) verify(r *twinReader) {
	if !bytes.Equal(r.held, r.want) {
		x.t.Fatalf("bytes that were taken and not given back have changed (%d bytes before packet %d)", len(r.held), r.seq)
	}
}

// release gives back what was taken: the owner of the reader may raise Lowest now.
func (x *twinTest) release(r *twinReader) {
	x.verify(r)
	r.held, r.want = nil, nil
	r.low = r.cur.Seq()
}

// expect is the next n bytes of the stream by the twin's arithmetic, and moves
// the reader there.
func (x *twinTest) expect(r *twinReader, n int) []byte {
	var out []byte
	for {
		var p []byte
		if r.seq < len(x.twin.packets) {
			p, _ = r.packet(x.twin, r.seq)
		}
		if n == 0 && (r.off > 0 || r.seq+r.jump() >= r.seen() || len(p) > 0) {
			return out
		}
		m := min(n, len(p)-r.off)
		out = append(out, p[r.off:r.off+m]...)
		r.off += m
		n -= m
		if r.off == len(p) {
			r.seq, r.off = r.after(r.seq), 0
		}
	}
}

func (x *twinTest) take(r *twinReader, rest bool) {
	limit := x.d.limit()
	x.release(r)
	if in := r.seq < r.detour.to && !r.detached; r.cur.Detour() != in {
		x.t.Fatalf("Detour() is %v at packet %d byte %d", !in, r.seq, r.off)
	}
	overrun := r.cur.Overrun()
	if overrun && !r.detached {
		if !x.bounded() {
			x.t.Fatalf("a reader that wants packet %d was overrun without need", r.seq)
		}
		r.cur.Detach(x.ring)
		r.cur.Detach(x.ring) // again does nothing
		r.detached = true
	}
	begun := r.off > 0
	avail := r.seq < len(x.twin.packets) && (!r.detached || begun)
	if got := r.cur.More(); got != avail {
		x.t.Fatalf("More() is %v at packet %d byte %d of %d packets (detached %v)", got, r.seq, r.off, len(x.twin.packets), r.detached)
	}
	x.place(r)
	left, came := 0, uint32(0)
	if avail {
		var p []byte
		p, came = r.packet(x.twin, r.seq)
		left = len(p) - r.off
	}
	if at, ok := r.cur.Arrived(); ok != avail || at != came {
		x.t.Fatalf("Arrived() is %d, %v for packet %d", at, ok, r.seq)
	}
	var b []byte
	if rest || r.detached {
		b = r.cur.TakeRest(limit)
		if len(b) != min(limit, left) {
			x.t.Fatalf("TakeRest(%d) returned %d bytes of the %d left", limit, len(b), left)
		}
	} else {
		b = r.cur.Take(limit)
	}
	if (b != nil) != avail {
		x.t.Fatalf("took %v, though available is %v", b == nil, avail)
	}
	if len(b) > limit || len(b) != cap(b) {
		x.t.Fatalf("took %d bytes of at most %d, capacity %d", len(b), limit, cap(b))
	}
	r.held, r.want = b, x.expect(r, len(b))
	x.verify(r)
	if r.seen() != r.seq+r.jump() || avail && r.cur.MidPacket() != (r.off > 0) {
		x.t.Fatalf("the cursor is at packet %d (in it: %v), wanted %d byte %d", r.cur.Seq(), r.cur.MidPacket(), r.seq, r.off)
	}
	if avail && !rest && !r.detached {
		x.fullyUsed(r, limit, len(b), left)
	}
	x.place(r)
}

// arrival is when a packet comes, in milliseconds: they begin anew with the 33rd.
func arrival(seq int) uint32 { return uint32(seq*3) - 100 }

// place checks where a reader says that it is. One that joined at the head may not
// know as long as no packet has come.
func (x *twinTest) place(r *twinReader) {
	packets, after := 0, -r.off
	for i := r.seq; i < len(x.twin.packets); i = r.after(i) {
		p, _ := r.packet(x.twin, i)
		packets, after = packets+1, after+len(p)
	}
	before := x.twin.written - uint64(after) // of what it reads, if all the stream were that
	if at, known := r.cur.Position(); known && at != before || !known && packets > 0 {
		x.t.Fatalf("Position() is %d, %v at byte %d, %d packets before the head", at, known, before, packets)
	}
	if p, b := r.cur.Lag(x.ring); p != uint64(packets) || b != uint64(after) {
		x.t.Fatalf("the lag is %d packets and %d bytes, wanted %d and %d", p, b, packets, after)
	}
}

// fullyUsed checks that Take gave all that the limit and the segment allow.
func (x *twinTest) fullyUsed(r *twinReader, limit, got, left int) {
	if r.off > 0 && (got != limit || left <= limit) {
		x.t.Fatalf("Take(%d) cut a packet after %d bytes of %d", limit, got, left)
	}
	if r.off > 0 || r.cur.idx == r.cur.seg.count.Load() {
		return
	}
	if p, _ := r.packet(x.twin, r.seq); got+len(p) <= limit {
		x.t.Fatalf("Take(%d) returned %d bytes and left a packet of %d of the same segment", limit, got, len(p))
	}
}

// invariants are what doc.go promises at any moment.
func (x *twinTest) invariants() {
	if n := x.ring.Written(); n != x.twin.written {
		x.t.Fatalf("%d bytes were written, counted as %d", x.twin.written, n)
	}
	if got := x.ring.Head(); got != uint64(len(x.twin.packets)) {
		x.t.Fatalf("Head() is %d, wanted %d", got, len(x.twin.packets))
	}
	if x.ring.Ended() != x.ended || x.ring.CacheOff() != x.twin.off {
		x.t.Fatal("Ended or CacheOff is wrong")
	}
	tail := int(x.ring.tail.Load())
	if tail < x.twin.tail || !x.bounded() && tail != x.twin.tail {
		x.t.Fatalf("the cache's tail is %d, wanted %d", tail, x.twin.tail)
	}
	x.cached()
	sum, newest := x.slabs()
	if sum != x.ring.slabs {
		x.t.Fatalf("the slabs are %d bytes, counted as %d", sum, x.ring.slabs)
	}
	if sum-newest > x.ring.cfg.Cache+x.ring.cfg.Lag && x.ring.first.Load().next.Load() != x.ring.last.Load() {
		x.t.Fatalf("%d bytes of slabs beside the newest, allowed %d", sum-newest, x.ring.cfg.Cache+x.ring.cfg.Lag)
	}
	if held := x.held(); x.account != held {
		x.t.Fatalf("%d bytes are held, counted as %d", held, x.account)
	}
	for _, r := range x.readers {
		x.verify(r)
	}
}

// cached checks what the ring says of its cache.
func (x *twinTest) cached() {
	var bytes int64
	var span uint32
	for i := int(x.ring.tail.Load()); i < len(x.twin.packets) && !x.twin.off; i++ {
		bytes += int64(len(x.twin.packets[i])) + Overhead
		span = uint32(len(x.twin.packets)-1)*3 - uint32(x.ring.tail.Load())*3
	}
	if b, s := x.ring.Cached(); b != bytes || s != span {
		x.t.Fatalf("the cache has %d bytes of %d ms, wanted %d of %d", b, s, bytes, span)
	}
}

// slabs adds up what the ring holds.
func (x *twinTest) slabs() (sum, newest int64) {
	for s := x.ring.first.Load(); s != nil; s = s.next.Load() {
		newest = int64(len(s.slab))
		sum += newest
	}
	return sum, newest
}

// step does one drawn operation.
func (x *twinTest) step() {
	switch op := x.d.byte(); {
	case op < 90:
		if !x.ended {
			x.publish()
		}
	case op < 95:
		if len(x.readers) < 6 {
			x.join()
		}
	case op < 99:
		if len(x.readers) < 6 {
			x.joinAt()
		}
	case op < 100:
		seq := int(x.ring.tail.Load()) + x.d.byte()%8
		x.ring.KeepFrom(uint64(seq))
		x.twin.keepFrom(seq)
	case op < 104:
		x.ring.ClearCache()
		x.twin.off = true
	case op < 105:
		x.ring.End()
		x.ended = true
	case op < 110:
		if len(x.readers) > 0 {
			x.leave()
		}
	case op < 111:
		x.shrink()
	case op < 118:
		if n := len(x.readers); n > 0 {
			x.skip(x.readers[op%n])
		}
	case op < 130:
		if n := len(x.readers); n > 0 {
			x.release(x.readers[op%n])
		}
	default:
		if n := len(x.readers); n > 0 {
			x.take(x.readers[op%n], op >= 230)
		}
	}
	x.invariants()
}

func runTwin(t *testing.T, data []byte) {
	x := newTwinTest(t, data)
	for len(x.d.b) > 0 {
		x.step()
	}
	for _, r := range x.readers {
		for more := true; more; more = r.cur.More() && !r.detached {
			x.take(r, false)
		}
	}
	for len(x.readers) > 0 {
		x.leave()
	}
	x.ring.End()
	x.ring.Release()
	if x.ring.Shrink(0); x.account != 0 || x.ring.Size() != 0 || x.ring.Written() != x.twin.written || x.ring.Head() != uint64(len(x.twin.packets)) {
		x.t.Fatalf("%d bytes are left in the account, %d in the ring", x.account, x.ring.Size())
	}
}

// The ring and its twin agree after every drawn operation.
func TestRingAgreesWithItsTwin(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 60
	}
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 100+rnd.IntN(900))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		data[0], data[1] = byte(seed), byte(seed/6)
		runTwin(t, data)
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func FuzzRingAgreesWithItsTwin(f *testing.F) {
	f.Add([]byte{3, 1, 0, 20, 0, 94, 0, 200, 3, 140, 70})
	f.Add([]byte{0, 0, 0, 250, 1, 95, 0, 250, 2, 0, 250, 9, 140, 30, 240, 30})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return // the twin adds up everything again and again
		}
		runTwin(t, data)
	})
}
