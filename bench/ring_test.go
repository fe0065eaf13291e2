package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"ws-stream-server/ring"
)

const (
	ringAhead  = 1 << 20   // bytes that the writer may be ahead of the slowest reader
	ringLag    = 4 << 20   // bytes kept for readers that are behind: above ringAhead, so that none is lapped
	ringSlab   = 256 << 10 // bytes that follow each other in our ring, at most
	ringReport = 64 << 10  // bytes that a reader reads before it says so
)

// packetRing is a ring under test: one writer, many readers. Every packet begins
// with its sequence, eight bytes.
type packetRing interface {
	// publish puts a copy of the packet in. Called by the writer.
	publish(packet []byte)
	// join places a reader at the oldest packet that is kept for joiners, and returns
	// what it reads with: whole packets, one behind the other; nil if there is none
	// yet. The bytes are the ring's, and good until the reader raises at, its next
	// sequence, above them. Called while nothing is published.
	join(at *atomic.Uint64) (next func() []byte)
}

// ringConfig is what a ring is made for.
type ringConfig struct {
	size   int           // of every packet, in bytes
	cache  int           // bytes kept for joiners
	lowest func() uint64 // the lowest sequence that a reader wants
}

// packets is how many a baseline keeps.
func (c ringConfig) packets() int { return (c.cache + ringLag) / (c.size + ring.Overhead) }

// rings are the ring and its baselines, with the names in the legends.
var rings = []struct {
	name  string
	start func(ringConfig) packetRing
}{
	{"ours", startOursRing}, {"mutex", startMutexRing}, {"chan", startChanRing},
}

// BenchmarkRingPublish is the writer alone, without a cache and without readers. An
// operation is one packet copied in and published.
//
//	size=       bytes of a packet
//	ring=ours   ring.Ring: Reserve, copy, Commit
//	ring=mutex  a slice of packets under a sync.RWMutex; the newest takes the place
//	            of the oldest
//	ring=chan   a Go chan for each reader, here one that nobody reads: when it is
//	            full it loses its oldest packet
//	MB/s        bytes of packets published
//	packets/s   published
//
// The baselines keep 4 MiB, each packet in memory of its own; our ring, which knows
// that nobody reads, a slab or two of 256 KiB.
func BenchmarkRingPublish(b *testing.B) {
	for _, size := range []int{200, 1 << 10, 16 << 10} {
		for _, r := range rings {
			b.Run(fmt.Sprintf("size=%d/ring=%s", size, r.name), func(b *testing.B) {
				ringPublish(b, r.start, ringConfig{size: size})
			})
		}
	}
}

// BenchmarkRingEvict is the writer alone, with a cache that is full: for every
// packet that comes the oldest one goes. An operation is one packet copied in and
// published.
//
//	cache=      bytes that the cache holds
//	size=       bytes of a packet
//	ring=       as in BenchmarkRingPublish
//	MB/s        bytes of packets published
//	packets/s   published
func BenchmarkRingEvict(b *testing.B) {
	const cache, size = 16 << 20, 1 << 10
	for _, r := range rings {
		b.Run(fmt.Sprintf("cache=%d/size=%d/ring=%s", cache, size, r.name), func(b *testing.B) {
			ringPublish(b, r.start, ringConfig{size: size, cache: cache})
		})
	}
}

// ringPublish measures the writer of a ring that is full, and checks what it has then.
func ringPublish(b *testing.B, start func(ringConfig) packetRing, c ringConfig) {
	var at atomic.Uint64
	at.Store(math.MaxUint64) // nobody reads
	c.lowest = at.Load
	r := start(c)
	packet := bytes.Repeat([]byte{0xA5}, c.size)
	seq := uint64(0)
	publish := func() {
		binary.LittleEndian.PutUint64(packet, seq)
		r.publish(packet)
		seq++
	}
	before := 2 * c.packets()
	for range before {
		publish()
	}
	b.SetBytes(int64(c.size))
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
	perSecond(b, b.N, "packets/s")
	next := r.join(&at)
	publish()
	checkKept(b, next, packet, max(1, c.cache/(c.size+ring.Overhead)))
}

// checkKept reads what is kept: at least so many packets, none missing, the last
// one being packet.
func checkKept(b *testing.B, next func() []byte, packet []byte, kept int) {
	b.Helper()
	var last []byte
	n := 0
	for p := next(); p != nil; p = next() {
		for ; len(p) > 0; p = p[len(packet):] {
			if last != nil && binary.LittleEndian.Uint64(p) != binary.LittleEndian.Uint64(last)+1 {
				b.Fatalf("a packet is missing before %d", binary.LittleEndian.Uint64(p))
			}
			last = p[:len(packet)]
			n++
		}
	}
	if n < kept || !bytes.Equal(last, packet) {
		b.Fatalf("%d packets are kept, wanted %d, or the last one is wrong", n, kept)
	}
}

