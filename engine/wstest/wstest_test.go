package wstest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// scripted answers one handshake with a proper 101, then sends bytes, then closes.
func scripted(t *testing.T, then []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
			return
		}
		_, _ = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
			"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"))
		_, _ = nc.Write(then)
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	}()
	return ln.Addr().String()
}

func TestTheClientSeesEveryMistakeOfAServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sent []byte
	}{
		{"mask", []byte{0x82, 0x81, 1, 2, 3, 4, 5}},
		{"reserved bit", []byte{0xC2, 0x01, 'x'}},
		{"opcode 3", []byte{0x83, 0x00}},
		{"opcode 11", []byte{0x8B, 0x00}},
		{"fragment", []byte{0x02, 0x01, 'x'}},
		{"continuation", []byte{0x80, 0x01, 'x'}},
		{"length 16 for 5", []byte{0x82, 126, 0, 5, 1, 2, 3, 4, 5}},
		{"length 64 for 5", []byte{0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5}},
		{"long ping", append([]byte{0x89, 126, 0, 126}, make([]byte, 126)...)},
		{"text", []byte{0x81, 0x01, 0xFF}},
		{"close of one byte", []byte{0x88, 0x01, 3}},
		{"close code 1005", []byte{0x88, 0x02, 0x03, 0xED}},
		{"close code 999", []byte{0x88, 0x02, 0x03, 0xE7}},
		{"close reason", []byte{0x88, 0x03, 0x03, 0xE8, 0xFF}},
	} {
		conn := Dial(t, scripted(t, c.sent), "/a/b/receive")
		_, err := conn.NextE()
		var bad *ProtocolError
		if !errors.As(err, &bad) {
			t.Errorf("%s: wanted a protocol error, got %v", c.name, err)
		}
	}
	conn := Dial(t, scripted(t, []byte{0x88, 0x00, 0x82, 0x00}), "/a/b/receive")
	if m, err := conn.NextE(); err != nil || m.Op != Close {
		t.Fatalf("wanted a close frame, got %v, %v", m, err)
	}
	var bad *ProtocolError
	if _, err := conn.NextE(); !errors.As(err, &bad) {
		t.Errorf("bytes after close: wanted a protocol error, got %v", err)
	}
}

func TestAFrameCutByADeadlineIsReadOn(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	c := &Conn{t: t, nc: ours, br: bufio.NewReader(ours), timeout: Timeout}
	p := bytes.Repeat([]byte("0123456789"), 20)
	timedOut := make(chan struct{})
	go func() {
		_, _ = theirs.Write([]byte{0x82, 126})
		<-timedOut
		_, _ = theirs.Write(append([]byte{0, 200}, p...))
	}()
	if _, err := c.NextWithin(30 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wanted a time-out, got %v", err)
	}
	close(timedOut)
	c.WantPacket(p)
}

func TestFramesHaveTheBytesOfRFC6455(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Frame
		want []byte
	}{
		{Frame{Op: Text, Payload: []byte("h"), ZeroMask: true}, []byte{0x81, 0x81, 0, 0, 0, 0, 'h'}},
		{Frame{Op: Binary, More: true, RSV: 5, Unmasked: true}, []byte{0x52, 0x00}},
		{Frame{Op: Ping, Form: 16, Unmasked: true, Payload: []byte("x")}, []byte{0x89, 126, 0, 1, 'x'}},
		{Frame{Op: Binary, Unmasked: true, Declare: 1 << 16}, []byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
	} {
		if got := Bytes(c.f); !bytes.Equal(got, c.want) {
			t.Errorf("%+v: wanted % x, got % x", c.f, c.want, got)
		}
	}
	if n := len(Message(Binary, make([]byte, 10), 3)); n != 3 {
		t.Errorf("wanted 3 frames, got %d", n)
	}
}
