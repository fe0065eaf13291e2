package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// every is each kind of client, freshly connected; what RFC 6455 asks of the
// server does not depend on the kind. Each has a channel of its own: a receiver
// must not meet the end of the publisher before it.
func every(t *testing.T, s *server, test func(t *testing.T, c *wstest.Conn)) {
	t.Helper()
	for _, kind := range []string{"publish", "receive", "receive-clear-cache", "probe"} {
		t.Run(kind, func(t *testing.T) {
			test(t, s.on(t).dialSoon("/rfc-"+kind+"/key/"+kind))
		})
	}
}

// on is the same server, whose clients belong to another test.
func (s *server) on(t *testing.T) *server {
	c := *s
	c.t = t
	return &c
}

type frame = wstest.Frame

// A case's name begins with the section of RFC 6455 that it is about.
func TestBrokenFramesAreClosedWith1002(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := []byte("x")
	for _, c := range []struct {
		name string
		sent []byte
	}{
		{"5.1 unmasked binary", wstest.Bytes(frame{Op: wstest.Binary, Payload: x, Unmasked: true})},
		{"5.1 unmasked text", wstest.Bytes(frame{Op: wstest.Text, Payload: x, Unmasked: true})},
		{"5.1 unmasked empty", wstest.Bytes(frame{Op: wstest.Binary, Unmasked: true})},
		{"5.1 unmasked ping", wstest.Bytes(frame{Op: wstest.Ping, Unmasked: true})},
		{"5.2 RSV1", wstest.Bytes(frame{Op: wstest.Binary, Payload: x, RSV: 4})},
		{"5.2 RSV2", wstest.Bytes(frame{Op: wstest.Binary, Payload: x, RSV: 2})},
		{"5.2 RSV3", wstest.Bytes(frame{Op: wstest.Binary, Payload: x, RSV: 1})},
		{"5.2 RSV1 on text", wstest.Bytes(frame{Op: wstest.Text, Payload: x, RSV: 4})},
		{"5.2 RSV1 on a ping", wstest.Bytes(frame{Op: wstest.Ping, RSV: 4})},
		{"5.2 RSV1 on a continuation", wstest.Bytes(frame{Op: wstest.Binary, More: true}, frame{RSV: 4})},
		{"5.2 opcode 3", wstest.Bytes(frame{Op: 3, Payload: x})},
		{"5.2 opcode 4", wstest.Bytes(frame{Op: 4, Payload: x})},
		{"5.2 opcode 5", wstest.Bytes(frame{Op: 5, Payload: x})},
		{"5.2 opcode 6", wstest.Bytes(frame{Op: 6, Payload: x})},
		{"5.2 opcode 7", wstest.Bytes(frame{Op: 7, Payload: x})},
		{"5.2 opcode 11", wstest.Bytes(frame{Op: 11})},
		{"5.2 opcode 12", wstest.Bytes(frame{Op: 12})},
		{"5.2 opcode 13", wstest.Bytes(frame{Op: 13})},
		{"5.2 opcode 14", wstest.Bytes(frame{Op: 14})},
		{"5.2 opcode 15", wstest.Bytes(frame{Op: 15})},
		{"5.4 continuation of nothing", wstest.Bytes(frame{Op: wstest.Continuation, Payload: x})},
		{"5.4 continuation of nothing, not final", wstest.Bytes(frame{Op: wstest.Continuation, More: true})},
		{"5.4 continuation after a whole message", wstest.Bytes(frame{Op: wstest.Binary, Payload: x}, frame{Payload: x})},
		{"5.4 binary inside a binary message", wstest.Bytes(frame{Op: wstest.Binary, More: true}, frame{Op: wstest.Binary})},
		{"5.4 text inside a binary message", wstest.Bytes(frame{Op: wstest.Binary, More: true}, frame{Op: wstest.Text, Payload: []byte("h")})},
		{"5.4 binary inside a text message", wstest.Bytes(frame{Op: wstest.Text, More: true}, frame{Op: wstest.Binary})},
		{"5.5 fragmented ping", wstest.Bytes(frame{Op: wstest.Ping, More: true})},
		{"5.5 fragmented close", wstest.Bytes(frame{Op: wstest.Close, More: true})},
		{"5.5 fragmented pong", wstest.Bytes(frame{Op: wstest.Pong, More: true})},
		{"5.5 ping of 126 bytes", wstest.Bytes(frame{Op: wstest.Ping, Payload: make([]byte, 126)})},
		{"5.5 pong of 126 bytes", wstest.Bytes(frame{Op: wstest.Pong, Payload: make([]byte, 126)})},
		{"5.5 close of 126 bytes", wstest.Bytes(frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, strings.Repeat("x", 124))})},
		{"5.5 ping of one byte, its length in 16 bits", wstest.Bytes(frame{Op: wstest.Ping, Payload: x, Form: 16})},
		{"5.5 ping that declares 2^40", wstest.Bytes(frame{Op: wstest.Ping, Declare: 1 << 40})},
		{"5.2 length with the highest bit", wstest.Bytes(frame{Op: wstest.Binary, Declare: 1 << 63})},
		{"5.5.1 close of one byte", wstest.Bytes(frame{Op: wstest.Close, Payload: x})},
	} {
		t.Run(c.name, func(t *testing.T) {
			every(t, s, func(t *testing.T, conn *wstest.Conn) {
				conn.SendRaw(c.sent)
				wantErrorClose(t, conn, 1002)
			})
		})
	}
	// In pieces the same holds.
	c := s.dialSoon("/rfc/key/publish")
	for _, b := range wstest.Bytes(frame{Op: wstest.Binary, RSV: 1, Payload: payload(126, 1)}) {
		if c.SendRawE([]byte{b}) != nil {
			break // the server need not wait for what is behind a violation
		}
	}
	wantErrorClose(t, c, 1002)
}

