package wstest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unicode/utf8"
)

// Timeout is how long a read or a write waits unless the connection was opened
// with Patience.
const Timeout = 10 * time.Second

// Conn is an established WebSocket, seen from the client.
type Conn struct {
	// Static after construction.
	t       testing.TB // nil for connections made by Open
	name    string     // the path, for failures
	nc      net.Conn   // what is read and written: the TCP connection or TLS over it
	tcp     *net.TCPConn
	br      *bufio.Reader
	timeout time.Duration
	noPong  bool
	noEcho  bool

	// Owned by whoever calls the methods.
	stopped bool   // StopReading was called
	closed  bool   // the server's close frame was read
	sent    bool   // we sent a close frame
	pings   int    // pings of the server seen so far
	beats   int    // heartbeats `h` seen so far
	pingSeq int    // for Sync
	partial []byte // nothing is lost when a deadline cuts a frame in two
}

// LocalAddr is the client's own address.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// TCP is the connection below everything, for tests that want to hurt it.
func (c *Conn) TCP() *net.TCPConn { return c.tcp }

// Pings is the number of pings the server has sent so far, as far as it was read.
func (c *Conn) Pings() int { return c.pings }

// Heartbeats is the number of `h` messages read so far.
func (c *Conn) Heartbeats() int { return c.beats }

// Sending.

// Send sends one message in one frame.
func (c *Conn) Send(op byte, payload []byte) {
	c.t.Helper()
	c.SendFrames(Frame{Op: op, Payload: payload})
}

// SendE is Send for any goroutine.
func (c *Conn) SendE(op byte, payload []byte) error {
	return c.SendRawE(Frame{Op: op, Payload: payload}.AppendTo(nil))
}

// SendText sends one TEXT message.
func (c *Conn) SendText(s string) {
	c.t.Helper()
	c.Send(Text, []byte(s))
}

// SendFrames sends the frames in one write.
func (c *Conn) SendFrames(frames ...Frame) {
	c.t.Helper()
	c.SendRaw(Bytes(frames...))
}

// SendRaw sends bytes as they are.
func (c *Conn) SendRaw(b []byte) {
	c.t.Helper()
	if err := c.SendRawE(b); err != nil {
		c.t.Fatalf("%s: cannot send %d bytes: %v", c.name, len(b), err)
	}
}

// SendRawE is SendRaw for any goroutine.
func (c *Conn) SendRawE(b []byte) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
	_, err := c.nc.Write(b)
	return err
}

// SendChopped sends bytes in writes of n, giving the server a chance to read each.
func (c *Conn) SendChopped(b []byte, n int) {
	c.t.Helper()
	for len(b) > 0 {
		m := min(n, len(b))
		c.SendRaw(b[:m])
		b = b[m:]
		runtime.Gosched()
	}
}

// Sync returns when the server has answered two pings, the second sent after the
// first answer: by then it has read everything sent before and the session is
// past its hand-over. Nothing but pings and heartbeats may come meanwhile.
func (c *Conn) Sync() {
	c.t.Helper()
	for range 2 {
		c.pingSeq++
		p := fmt.Appendf(nil, "sync-%d", c.pingSeq)
		c.Send(Ping, p)
		c.WantPong(p)
	}
}

// CloseHandshake sends a close frame and reads to the server's, which must carry
// the same code, and to the end of the connection. Messages on the way are skipped.
func (c *Conn) CloseHandshake(code int) {
	c.t.Helper()
	c.SendClose(code, "")
	for {
		m, err := c.NextE()
		if err != nil {
			c.t.Fatalf("%s: sent close %d, wanted the server's close frame, got %v", c.name, code, err)
		}
		if m.Op != Close {
			continue
		}
		if m.Code() != code {
			c.t.Fatalf("%s: sent close %d, wanted it back, got %v", c.name, code, m)
		}
		break
	}
	c.WantEOF()
}

// SendClose sends a close frame; code 0 sends one without a payload.
func (c *Conn) SendClose(code int, reason string) {
	c.t.Helper()
	var p []byte
	if code != 0 {
		p = ClosePayload(code, reason)
	}
	c.sent = true
	c.Send(Close, p)
}

// Reset ends the connection with a TCP reset.
func (c *Conn) Reset() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

// Close ends the connection without a close frame, as a killed client does.
func (c *Conn) Close() { _ = c.tcp.Close() }

// CloseWrite shuts down the sending side only.
func (c *Conn) CloseWrite() { _ = c.tcp.CloseWrite() }

// StopReading makes the client stall: reading before ResumeReading fails the
// test. How much the kernel takes meanwhile is a matter of ReceiveBuffer.
func (c *Conn) StopReading() { c.stopped = true }

