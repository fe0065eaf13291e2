package frame

import (
	"encoding/binary"
	"math/bits"
)

// Opcode is the kind of a frame (RFC 6455, 11.8).
type Opcode byte

// The opcodes in use; all others are reserved and refused.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// Bits of a frame's first two bytes (RFC 6455, 5.2).
const (
	bitFin     = 0x80
	bitsRSV    = 0x70
	bitsOpcode = 0x0F
	bitControl = 0x08 // in the opcode
	bitMask    = 0x80
	bitsLength = 0x7F

	length16 = 126 // two bytes of length follow
	length64 = 127 // eight do

	maxControl = 125 // payload of a control frame (RFC 6455, 5.5)
	minHeader  = 6   // of a masked frame: two bytes and the key
)

// Event is what Next found.
type Event uint8

const (
	NeedMore Event = iota // everything given was used up and no event is complete
	Data                  // a piece of a data message: Piece
	Control               // a complete control frame: ControlOp, ControlPayload
)

// Piece is a part of a data message: as much of one frame's payload as lay in
// the bytes given to Next. It belongs to its Decoder, which goes on from it: the
// caller reads it and does not change its fields. Valid until the next call of
// Next.
type Piece struct {
	// Bytes is a part of the buffer given to Next, not a copy. Of a Binary
	// message it is still masked, of a Text message unmasked and checked. It is
	// empty only if the frame's whole payload is. The caller may change the bytes.
	Bytes []byte

	key   uint32 // masking key, turned so that its lowest byte fits Bytes[0]
	Op    Opcode // Text or Binary, in continuation frames too
	First bool   // first piece of its message
	End   bool   // last piece of its message
}

// Unmask writes the payload of a Binary piece, unmasked, to dst, which has room
// for len(p.Bytes) bytes and either is p.Bytes or does not overlap it. A piece may
// be unmasked in place only once. A Text piece is unmasked already and is just
// copied. Only the goroutine that calls Next may call it.
func (p *Piece) Unmask(dst []byte) {
	if p.Op == Text {
		copy(dst, p.Bytes)
		return
	}
	unmask(dst, p.Bytes, p.key)
}

// phase is the part of a frame that the next byte belongs to.
type phase uint8

const (
	phaseFirst   phase = iota // byte 0: FIN, RSV, opcode
	phaseSecond               // byte 1: MASK, short length
	phaseLength               // the long length; left counts its bytes
	phaseKey                  // the masking key; left counts its bytes
	phasePayload              // the payload; remaining counts its bytes
	phaseFailed               // this plus the violation: nothing is read any more
)

// Decoder reads the frames of one client. The zero value is ready. All methods
// are for one goroutine at a time, the session's poller.
//
// One exists for every idle connection, so it is kept at 64 bytes: a header that
// is split across reads is parsed byte by byte into the fields it ends up in, the
// mask's position is folded into the key, and a violation is one byte.
type Decoder struct {
	// Static before the first Next.

	// MaxMessage is the most payload bytes of one data message, all its frames
	// together; 0 or less: no limit. A message that crosses it is refused with
	// 1009 when the header that says so is complete, before its payload.
	MaxMessage int64

	// The message that is open. Meaningless while message is zero.

	total int64 // payload bytes announced by its frames so far; kept only under a limit

	// The frame that is open.

	remaining int64 // payload bytes still to come; in phaseLength: the length so far

	// The last event, and with it the frame's masking key. In a control frame that
	// is not complete yet, Bytes is memory of our own with what came so far, masked.
	piece Piece

	closeCode uint16    // of the last close frame
	message   Opcode    // Text or Binary: a message is open; zero: none is
	begun     bool      // the open message had its First piece
	sequence  utf8State // where the open TEXT message stands inside a character
	frame     byte      // first header byte of the frame
	phase     phase
	left      uint8 // header bytes still to come in phaseLength and phaseKey
}

// Next consumes bytes of b and returns the first event found, and the rest of b
// that is not consumed yet. Call it with the rest until it says NeedMore; when
// the rest is empty no event is pending. It may change b, and what it returns
// aliases b: the caller keeps b unchanged until the event is dealt with.
//
// The error is always an *Error; after one, every later call returns the same.
func (d *Decoder) Next(b []byte) (Event, []byte, error) {
	// Fast path: a whole BINARY message in one frame at the front of b, which is
	// what a publisher sends. Whatever does not fit is judged by the slow path.
	if d.phase == phaseFirst && d.message == 0 && len(b) >= minHeader &&
		b[0] == bitFin|byte(Binary) && b[1]&bitMask != 0 {
		n, size := uint64(b[1]&bitsLength), minHeader
		if n == length16 && len(b) >= minHeader+2 {
			n, size = uint64(binary.BigEndian.Uint16(b[2:])), minHeader+2
		} else if n == length64 && len(b) >= minHeader+8 {
			n, size = binary.BigEndian.Uint64(b[2:]), minHeader+8
		} else if n >= length16 {
			return d.next(b)
		}
		if n <= uint64(len(b)-size) && (d.MaxMessage <= 0 || int64(n) <= d.MaxMessage) {
			end := size + int(n)
			p := &d.piece
			p.Bytes = b[size:end:end]
			p.key = binary.LittleEndian.Uint32(b[size-4:])
			p.Op, p.First, p.End = Binary, true, true
			return Data, b[end:], nil
		}
	}
	return d.next(b)
}

