package ring

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"weak"
)

// put publishes one packet.
func put(r *Ring, p []byte) {
	copy(r.Reserve(len(p)), p)
	r.Commit(0)
}

// numbered is a packet of n bytes that nobody mistakes for another one or for
// poison.
func numbered(seq, n int) []byte {
	b := bytes.Repeat([]byte{byte(seq%100) + 1}, n)
	copy(b, fmt.Sprint(seq))
	return b
}

// reader is a receiver as the ring's user keeps it: a cursor and what it wants.
type reader struct {
	Cursor
	low uint64
}

// joined returns a reader, and its join.
func (r *reader) join(ring *Ring) *reader {
	r.Cursor = ring.Join(func(seq uint64) { r.low = seq })
	return r
}

func (r *reader) lowest() uint64 { return r.low }

// rest takes everything and lets go of it.
func (r *reader) rest() (b []byte) {
	for p := r.Take(64 << 10); p != nil; p = r.Take(64 << 10) {
		b = append(b, p...)
	}
	r.low = r.Seq()
	return b
}

func nobody() *reader { return &reader{low: math.MaxUint64} }

// A packet counts its bytes and 64; the oldest leave first, whole.
func TestCacheCountsBytesAndOverhead(t *testing.T) {
	for _, c := range []struct {
		cache  int64
		sizes  []int
		oldest int // where a joiner starts
	}{
		{cache: 0, sizes: []int{1, 1}, oldest: 2},
		{cache: 63, sizes: []int{0}, oldest: 1},
		{cache: 64, sizes: []int{0}, oldest: 0},
		{cache: 64, sizes: []int{0, 0}, oldest: 1},
		{cache: 164, sizes: []int{100}, oldest: 0},
		{cache: 163, sizes: []int{100}, oldest: 1},
		{cache: 328, sizes: []int{100, 100}, oldest: 0},
		{cache: 328, sizes: []int{100, 101}, oldest: 1},
		{cache: 328, sizes: []int{100, 100, 0}, oldest: 1},
		{cache: 1000, sizes: []int{10, 10, 1000}, oldest: 3}, // smaller than the newest packet
		{cache: 1000, sizes: []int{2000, 10}, oldest: 1},     // works again with what fits
		{cache: 300 << 10, sizes: []int{100 << 10, 100 << 10, 100 << 10, 100 << 10}, oldest: 2},
	} {
		r := New(Config{Cache: c.cache, Lag: 1 << 30})
		var want []byte
		for i, n := range c.sizes {
			p := numbered(i, n)
			put(r, p)
			if i >= c.oldest {
				want = append(want, p...)
			}
		}
		j := nobody().join(r)
		if int(j.Seq()) != c.oldest {
			t.Errorf("cache %d, packets of %v: a joiner starts at %d, wanted %d", c.cache, c.sizes, j.Seq(), c.oldest)
			continue
		}
		if got := j.rest(); !bytes.Equal(got, want) {
			t.Errorf("cache %d, packets of %v: a joiner got %d bytes, wanted %d", c.cache, c.sizes, len(got), len(want))
		}
	}
}

// Tiny packets cannot outgrow the limit: what the slabs hold stays below what the
// cache counts.
func TestTinyPacketsStayWithinTheCache(t *testing.T) {
	const cache = 1 << 20
	r := New(Config{Cache: cache, Lag: 1 << 30})
	for range 100_000 {
		put(r, []byte{0x82, 0})
	}
	if r.slabs > cache {
		t.Errorf("the slabs of empty messages hold %d bytes, the cache is %d", r.slabs, cache)
	}
	if n := int64(r.Head()) - int64(r.tail.Load()); n != cache/66 {
		t.Errorf("the cache has %d packets, wanted %d", n, cache/66)
	}
}

// The newest packet is there for the writer, whatever the ring has let go of.
func TestNewest(t *testing.T) {
	for _, cache := range []int64{0, 1 << 20} {
		r := New(Config{Cache: cache, Lag: 1, Poison: true})
		if p := r.Newest(); p != nil {
			t.Errorf("a new ring has the packet %q", p)
		}
		for i := range 500 {
			p := numbered(i, i*7)
			put(r, p)
			if got := r.Newest(); !bytes.Equal(got, p) {
				t.Fatalf("the newest packet is %q, wanted %q", got, p)
			}
		}
	}
}