// ResumeReading ends the stall.
func (c *Conn) ResumeReading() { c.stopped = false }

// Receiving.

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

// WantPacket fails unless the next message is BINARY with exactly these bytes.
func (c *Conn) WantPacket(p []byte) {
	c.t.Helper()
	m, err := c.NextE()
	if err != nil {
		c.t.Fatalf("%s: wanted a packet of %d bytes %q, got %v", c.name, len(p), clip(p), err)
	}
	if !m.is(Binary, p) {
		c.t.Fatalf("%s: wanted a packet of %d bytes %q, got %v%s", c.name, len(p), clip(p), m, difference(p, m.Payload))
	}
}

func difference(want, got []byte) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf(" (first difference at byte %d)", i)
		}
	}
	return ""
}

// WantPackets is WantPacket for each.
func (c *Conn) WantPackets(ps ...[]byte) {
	c.t.Helper()
	for _, p := range ps {
		c.WantPacket(p)
	}
}

// WantText fails unless the next message is this TEXT. A wanted `h` may take
// as long as heartbeats do.
func (c *Conn) WantText(s string) {
	c.t.Helper()
	deadline := time.Now().Add(c.timeout)
	next := c.nextBefore
	if s == "h" {
		deadline = time.Now().Add(max(c.timeout, 30*time.Second))
		next = c.frameBefore
	}
	for {
		m, err := next(deadline)
		if err != nil {
			c.t.Fatalf("%s: wanted TEXT %q, got %v", c.name, s, err)
		}
		if m.Op == Ping || m.Op == Pong {
			continue
		}
		if !m.is(Text, []byte(s)) {
			c.t.Fatalf("%s: wanted TEXT %q, got %v", c.name, s, m)
		}
		return
	}
}

// WantPong reads to the next pong, past heartbeats and pings; it must carry p.
func (c *Conn) WantPong(p []byte) {
	c.t.Helper()
	deadline := time.Now().Add(c.timeout)
	for {
		m, err := c.frameBefore(deadline)
		switch {
		case err != nil:
			c.t.Fatalf("%s: wanted PONG %q, got %v", c.name, clip(p), err)
		case m.is(Pong, p):
			return
		case m.Op == Ping, m.is(Text, []byte("h")):
		default:
			c.t.Fatalf("%s: wanted PONG %q, got %v", c.name, clip(p), m)
		}
	}
}

// WantClose fails unless the next message is a close frame with this code. It is
// answered, as RFC 6455 asks, unless the connection was opened with NoEcho.
func (c *Conn) WantClose(code int) string {
	c.t.Helper()
	m, err := c.NextE()
	if err != nil {
		c.t.Fatalf("%s: wanted CLOSE %d, got %v", c.name, code, err)
	}
	if m.Op != Close || m.Code() != code {
		c.t.Fatalf("%s: wanted CLOSE %d, got %v", c.name, code, m)
	}
	return m.Reason()
}

// WantEOF fails unless the server ends the connection, in order, without sending
// anything else but heartbeats and pings.
func (c *Conn) WantEOF() {
	c.t.Helper()
	m, err := c.NextE()
	if err == nil {
		c.t.Fatalf("%s: wanted the end of the connection, got %v", c.name, m)
	}
	if !errors.Is(err, io.EOF) {
		c.t.Fatalf("%s: wanted the end of the connection, got %v", c.name, err)
	}
}

// WantGone fails unless the connection ends, in whatever way, within the timeout.
// What comes before the end is skipped.
func (c *Conn) WantGone() {
	c.t.Helper()
	deadline := time.Now().Add(c.timeout)
	for {
		m, err := c.frameBefore(deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("%s: wanted the connection gone, it is still open after %v", c.name, c.timeout)
		}
		var bad *ProtocolError
		if errors.As(err, &bad) {
			c.t.Fatalf("%s: wanted the connection gone, got %v", c.name, err)
		}
		if err != nil {
			return
		}
		_ = m
	}
}

// WantNothing fails if a message comes, or the connection ends, within d.
// Heartbeats and pings may come.
func (c *Conn) WantNothing(d time.Duration) {
	c.t.Helper()
	m, err := c.nextBefore(time.Now().Add(d))
	if err == nil {
		c.t.Fatalf("%s: wanted nothing for %v, got %v", c.name, d, m)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("%s: wanted nothing for %v, got %v", c.name, d, err)
	}
}

// WantError fails unless the next message is TEXT `ERROR: <reason>`, then a close
// frame with this code, then the end of the connection.
func (c *Conn) WantError(reason string, code int) {
	c.t.Helper()
	c.WantText("ERROR: " + reason)
	c.WantClose(code)
	c.WantEOF()
}

// The reader.

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