// next is the slow path of Next: any frame, in any number of parts.
func (d *Decoder) next(b []byte) (Event, []byte, error) {
	if d.phase > phaseFailed {
		return NeedMore, nil, &violations[d.phase-phaseFailed]
	}
	if d.phase == phasePayload && d.frame&bitControl == 0 {
		// The key is turned only now, because the caller may unmask the last piece
		// as late as this.
		d.piece.key = turn(d.piece.key, len(d.piece.Bytes))
		d.piece.Bytes = nil
	}
	for d.phase != phasePayload {
		if len(b) == 0 {
			d.piece.Bytes = nil // an idle connection holds on to no read buffer
			return NeedMore, nil, nil
		}
		if v := d.header(b[0]); v != fine {
			return d.fail(v)
		}
		b = b[1:]
	}
	if d.frame&bitControl != 0 {
		return d.control(b)
	}
	return d.data(b)
}

// fail makes v the decoder's last word.
func (d *Decoder) fail(v violation) (Event, []byte, error) {
	d.piece.Bytes = nil
	d.phase = phaseFailed + phase(v)
	return NeedMore, nil, &violations[v]
}

// header takes the next byte of a frame's header.
func (d *Decoder) header(c byte) violation {
	switch d.phase {
	case phaseFirst:
		d.piece.Bytes = nil
		d.frame = c
		d.phase = phaseSecond
		return d.checkFirst(c)
	case phaseSecond:
		return d.second(c)
	case phaseLength:
		if d.left == 8 && c&0x80 != 0 {
			return hugeLength
		}
		d.remaining = d.remaining<<8 | int64(c)
		if d.left--; d.left == 0 {
			d.phase, d.left = phaseKey, 4
		}
	case phaseKey:
		// The first byte of the key comes in at the top and has moved to the
		// bottom when the fourth is in.
		d.piece.key = d.piece.key>>8 | uint32(c)<<24
		if d.left--; d.left == 0 {
			return d.begin()
		}
	}
	return fine
}

// checkFirst judges a frame's first byte, in the RFC's order.
func (d *Decoder) checkFirst(c byte) violation {
	if c&bitsRSV != 0 {
		return reservedBits
	}
	switch Opcode(c & bitsOpcode) {
	case Continuation:
		if d.message == 0 {
			return strayContinuation
		}
	case Text, Binary:
		if d.message != 0 {
			return interleavedMessage
		}
	case Close, Ping, Pong:
		if c&bitFin == 0 {
			return fragmentedControl
		}
	default:
		return reservedOpcode
	}
	return fine
}

// second judges a frame's second byte and sets out what follows it.
func (d *Decoder) second(c byte) violation {
	if c&bitMask == 0 {
		return notMasked
	}
	n := c & bitsLength
	if d.frame&bitControl != 0 && n > maxControl {
		return longControl
	}
	switch n {
	case length16:
		d.remaining, d.phase, d.left = 0, phaseLength, 2
	case length64:
		d.remaining, d.phase, d.left = 0, phaseLength, 8
	default:
		d.remaining, d.phase, d.left = int64(n), phaseKey, 4
	}
	return fine
}

// begin opens the frame whose header is complete.
func (d *Decoder) begin() violation {
	d.phase = phasePayload
	if d.frame&bitControl != 0 {
		return fine
	}
	if op := Opcode(d.frame & bitsOpcode); op != Continuation {
		d.message, d.begun, d.total, d.sequence = op, false, 0, utf8Complete
	}
	if d.MaxMessage > 0 {
		// total never exceeds MaxMessage, so this cannot overflow.
		if d.remaining > d.MaxMessage-d.total {
			return tooBig
		}
		d.total += d.remaining
	}
	return fine
}

// Piece describes the last Data event. Valid until the next call of Next.
func (d *Decoder) Piece() *Piece { return &d.piece }

// ControlOp is Close, Ping or Pong: the opcode of the last Control event. Valid
// until the next call of Next.
func (d *Decoder) ControlOp() Opcode { return Opcode(d.frame & bitsOpcode) }

// ControlPayload is the payload of the last Control event, unmasked, at most 125
// bytes: a part of the buffer given to Next, or the decoder's own memory. Not
// copied; the caller may change it; valid until the next call of Next.
func (d *Decoder) ControlPayload() []byte { return d.piece.Bytes }

// CloseCode is the code of the last close frame: 1005 if it carried none
// (RFC 6455, 7.1.5), 0 if no close frame has come.
func (d *Decoder) CloseCode() uint16 { return d.closeCode }

// Remaining is how many payload bytes the current frame announces beyond those
// that have come; 0 between frames. It is the client's word: a hint for the size
// of a buffer within limits of the caller's own, never a reason to allocate.
func (d *Decoder) Remaining() int64 {
	if d.phase != phasePayload {
		return 0
	}
	return d.remaining
}

// MidMessage says whether a data message is open: the header of its first frame
// was read, its end was not.
func (d *Decoder) MidMessage() bool { return d.message != 0 }

// turn is the key for what follows n bytes.
func turn(key uint32, n int) uint32 {
	return bits.RotateLeft32(key, -8*(n&3))
}
