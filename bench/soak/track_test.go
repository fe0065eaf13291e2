//go:build soak && linux

package soak

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// track is what one receiver has got, compared with what it must get.
type track struct {
	// Static after construction.
	m        *model
	ch       *channel
	probe    bool
	clears   bool // receive-clear-cache
	wrongKey bool
	t0       moment // before the handshake, the least
	t1       moment // when the 101 was read, the most

	session *session // nil: nothing has come that tells which one
	joined  uint32   // the first packet that had a head, or the first byte
	next    uint32   // sequence that comes next
	blank   uint32   // empty packets before the session was known
	packets int

	overHTTP bool   // static: the payloads come one behind the other, and empty packets cannot be seen
	unplaced []byte // of a stream of bytes, before the session was known
	want     []byte // what is compared
}

// packet reads a packet of so many bytes from the peer.
func (t *track) packet(p *peer, size int) error {
	t.packets++
	switch {
	case t.wrongKey:
		return wrongf("a packet for the wrong key")
	case t.probe && t.packets > 1:
		return wrongf("packet %d for a probe", t.packets)
	case t.session == nil && size == 0 && len(t.unplaced) == 0:
		t.blank++
		return nil
	case t.session == nil:
		return t.first(p, size)
	case t.session.profile.body && (size == 0 || size > mostRead):
		return wrongf("a packet of %d bytes of session %d, which is published over HTTP", size, t.session.id)
	case t.session.profile.body:
		return t.restBytes(p, size)
	}
	if want := t.session.size(t.next); size != want {
		return wrongf("%d bytes where packet %d of session %d has %d%s", size, t.next, t.session.id, want, peekHead(p, size))
	}
	return t.rest(p, size)
}

// first reads the packet that tells where the receiver has joined.
func (t *track) first(p *peer, size int) error {
	if size < headSize || len(t.unplaced) > 0 {
		return t.firstBytes(p, size)
	}
	b, err := p.br.Peek(headSize)
	if err != nil {
		return p.inside(err)
	}
	if !t.hasHead(b) {
		return t.firstBytes(p, size)
	}
	return t.firstPacket(p, readHead(b), size)
}

// firstPacket is first for a packet that was published over WebSocket.
func (t *track) firstPacket(p *peer, h head, size int) error {
	s := t.m.lookup(h.session)
	switch {
	case s == nil:
		return wrongf("%v: no such session", h)
	case s.ch != t.ch || h.channel != t.ch.number:
		return wrongf("%v: the receiver is on channel %d", h, t.ch.number)
	case int(h.size) != size || s.size(h.seq) != size:
		return wrongf("%v: it has %d, and should have %d", h, size, s.size(h.seq))
	case h.seq < t.blank:
		return wrongf("%v: %d packets stood before it", h, t.blank)
	}
	for seq := h.seq - t.blank; seq < h.seq; seq++ {
		if s.size(seq) != 0 {
			return wrongf("packet %d of session %d came empty", seq, s.id)
		}
	}
	t.session, t.joined, t.next = s, h.seq, h.seq
	from := h.seq - t.blank
	for t.overHTTP && from > 0 && s.size(from-1) == 0 {
		from-- // it may have been one of these
	}
	if err := t.joinPoint(from, h.seq-t.blank); err != nil {
		return err
	}
	return t.rest(p, size)
}

// rest reads the packet that must come next, and compares each byte.
func (t *track) rest(p *peer, size int) error {
	s, seq := t.session, t.next
	if seq >= s.begun.Load() {
		return wrongf("packet %d of session %d is not published yet", seq, s.id)
	}
	if size > 0 {
		b, err := p.br.Peek(headSize)
		if err != nil {
			return p.inside(err)
		}
		if h, want := readHead(b), (head{s.ch.number, s.id, seq, uint32(size)}); h != want {
			return wrongf("%v where %v should be", h, want)
		}
		_, _ = p.br.Discard(headSize)
		at, other, err := p.compare(s.cut(seq, size-headSize))
		switch {
		case err != nil:
			return err
		case other != nil:
			return wrongf("packet %d of session %d, %d bytes, has others from byte %d on: %x", seq, s.id, size, headSize+at, other)
		}
	}
	t.next = seq + 1
	return t.came()
}

// came notes that all before next has come.
func (t *track) came() error {
	s := t.session
	if t.clears {
		s.cacheOff.Store(true)
	}
	raise(&s.known, t.next)
	if f := s.final.Load(); f >= 0 && int64(t.next) > f {
		return wrongf("packet %d of session %d, which others saw end with %d", t.next-1, s.id, f)
	}
	return nil
}

// peekHead says for a failure what came instead, as far as it is here.
func peekHead(p *peer, size int) string {
	if size < headSize || p.br.Buffered() < headSize {
		return ""
	}
	b, _ := p.br.Peek(headSize)
	return fmt.Sprintf("; its first bytes would be %v", readHead(b))
}

