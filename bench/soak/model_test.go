//go:build soak && linux

package soak

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// kept is how many of a channel's sessions the model remembers: more than any
// receiver outlives.
const kept = 200

// model knows what was published, and so what each receiver must have got.
type model struct {
	// Static after construction.
	block  *block
	rules  rules
	epoch  time.Time
	chans  []*channel
	nextID atomic.Uint32

	stopping atomic.Bool // the server shuts down

	mu       sync.Mutex
	sessions map[uint32]*session // guarded by mu
}

// rules is what follows from the server's settings.
type rules struct {
	cache, lag int64 // bytes
	exact      bool  // the lag is large enough that only the cache's size moves its tail
	short      bool  // of memory: any packet may leave at any time, and any publisher be ended
}

// now returns the nanoseconds since the round began.
func (m *model) now() int64 { return int64(time.Since(m.epoch)) }

// channel is a named live stream: its sessions, one after the other.
type channel struct {
	// Static after construction.
	number    uint32
	name, key string
	torrent   bool
	encoder   bool // receive-clear-cache comes here

	// Atomic: a STREAM-KILL for whoever publishes may be on its way. A publisher that begins when
	// this is false again is accepted by a later message on the same link: it is not meant.
	killed atomic.Bool

	mu       sync.Mutex
	sessions []*session // the last ones, in the order in which they were begun
	open     int        // publishers that were begun and whose end the server has not confirmed
	newest   *session   // the last one that was begun
	murky    int64      // until then (model.now) a publisher may be there that has left without a word
}

// session is one publishing session. What is counted of it are packets, and bytes if it
// is published over HTTP, for the server cuts those anywhere.
type session struct {
	// Static after construction.
	block   *block
	ch      *channel
	id      uint32
	profile profile
	begin   int64 // model.now before its handshake

	// Atomic.
	begun    atomic.Uint32 // packets of which a byte may have been sent
	known    atomic.Uint32 // packets that the server is known to have: answered or seen by a receiver
	over     atomic.Int64  // model.now when nothing more is sent, or the last is about to be; 0: not yet
	ended    atomic.Int64  // model.now when the server was known to have ended it; 0: not yet
	final    atomic.Int64  // packets that every receiver must have had when it ends; -1: not known yet
	most     atomic.Int64  // no more of them, by who saw its end and cannot see empty packets; -1: not known
	cutShort atomic.Bool   // the server may end it at any moment, or not begin it
	cacheOff atomic.Bool   // a receive-clear-cache has a packet of it
}

// beginSession is called before a publisher's handshake. alone says that the channel
// is free for certain.
func (m *model) beginSession(ch *channel, p profile) (s *session, alone bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	s = &session{block: m.block, ch: ch, id: m.nextID.Add(1), profile: p, begin: m.now()}
	s.final.Store(-1)
	s.most.Store(-1)
	s.cutShort.Store(m.rules.short)
	alone = ch.open == 0 && ch.murky < s.begin
	ch.open++
	ch.newest = s
	ch.sessions = append(ch.sessions, s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.id] = s
	if len(ch.sessions) > kept {
		delete(m.sessions, ch.sessions[0].id)
		ch.sessions = slices.Delete(ch.sessions, 0, 1)
	}
	return s, alone
}

// endSession is called when a publisher is done. confirmed says that the server is
// known to have ended it; else it may take a while to notice.
func (m *model) endSession(s *session, confirmed bool) {
	s.over.CompareAndSwap(0, m.now())
	s.ch.mu.Lock()
	defer s.ch.mu.Unlock()
	s.ch.open--
	if confirmed {
		s.ended.Store(m.now())
	} else {
		s.ch.murky = m.now() + int64(30*time.Second)
	}
}

// neverBegan is called when a publisher was not let in. refused says that the server
// has said so; else there may have been a session all the same. It reports whether no
// other publisher has begun since.
func (m *model) neverBegan(s *session, refused bool) (alone bool) {
	m.endSession(s, refused)
	ch := s.ch
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if refused {
		ch.sessions = slices.DeleteFunc(ch.sessions, func(o *session) bool { return o == s })
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sessions, s.id)
	}
	return ch.newest == s
}

// lookup returns a session by its number.
func (m *model) lookup(id uint32) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id]
}

