package frame

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

// MaxHeader is the longest header of a frame that the server sends: two bytes and
// a 64-bit length. Room to leave before a payload whose length is not known yet.
const MaxHeader = 10

// maxCloseReason is what a close frame has left beside its code (RFC 6455, 5.5.1).
const maxCloseReason = maxControl - 2

// HeaderSize is the size in bytes of the header that PutHeader writes for a
// payload of that many bytes: 2, 4 or 10. Any goroutine.
func HeaderSize(payload int) int {
	switch {
	case payload < length16:
		return 2
	case payload <= math.MaxUint16:
		return 4
	}
	return MaxHeader
}

// PutHeader writes the header of a frame with FIN set and that many payload bytes
// to the front of dst, which has room for it, and returns its size. A control
// frame has at most 125 payload bytes. Any goroutine.
func PutHeader(dst []byte, op Opcode, payload int) int {
	size := HeaderSize(payload)
	dst = dst[:size]
	dst[0] = bitFin | byte(op)
	switch size {
	case 2:
		dst[1] = byte(payload)
	case 4:
		dst[1] = length16
		binary.BigEndian.PutUint16(dst[2:], uint16(payload))
	default:
		dst[1] = length64
		binary.BigEndian.PutUint64(dst[2:], uint64(payload))
	}
	return size
}

// Payload returns the payload of a frame that begins as PutHeader wrote it, or what b
// has of it; nil for no bytes at all. It is a part of b. Any goroutine.
func Payload(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	switch b[1] {
	case length16:
		return b[4:]
	case length64:
		return b[MaxHeader:]
	}
	return b[2:]
}

// AppendFrame appends a whole frame to dst, with a copy of payload. A control
// frame has at most 125 payload bytes. Any goroutine.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	var header [MaxHeader]byte
	n := PutHeader(header[:], op, len(payload))
	dst = append(dst, header[:n]...)
	return append(dst, payload...)
}

// AppendClose appends a close frame to dst. The reason is cut between two
// characters to what fits; what is not UTF-8 in it becomes U+FFFD. Without a
// code (0, 1005) and with a code that must never be sent (1006, 1015: RFC 6455,
// 7.4.1) the frame is empty. Any goroutine.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	switch code {
	case 0, codeNoStatus, codeAbnormal, codeTLSFailure:
		return AppendFrame(dst, Close, nil)
	}
	reason = strings.ToValidUTF8(reason, string(utf8.RuneError))
	if len(reason) > maxCloseReason {
		end := maxCloseReason
		for !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	dst = append(dst, bitFin|byte(Close), byte(2+len(reason)))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}