// BenchmarkRingRead is the writer and its readers at the same time. An operation is
// one packet published, and read by every reader; the benchmark ends when the last
// reader has read the last packet. To read is to copy, as a socket's write does. A
// reader with nothing to read sleeps until the writer wakes it, as a drainer does;
// the writer is at most 1 MiB ahead.
//
//	readers=   readers, each with its own goroutine
//	size=      bytes of a packet
//	ring=ours  ring.Ring: a reader takes all packets that follow each other at once
//	ring=mutex, ring=chan
//	           as in BenchmarkRingPublish: a reader takes packet by packet, under
//	           the read lock or from its own chan, which is never full
//	MB/s       bytes read, all readers together
//	packets/s  read, all readers together
//	lost       packets that a reader did not get, all readers together; must be 0
func BenchmarkRingRead(b *testing.B) {
	const size = 1 << 10
	for _, readers := range []int{1, 2, 4, 8} {
		for _, r := range rings {
			b.Run(fmt.Sprintf("readers=%d/size=%d/ring=%s", readers, size, r.name), func(b *testing.B) {
				run := &ringRun{size: size, packets: uint64(b.N), at: make([]place, readers)}
				run.ring = r.start(ringConfig{size: size, lowest: run.lowest})
				run.measure(b)
			})
		}
	}
}

// sleeper is a goroutine that sleeps when it finds nothing to do.
type sleeper struct {
	woken atomic.Bool   // there is a token, or its owner is about to look
	token chan struct{} // room for one
}

// wake is called after there is something to do. Any goroutine.
func (s *sleeper) wake() {
	if !s.woken.Load() && !s.woken.Swap(true) {
		s.token <- struct{}{}
	}
}

// sleep returns when it is worth to look again. Called by the owner.
func (s *sleeper) sleep() {
	<-s.token
	s.woken.Store(false)
}

// place is where a reader is, on cache lines of its own.
type place struct {
	seq atomic.Uint64 // next sequence; stored by the reader once in ringReport bytes
	sleeper
	_ cacheLinePad
}

// cacheLinePad keeps what stands before it away from what follows: 64 bytes, and
// the neighbour that the processor fetches along.
type cacheLinePad [128]byte

// ringRun is one run of BenchmarkRingRead.
type ringRun struct {
	// Static after construction.
	ring    packetRing
	size    int    // of a packet, in bytes
	packets uint64 // to be published

	// Atomic.
	at     []place      // of each reader
	writer sleeper      // woken when a place was raised
	over   atomic.Bool  // everything was published
	read   atomic.Int64 // bytes, added by a reader at its end
	lost   atomic.Int64 // packets, added by a reader at its end
}

// lowest returns the lowest sequence that a reader wants. Called by the writer.
func (x *ringRun) lowest() uint64 {
	low := uint64(math.MaxUint64)
	for i := range x.at {
		low = min(low, x.at[i].seq.Load())
	}
	return low
}

func (x *ringRun) measure(b *testing.B) {
	var reading sync.WaitGroup
	x.writer.token = make(chan struct{}, 1)
	for i := range x.at {
		at := &x.at[i]
		at.token = make(chan struct{}, 1)
		next := x.ring.join(&at.seq)
		socket := make([]byte, ringSlab)
		reading.Go(func() { x.receive(next, at, socket) })
	}
	all := int64(len(x.at)) * int64(x.size)
	b.SetBytes(all)
	b.ReportAllocs()
	b.ResetTimer()
	x.write()
	reading.Wait()
	b.StopTimer()
	perSecond(b, b.N*len(x.at), "packets/s")
	b.ReportMetric(float64(x.lost.Load()), "lost")
	if x.lost.Load() != 0 || x.read.Load() != int64(b.N)*all {
		b.Fatalf("%d bytes were read of %d, %d packets lost", x.read.Load(), int64(b.N)*all, x.lost.Load())
	}
}

// write publishes every packet, at most ringAhead bytes ahead of the slowest
// reader: when it is that far, it waits until half of them are read.
func (x *ringRun) write() {
	packet := bytes.Repeat([]byte{0xA5}, x.size)
	ahead := uint64(ringAhead / x.size)
	low := uint64(0)
	for seq := range x.packets {
		if seq-low >= ahead {
			for low = x.lowest(); seq-low > ahead/2; low = x.lowest() {
				x.writer.sleep()
			}
		}
		binary.LittleEndian.PutUint64(packet, seq)
		x.ring.publish(packet)
		x.wake()
	}
	x.over.Store(true)
	x.wake()
}

func (x *ringRun) wake() {
	for i := range x.at {
		x.at[i].wake()
	}
}

// receive is one reader, until there is no more to read. socket stands for the
// kernel's memory.
func (x *ringRun) receive(next func() []byte, at *place, socket []byte) {
	var seq uint64       // of the next packet
	var read, lost int64 // bytes, packets
	unsaid := 0          // bytes read since the place was raised
	for {
		over := x.over.Load() // before the last packets are read
		b := next()
		if b == nil && over {
			break
		}
		n := copy(socket, b)
		for p := socket[:n]; len(p) >= x.size; p = p[x.size:] {
			got := binary.LittleEndian.Uint64(p)
			if got != seq {
				lost += max(int64(got-seq), 1)
			}
			seq = got + 1
		}
		read += int64(n)
		if unsaid += n; unsaid >= ringReport || b == nil {
			at.seq.Store(max(seq, at.seq.Load())) // it is ahead after an overrun
			unsaid = 0
			x.writer.wake()
		}
		if b == nil {
			at.sleep()
		}
	}
	x.read.Add(read)
	x.lost.Add(lost + int64(x.packets-seq))
}
