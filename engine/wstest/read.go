package wstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Next returns the next message or close frame. Heartbeats, pings and pongs are
// read past.
func (c *Conn) Next() Msg {
	c.t.Helper()
	m, err := c.NextE()
	if err != nil {
		c.t.Fatalf("%s: wanted a message, got %v", c.name, err)
	}
	return m
}

// NextE is Next for any goroutine; it returns io.EOF at the connection's end.
func (c *Conn) NextE() (Msg, error) {
	return c.nextBefore(time.Now().Add(c.timeout))
}

// NextWithin is NextE with its own patience.
func (c *Conn) NextWithin(d time.Duration) (Msg, error) {
	return c.nextBefore(time.Now().Add(d))
}

func (c *Conn) nextBefore(deadline time.Time) (Msg, error) {
	for {
		m, err := c.frameBefore(deadline)
		if err != nil {
			return Msg{}, err
		}
		if m.Op == Ping || m.Op == Pong || m.is(Text, []byte("h")) {
			continue
		}
		return m, nil
	}
}

// NextFrame returns the next frame of any kind, heartbeats and pings included.
func (c *Conn) NextFrame(d time.Duration) (Msg, error) {
	return c.frameBefore(time.Now().Add(d))
}

// ProtocolError is a byte that the server must not send.
type ProtocolError struct{ what string }

func (e *ProtocolError) Error() string { return "a protocol error of the server: " + e.what }

func bad(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// fill reads until partial holds n bytes. What was read stays there when it fails.
func (c *Conn) fill(n int) error {
	for len(c.partial) < n {
		have := len(c.partial)
		step := min(n-have, 1<<20)
		c.partial = append(c.partial, make([]byte, step)...)
		m, err := io.ReadAtLeast(c.br, c.partial[have:], step)
		c.partial = c.partial[:have+m]
		if err != nil {
			if len(c.partial) == 0 && errors.Is(err, io.EOF) {
				return io.EOF
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("the end in the middle of a frame, after %d of its bytes: %w", len(c.partial), io.ErrUnexpectedEOF)
			}
			return err
		}
	}
	return nil
}

// frameBefore reads one frame, checks it, and answers a ping or a close.
func (c *Conn) frameBefore(deadline time.Time) (Msg, error) {
	if c.stopped {
		return Msg{}, errors.New("a read on a connection that stopped reading")
	}
	_ = c.nc.SetReadDeadline(deadline)
	head, size, err := c.header()
	if err != nil {
		return Msg{}, err
	}
	if err := c.fill(head + size); err != nil {
		return Msg{}, err
	}
	m := Msg{Op: c.partial[0] & 0xF, Payload: bytes.Clone(c.partial[head : head+size])}
	c.partial = c.partial[:0]
	if cap(c.partial) > 1<<20 {
		c.partial = nil
	}
	return m, c.judge(m)
}

// header reads a frame's header and returns its size and the payload's.
func (c *Conn) header() (head, size int, err error) {
	if err := c.fill(2); err != nil {
		return 0, 0, err
	}
	if c.closed {
		return 0, 0, bad("bytes after the close frame: %q", clip(c.partial))
	}
	first, second := c.partial[0], c.partial[1]
	op := first & 0xF
	switch {
	case first&0x70 != 0:
		return 0, 0, bad("reserved bits in frame header %#x %#x", first, second)
	case second&0x80 != 0:
		return 0, 0, bad("a masked frame, header %#x %#x", first, second)
	case op != Text && op != Binary && op != Close && op != Ping && op != Pong:
		return 0, 0, bad("opcode %#x in frame header %#x %#x", op, first, second)
	case first&0x80 == 0:
		return 0, 0, bad("a fragmented message, header %#x %#x", first, second)
	case op >= Close && second > 125:
		return 0, 0, bad("a control frame of more than 125 bytes, header %#x %#x", first, second)
	}
	switch second {
	default:
		return 2, int(second), nil
	case 126:
		if err := c.fill(4); err != nil {
			return 0, 0, err
		}
		size = int(binary.BigEndian.Uint16(c.partial[2:]))
		if size < 126 {
			return 0, 0, bad("length %d not in minimal form", size)
		}
		return 4, size, nil
	case 127:
		if err := c.fill(10); err != nil {
			return 0, 0, err
		}
		n := binary.BigEndian.Uint64(c.partial[2:])
		if n < 1<<16 {
			return 0, 0, bad("length %d not in minimal form", n)
		}
		if n > 1<<30 {
			return 0, 0, bad("length %d, more than any test sends", n)
		}
		return 10, int(n), nil
	}
}

// judge checks a whole frame's content and does what a client owes the server.
func (c *Conn) judge(m Msg) error {
	switch m.Op {
	case Text:
		if !utf8.Valid(m.Payload) {
			return bad("TEXT that is not UTF-8: %q", clip(m.Payload))
		}
		if m.is(Text, []byte("h")) {
			c.beats++
		}
	case Ping:
		c.pings++
		if !c.noPong && !c.sent {
			_ = c.SendE(Pong, m.Payload)
		}
	case Close:
		c.closed = true
		if len(m.Payload) == 1 {
			return bad("a close frame of one byte")
		}
		if n := m.Code(); len(m.Payload) > 0 && !mayStandOnTheWire(n) {
			return bad("close code %d", n)
		}
		if !utf8.ValidString(m.Reason()) {
			return bad("a close reason that is not UTF-8: %q", m.Reason())
		}
		if !c.sent && !c.noEcho {
			c.sent = true
			_ = c.SendE(Close, m.Payload[:min(2, len(m.Payload))])
		}
	}
	return nil
}

// mayStandOnTheWire: RFC 6455, section 7.4, and the IANA registry up to 1014.
func mayStandOnTheWire(code int) bool {
	switch code {
	case 1004, 1005, 1006, 1015:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}
