package engine

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keepEvery is how often the keeper looks by itself whether caches may grow again.
	keepEvery = 500 * time.Millisecond

	// worthy is the smallest unfinished message for which a publisher is ended, in
	// bytes: less would free nothing to speak of.
	worthy = mib

	// smallLead is the largest lead, in bytes, that is made whatever memory there is: more
	// than the init segment and a picture that begins inside a packet take in most streams.
	smallLead = mib

	// keepAtMost is how long the keeper waits after a look before the next one: when
	// there is nothing left to give up, looking again at once would change nothing.
	keepAtMost = 10 * time.Millisecond
)

// budget bounds the memory that streams take, all together: what rings hold, packets
// that slow receivers have begun, messages that are being put together, and what nbio
// keeps for full sockets.
//
// The policy, when more than nine tenths of size are used: streams that have ended and
// are still being read keep their newest packets only; then caches are cut, the largest
// ones first, to one common size, of each its oldest packets first. Receivers that lose
// their next packet by that are slow receivers. If all of size is used even so, streams
// that have ended go altogether. If that is not enough, the publishers with the largest
// messages under way are ended, and new ones are refused until there is room. If messages
// and newest packets, which a ring cannot give up, take more than nine tenths by
// themselves, the publishers are ended that have most of them. Nobody is delayed: should
// all of size be used before the keeper has come round, a ring gives up its own oldest
// packets for its new ones.
type budget struct {
	// Static after construction.
	srv  *Server
	size int64         // bytes; math.MaxInt64: no limit
	kick chan struct{} // holds one token while there is something to free

	asked chan func() // called by the keeper, see Server.Alive

	// Atomic.
	used   atomic.Int64 // bytes, pinned ones too
	leads  atomic.Int64 // bytes of leads, in used as well
	pinned atomic.Int64 // bytes of packets that slow receivers have begun: theirs for 5 s at most, see pinsTooMuch
	most   atomic.Int64 // bytes that one ring may hold
	closed atomic.Bool  // new publishers are refused

	short bool // owned by the keeper: caches are cut, and the log has said so

	mu    sync.Mutex
	ended map[*Channel]struct{} // guarded by mu: their publisher has ended, and they are still read
}

func (b *budget) init(srv *Server, size int64) {
	b.srv, b.size = srv, size
	b.kick, b.asked = make(chan struct{}, 1), make(chan func())
	b.most.Store(math.MaxInt64)
	b.ended = map[*Channel]struct{}{}
}

// add counts bytes that were taken, or given back. Any goroutine; it never blocks.
func (b *budget) add(n int64) {
	if b.used.Add(n) > b.full() && n > 0 {
		select {
		case b.kick <- struct{}{}:
		default:
		}
	}
}

// pin counts bytes that a slow receiver needs a while longer, or not any more.
func (b *budget) pin(n int64) {
	b.pinned.Add(n)
	b.add(n)
}

// lead counts bytes of leads.
func (b *budget) lead(n int64) {
	b.leads.Add(n)
	b.add(n)
}

// mayLead reports whether there is room for a lead with these payloads. The keeper cannot
// free a lead that somebody is reading: large ones, copies of large packets, have a quarter
// of size together, and none is made when size is nearly used up. Small ones there may
// always be, so that large ones keep nobody out. Any goroutine.
func (b *budget) mayLead(payloads [][]byte) bool {
	n := int64(0)
	for _, p := range payloads {
		n += int64(len(p))
	}
	return n <= smallLead || b.leads.Load()+n <= b.size/4 && b.used.Load()+n <= b.full()
}

// pinsTooMuch reports whether the slabs of packets that slow receivers have begun take more
// than a quarter of size together: nobody can be made to give them back, and what can would
// be given up for them. Any goroutine.
func (b *budget) pinsTooMuch() bool { return b.pinned.Load() > b.size/4 }

// The keeper frees memory when more than full is used, down to target; below roomy
// caches may grow again. In bytes.
func (b *budget) full() int64   { return b.size / 10 * 9 }
func (b *budget) target() int64 { return b.size / 10 * 8 }
func (b *budget) roomy() int64  { return b.size / 10 * 7 }

// limit returns how much the slabs of a ring may have that have so much: see
// ring.Config. Called by the ring's writer.
func (b *budget) limit(slabs, configured int64) int64 {
	limit := min(configured, b.most.Load())
	if b.used.Load() >= b.size {
		limit = min(limit, slabs) // the oldest go for the newest
	}
	return limit
}

// hasEnded is told that a channel's publisher has ended. Called once a channel.
func (b *budget) hasEnded(ch *Channel) {
	b.mu.Lock()
	b.ended[ch] = struct{}{}
	b.mu.Unlock()
	b.releaseIfRead(ch)
}

// releaseIfRead gives back what a channel's ring holds, once its publisher has
// ended and its last receiver has left. Any goroutine; called after each of the two.
func (b *budget) releaseIfRead(ch *Channel) {
	if ch.receivers() > 0 {
		return
	}
	b.mu.Lock()
	_, ok := b.ended[ch]
	delete(b.ended, ch)
	b.mu.Unlock()
	if ok {
		s := ch.publisher
		s.in.mu.Lock() // excludes the keeper
		ch.ring.Release()
		s.in.mu.Unlock()
		ch.index.release(b)
	}
}

// keep is the keeper: the one goroutine that frees memory. It works until stop is
// closed.
func (b *budget) keep(stop <-chan struct{}) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-b.kick:
		case <-tick.C:
		case answer := <-b.asked:
			answer()
		case <-stop:
			return
		}
		b.look()
		pause.Reset(keepAtMost)
		select {
		case <-pause.C:
		case <-stop:
			return
		}
	}
}

