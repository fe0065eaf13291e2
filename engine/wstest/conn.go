package wstest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"
)

// Timeout is how long a read or a write waits unless the connection was opened
// with Patience: longer than anything takes on a busy machine, for it is waited for in
// vain only where a test fails.
const Timeout = time.Minute

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

// Raw gives the Conn up: it returns what is below it, TLS if the connection speaks
// that, and a copy of what was read beyond the handshake.
func (c *Conn) Raw() (nc net.Conn, early []byte) {
	b, _ := c.br.Peek(c.br.Buffered())
	return c.nc, bytes.Clone(b)
}

// Pings is the number of pings the server has sent so far, as far as it was read.
func (c *Conn) Pings() int { return c.pings }

// Heartbeats is the number of `h` messages read so far.
func (c *Conn) Heartbeats() int { return c.beats }

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
	if err := c.SendChoppedE(b, n); err != nil {
		c.t.Fatal(err)
	}
}

// SendChoppedE is SendChopped for what the server may refuse before it has come to the
// last byte: then it waits only 2 s for the rest.
func (c *Conn) SendChoppedE(b []byte, n int) error {
	for part := range slices.Chunk(b, n) {
		if err := c.SendRawE(part); err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
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

// SyncE pings, and reads past everything until that is answered, or the close frame has
// come, whose code it returns; any goroutine. 0: the session goes on.
func (c *Conn) SyncE() (closed int, err error) {
	_ = c.SendE(Ping, []byte("sync")) // it may have been closed
	for end := time.Now().Add(c.timeout); ; {
		switch m, err := c.frameBefore(end); {
		case err != nil:
			return 0, err
		case m.Op == Close:
			return m.Code(), nil
		case m.is(Pong, []byte("sync")):
			return 0, nil
		}
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