// wantErrorClose reads an optional ERROR text, a close frame and the end.
func wantErrorClose(t *testing.T, c *wstest.Conn, codes ...int) {
	t.Helper()
	m := c.Next()
	if m.Op == wstest.Text {
		if !strings.HasPrefix(string(m.Payload), "ERROR: ") {
			t.Fatalf("wanted an error and CLOSE %d, got %v", codes, m)
		}
		m = c.Next()
	}
	ok := false
	for _, code := range codes {
		ok = ok || m.Op == wstest.Close && m.Code() == code
	}
	if !ok {
		t.Fatalf("wanted CLOSE %d, got %v", codes, m)
	}
	c.WantEOF()
}

func TestClosesOfAClientAreAnswered(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// Codes that may stand on the wire come back (5.5.1, 7.4).
	every(t, s, func(t *testing.T, c *wstest.Conn) { c.CloseHandshake(1000) })
	every(t, s, func(t *testing.T, c *wstest.Conn) { c.CloseHandshake(1001) })
	for _, code := range []int{1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4008, 4999} {
		s.dialSoon("/rfc/key/receive").CloseHandshake(code)
	}
	t.Run("5.5.1 with a reason", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.SendClose(1000, "wir sind fertig, über alle Maßen")
			c.WantClose(1000)
			c.WantEOF()
		})
	})
	t.Run("5.5.1 with the longest reason", func(t *testing.T) {
		c := s.on(t).receive("rfc", "key")
		c.SendClose(1000, strings.Repeat("r", 123))
		c.WantClose(1000)
		c.WantEOF()
	})
	t.Run("7.1.5 without a code", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.SendClose(0, "")
			m := c.Next()
			if m.Op != wstest.Close || m.Code() != 1005 && m.Code() != 1000 {
				t.Fatalf("wanted CLOSE without a code or 1000, got %v", m)
			}
			c.WantEOF()
		})
	})
	t.Run("5.4 inside a fragmented message", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.SendFrames(frame{Op: wstest.Binary, Payload: []byte("x"), More: true})
			c.CloseHandshake(1000)
		})
	})
	t.Run("5.5.1 what follows a close is discarded", func(t *testing.T) {
		r := s.on(t).receive("rfc2", "key")
		c := s.on(t).publish("rfc2", "key")
		c.SendFrames(
			frame{Op: wstest.Binary, Payload: []byte("before")},
			frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "")},
			frame{Op: wstest.Binary, Payload: []byte("after")},
			frame{Op: wstest.Ping, Payload: []byte("after")},
			frame{Op: 15, RSV: 7, Unmasked: true},
		)
		c.WantClose(1000)
		c.WantEOF()
		r.WantPacket([]byte("before"))
		r.WantClose(1000)
		r.WantEOF()
	})
}

