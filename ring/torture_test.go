package ring

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What these tests catch was tried with mistakes planted in the ring, one at a time
// (two cores, amd64, Go 1.26; -race where it says so), and how soon:
//
//	count raised before the packet's entry is written   TestTorture, 0.1 s
//	head raised before that                             TestTorture (cleared cache), 0.3 s, -race
//	a segment dropped though Lowest still wants it      TestTorture, TestRingAgreesWithItsTwin, 0.01 s
//	Lowest asked before the tail is stored              TestTorture (small cache), 0.3 s, -race
//	a slab used again though a reader is overrun in it  TestTorture (little lag), TestRingAgreesWithItsTwin, 0.02 s
//	the same of a slab that two segments share          TestASharedSlabIsLeftAloneForWhoIsOverrunInIt, at once
//	Join does not look again after the pin              TestJoinLooksAgainAfterThePin, at once
//	an overrun is never noticed                         TestTorture (little lag), at its end
//	a cursor looks once at the count of its segment     TestReadersThatCrossSegmentsMissNothing, 4 s at most, -race
//	a joiner at the head looks into the slab            TestJoinersAtTheHeadLeaveTheSlabAlone, 3 s at most, -race
//	At and JoinAt pin what they have found              TestTorture, 0.1 s; TestAtLooksAgainAfterThePin, at once
//	they do not look again after the pin                TestAtLooksAgainAfterThePin, at once
//	the packets before a jump are not protected         TestTorture, 0.1 s; TestSkip, at once
//	a window shows a packet too many                    TestTorture, 0.1 s; TestSkip, at once
//	a detour ends a packet too late                     TestTorture, 0.1 s; TestLeadComesBeforeThePackets, at once
//	an overrun in a detour is never noticed             TestTorture (little lag), at its end; TestOverrunInALead, at once
//
// Not caught: the head raised before the count and after the entry, a window of
// nanoseconds between two stores.

// A packet of the torture describes itself: its sequence, its size, the checksum
// of the rest.
const tortureHead = 16

func describe(b []byte, seq uint64) {
	binary.LittleEndian.PutUint64(b, seq)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[tortureHead:]))
}

// stream checks that what a reader takes is whole packets, one behind the other.
type stream struct {
	next uint64 // sequence of the next packet, or of the one in part
	part []byte // what there is of it, copied

	// A detour: where it jumps, the first packet of the lead, and the first of the ring
	// after it.
	from, lead, to uint64
}

func (s *stream) check(b []byte) error {
	s.part = append(s.part, b...)
	p := s.part
	for len(p) >= tortureHead {
		seq, n := binary.LittleEndian.Uint64(p), int(binary.LittleEndian.Uint32(p[8:]))
		if want := s.due(); seq != want {
			return fmt.Errorf("packet %d where %d was due (a lead's are above %d)", seq, want, uint64(ofLead))
		}
		if n > len(p) {
			break
		}
		if crc32.ChecksumIEEE(p[tortureHead:n]) != binary.LittleEndian.Uint32(p[12:]) {
			return fmt.Errorf("packet %d has a wrong checksum", seq)
		}
		s.advance()
		p = p[n:]
	}
	s.part = append(s.part[:0], p...)
	return nil
}

// place is what a group of receivers is to the ring: the lowest sequence that is
// wanted, lowered by a join and raised by a pass, both under a lock that the
// writer never takes.
type place struct {
	mu  sync.Mutex
	low atomic.Uint64
}

// torture is one ring, its writer, and readers of every temper.
type torture struct {
	t        *testing.T
	ring     *Ring
	places   []*place
	overruns bool // are allowed
	clear    bool // the cache is cleared soon
	stop     atomic.Bool
	readers  sync.WaitGroup

	joins, overrun, finished atomic.Int64
	skips, leads, lost       atomic.Int64 // lost: overruns in a detour
	held                     atomic.Int64 // bytes, by the ring's account
	slabs, different, asked  int          // the writer's
}

func (x *torture) lowest() uint64 {
	low := uint64(math.MaxUint64)
	for _, p := range x.places {
		low = min(low, p.low.Load())
	}
	if x.asked++; x.asked%4 == 0 {
		time.Sleep(50 * time.Microsecond) // a join may come now
	}
	return low
}

