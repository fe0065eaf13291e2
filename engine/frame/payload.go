package frame

import (
	"encoding/binary"
	"unicode/utf8"
)

// data gives the part of the open data frame that lies in b as a piece. A frame
// without payload gives an empty one.
func (d *Decoder) data(b []byte) (Event, []byte, error) {
	n := int(min(d.remaining, int64(len(b))))
	if n == 0 && d.remaining > 0 {
		return NeedMore, nil, nil
	}
	d.remaining -= int64(n)
	p := &d.piece
	p.Bytes = b[:n:n]
	p.Op = d.message
	p.First = !d.begun
	p.End = d.remaining == 0 && d.frame&bitFin != 0
	d.begun = true

	if p.Op == Text {
		unmask(p.Bytes, p.Bytes, p.key)
		d.sequence = d.sequence.check(p.Bytes)
		if d.sequence == utf8Invalid || p.End && d.sequence != utf8Complete {
			return d.fail(badText)
		}
	}
	if d.remaining == 0 {
		d.phase = phaseFirst
	}
	if p.End {
		d.message = 0
	}
	return Data, b[n:], nil
}

// control gives the open control frame once it is complete.
func (d *Decoder) control(b []byte) (Event, []byte, error) {
	p := &d.piece
	n := int(min(d.remaining, int64(len(b))))
	if whole := n == int(d.remaining); whole && p.Bytes == nil {
		// Fast path: the payload lies in b and stays there.
		p.Bytes = b[:n:n]
	} else {
		// Slow path: it came in parts. What is missing is at most 125 bytes here.
		if p.Bytes == nil && n > 0 {
			p.Bytes = make([]byte, 0, d.remaining)
		}
		p.Bytes = append(p.Bytes, b[:n]...)
		d.remaining -= int64(n)
		if !whole {
			return NeedMore, nil, nil
		}
	}
	d.remaining = 0
	d.phase = phaseFirst
	unmask(p.Bytes, p.Bytes, p.key)
	if d.ControlOp() == Close {
		if v := d.checkClose(p.Bytes); v != fine {
			return d.fail(v)
		}
	}
	return Control, b[n:], nil
}

// checkClose judges the payload of a close frame, unmasked, and notes its code.
func (d *Decoder) checkClose(payload []byte) violation {
	d.closeCode = codeNoStatus
	if len(payload) == 0 {
		return fine
	}
	if len(payload) == 1 {
		return shortClose
	}
	code := binary.BigEndian.Uint16(payload)
	if !mayClose(code) {
		return badCloseCode
	}
	if !utf8.Valid(payload[2:]) {
		return badCloseReason
	}
	d.closeCode = code
	return fine
}

// mayClose says whether a client may send the code: those that the RFC defines
// for the wire (7.4.1), those registered with IANA since (1012 to 1014), and the
// ranges of libraries and of applications (7.4.2).
func mayClose(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003:
	case code >= 1007 && code <= 1014:
	case code >= 3000 && code <= 4999:
	default:
		return false
	}
	return true
}
