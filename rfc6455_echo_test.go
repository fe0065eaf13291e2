package main

import (
	"fmt"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
)

// Where a test suite for RFC 6455 wants its message echoed, here a publisher sends
// and a receiver gets.

// Section 5.2: every length and every form of it, whole, in single bytes, in fragments
// with control frames between them (5.4).
func TestRFC6455MessagesOfEverySize(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.receive("sizes", "key")
	pub := s.publish("sizes", "key")
	got := make(chan wstest.Msg, 1)
	go func() { // answers pings as well while single bytes are sent
		defer close(got)
		for {
			m, err := r.NextWithin(3 * wstest.Timeout)
			if err != nil {
				return
			}
			got <- m
		}
	}()
	chops := map[string]func(b []byte) int{
		"whole":              func(b []byte) int { return len(b) },
		"in single bytes":    func(b []byte) int { return max(1, len(b)/30_000) }, // large ones in a few
		"in writes of 997":   func([]byte) int { return 997 },
		"in writes of 65537": func([]byte) int { return 65537 },
	}
	for i, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		p := payload(n, uint64(i))
		for how, chop := range chops {
			b := wstest.Bytes(frame{Op: wstest.Binary, Payload: p}, frame{Op: wstest.Text, Payload: []byte(strings.Repeat("ß", n/2))})
			pub.SendChopped(b, chop(b))
			if m := <-got; m.Op != wstest.Binary || string(m.Payload) != string(p) {
				t.Fatalf("%d bytes %s: got %v", n, how, m)
			}
		}
		for _, fragments := range []int{2, 7, 1000} {
			var frames []frame
			for j, f := range wstest.Message(wstest.Binary, p, fragments) {
				frames = append(frames, f, frame{Op: wstest.Pong})
				if j%200 == 0 {
					frames = append(frames, frame{Op: wstest.Ping, Payload: fmt.Append(nil, j)})
				}
			}
			pub.SendFrames(frames...)
			if m := <-got; m.Op != wstest.Binary || string(m.Payload) != string(p) {
				t.Fatalf("%d bytes in %d fragments: got %v", n, fragments, m)
			}
		}
	}
	pub.Send(wstest.Ping, []byte("to the end"))
	for { // past the pongs of the pings between the fragments
		m, err := pub.NextFrame(wstest.Timeout)
		if err != nil || m.Op == wstest.Close || m.Op == wstest.Binary {
			t.Fatalf("wanted pongs, got %v, %v", m, err)
		}
		if m.Op == wstest.Pong && string(m.Payload) == "to the end" {
			break
		}
	}
}

// Section 7.1.7: what came before a violation counts, what comes after it does not.
func TestRFC6455ViolationsBetweenGoodMessages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		name string
		bad  frame
		code int
	}{
		{"5.1 no mask", frame{Op: wstest.Binary, Payload: []byte("x"), Unmasked: true}, 1002},
		{"5.2 RSV1", frame{Op: wstest.Binary, Payload: []byte("x"), RSV: 4}, 1002},
		{"5.2 RSV1 on a ping", frame{Op: wstest.Ping, RSV: 4}, 1002},
		{"5.2 all reserved bits on a close", frame{Op: wstest.Close, RSV: 7}, 1002},
		{"5.2 opcode 3", frame{Op: 3}, 1002},
		{"5.2 opcode 7, not final", frame{Op: 7, More: true}, 1002},
		{"5.2 opcode 11", frame{Op: 11, Payload: []byte("x")}, 1002},
		{"5.2 opcode 15", frame{Op: 15}, 1002},
		{"5.2 highest bit of the length", frame{Op: wstest.Binary, Declare: 1<<63 + 1}, 1002},
		{"5.4 continuation of nothing", frame{Op: wstest.Continuation, Payload: []byte("x")}, 1002},
		{"5.5 fragmented ping", frame{Op: wstest.Ping, More: true}, 1002},
		{"5.5 long pong", frame{Op: wstest.Pong, Payload: make([]byte, 126)}, 1002},
		{"5.5.1 close of one byte", frame{Op: wstest.Close, Payload: []byte{3}}, 1002},
		{"5.5.1 reason not UTF-8", frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "\xc3(")}, 1007},
		{"7.4.1 code 1005", frame{Op: wstest.Close, Payload: wstest.ClosePayload(1005, "")}, 1002},
		{"8.1 text", frame{Op: wstest.Text, Payload: []byte("\xed\xa0\x80")}, 1007},
	} {
		for _, chop := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s, in writes of %d", c.name, chop), func(t *testing.T) {
				s := s.on(t)
				r := s.receive("between", "key")
				pub := s.dialSoon("/between/key/publish")
				pub.SendChopped(wstest.Bytes(frame{Op: wstest.Binary, Payload: []byte("before")}), chop)
				_ = pub.SendChoppedE(wstest.Bytes(c.bad, frame{Op: wstest.Binary, Payload: []byte("after")}), chop)
				wantErrorClose(t, pub, c.code)
				r.WantPacket([]byte("before"))
				r.WantClose(1000)
				r.WantEOF()
			})
		}
	}
}