// write publishes at full speed until the torture stops.
func (x *torture) write() {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[*byte]bool{}
	last := x.ring.last.Load()
	for seq := uint64(0); !x.stop.Load(); seq++ {
		for !x.overruns && x.ring.slabs > 4*slabSize && !x.stop.Load() {
			runtime.Gosched() // else nothing would be used again
			x.ring.dropUnwanted()
		}
		n := tortureHead + rnd.IntN(1500)
		switch rnd.IntN(1000) {
		case 0:
			n = tortureHead + rnd.IntN(400<<10)
		case 1, 2, 3, 4, 5:
			n = tortureHead
		}
		b := x.ring.Reserve(n)
		for i := tortureHead; i < n; i += 97 {
			b[i] = byte(seq) + byte(i)
		}
		describe(b, seq)
		x.ring.Commit(uint32(seq))
		if x.clear && seq == 200 {
			x.ring.ClearCache()
		}
		if s := x.ring.last.Load(); s != last {
			last = s
			if len(s.buf) < len(s.slab) {
				continue // the rest of a slab that was counted
			}
			x.slabs++
			if !x.overruns { // else they would all be kept alive here
				seen[&s.buf[0]] = true
			}
		}
	}
	x.different = len(seen)
	x.ring.End()
}

// read joins and reads in its manner until the stream has ended.
func (x *torture) read(p *place, rnd *rand.Rand, manner func(taken int) (pause time.Duration, leave bool)) {
	defer x.readers.Done()
	for !x.once(p, rnd, manner) {
		x.joins.Add(1)
	}
	x.finished.Add(1)
}

// once is one reader's life from join to overrun, leaving, or the end.
func (x *torture) once(p *place, rnd *rand.Rand, manner func(int) (time.Duration, bool)) (ended bool) {
	defer p.low.Store(math.MaxUint64)
	c, s := x.join(p, rnd)
	if c.Seq() != p.low.Load() {
		x.t.Errorf("a cursor at %d, pinned at %d", c.Seq(), p.low.Load())
		x.stop.Store(true)
		return true
	}
	for taken := 0; ; {
		over := x.ring.Ended()
		detour := c.Detour()
		if detour && x.overruns && rnd.IntN(8) == 0 {
			x.waitForLap(&c)
		}
		if c.Overrun() {
			if detour {
				x.lost.Add(1)
			}
			return x.overrunAt(&c, s)
		}
		if rnd.IntN(4) == 0 {
			x.skip(&c, s, rnd)
		}
		limit := 64 << 10
		if rnd.IntN(8) == 0 {
			limit = 1 + rnd.IntN(3000)
		}
		b := c.Take(limit)
		if b == nil {
			if over {
				return true
			}
			if rnd.IntN(4) == 0 {
				time.Sleep(50 * time.Microsecond)
			}
			runtime.Gosched()
			continue
		}
		taken += len(b)
		pause, leave := manner(taken)
		if pause > 0 {
			time.Sleep(pause) // the bytes are still looked at after this
		}
		if err := s.check(b); err != nil {
			x.t.Errorf("a reader that joined took wrong bytes after %d: %v", taken, err)
			x.stop.Store(true)
			return true
		}
		p.mu.Lock()
		p.low.Store(c.Seq())
		p.mu.Unlock()
		if leave {
			return x.stop.Load()
		}
	}
}

// overrunAt takes what an overrun reader may still take: the rest of its packet.
func (x *torture) overrunAt(c *Cursor, s *stream) (ended bool) {
	x.overrun.Add(1)
	if !x.overruns {
		x.t.Errorf("a reader at %d is overrun, though the lag is without limit", c.Seq())
		x.stop.Store(true)
		return true
	}
	c.Detach(x.ring)
	defer c.Close(x.ring)
	for b := c.TakeRest(1000); b != nil; b = c.TakeRest(1000) {
		if err := s.check(b); err != nil {
			x.t.Errorf("the rest of an overrun reader's packet: %v", err)
			x.stop.Store(true)
			return true
		}
		runtime.Gosched()
	}
	if len(s.part) > 0 {
		x.t.Errorf("an overrun reader has %d bytes of packet %d and gets no more", len(s.part), s.next)
	}
	return false
}

// enough says whether what a torture is for has happened.
func (x *torture) enough() bool {
	return x.joins.Load() >= 20 && x.skips.Load() >= 5 && x.leads.Load() >= 5 &&
		(!x.overruns || x.overrun.Load() > 0 && x.lost.Load() > 0)
}

