package bench

import (
	"bytes"
	"sync"
	"sync/atomic"

	"ws-stream-server/ring"
)

// oursRing is the server's.
type oursRing struct{ *ring.Ring }

func startOursRing(c ringConfig) packetRing {
	return oursRing{ring.New(ring.Config{Cache: int64(c.cache), Lag: ringLag, Lowest: c.lowest})}
}

func (r oursRing) publish(packet []byte) {
	copy(r.Reserve(len(packet)), packet)
	r.Commit(0)
}

func (r oursRing) join(at *atomic.Uint64) func() []byte {
	cur := r.Join(at.Store)
	return func() []byte {
		if cur.Overrun() {
			cur = r.Join(at.Store) // what was between is counted as lost
		}
		return cur.Take(ringSlab)
	}
}

// mutexRing is a ring of packets under a lock.
type mutexRing struct {
	mu    sync.RWMutex
	slots [][]byte // guarded by mu; the packets in it do not change

	// Atomic: the next sequence. Stored with mu held, loaded without it by readers,
	// so that one with nothing to read leaves the lock alone.
	head atomic.Uint64
}

func startMutexRing(c ringConfig) packetRing {
	return &mutexRing{slots: make([][]byte, c.packets())}
}

func (r *mutexRing) publish(packet []byte) {
	p := bytes.Clone(packet) // readers keep it
	r.mu.Lock()
	seq := r.head.Load()
	r.slots[seq%uint64(len(r.slots))] = p
	r.head.Store(seq + 1)
	r.mu.Unlock()
}

func (r *mutexRing) join(*atomic.Uint64) func() []byte {
	var seq uint64
	n := uint64(len(r.slots))
	return func() []byte {
		if seq == r.head.Load() {
			return nil
		}
		r.mu.RLock()
		head := r.head.Load()
		seq = max(seq, head-min(head, n)) // what was between is counted as lost
		p := r.slots[seq%n]
		r.mu.RUnlock()
		seq++
		return p
	}
}

// chanRing is a chan for each reader. The first one is there before its reader.
type chanRing struct {
	slots   int
	readers []chan []byte // the packets in it are shared, and do not change
	joined  int
}

func startChanRing(c ringConfig) packetRing {
	return &chanRing{slots: c.packets(), readers: []chan []byte{make(chan []byte, c.packets())}}
}

func (r *chanRing) publish(packet []byte) {
	p := bytes.Clone(packet) // readers keep it
	for _, q := range r.readers {
		if len(q) == cap(q) { // the oldest goes, unless the reader was faster
			select {
			case <-q:
			default:
			}
		}
		q <- p
	}
}

func (r *chanRing) join(*atomic.Uint64) func() []byte {
	if r.joined++; r.joined > len(r.readers) {
		r.readers = append(r.readers, make(chan []byte, r.slots))
	}
	q := r.readers[r.joined-1]
	return func() []byte {
		select {
		case p := <-q:
			return p
		default:
			return nil
		}
	}
}