// joinPoint checks that a receiver may begin with packet from of its session, or one
// behind it, to packet to at the latest: at the beginning if it was there before the
// publisher, else where the cache begins.
func (t *track) joinPoint(from, to uint32) error {
	s := t.session
	if end := s.ended.Load(); end != 0 && end < t.t0.at {
		return wrongf("joined session %d, which had ended %v before", s.id, time.Duration(t.t0.at-end))
	}
	if s.begin > t.t1.at {
		if from != 0 {
			return wrongf("waited for session %d and was given packet %d first", s.id, from)
		}
		return t.missed()
	}
	low, _ := t.t0.of(s)
	high, found := t.t1.of(s)
	if !found {
		high = s.begun.Load()
	}
	cache := t.m.rules.cache
	if slices.Contains(t.t0.off, s.id) {
		cache = 0
	}
	if low, _ = s.tails(low, cache); to < low {
		return wrongf("joined session %d at packet %d, but the cache cannot begin before %d", s.id, to, low)
	}
	if !t.ch.encoder && t.m.rules.exact {
		_, high = s.tails(high, t.m.rules.cache)
	}
	if from > high {
		return wrongf("joined session %d at packet %d, but the cache begins at %d at the latest", s.id, from, high)
	}
	return nil
}

// missed checks that no session came and went while the receiver waited.
func (t *track) missed() error {
	t.ch.mu.Lock()
	defer t.ch.mu.Unlock()
	for _, o := range t.ch.sessions {
		if end := o.ended.Load(); end != 0 && end < t.session.begin && o.begin > t.t1.at && o.known.Load() > 0 {
			return wrongf("waited from %v and was given session %d, but session %d was there before",
				time.Duration(t.t1.at), t.session.id, o.id)
		}
	}
	return nil
}

// streamEnded checks that a stream may have ended for a receiver with what it has.
func (t *track) streamEnded() error {
	if t.wrongKey {
		return wrongf("the end of a stream for the wrong key")
	}
	s := t.session
	switch {
	case s == nil && len(t.unplaced) > 0:
		return t.endedUnplaced()
	case s == nil:
		return t.endedWithNothing()
	}
	if s.over.Load() == 0 && !s.cutShort.Load() && !t.m.stopping.Load() {
		return wrongf("session %d ended for the receiver, but its publisher goes on", s.id)
	}
	if t.overHTTP {
		if n := s.blanks(t.next); n > 0 {
			return s.settleWithin(t.next, t.next+n)
		}
	}
	return s.settle(t.next)
}

// endedWithNothing checks that there was a stream of which the receiver got nothing
// that tells which one it was.
func (t *track) endedWithNothing() error {
	t.ch.mu.Lock()
	defer t.ch.mu.Unlock()
	for _, s := range t.ch.sessions {
		if s.over.Load() == 0 && !s.cutShort.Load() && !t.m.stopping.Load() {
			continue
		}
		if end := s.ended.Load(); end != 0 && end < t.t0.at {
			continue
		}
		// It had no more than these; those before them had left the cache.
		n := s.begun.Load()
		if f := s.final.Load(); f >= 0 {
			n = uint32(f)
		}
		_, tail := s.tails(n, t.m.rules.cache)
		first, last := t.blank, t.blank // empty packets from the first one on, and from the tail on
		if t.overHTTP {
			first, last = s.blanks(0), s.blanks(tail)
		}
		switch {
		case s.known.Load() <= first:
			return nil
		case s.begin <= t.t1.at && (t.ch.encoder || !t.m.rules.exact || tail+last >= n):
			return nil
		case s.begin <= t.t1.at && s.final.Load() < 0:
			return nil // how many there were is not known
		}
	}
	return wrongf("the stream ended after %d empty packets, but no session of channel %d was like that", t.blank, t.ch.number)
}

// lagged checks that a receiver may have been found too slow, or cut off for it.
func (t *track) lagged() error {
	s := t.session
	if s == nil {
		return t.laggedUnseen()
	}
	if over := s.over.Load(); over != 0 && t.m.now()-over >= int64(25*time.Second) {
		return nil
	}
	if s.mayOverrun(t.next, t.m.rules) {
		return nil
	}
	return wrongf("too slow for packet %d of session %d, of which %d are published", t.next, s.id, s.begun.Load())
}

// laggedUnseen is lagged for one that has read nothing that tells which session it was: one
// that it may have been in must have gone on without it, or be over for long.
func (t *track) laggedUnseen() error {
	t.ch.mu.Lock()
	defer t.ch.mu.Unlock()
	for _, s := range t.ch.sessions {
		over := s.over.Load()
		if end := s.ended.Load(); end != 0 && end < t.t0.at || over != 0 && t.t0.at-over > int64(30*time.Second) {
			continue // it was gone when the receiver came
		}
		cache := t.m.rules.cache
		if slices.Contains(t.t0.off, s.id) {
			cache = 0
		}
		from, _ := t.t0.of(s)
		from, _ = s.tails(from, cache)
		if over != 0 && t.m.now()-over >= int64(25*time.Second) || s.begun.Load() > 0 && s.mayOverrun(from, t.m.rules) {
			return nil
		}
	}
	return wrongf("too slow for the first packet, but no session of channel %d has gone on without it", t.ch.number)
}

// asWrong returns what the server has done wrong, if that is what the error says.
func asWrong(err error) error {
	var w *wrong
	if errors.As(err, &w) {
		return err
	}
	return nil
}
