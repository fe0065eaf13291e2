package frame

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// A transcript is what a run of frames means, one line an event, so that a test
// table, the twin and the decoder can be compared however the bytes were cut:
//
//	text "hello"         a complete message
//	binary 0102          a complete message
//	ping "x"             a control frame; close 1000 "bye"
//	open binary 01 +7    the bytes end inside a message; +: Remaining
//	error 1002 reason    nothing after it
type transcript []string

func (t *transcript) message(op Opcode, payload []byte) {
	if op == Text {
		*t = append(*t, fmt.Sprintf("text %q", payload))
		return
	}
	*t = append(*t, fmt.Sprintf("binary %x", payload))
}

func (t *transcript) control(op Opcode, payload []byte, code uint16) {
	switch op {
	case Close:
		var reason []byte
		if len(payload) > 0 {
			reason = payload[2:]
		}
		*t = append(*t, fmt.Sprintf("close %d %q", code, reason))
	case Ping:
		*t = append(*t, fmt.Sprintf("ping %q", payload))
	default:
		*t = append(*t, fmt.Sprintf("pong %q", payload))
	}
}

func (t *transcript) open(op Opcode, payload []byte, remaining int64) {
	name := map[Opcode]string{0: "none", Text: "text", Binary: "binary"}[op]
	*t = append(*t, fmt.Sprintf("open %s %x +%d", name, payload, remaining))
}

func (t *transcript) refused(v violation) {
	*t = append(*t, fmt.Sprintf("error %d %s", violations[v].Code, violations[v].Reason))
}

// twin decodes all of stream at once, in the plainest way: no state between
// calls, messages put together, bytes unmasked one by one. It shares no code with
// Decoder except the texts of the violations.
func twin(stream []byte, limit int64) transcript {
	var out transcript
	var op Opcode // of the open message
	var message []byte
	var announced uint64 // below 2^64: the limit and one length, each below 2^63
	for {
		f, v := twinFrame(stream, op != 0)
		if v == fine && f.headerDone && f.op < Close {
			if f.op != Continuation {
				op, message, announced = f.op, nil, 0
			}
			announced += f.length
			message = append(message, f.payload...)
			v = twinMessage(f, op, message, announced, limit)
		}
		if v == fine && f.done() && f.op == Close {
			v = twinClose(f)
		}
		if v != fine {
			out.refused(v)
			return out
		}
		if !f.done() {
			if missing := f.missing(); op != 0 || missing > 0 {
				out.open(op, message, missing)
			}
			return out
		}
		switch {
		case f.op >= Close:
			out.control(f.op, f.payload, f.closeCode())
		case f.fin:
			out.message(op, message)
			op, message = 0, nil
		}
		stream = stream[f.size:]
	}
}

// twinMessage judges the open message, with what is there of frame f.
func twinMessage(f twinHeader, op Opcode, message []byte, announced uint64, limit int64) violation {
	if limit > 0 && announced > uint64(limit) {
		return tooBig
	}
	if op == Text && !twinText(message, f.done() && f.fin) {
		return badText
	}
	return fine
}

type twinHeader struct {
	headerDone bool
	fin        bool
	op         Opcode
	length     uint64
	payload    []byte // unmasked copy of what is there
	size       int    // of header and payload
}

// missing is how many payload bytes are not there; 0 while the header is not.
func (f twinHeader) missing() int64 {
	if !f.headerDone {
		return 0
	}
	return int64(f.length - uint64(len(f.payload)))
}

func (f twinHeader) done() bool { return f.headerDone && f.missing() == 0 }

func (f twinHeader) closeCode() uint16 {
	if len(f.payload) < 2 {
		return 1005
	}
	return uint16(f.payload[0])*256 + uint16(f.payload[1])
}

// twinFrame reads one frame; a violation is found as soon as its byte is there.
func twinFrame(b []byte, open bool) (f twinHeader, v violation) {
	if len(b) < 1 {
		return f, fine
	}
	f.fin = b[0] >= 128
	f.op = Opcode(b[0] % 16)
	switch {
	case b[0]&0x40 != 0 || b[0]&0x20 != 0 || b[0]&0x10 != 0:
		return f, reservedBits
	case f.op >= 3 && f.op <= 7 || f.op >= 11:
		return f, reservedOpcode
	case f.op >= 8 && !f.fin:
		return f, fragmentedControl
	case f.op == 0 && !open:
		return f, strayContinuation
	case (f.op == 1 || f.op == 2) && open:
		return f, interleavedMessage
	}
	if len(b) < 2 {
		return f, fine
	}
	if b[1] < 128 {
		return f, notMasked
	}
	f.length = uint64(b[1] - 128)
	if f.op >= 8 && f.length > 125 {
		return f, longControl
	}
	at, long := 2, 0
	switch f.length {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	if long == 8 && len(b) > 2 && b[2] >= 128 {
		return f, hugeLength
	}
	if len(b) < at+long+4 {
		return f, fine
	}
	if long > 0 {
		f.length = 0
		for _, c := range b[at : at+long] {
			f.length = f.length*256 + uint64(c)
		}
	}
	at += long
	key := b[at : at+4]
	at += 4
	f.headerDone = true
	for i := 0; at+i < len(b) && uint64(i) < f.length; i++ {
		f.payload = append(f.payload, b[at+i]^key[i%4])
	}
	f.size = at + len(f.payload)
	return f, fine
}

// twinClose judges a close frame that is all there.
func twinClose(f twinHeader) violation {
	switch code := f.closeCode(); {
	case len(f.payload) == 0:
		return fine
	case len(f.payload) == 1:
		return shortClose
	case !slices.Contains([]uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}, code) &&
		(code < 3000 || code >= 5000):
		return badCloseCode
	case !twinText(f.payload[2:], true):
		return badCloseReason
	}
	return fine
}

