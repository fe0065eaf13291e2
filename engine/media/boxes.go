package media

import "encoding/binary"

// Sizes of a box's header, in bytes (ISO 14496-12, 4.2): of one whose size fits 32 bits,
// and of one whose size follows the type.
const (
	boxHeader     = 8
	boxHeaderLong = 16
)

// boxHeaderSize returns the size of a box's header, by its first 4 bytes.
func boxHeaderSize(b []byte) int {
	if binary.BigEndian.Uint32(b) == 1 {
		return boxHeaderLong
	}
	return boxHeader
}

// boxSize returns the size of a box with its header, which is complete. ok is false when
// no box has such a size. A size of 0 is "to the end".
func boxSize(b []byte) (size uint64, ok bool) {
	if boxHeaderSize(b) == boxHeaderLong {
		size = binary.BigEndian.Uint64(b[boxHeader:])
		return size, size >= boxHeaderLong
	}
	size = uint64(binary.BigEndian.Uint32(b))
	return size, size == 0 || size >= boxHeader
}

// boxes goes over the boxes of which bytes in memory are made. Nothing is copied.
type boxes struct {
	rest []byte

	// The box that next found.
	kind    [4]byte
	payload []byte

	bad bool // what is left is no whole box
}

// next goes to the next box. It returns false at the end, and where there is no lawful
// box; a box that is "to the end" may only stand at a file's top (4.2).
func (x *boxes) next() bool {
	if len(x.rest) == 0 || x.bad {
		return false
	}
	x.bad = true // so far
	if len(x.rest) < boxHeader || len(x.rest) < boxHeaderSize(x.rest) {
		return false
	}
	size, ok := boxSize(x.rest)
	if !ok || size == 0 || size > uint64(len(x.rest)) {
		return false
	}
	x.bad = false
	copy(x.kind[:], x.rest[4:])
	x.payload, x.rest = x.rest[boxHeaderSize(x.rest):size:size], x.rest[size:]
	return true
}

// boxAt returns the payload of the first box of that name, in the first box of the name
// before it, and so on, nil if there is none. It goes once over each box on the way.
func boxAt(b []byte, path ...string) []byte {
	for _, name := range path {
		x := boxes{rest: b}
		b = nil
		for x.next() {
			if string(x.kind[:]) == name {
				b = x.payload
				break
			}
		}
	}
	return b
}