// live calls f for every session that is not known to have ended.
func (m *model) live(f func(*session)) {
	for _, ch := range m.chans {
		ch.mu.Lock()
		for _, s := range ch.sessions {
			if s.ended.Load() == 0 {
				f(s)
			}
		}
		ch.mu.Unlock()
	}
}

// raise makes a number n if it is less.
func raise(a *atomic.Uint32, n uint32) {
	for {
		old := a.Load()
		if old >= n || a.CompareAndSwap(old, n) {
			return
		}
	}
}

// settle notes that the session has n packets for whoever sees its end, and checks it.
func (s *session) settle(n uint32) error {
	if s.final.CompareAndSwap(-1, int64(n)) {
		return s.settleWithin(n, n)
	}
	if f := s.final.Load(); f != int64(n) {
		return fmt.Errorf("session %d ends with %d packets, for others it ended with %d", s.id, n, f)
	}
	return nil
}

// settleWithin is settle for who knows that there were from low to high packets: over
// HTTP empty ones cannot be seen.
func (s *session) settleWithin(low, high uint32) error {
	if low < high {
		s.most.CompareAndSwap(-1, int64(high))
		raise(&s.known, low)
	}
	known, final, most := s.known.Load(), s.final.Load(), s.most.Load()
	switch {
	case high < known:
		return fmt.Errorf("session %d ends with %d packets, but %d are known to be there", s.id, high, known)
	case final >= 0 && (final < int64(low) || final > int64(high)):
		return fmt.Errorf("session %d ends with %d to %d packets, for others it ended with %d", s.id, low, high, final)
	case most >= 0 && most < int64(low):
		return fmt.Errorf("session %d ends with %d packets, for others with %d at most", s.id, low, most)
	}
	return nil
}

// blanks returns how many empty packets stand in a row, from packet seq on.
func (s *session) blanks(seq uint32) (n uint32) {
	for !s.profile.body && s.size(seq+n) == 0 {
		n++
	}
	return n
}

// tail returns where the cache begins when the head is at h.
func (s *session) tail(h uint32, cache int64) uint32 {
	for sum := int64(0); h > 0; h-- {
		if sum += int64(frameSize(s.size(h-1))) + overhead; sum > cache {
			return h
		}
	}
	return 0
}

// tails returns where the cache begins at the earliest and at the latest when the head
// is at h: how a body is cut into packets is not known.
func (s *session) tails(h uint32, cache int64) (low, high uint32) {
	if !s.profile.body {
		low = s.tail(h, cache)
		return low, low
	}
	// At the least: the packet that has no room is as large as can be, the others a byte.
	fit := (cache - int64(frameSize(mostRead)+overhead)) / int64(frameSize(1)+overhead)
	return h - uint32(min(int64(h), cache)), h - uint32(min(int64(h), max(fit, 0)))
}

// mayOverrun tells whether a receiver that waits for packet next may have been left
// behind. The ring keeps whole slabs, of which up to a half may be empty where large
// packets did not fit, and drops them to make room for one more.
func (s *session) mayOverrun(next uint32, r rules) bool {
	if r.short {
		return true
	}
	need := (r.cache+r.lag)/2 - mib/2 - int64(s.profile.rare)
	head := s.begun.Load()
	if s.profile.body { // each byte may be a packet
		return int64(head-min(head, next))*int64(frameSize(1)+8) > need
	}
	sum := int64(0)
	for ; next < head && sum <= need; next++ {
		sum += int64(frameSize(s.size(next))) + 8
	}
	return sum > need
}

// moment is what was known of a channel's sessions at a moment.
type moment struct {
	at    int64
	which []uint32 // sessions that are not known to have ended
	packs []uint32 // for each, packets: known to be there, or begun to be sent
	off   []uint32 // of them, those whose cache is off for certain
}

// moment notes the channel's state: how far its sessions are at the least, or at the
// most.
func (m *model) moment(ch *channel, most bool) (at moment) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	at.at = m.now()
	for _, s := range ch.sessions {
		if s.ended.Load() != 0 {
			continue
		}
		n := s.known.Load()
		if most {
			n = s.begun.Load()
		}
		at.which, at.packs = append(at.which, s.id), append(at.packs, n)
		if s.cacheOff.Load() {
			at.off = append(at.off, s.id)
		}
	}
	return at
}

func (at *moment) of(s *session) (packets uint32, found bool) {
	if i := slices.Index(at.which, s.id); i >= 0 {
		return at.packs[i], true
	}
	return 0, false
}
