package media

import (
	"math"
	"math/bits"
)

// element is the header of an EBML element: its ID with the marker, as specifications
// write it, and how many bytes of data follow (RFC 8794, 4 to 6).
type element struct {
	id     uint32
	size   uint64 // unknownSize if the header does not tell
	header int    // bytes of the header itself: at most 12
}

// unknownSize is the size of an element whose end shows by what follows it (RFC 8794,
// 6.2). The largest size that a header can tell is 2^56-2.
const unknownSize = math.MaxUint64

// An ID may have more than four bytes and a size more than eight if the EBML header says
// so; Matroska and WebM leave it at that (RFC 9559, 5).
const (
	maxIDLength   = 4
	maxSizeLength = 8
)

// vintLength is how many bytes a variable-size integer has that begins with b: 1 to 8,
// or 9 if none begins so (RFC 8794, 4.1).
func vintLength(b byte) int { return bits.LeadingZeros8(b) + 1 }

// vint is the value of a variable-size integer, which b holds and nothing else.
func vint(b []byte) uint64 { return unsigned(b) &^ (1 << (7 * len(b))) }

// readElement reads the header at the front of b. n is how many bytes it has, as far as b
// tells: the header is read when b has that many. 0: it is not lawful.
func readElement(b []byte) (e element, n int) {
	if len(b) == 0 {
		return e, 1
	}
	id := vintLength(b[0])
	if id > maxIDLength {
		return e, 0
	}
	if len(b) <= id {
		return e, id + 1
	}
	size := vintLength(b[id])
	if size > maxSizeLength {
		return e, 0
	}
	n = id + size
	if len(b) < n {
		return e, n
	}
	e = element{id: uint32(unsigned(b[:id])), size: vint(b[id:n]), header: n}
	if e.size == 1<<(7*size)-1 {
		e.size = unknownSize
	}
	return e, n
}

// children calls each for the elements that b consists of, in their order, until it returns
// false. data is a part of b. It returns false if each did, or if b is not lawful.
func children(b []byte, each func(id uint32, data []byte) bool) bool {
	for len(b) > 0 {
		e, n := readElement(b)
		if n == 0 || n > len(b) || e.size > uint64(len(b)-n) {
			return false
		}
		if !each(e.id, b[n:n+int(e.size)]) {
			return false
		}
		b = b[n+int(e.size):]
	}
	return true
}
