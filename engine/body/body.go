// Package body finds the body of an HTTP/1.1 request in the bytes of its connection, as
// they come: no I/O, no allocation, no buffer.
//
// A body has a declared length, or comes in chunks (RFC 9112, 7.1):
//
//	size in hexadecimal digits [; extension …] CR LF
//	so many bytes CR LF
//	…
//	0 [; extension …] CR LF
//	[trailer: field CR LF …]
//	CR LF
//
// Extensions and trailers are read past. Lines end in CR LF only; what is no byte of the
// body is bounded, so that no client can have us read on for nothing.
package body

import "errors"

const (
	// maxLine is the longest line in front of a chunk, and maxTrailers how long all
	// trailers may be together, in bytes, without the line ends.
	maxLine     = 4 << 10
	maxTrailers = 4 << 10

	// maxExcess is how many bytes of lines there may be, at any moment, beyond
	// freePerChunk for each chunk and twice the bytes of the body: chunks of one byte are
	// fine, long extensions without end are not. The numbers are net/http's.
	maxExcess    = 16 << 10
	freePerChunk = 16

	// maxDigits is how long a size may be, leading zeros included.
	maxDigits = 16
)

// Why a body is none: the errors of Next.
var (
	ErrSize    = errors.New("the size of a chunk is no hexadecimal number, or too large")
	ErrLine    = errors.New("a line between chunks does not end in CR LF, or has a control character in it")
	ErrTooLong = errors.New("there is too much between the chunks")
)

type state uint8

const (
	stateDone state = iota
	stateData
	stateFirst  // the first digit of a size
	stateSize   // another one
	stateSpace  // blanks behind it
	stateExt    // an extension
	stateSizeLF // the LF of that line
	stateDataCR // the line end behind a chunk
	stateDataLF
	stateField     // the first byte of a trailer, or the CR of the last line
	stateTrailer   // another one
	stateTrailerLF // the LF of that line
	stateLastLF    // the LF of the last line
)

// Decoder is a place in a body. It is a plain value; one goroutine at a time may use it.
// The zero Decoder is at the end.
type Decoder struct {
	left    uint64 // bytes of the body, or of the chunk, that have not come yet
	excess  int64  // see maxExcess
	length  int32  // bytes of the line, or of the trailers, so far
	state   state
	digits  uint8 // of the size so far
	chunked bool
}

// Sized returns a decoder for a body of n bytes.
func Sized(n int64) Decoder {
	if n <= 0 {
		return Decoder{}
	}
	return Decoder{left: uint64(n), state: stateData}
}

// Chunked returns a decoder for a body in chunks.
func Chunked() Decoder { return Decoder{state: stateFirst, chunked: true} }

// Next takes the bytes that have come and returns those of the body among them, in one
// piece: a part of b, whose other bytes may be overwritten. done says that the body is
// at its end; what stands behind that in b is not looked at. With an error, after which
// Next must not be called any more, what came before it is returned all the same.
func (d *Decoder) Next(b []byte) (body []byte, done bool, err error) {
	start, size := 0, 0 // of the body in b
	for i := 0; i < len(b) && d.state != stateDone; {
		if d.state != stateData {
			if err := d.step(b[i]); err != nil {
				return b[start : start+size], false, err
			}
			i++
			continue
		}
		n := int(min(d.left, uint64(len(b)-i)))
		if size == 0 {
			start = i
		} else {
			copy(b[start+size:], b[i:i+n])
		}
		size += n
		i += n
		d.took(n)
	}
	return b[start : start+size], d.state == stateDone, nil
}

// took is told of n bytes of the body.
func (d *Decoder) took(n int) {
	d.left -= uint64(n)
	switch {
	case d.left > 0:
	case d.chunked:
		d.state = stateDataCR
	default:
		d.state = stateDone
	}
}

// step takes a byte that is not the body's.
func (d *Decoder) step(c byte) error {
	switch d.state {
	case stateFirst, stateSize, stateSpace, stateExt:
		return d.sizeLine(c)
	case stateField, stateTrailer:
		return d.trailer(c)
	case stateSizeLF:
		return d.lineEnd(c, '\n', d.afterSize())
	case stateDataCR:
		return d.lineEnd(c, '\r', stateDataLF)
	case stateDataLF:
		return d.lineEnd(c, '\n', stateFirst)
	case stateTrailerLF:
		return d.lineEnd(c, '\n', stateField)
	default:
		return d.lineEnd(c, '\n', stateDone)
	}
}

// lineEnd goes on to another state if c is what it must be.
func (d *Decoder) lineEnd(c, must byte, next state) error {
	if c != must {
		return ErrLine
	}
	d.state = next
	return nil
}

// sizeLine takes a byte of the line in front of a chunk.
func (d *Decoder) sizeLine(c byte) error {
	digit := unhex(c)
	switch {
	case d.state == stateFirst && digit > 0xF:
		return ErrSize
	case d.state == stateFirst:
		d.left, d.digits, d.length = uint64(digit), 1, 0
		d.state = stateSize
	case d.state == stateSize && digit <= 0xF:
		if d.digits++; d.digits > maxDigits || d.left >= 1<<58 {
			return ErrSize
		}
		d.left = d.left<<4 | uint64(digit)
	case c == '\r':
		return d.endSizeLine()
	case d.state == stateExt && isText(c):
	case c == ';' && d.state != stateExt:
		d.state = stateExt
	case (c == ' ' || c == '\t') && d.state != stateExt:
		d.state = stateSpace
	case d.state == stateExt:
		return ErrLine
	default:
		return ErrSize
	}
	if d.length++; d.length > maxLine {
		return ErrTooLong
	}
	return nil
}

// endSizeLine takes the CR of the line in front of a chunk.
func (d *Decoder) endSizeLine() error {
	d.state = stateSizeLF
	d.excess = max(0, d.excess+int64(d.length)+2-freePerChunk-2*int64(d.left))
	if d.excess > maxExcess {
		return ErrTooLong
	}
	return nil
}

// afterSize returns what follows the line in front of a chunk.
func (d *Decoder) afterSize() state {
	if d.left > 0 {
		return stateData
	}
	d.length = 0 // of the trailers
	return stateField
}

// trailer takes a byte of a trailer, or the one that says that there is none.
func (d *Decoder) trailer(c byte) error {
	switch {
	case c == '\r' && d.state == stateField:
		d.state = stateLastLF
		return nil
	case c == '\r':
		d.state = stateTrailerLF
		return nil
	case !isText(c):
		return ErrLine
	}
	d.state = stateTrailer
	if d.length++; d.length > maxTrailers {
		return ErrTooLong
	}
	return nil
}

// isText reports whether c may stand in a line: no control character but a tab.
func isText(c byte) bool { return c >= ' ' && c != 0x7F || c == '\t' }

// unhex returns the value of a hexadecimal digit, more than 15 for another byte.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xFF
}