func TestForbiddenCloseCodes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, code := range []int{1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		t.Run(fmt.Sprintf("7.4.2 %d", code), func(t *testing.T) {
			c := s.on(t).receive("rfc", "key")
			c.SendClose(code, "")
			wantErrorClose(t, c, 1002)
		})
	}
	t.Run("7.4.2 0", func(t *testing.T) {
		c := s.on(t).receive("rfc", "key")
		c.SendFrames(frame{Op: wstest.Close, Payload: []byte{0, 0}})
		wantErrorClose(t, c, 1002)
	})
}

func TestTextMustBeUTF8(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct{ name, text string }{
		{"8.1 a lone byte", "\xff"},
		{"8.1 a lone continuation", "abc\x80"},
		{"8.1 overlong slash", "\xc0\xaf"},
		{"8.1 overlong in three", "\xe0\x80\xaf"},
		{"8.1 a surrogate", "\xed\xa0\x80"},
		{"8.1 beyond U+10FFFF", "\xf4\x90\x80\x80"},
		{"8.1 five bytes", "\xf8\x88\x80\x80\x80"},
		{"8.1 cut short", "κόσμε\xce"},
		{"8.1 cut short, four bytes", "\xf0\x9f\x98"},
	} {
		t.Run(c.name, func(t *testing.T) {
			every(t, s, func(t *testing.T, conn *wstest.Conn) {
				conn.SendText(c.text)
				wantErrorClose(t, conn, 1007)
			})
			fragments := s.on(t).dialSoon("/rfc/key/publish")
			fragments.SendFrames(wstest.Message(wstest.Text, []byte(c.text), len(c.text))...)
			wantErrorClose(t, fragments, 1007)
			pieces := s.on(t).receive("rfc", "key")
			_ = pieces.SendChoppedE(frame{Op: wstest.Text, Payload: []byte(c.text)}.AppendTo(nil), 1)
			wantErrorClose(t, pieces, 1007)
		})
	}
	t.Run("8.1 close reason", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.SendClose(1000, "abc\xff")
			wantErrorClose(t, c, 1007)
		})
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.SendClose(1000, "cut \xf0\x9f\x98")
			wantErrorClose(t, c, 1007)
		})
	})
	t.Run("5.4, 8.1 characters over fragment borders are fine", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			text := []byte("κόσμε 😀 \U0010ffff \ufeff \x00")
			c.SendFrames(wstest.Message(wstest.Text, text, len(text))...)
			var b []byte
			for i, f := range wstest.Message(wstest.Text, text, len(text)) {
				b = f.AppendTo(b)
				b = frame{Op: wstest.Ping, Payload: []byte{byte(i)}}.AppendTo(b)
			}
			c.SendRaw(b)
			for i := range len(text) {
				c.WantPong([]byte{byte(i)})
			}
			c.Sync()
		})
	})
	t.Run("5.6 binary need not be", func(t *testing.T) {
		every(t, s, func(t *testing.T, c *wstest.Conn) {
			c.Send(wstest.Binary, []byte("\xff\xfe"))
			c.Send(wstest.Ping, []byte("\xff\xfe"))
			c.WantPong([]byte("\xff\xfe"))
		})
	})
}

// Sections 5.5.2 and 5.5.3: the pong has the ping's payload; a pong that nobody asked
// for is nothing.
func TestPingsAreAnswered(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	every(t, s, func(t *testing.T, c *wstest.Conn) {
		for _, p := range [][]byte{{}, []byte("x"), payload(125, 1)} {
			c.Send(wstest.Ping, p)
			c.WantPong(p)
		}
		c.SendChopped(frame{Op: wstest.Ping, Payload: payload(125, 2)}.AppendTo(nil), 1)
		c.WantPong(payload(125, 2))
		c.Send(wstest.Pong, []byte("nobody asked"))
		c.Send(wstest.Pong, nil)
		c.Send(wstest.Ping, []byte("still here"))
		c.WantPong([]byte("still here"))
	})
}