// look frees memory if more is used than may be, or publishers are refused for it, and
// lets caches grow again when there is room. Called by the keeper.
func (b *budget) look() {
	switch used := b.used.Load(); {
	case used > b.full(), b.closed.Load() && used > b.target():
		b.free()
	case used < b.roomy() && b.short:
		b.most.Store(math.MaxInt64)
		b.short = false
		b.srv.log.Info("memory: there is room again, caches may grow", "used_mib", used/mib, "allowed_mib", b.size/mib)
	}
	if b.used.Load() <= b.target() {
		b.closed.Store(false) // what was published while caches were cut may have closed it
	}
}

// free frees memory, so much that there is not as much to do for the next packet.
// Called by the keeper.
func (b *budget) free() {
	before := b.used.Load()
	ended := b.endedChannels()
	for _, ch := range ended {
		if b.used.Load() <= b.target() {
			break
		}
		b.shrink(ch, 0)
	}
	if live := b.srv.registry.live(); b.used.Load() > b.target() {
		b.cut(live)
		if b.needed() >= b.size {
			for _, ch := range b.endedChannels() {
				b.forsake(ch)
			}
		}
		if b.needed() > b.full() {
			b.closed.Store(true)
			endPublishers(live, b.needed()-b.full(), worthy, (*Channel).unfinished)
		}
		if b.needed() >= b.size {
			endPublishers(live, held(live)-b.full(), 1, (*Channel).held) // what others hold is no reason
		}
	}
	if !b.short {
		b.short = true
		b.srv.log.Warn("memory: the limit is reached, caches are cut",
			"used_mib", before/mib, "allowed_mib", b.size/mib, "now_mib", b.used.Load()/mib)
	}
}

// endedChannels returns the channels that have ended and are still read, the one
// that ended first in front.
func (b *budget) endedChannels() []*Channel {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*Channel, 0, len(b.ended))
	for ch := range b.ended {
		list = append(list, ch)
	}
	slices.SortFunc(list, func(x, y *Channel) int { return int(x.over.Load() - y.over.Load()) })
	return list
}

// shrink has a channel's ring hold no more than so many bytes, beside its newest
// packets.
func (b *budget) shrink(ch *Channel, limit int64) {
	s := ch.publisher
	s.in.mu.Lock() // excludes the writer
	dropped, oldest := ch.ring.Shrink(limit), ch.ring.Oldest()
	s.in.mu.Unlock()
	if dropped {
		ch.index.shrink(b, oldest)
		ch.wakeNow() // who was overrun is to know
	}
}

// cut cuts the rings of channels that are live, so that no more than target is
// used if that is possible, and has them stay as small. Where the newest packet alone
// is larger than that, the others are cut further.
func (b *budget) cut(live []*Channel) {
	for again := true; again && b.used.Load() > b.target(); {
		sizes := make([]int64, len(live))
		room := b.target() - b.used.Load()
		for i, ch := range live {
			sizes[i] = ch.ring.Size()
			room += sizes[i]
		}
		most := fairCap(sizes, room)
		b.most.Store(most)
		again = false
		var rest []*Channel
		for i, ch := range live {
			if sizes[i] > most {
				b.shrink(ch, most)
			}
			if ch.ring.Size() > most {
				again = true // it cannot get smaller
				continue
			}
			rest = append(rest, ch)
		}
		live = rest
	}
}

// fairCap returns the largest size that all may have so that together they fit
// into room: who has less keeps what it has.
func fairCap(sizes []int64, room int64) int64 {
	sorted := slices.Sorted(slices.Values(sizes))
	room = max(room, 0)
	for i, n := range sorted {
		if share := room / int64(len(sorted)-i); n > share {
			return share
		}
		room -= n
	}
	return math.MaxInt64
}

// needed returns the bytes that are used, without those that slow receivers need for 5 s at
// most.
func (b *budget) needed() int64 { return b.used.Load() - b.pinned.Load() }

// endPublishers ends publishers until over bytes are freed, those with the most first and
// none with fewer than least.
func endPublishers(live []*Channel, over, least int64, bytes func(*Channel) int64) {
	size := make(map[*Channel]int64, len(live))
	for _, ch := range live {
		size[ch] = bytes(ch)
	}
	slices.SortFunc(live, func(x, y *Channel) int { return cmp.Compare(size[y], size[x]) })
	for _, ch := range live {
		if over <= 0 || size[ch] < least {
			return
		}
		ch.publisher.end(memoryShort)
		over -= size[ch]
	}
}

// unfinished returns how many bytes the publisher's message under way takes, held those and
// its ring's. Any goroutine; there is a ring.
func (ch *Channel) unfinished() int64 { return ch.publisher.in.size.Load() }
func (ch *Channel) held() int64       { return ch.unfinished() + ch.ring.Size() }

// held returns how many bytes publishers hold together.
func held(live []*Channel) (sum int64) {
	for _, ch := range live {
		sum += ch.held()
	}
	return sum
}

// forsake gives up all packets of a channel whose publisher has ended.
func (b *budget) forsake(ch *Channel) {
	s := ch.publisher
	s.in.mu.Lock() // excludes who releases the ring
	ch.ring.Forsake()
	oldest := ch.ring.Oldest()
	s.in.mu.Unlock()
	ch.index.shrink(b, oldest)
	ch.wakeNow()
}
