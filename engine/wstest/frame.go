package wstest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// The opcodes of RFC 6455, section 5.2.
const (
	Continuation byte = 0x0
	Text         byte = 0x1
	Binary       byte = 0x2
	Close        byte = 0x8
	Ping         byte = 0x9
	Pong         byte = 0xA
)

// Frame is one frame that the client sends. The zero value of each field is the
// lawful choice: final, no reserved bit, masked, the length in minimal form.
type Frame struct {
	Op      byte
	Payload []byte

	More     bool // FIN is clear: the message goes on in the next frame
	RSV      byte // the three reserved bits, 0 to 7
	Unmasked bool // no mask: a client must never do this
	ZeroMask bool // masked with the key 0, which is lawful
	Form     int  // bits of the length field: 7, 16 or 64; 0 is the minimal form

	// Declare, when not 0, is the length in the header instead of the payload's:
	// for frames that end too early or lie.
	Declare uint64
}

// AppendTo appends the frame's bytes to b and returns it. Payload is copied.
func (f Frame) AppendTo(b []byte) []byte {
	first := f.Op&0xF | f.RSV&7<<4
	if !f.More {
		first |= 0x80
	}
	n := uint64(len(f.Payload))
	if f.Declare != 0 {
		n = f.Declare
	}
	var maskBit byte = 0x80
	if f.Unmasked {
		maskBit = 0
	}
	form := f.Form
	if form == 0 {
		switch {
		case n < 126:
			form = 7
		case n < 1<<16:
			form = 16
		default:
			form = 64
		}
	}
	b = append(b, first)
	switch form {
	case 7:
		b = append(b, maskBit|byte(n))
	case 16:
		b = append(b, maskBit|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, maskBit|127)
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if f.Unmasked {
		return append(b, f.Payload...)
	}
	var key [4]byte
	if !f.ZeroMask {
		binary.BigEndian.PutUint32(key[:], rand.Uint32()|0x01010101)
	}
	b = append(b, key[:]...)
	start := len(b)
	b = append(b, f.Payload...)
	for i := range b[start:] {
		b[start+i] ^= key[i&3]
	}
	return b
}

// Bytes returns the frames as they go on the wire, one after the other.
func Bytes(frames ...Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = f.AppendTo(b)
	}
	return b
}

// Message splits payload into n frames of one message: the first with op, the
// others continuations.
func Message(op byte, payload []byte, n int) []Frame {
	frames := make([]Frame, 0, n)
	for i := range n {
		f := Frame{Op: Continuation, More: i < n-1}
		if i == 0 {
			f.Op = op
		}
		f.Payload = payload[len(payload)*i/n : len(payload)*(i+1)/n]
		frames = append(frames, f)
	}
	return frames
}

// ClosePayload is the payload of a close frame.
func ClosePayload(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// Msg is one message or control frame that the server sent.
type Msg struct {
	Op      byte
	Payload []byte // the caller's to keep
}

// Code is the code of a close frame, 1005 when it has none.
func (m Msg) Code() int {
	if m.Op != Close || len(m.Payload) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16(m.Payload))
}

// Reason is the text of a close frame.
func (m Msg) Reason() string {
	if m.Op != Close || len(m.Payload) < 2 {
		return ""
	}
	return string(m.Payload[2:])
}

func (m Msg) String() string {
	switch m.Op {
	case Text:
		return fmt.Sprintf("TEXT %q", clip(m.Payload))
	case Binary:
		return fmt.Sprintf("BINARY of %d bytes %q", len(m.Payload), clip(m.Payload))
	case Close:
		return fmt.Sprintf("CLOSE %d %q", m.Code(), m.Reason())
	case Ping:
		return fmt.Sprintf("PING %q", clip(m.Payload))
	case Pong:
		return fmt.Sprintf("PONG %q", clip(m.Payload))
	}
	return fmt.Sprintf("opcode %#x of %d bytes", m.Op, len(m.Payload))
}

func (m Msg) is(op byte, payload []byte) bool {
	return m.Op == op && bytes.Equal(m.Payload, payload)
}

func clip(b []byte) string {
	const most = 60
	if len(b) <= most {
		return string(b)
	}
	return string(b[:most]) + "..."
}