// Of several pings the newest must be answered; older ones may be (5.5.3).
func TestManyPingsAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	every(t, s, func(t *testing.T, c *wstest.Conn) {
		var b []byte
		const n = 5000
		for i := range n {
			b = frame{Op: wstest.Ping, Payload: fmt.Appendf(nil, "%06d", i)}.AppendTo(b)
		}
		c.SendRaw(b)
		last := ""
		for last != fmt.Sprintf("%06d", n-1) {
			m, err := c.NextFrame(patience)
			if err != nil {
				t.Fatalf("wanted the pong to the last ping, got %v after the pong %q", err, last)
			}
			if m.Op != wstest.Pong {
				continue
			}
			if string(m.Payload) <= last {
				t.Fatalf("wanted pongs in order, got %q after %q", m.Payload, last)
			}
			last = string(m.Payload)
		}
	})
}

// Section 5.4: a control frame may stand between the fragments of a message, never
// inside a frame.
func TestControlFramesBetweenFragmentsAndPacketsOnTheWayBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.receive("cam", "key")
	pub := s.publish("cam", "key")
	big := payload(2<<20, 1)
	for i, f := range wstest.Message(wstest.Binary, big, 20) {
		p := fmt.Appendf(nil, "ping %d", i)
		pub.SendFrames(f, frame{Op: wstest.Ping, Payload: p}, frame{Op: wstest.Pong})
		pub.WantPong(p)
		if i < 19 { // the last fragment brings the packet
			r.Send(wstest.Ping, p)
			r.WantPong(p)
		}
	}
	r.WantPacket(big)
	// A receiver's pings are answered in the middle of its packets, at frame borders.
	var pings []byte
	for i := range 200 {
		pings = frame{Op: wstest.Ping, Payload: fmt.Appendf(nil, "%d", i)}.AppendTo(pings)
	}
	for i := range 20 {
		pub.Send(wstest.Binary, payload(300_000, uint64(i)))
		r.SendRaw(pings)
	}
	for i := range 20 {
		r.WantPacket(payload(300_000, uint64(i)))
	}
	r.Send(wstest.Ping, []byte("done"))
	for {
		m, err := r.NextFrame(patience)
		if err != nil || m.Op == wstest.Binary {
			t.Fatalf("wanted the last pong, got %v, %v", m, err)
		}
		if m.Op == wstest.Pong && bytes.Equal(m.Payload, []byte("done")) {
			break
		}
	}
}

// Section 7.1.1: the server ends the TCP connection.
func TestServerEndsTheConnectionWhenTheClientDoesNot(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// A client that never answers the server's close frame.
	r := s.receive("cam", "wrong", wstest.NoEcho())
	pub := s.publish("cam", "key")
	r.WantText("ERROR: " + wrongKey)
	r.WantClose(1008)
	r.WantEOF()
	// One that goes on sending instead.
	chatty := s.receive("cam", "wrong", wstest.NoEcho())
	chatty.WantText("ERROR: " + wrongKey)
	chatty.WantClose(1008)
	stop := time.Now().Add(patience)
	for chatty.SendE(wstest.Binary, payload(1000, 1)) == nil {
		if time.Now().After(stop) {
			t.Fatalf("the server reads on %v after its close frame", patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
	pub.Sync()
}

func TestGarbageAfterTheUpgrade(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	watch := s.receive("garbage", "key")
	for seed := range 60 {
		kind := []string{"publish", "receive", "probe"}[seed%3]
		c := s.dialSoon(fmt.Sprintf("/g%d/key/%s", seed, kind))
		_ = c.SendRawE(payload(5000, uint64(seed)))
		c.Close()
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", strings.Repeat("\x00", 1000), strings.Repeat("\xff", 1000)} {
		c := s.receive("g", "key")
		_ = c.SendRawE([]byte(text))
		c.WantGone()
	}
	watch.Sync()
}
