//go:build soak && linux

package soak

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"ws-stream-server/engine/wstest"
)

const (
	mib = 1 << 20

	// headSize is what a packet says of itself: channel, session, sequence and
	// length, four bytes each. An empty packet says nothing; where it stands does.
	headSize = 16

	// overhead is what a packet counts in the cache beside its frame (README.md).
	overhead = 64
)

// block is where every packet's content is cut from: random bytes made from the seed.
// Which cut it is follows from session and sequence, so the whole of a packet can be
// compared, and no two are alike.
type block struct {
	seed  uint64
	bytes []byte
}

func newBlock(seed uint64) *block {
	b := &block{seed: seed, bytes: make([]byte, 3*mib)}
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < len(b.bytes); i += 8 {
		binary.LittleEndian.PutUint64(b.bytes[i:], r.Uint64())
	}
	return b
}

// mix is a hash of numbers (the finalizer of splitmix64).
func mix(a, b uint64) uint64 {
	x := a + b*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// profile is how large a session's packets are, in bytes.
type profile struct {
	name        string
	low, high   int  // most of them
	rare        int  // the largest, one in 40
	everyMillis int  // between two bursts, before the pace
	body        bool // published over HTTP: see bytes_test.go
}

var profiles = []profile{
	{"tiny", headSize, 200, 200, 60, false},
	{"audio", 100, 700, 4000, 80, false},
	{"video", 500, 12_000, 60_000, 120, false},
	{"video", 500, 12_000, 60_000, 120, false},
	{"pictures", 4_000, 40_000, 300_000, 250, false},
	{"huge", 20_000, 200_000, mib, 900, false},
}

// torrent is the profile of channels that run over caches and slow receivers.
var torrent = profile{"torrent", 8_000, 60_000, 500_000, 60, false}

// size returns how many bytes packet seq of a session has. One in 50 is empty.
func (s *session) size(seq uint32) int {
	h := mix(s.block.seed^uint64(s.id)<<32, uint64(seq))
	switch p := s.profile; {
	case h%50 == 7:
		return 0
	case h%40 == 3:
		return p.high + int(h>>32)%(p.rare-p.high+1)
	default:
		return p.low + int(h>>32)%(p.high-p.low+1)
	}
}

// cut returns the content of a packet, behind its head.
func (s *session) cut(seq uint32, n int) []byte {
	at := mix(s.block.seed+uint64(s.id), uint64(seq)<<20) % (2 * mib)
	return s.block.bytes[at : int(at)+n]
}

// appendPacket appends packet seq.
func (s *session) appendPacket(b []byte, seq uint32) []byte {
	n := s.size(seq)
	if n == 0 {
		return b
	}
	for _, x := range [...]uint32{s.ch.number, s.id, seq, uint32(n)} {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return append(b, s.cut(seq, n-headSize)...)
}

// head is what a packet says of itself.
type head struct{ channel, session, seq, size uint32 }

func readHead(b []byte) (h head) {
	h.channel, h.session = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	h.seq, h.size = binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	return h
}

func (h head) String() string {
	return fmt.Sprintf("packet %d of session %d on channel %d, %d bytes", h.seq, h.session, h.channel, h.size)
}

// appendFrame appends a masked frame. It does what wstest.Frame does, faster: most of
// what the soak sends goes this way.
func appendFrame(b []byte, f wstest.Frame) []byte {
	payload := f.Payload
	f.Payload, f.Declare = nil, uint64(len(payload))
	b = f.AppendTo(b)
	var key [1 << 12]byte
	for i := range key[:4] {
		key[i] = b[len(b)-4+i]
	}
	for n := 4; n < len(key) && n < len(payload); n *= 2 {
		copy(key[n:], key[:n])
	}
	for len(payload) > 0 {
		n := min(len(payload), len(key))
		at := len(b)
		b = append(b, payload[:n]...)
		subtle.XORBytes(b[at:], b[at:], key[:n])
		payload = payload[n:]
	}
	return b
}

// frameSize is what a packet of n bytes has on the wire (RFC 6455, 5.2).
func frameSize(n int) int {
	switch {
	case n < 126:
		return n + 2
	case n < 1<<16:
		return n + 4
	default:
		return n + 10
	}
}