// Section 8.1: text that cannot become UTF-8 any more is refused at once, not when its
// frame or its message is complete.
func TestRFC6455TextFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		name string
		sent []byte
	}{
		{"8.1 in a frame that goes on", wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("κόσμε\xf4\x90"), Declare: 1000})},
		{"8.1 in a message that goes on", wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("κόσμε\xed\xa0"), More: true})},
		{"8.1 in a later fragment", wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("κόσμε\xf4"), More: true},
			frame{Op: wstest.Ping}, frame{Payload: []byte("\x90"), More: true})},
		{"8.1 at the end of an empty last fragment", wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("\xe2\x82"), More: true}, frame{})},
	} {
		t.Run(c.name, func(t *testing.T) {
			every(t, s, func(t *testing.T, conn *wstest.Conn) {
				_ = conn.SendChoppedE(c.sent, 1)
				for {
					m, err := conn.NextFrame(wstest.Timeout)
					if err != nil {
						t.Fatalf("wanted CLOSE 1007, got %v", err)
					}
					if m.Op == wstest.Close {
						if m.Code() != 1007 {
							t.Fatalf("wanted CLOSE 1007, got %v", m)
						}
						break
					}
				}
				conn.WantEOF()
			})
		})
	}
	t.Run("8.1 a character that is not complete yet", func(t *testing.T) {
		every(t, s, func(t *testing.T, conn *wstest.Conn) {
			conn.SendFrames(frame{Op: wstest.Text, Payload: []byte("\xf0\x9f\x98"), More: true})
			conn.Sync()
			conn.SendFrames(frame{Payload: []byte("\x80")})
			conn.Sync()
		})
	})
}

// Sections 5.5.2 and 5.5.3: pings one after the other in single bytes, each answered
// with its own payload, before the next one is sent.
func TestRFC6455PingsInSingleBytes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	every(t, s, func(t *testing.T, c *wstest.Conn) {
		for i := range 10 {
			p := payload(i*13, uint64(i)) // 0 to 117 bytes, not text
			c.SendChopped(wstest.Bytes(frame{Op: wstest.Pong, Payload: []byte("nobody asked")}, frame{Op: wstest.Ping, Payload: p}), 1)
			c.WantPong(p)
		}
	})
}

// Section 4.2.2: the answer to the RFC's own example, header by header.
func TestRFC6455TheAnswerToAHandshake(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	resp := wstest.Handshake(t, s.addr, "/chat/key/receive",
		wstest.Header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), wstest.Header("Origin", "http://example.com"),
		wstest.Header("Sec-WebSocket-Protocol", "chat, superchat"), wstest.Header("Sec-WebSocket-Extensions", "permessage-deflate, x-webkit-deflate-frame"))
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", // 1.3
		"Sec-WebSocket-Protocol": "", "Sec-WebSocket-Extensions": "", // 4.2.2(5): none was chosen
		"Content-Length": "", "Transfer-Encoding": "",
	} {
		if got := strings.Join(resp.Header.Values(name), "; "); got != want {
			t.Errorf("4.2.2 %s: %q, want %q", name, got, want)
		}
	}
	if resp.Status != 101 {
		t.Errorf("4.2.2: wanted 101, got %v", resp)
	}
}