func TestClearCache(t *testing.T) {
	x := nobody()
	r := New(Config{Cache: 1 << 20, Lag: 1 << 20, Lowest: x.lowest})
	put(r, numbered(0, 1000))
	put(r, numbered(1, 1000))
	x.join(r)
	r.ClearCache()
	if late := nobody().join(r); late.Seq() != 2 || late.More() {
		t.Errorf("a joiner after ClearCache starts at %d, wanted the head, 2", late.Seq())
	}
	put(r, numbered(2, 1000))
	if late := nobody().join(r); late.Seq() != 3 {
		t.Errorf("the cache is on again: a joiner starts at %d, wanted 3", late.Seq())
	}
	want := append(append(numbered(0, 1000), numbered(1, 1000)...), numbered(2, 1000)...)
	if got := x.rest(); !bytes.Equal(got, want) {
		t.Error("who joined before does not get every packet from the cache's first one on")
	}
	for i := range 1000 { // memory goes back once nobody wants it
		put(r, numbered(i, 1000))
		x.rest()
	}
	if r.slabs > 2*slabSize {
		t.Errorf("%d bytes are held without a cache and without a reader behind", r.slabs)
	}
}

// The slabs stay within cache and lag, but for the newest one, whatever is wanted.
func TestRetainedBound(t *testing.T) {
	x := nobody()
	cfg := Config{Cache: 1 << 20, Lag: 2 << 20, Lowest: x.lowest}
	r := New(cfg)
	put(r, numbered(0, 10))
	x.join(r) // and never takes anything
	most := int64(0)
	for i := range 20_000 {
		put(r, numbered(i, i%5000))
		most = max(most, r.slabs)
	}
	if !x.Overrun() {
		t.Error("who wants what is long gone is not told")
	}
	if most > cfg.Cache+cfg.Lag {
		t.Errorf("the slabs held %d bytes, allowed %d", most, cfg.Cache+cfg.Lag)
	}
	if most < cfg.Cache+cfg.Lag-2*slabSize {
		t.Errorf("the slabs held %d bytes at most, though %d are allowed and wanted", most, cfg.Cache+cfg.Lag)
	}
	put(r, numbered(1, 10<<20)) // never less than the newest packet
	if j := (&reader{}).join(r); j.Seq() != r.Head() {
		t.Errorf("a joiner starts at %d, wanted the head %d: the packet is larger than the cache", j.Seq(), r.Head())
	}
	if n := r.slabs - r.last.Load().size; n > cfg.Cache+cfg.Lag {
		t.Errorf("beside the newest packet %d bytes are held", n)
	}
}

// overrun publishes until x is overrun.
func overrun(t *testing.T, r *Ring, x *reader) {
	t.Helper()
	for i := 0; !x.Overrun(); i++ {
		put(r, numbered(i, 3000))
		if i > 10_000 {
			t.Fatal("the reader is never overrun")
		}
	}
}

// Who is overrun in the middle of a packet gets exactly the rest of that packet,
// and never other bytes.
func TestDetachGivesTheRestOfTheBegunPacket(t *testing.T) {
	for _, begun := range []int{0, 1, 64 << 10, 99_999} {
		x := nobody()
		r := New(Config{Lag: 1 << 20, Lowest: x.lowest, Poison: true})
		x.join(r)
		p := numbered(0, 100_000)
		put(r, p)
		put(r, numbered(1, 500))
		held := x.Take(begun)
		overrun(t, r, x)
		x.Detach(r)
		if got := x.MidPacket(); got != (begun > 0) {
			t.Errorf("%d bytes were taken: MidPacket is %v", begun, got)
		}
		var rest []byte
		for b := x.TakeRest(30_000); b != nil; b = x.TakeRest(30_000) {
			rest = append(rest, b...)
			overrunMore(r)
		}
		want := p[begun:]
		if begun == 0 {
			want = nil
		}
		if !bytes.Equal(rest, want) {
			t.Errorf("%d bytes were taken: the rest is %d bytes, wanted %d", begun, len(rest), len(want))
		}
		if !bytes.Equal(held, p[:begun]) {
			t.Error("a slice taken before the overrun has changed")
		}
		if x.More() || x.Take(1) != nil || x.Overrun() {
			t.Error("after Detach more than the rest can be taken")
		}
		if x.seg.next.Load() != nil {
			t.Error("a detached cursor keeps the ring's segments alive")
		}
	}
}

