package wstest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Numbered is packet i of a stream: n bytes that are like no other packet's. The first
// four of them are the number, in big-endian order, as far as there are so many.
func Numbered(i, n int) []byte {
	b := make([]byte, n, n+8)
	x := uint64(i)*0x9E3779B97F4A7C15 + 1 // xorshift64 from here on
	for j := 0; j < n; j += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[j:j+8], x) // into the capacity at the end
	}
	copy(b, binary.BigEndian.AppendUint32(nil, uint32(i)))
	return b
}

// Number returns the number of a packet made by Numbered, also if another byte than those
// of the number is wrong: then there is an error. It has four bytes at least.
func Number(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("a packet of %d bytes", len(b))
	}
	i := int(binary.BigEndian.Uint32(b))
	want := Numbered(i, len(b))
	if bytes.Equal(b, want) {
		return i, nil
	}
	at := 0
	for b[at] == want[at] {
		at++
	}
	return i, fmt.Errorf("packet %d differs at byte %d of %d", i, at, len(b))
}