// twinText says whether b is UTF-8, or if it is not all yet, whether some bytes
// after it can make it so: it tries.
func twinText(b []byte, all bool) bool {
	if utf8.Valid(b) {
		return true
	}
	if all {
		return false
	}
	for _, end := range twinEndings {
		if utf8.Valid(append(bytes.Clone(b), end...)) {
			return true
		}
	}
	return false
}

// twinEndings can complete every character that can be completed: one to three
// bytes, the first at either end of each range that RFC 3629 allows after a lead.
var twinEndings = [][]byte{
	{0x80}, {0xBF}, {0x80, 0x80}, {0xBF, 0x80}, {0x80, 0x80, 0x80}, {0xBF, 0x80, 0x80},
}

// play gives stream to a new Decoder in reads of the sizes that cut says, and
// returns what it found. Each read is memory of its own, of exactly its size, and
// is poisoned afterwards: a decoder that reads beyond it or keeps a part of it
// does not agree with its twin.
func play(stream []byte, limit int64, cut func(left int) int) (transcript, error) {
	d := Decoder{MaxMessage: limit}
	c := collector{d: &d}
	for len(stream) > 0 {
		n := cut(len(stream))
		if n < 1 || n > len(stream) {
			n = len(stream)
		}
		read := bytes.Clone(stream[:n:n])
		stream = stream[n:]
		err := c.feed(read)
		for i := range read {
			read[i] = 0xAA
		}
		if err != nil {
			return c.out, err
		}
		if c.failed {
			return c.out, nil
		}
	}
	if d.MidMessage() || d.Remaining() > 0 {
		c.out.open(d.message, c.message, d.Remaining())
	}
	return c.out, nil
}

// collector puts pieces together, and checks what every piece promises.
type collector struct {
	d       *Decoder
	out     transcript
	message []byte
	op      Opcode
	open    bool // a First piece came, its End did not
	failed  bool
}

func (c *collector) feed(read []byte) error {
	for {
		ev, rest, err := c.d.Next(read)
		if err != nil {
			return c.refuse(err, rest)
		}
		if len(rest) > len(read) {
			return fmt.Errorf("rest grew from %d to %d", len(read), len(rest))
		}
		switch ev {
		case NeedMore:
			if len(rest) != 0 {
				return fmt.Errorf("NeedMore with %d bytes left", len(rest))
			}
			return nil
		case Data:
			if err := c.piece(c.d.Piece()); err != nil {
				return err
			}
		case Control:
			p := c.d.ControlPayload()
			if len(p) > 125 {
				return fmt.Errorf("control payload of %d bytes", len(p))
			}
			c.out.control(c.d.ControlOp(), p, c.d.CloseCode())
		default:
			return fmt.Errorf("event %d", ev)
		}
		read = rest
	}
}

func (c *collector) piece(p *Piece) error {
	switch {
	case p.First == c.open:
		return fmt.Errorf("piece: First=%t, message open=%t", p.First, c.open)
	case p.Op != Text && p.Op != Binary:
		return fmt.Errorf("piece: opcode %d", p.Op)
	case c.open && p.Op != c.op:
		return fmt.Errorf("piece: opcode %d in a message of %d", p.Op, c.op)
	case p.End == c.d.MidMessage():
		return fmt.Errorf("piece: End=%t, MidMessage=%t", p.End, c.d.MidMessage())
	case p.End && c.d.Remaining() != 0:
		return fmt.Errorf("piece: End with %d remaining", c.d.Remaining())
	case cap(p.Bytes) != len(p.Bytes):
		return fmt.Errorf("piece: an append would write on the bytes after it")
	}
	if p.First {
		c.op, c.message = p.Op, nil
	}
	c.open = !p.End
	plain := make([]byte, len(p.Bytes))
	p.Unmask(plain)
	c.message = append(c.message, plain...)
	if p.End {
		c.out.message(p.Op, c.message)
		c.message = nil
	}
	return nil
}

// refuse notes an error and checks that it is the decoder's last word.
func (c *collector) refuse(err error, rest []byte) error {
	c.failed = true
	e, ok := err.(*Error)
	if !ok {
		return fmt.Errorf("error of type %T", err)
	}
	if rest != nil {
		return fmt.Errorf("bytes left after an error")
	}
	for _, b := range [][]byte{nil, {0x82, 0x80, 0, 0, 0, 0}} {
		if _, _, again := c.d.Next(b); again != err {
			return fmt.Errorf("after %v came %v", err, again)
		}
	}
	c.out = append(c.out, fmt.Sprintf("error %d %s", e.Code, e.Reason))
	return nil
}

// whole, each and chop are cuts for play.
func whole(int) int { return math.MaxInt }

func each(n int) func(int) int { return func(int) int { return n } }

// chop makes two reads, the first of n bytes.
func chop(n int) func(int) int {
	first := true
	return func(int) int {
		if first {
			first = false
			return n
		}
		return math.MaxInt
	}
}