// A slab that two segments share is used again only if nobody can hold bytes of either:
// who was overrun in the first has them, though the second is dropped unread.
func TestASharedSlabIsLeftAloneForWhoIsOverrunInIt(t *testing.T) {
	x := nobody()
	r := New(Config{Lag: 1 << 30, Lowest: x.lowest, Poison: true})
	put(r, numbered(0, 300_000)) // from now on slabs are large
	x.join(r)
	put(r, numbered(1, 10_000))
	first := r.last.Load()
	held := x.Take(5000)
	put(r, numbered(2, 255_000)) // has no room in the slab
	put(r, numbered(3, 10_000))  // has, behind packet 1
	if s := r.last.Load(); s.size != first.size || &s.slab[0] != &first.buf[0] {
		t.Fatal("a packet that has room in the last slab but one got another one")
	}
	r.Shrink(0) // the first segment leaves under the reader
	if !x.Overrun() {
		t.Fatal("not overrun")
	}
	x.low = math.MaxUint64
	put(r, numbered(4, 255_000)) // and the second one, which nobody wants
	put(r, numbered(5, 10_000))
	if !bytes.Equal(held, numbered(1, 10_000)[:5000]) {
		t.Error("a slice taken before the overrun has changed")
	}
}

// A ring that is forsaken has nothing any more: who has read everything is at its end, who
// is in the middle of a packet gets the rest of that, and everybody else is overrun.
func TestForsake(t *testing.T) {
	for _, large := range []int{10, 300_000} {
		done, begun, behind := nobody(), nobody(), nobody()
		lowest := func() uint64 { return min(done.low, begun.low, behind.low) }
		account := int64(0)
		r := New(Config{Cache: 1 << 20, Lag: 1 << 20, Lowest: lowest, Poison: true, Account: func(n int64) { account += n }})
		last := numbered(1, large)
		put(r, numbered(0, 100))
		for _, x := range []*reader{done, begun, behind} {
			x.join(r)
		}
		put(r, last)
		done.rest()
		begun.Take(100 + len(last) - large)
		if begun.Seq() == 0 {
			begun.low = begun.Seq()
		}
		begun.Take(5)
		r.End()
		r.Forsake()
		if r.Size() != 0 || account != 0 || r.Head() != 2 || !r.Ended() {
			t.Errorf("%d bytes are held, counted as %d, the head is %d", r.Size(), account, r.Head())
		}
		if done.Overrun() || done.More() {
			t.Error("who has read everything is overrun")
		}
		if !behind.Overrun() || !begun.Overrun() {
			t.Error("who has not is not")
		}
		begun.Detach(r)
		if got := begun.TakeRest(math.MaxInt); !bytes.HasSuffix(last, got) || len(got) != large-5 {
			t.Errorf("the rest of a packet is %d bytes, wanted %d", len(got), large-5)
		}
		r.Forsake() // once more changes nothing
		if j := nobody().join(r); j.More() || r.Size() != 0 {
			t.Error("a joiner finds something")
		}
	}
}

// overrunMore fills the ring once more.
func overrunMore(r *Ring) {
	for i := range 400 {
		put(r, numbered(i, 3000))
	}
}

// What a ring may hold is packets, whatever their sizes: a large one that has no room
// in a slab leaves what is free of that to those that follow.
func TestPacketsOfAnySizesFillTheSlabs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	video := func(key, other int) func(i int) int {
		return func(i int) int {
			if i%25 == 0 {
				return key
			}
			return other
		}
	}
	for name, size := range map[string]func(i int) int{
		"key frames of 150 KB":       video(150_000, 8_000),
		"key frames of 200 KB":       video(200_000, 15_000),
		"key frames of 300 KB":       video(300_000, 12_000),
		"large and small by turns":   func(i int) int { return []int{500_000, 16_000}[i%2] },
		"small and large by turns":   func(i int) int { return []int{20_000, 250_000}[i%2] },
		"half a slab and a bit more": func(i int) int { return []int{140_000, 90_000}[i%2] },
		"any size up to a slab":      func(int) int { return 1 + rnd.IntN(slabSize) },
		"any size up to four":        func(int) int { return 1 + rnd.IntN(4*slabSize) },
	} {
		cfg := Config{Cache: 64 << 20, Lag: 16 << 20}
		r := New(cfg)
		var x *reader
		for i, sum := 0, int64(0); sum < 3*(cfg.Cache+cfg.Lag); i++ {
			put(r, make([]byte, size(i)))
			sum += int64(size(i))
			if i == 0 {
				x = nobody()
				r.cfg.Lowest = x.lowest
				x.join(r) // and never takes anything
			}
			if r.slabs > cfg.Cache+cfg.Lag {
				t.Fatalf("%s: %d bytes of slabs, allowed %d", name, r.slabs, cfg.Cache+cfg.Lag)
			}
		}
		kept := int64(r.Written() - r.first.Load().base)
		t.Logf("%s: %d %% of %d bytes are packets", name, kept*100/(cfg.Cache+cfg.Lag), cfg.Cache+cfg.Lag)
		if most := cfg.Cache + cfg.Lag - 2*slabSize; kept < most/100*93 {
			t.Errorf("%s: %d bytes of packets are kept, of %d", name, kept, most)
		}
	}
}

