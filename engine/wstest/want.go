package wstest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

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
