//go:build soak && linux

package soak

import (
	"bytes"
	"encoding/binary"
)

// A stream that is published over HTTP is bytes, which the server cuts into packets
// anywhere. So that a receiver can tell from any place on where it is, it consists of
// cells of 16 bytes: the session with a mark that tells it from the head of a packet, the
// cell's number, and a hash of both.
const (
	cellSize = 16
	cellMark = 1 << 31

	// placeable is how many bytes have a whole cell among them, wherever they begin.
	placeable = 2*cellSize - 1

	// mostRead is the largest packet that the server makes of a body (PROTO.md, 1.11).
	mostRead = 64 << 10
)

// body and bodyTorrent are the profiles of streams that are published over HTTP: what
// is large or small is what is written at once.
var (
	body        = profile{"body", 1, 20_000, mostRead, 120, true}
	bodyTorrent = profile{"body torrent", 8_000, 60_000, mostRead, 60, true}
)

// appendBytes appends n bytes of a stream of bytes, from place at on.
func (s *session) appendBytes(b []byte, at, n uint32) []byte {
	from := len(b)
	for k := at / cellSize; k*cellSize < at+n; k++ {
		b = binary.LittleEndian.AppendUint32(b, s.id|cellMark)
		b = binary.LittleEndian.AppendUint32(b, k)
		b = binary.LittleEndian.AppendUint64(b, s.cellHash(k))
	}
	skip := int(at % cellSize)
	b = append(b[:from], b[from+skip:]...)
	return b[:from+int(n)]
}

func (s *session) cellHash(k uint32) uint64 {
	return mix(s.block.seed^uint64(s.id)<<32, uint64(k)|1<<40)
}

// locate returns the session that these bytes are of, and their place in it; nil if
// they are of none. There have to be as many as are placeable.
func (m *model) locate(b []byte) (s *session, at uint32) {
	for skip := range cellSize {
		id, k := binary.LittleEndian.Uint32(b[skip:]), binary.LittleEndian.Uint32(b[skip+4:])
		if id&cellMark == 0 || uint64(k)*cellSize < uint64(skip) {
			continue
		}
		s = m.lookup(id &^ cellMark)
		if s != nil && s.profile.body && binary.LittleEndian.Uint64(b[skip+8:]) == s.cellHash(k) {
			return s, k*cellSize - uint32(skip)
		}
	}
	return nil, 0
}

// hasHead tells whether the receiver's first bytes are those of a packet that was
// published over WebSocket: else they are of a stream of bytes.
func (t *track) hasHead(b []byte) bool {
	h := readHead(b)
	s := t.m.lookup(h.session)
	return s != nil && !s.profile.body && h.channel == s.ch.number
}

// firstBytes reads the first n bytes of a stream of bytes. Where they are is told once
// there are enough of them.
func (t *track) firstBytes(p *peer, n int) error {
	if t.blank > 0 {
		return wrongf("%d bytes without a head behind %d empty packets", n, t.blank)
	}
	had := len(t.unplaced)
	b, err := p.br.Peek(min(n, placeable-had))
	if err != nil {
		return p.inside(err)
	}
	t.unplaced = append(t.unplaced, b...)
	if len(t.unplaced) < placeable {
		_, _ = p.br.Discard(len(b))
		return nil
	}
	s, at := t.m.locate(t.unplaced)
	switch {
	case s == nil:
		return wrongf("a stream that begins with %x: of no session", t.unplaced)
	case s.ch != t.ch:
		return wrongf("bytes of session %d on channel %d, the receiver is on channel %d", s.id, s.ch.number, t.ch.number)
	case !bytes.Equal(s.appendBytes(nil, at, uint32(had)), t.unplaced[:had]):
		return wrongf("a stream that begins with %x, which is not what session %d has at byte %d", t.unplaced, s.id, at)
	}
	t.session, t.joined, t.next = s, at, at+uint32(had)
	t.unplaced = nil
	if err := t.joinPoint(at, at); err != nil {
		return err
	}
	return t.restBytes(p, n)
}

// restBytes reads the next n bytes, and compares each.
func (t *track) restBytes(p *peer, n int) error {
	s := t.session
	if begun := s.begun.Load(); uint64(t.next)+uint64(n) > uint64(begun) {
		return wrongf("%d bytes from byte %d on of session %d, of which %d are published", n, t.next, s.id, begun)
	}
	for n > 0 {
		m := min(n, 4<<10)
		t.want = s.appendBytes(t.want[:0], t.next, uint32(m))
		at, other, err := p.compare(t.want)
		switch {
		case err != nil:
			return err
		case other != nil:
			return wrongf("session %d has others from byte %d on: %x", s.id, int(t.next)+at, other)
		}
		t.next += uint32(m)
		n -= m
	}
	return t.came()
}

// endedUnplaced checks an end after so few bytes that it is not known whose they are: of
// some session of the channel they must be.
func (t *track) endedUnplaced() error {
	t.ch.mu.Lock()
	defer t.ch.mu.Unlock()
	for _, s := range t.ch.sessions {
		if end := s.ended.Load(); !s.profile.body || end != 0 && end < t.t0.at {
			continue
		}
		if bytes.Contains(s.appendBytes(nil, 0, s.begun.Load()), t.unplaced) {
			return nil
		}
	}
	return wrongf("the end after %x, which no session of channel %d has", t.unplaced, t.ch.number)
}