// slabsUsed publishes n packets and returns how many slabs were used, how many of
// them were different ones, and how many of the others came poisoned. after is
// called after each packet.
func slabsUsed(r *Ring, n int, p []byte, after func()) (used, different, poisoned int) {
	seen := map[*byte]bool{}
	last := r.last.Load()
	for range n {
		put(r, p)
		if s := r.last.Load(); s != last {
			last = s
			used++
			if seen[&s.buf[0]] && s.buf[len(s.buf)/2] == 0xDB {
				poisoned++
			}
			seen[&s.buf[0]] = true
		}
		after()
	}
	return used, len(seen), poisoned
}

// Slabs nobody wants are used again, for live readers and for a full cache, and
// what is used again is poisoned first.
func TestSlabsAreUsedAgain(t *testing.T) {
	for _, cache := range []int64{0, 4 << 20} {
		x := nobody()
		r := New(Config{Cache: cache, Lag: 16 << 20, Lowest: x.lowest, Poison: true})
		x.join(r)
		p := numbered(7, 1000)
		warm := 16_000
		slabsUsed(r, warm, p, func() { x.rest() })
		used, different, poisoned := slabsUsed(r, 40_000, p, func() {
			if b := x.Take(64 << 10); !bytes.Equal(b, p) {
				t.Fatalf("took %q", b[:10])
			}
			x.low = x.Seq()
		})
		if used < 100 {
			t.Fatalf("only %d slabs were used", used)
		}
		if limit := int(cache/slabSize) + 4; cache == 0 && different > 4 || different > limit+16 {
			t.Errorf("cache %d: %d of %d slabs were new ones", cache, different, used)
		}
		if poisoned != used-different {
			t.Errorf("cache %d: %d slabs were used again, %d of them poisoned", cache, used-different, poisoned)
		}
	}
}

// No allocation per packet in the steady state: one small one for a slab's worth.
func TestNoAllocationPerPacket(t *testing.T) {
	for _, cache := range []int64{0, 4 << 20} {
		x := nobody()
		r := New(Config{Cache: cache, Lag: 16 << 20, Lowest: x.lowest})
		x.join(r)
		one := func() {
			b := r.Reserve(1000)
			b[0] = 1
			r.Commit(1)
			for x.Take(64<<10) != nil {
				x.low = x.Seq()
			}
		}
		for range 20_000 {
			one()
		}
		if n := testing.AllocsPerRun(5000, one); n != 0 {
			t.Errorf("cache %d: %v allocations per packet", cache, n)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 20_000 {
			one()
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 20_000*1000/10 {
			t.Errorf("cache %d: 20 MB of packets allocated %d bytes: slabs are not used again", cache, n)
		}
	}
}

// Once Ended is true, Head is the last word.
func TestEnded(t *testing.T) {
	r := New(Config{Cache: 1 << 20})
	put(r, numbered(0, 10))
	if r.Ended() {
		t.Error("ended before End")
	}
	r.End()
	if !r.Ended() || r.Head() != 1 {
		t.Error("not ended after End, or a packet was lost")
	}
	if x := nobody().join(r); !bytes.Equal(x.rest(), numbered(0, 10)) {
		t.Error("the cache is gone with the end")
	}
}

func TestZeroCursorIsAtNoPlace(t *testing.T) {
	var c Cursor
	if c.Valid() {
		t.Error("the zero Cursor is valid")
	}
}

// A ring that was released keeps nothing alive, though somebody still knows it.
func TestReleaseLetsGoOfEverything(t *testing.T) {
	r := New(Config{Cache: 1 << 20})
	put(r, numbered(0, 100_000))
	put(r, numbered(1, 100_000))
	first, last := weak.Make(&r.first.Load().next.Load().buf[0]), weak.Make(&r.last.Load().buf[0])
	r.End()
	r.Release()
	runtime.GC()
	if first.Value() != nil || last.Value() != nil {
		t.Error("a slab is still there")
	}
	if r.Head() != 2 || r.Written() != 200_000 || r.Size() != 0 {
		t.Errorf("after Release: head %d, %d bytes written, %d held", r.Head(), r.Written(), r.Size())
	}
}