// run has one writer and many readers work for a while.
func (x *torture) run(cfg Config, d time.Duration) {
	cfg.Lowest = x.lowest
	cfg.Poison = true
	cfg.Account = func(delta int64) { x.held.Add(delta) }
	cfg.Pin = cfg.Account
	x.ring = New(cfg)
	manners := []func(int) (time.Duration, bool){
		func(int) (time.Duration, bool) { return 0, false },                               // fast
		func(n int) (time.Duration, bool) { return time.Duration(n & 1 * 20_000), false }, // slower
		func(n int) (time.Duration, bool) { return 0, n > 100<<10 },                       // joins again and again
		func(int) (time.Duration, bool) { return 0, true },                                // joins all the time
		func(int) (time.Duration, bool) { return 0, true },
	}
	if x.overruns {
		manners = append(manners, func(int) (time.Duration, bool) { return 5 * time.Millisecond, false }) // stalls
	}
	for range len(manners) {
		p := &place{}
		p.low.Store(math.MaxUint64)
		x.places = append(x.places, p)
	}
	for i, p := range x.places {
		x.readers.Add(1)
		go x.read(p, rand.New(rand.NewPCG(uint64(i), 3)), manners[i%len(manners)])
	}
	timed := make(chan struct{})
	go func() {
		defer close(timed)
		time.Sleep(d)
		// On a loaded machine it may take longer until something has happened.
		for tries := 0; !x.enough() && !x.stop.Load() && tries < 4000; tries++ {
			time.Sleep(5 * time.Millisecond)
		}
		x.stop.Store(true)
	}()
	x.write()
	x.readers.Wait()
	<-timed
	x.ring.Release()
	if n := x.held.Load(); n != 0 {
		x.t.Errorf("%d bytes are left in the account", n)
	}
	x.t.Logf("%d packets in %d slabs (%d different), %d joins, %d with a lead, %d skips, %d overruns, %d in a detour",
		x.ring.Head(), x.slabs, x.different, x.joins.Load(), x.leads.Load(), x.skips.Load(), x.overrun.Load(), x.lost.Load())
}

// A writer at full speed and readers of every temper: nobody ever sees a byte that
// is not the next one of its stream, whatever is dropped and used again meanwhile.
func TestTorture(t *testing.T) {
	d := 300 * time.Millisecond
	if testing.Short() {
		d = 100 * time.Millisecond
	}
	for _, threads := range []int{1, 2, 8} {
		for _, c := range []struct {
			name     string
			cfg      Config
			overruns bool
			clear    bool
		}{
			{"no cache", Config{Cache: 0, Lag: 1 << 40}, false, false},
			{"small cache", Config{Cache: 100 << 10, Lag: 1 << 40}, false, false},
			{"cleared cache", Config{Cache: 300 << 10, Lag: 1 << 40}, false, true},
			{"little lag", Config{Cache: 500 << 10, Lag: 500 << 10}, true, false},
		} {
			t.Run(fmt.Sprintf("%s, GOMAXPROCS %d", c.name, threads), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
				x := &torture{t: t, overruns: c.overruns, clear: c.clear}
				x.run(c.cfg, d)
				if !x.enough() {
					t.Errorf("only %d joins, %d with a lead, %d skips, %d overruns, %d in a detour",
						x.joins.Load(), x.leads.Load(), x.skips.Load(), x.overrun.Load(), x.lost.Load())
				}
				if !c.overruns && x.slabs > 50 && x.different > x.slabs*3/4 {
					t.Errorf("%d of %d slabs were new ones: nothing was used again", x.different, x.slabs)
				}
			})
		}
	}
}

// A joiner at the head stands at the end of a segment that nobody wants. It must
// not look into the slab: the next packet may take it away and use it again. For
// the race detector.
func TestJoinersAtTheHeadLeaveTheSlabAlone(t *testing.T) {
	var low atomic.Uint64
	low.Store(math.MaxUint64)
	r := New(Config{Lag: 1 << 40, Lowest: low.Load})
	var stop atomic.Bool
	var joiners sync.WaitGroup
	joiners.Add(1)
	go func() {
		defer joiners.Done()
		for !stop.Load() {
			c := r.Join(func(seq uint64) { low.Store(seq) })
			if c.More() && c.Overrun() {
				t.Error("a joiner is overrun")
			}
			low.Store(math.MaxUint64)
		}
	}()
	for range 30_000 {
		r.Reserve(slabSize - entrySize) // a segment each
		r.Commit(0)
	}
	stop.Store(true)
	joiners.Wait()
}

// A reader at the head goes from segment to segment, one packet in each, while the
// writer is nowhere slower than that: the packet that came between its looks at the
// count and at the successor is not missed.
func TestReadersThatCrossSegmentsMissNothing(t *testing.T) {
	const packets, size = 10_000, slabSize - entrySize
	var low atomic.Uint64
	r := New(Config{Lag: 1 << 40, Lowest: low.Load})
	c := r.Join(low.Store)
	var failed atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for next := uint64(0); next < packets; {
			b := c.Take(2 * slabSize)
			if b == nil {
				runtime.Gosched()
				continue
			}
			if seq := binary.LittleEndian.Uint64(b); seq != next || len(b) != size {
				t.Errorf("packet %d of %d bytes where %d was due", seq, len(b), next)
				failed.Store(true)
				return
			}
			next++
			low.Store(next)
		}
	}()
	for seq := range uint64(packets) {
		for r.Head()-low.Load() > 1 && !failed.Load() {
			runtime.Gosched()
		}
		binary.LittleEndian.PutUint64(r.Reserve(size), seq)
		r.Commit(0)
	}
	<-done
}
