package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

const wrongKey = "Invalid streaming key"

func TestReceiverGetsTheCacheThenLivePackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(6)

	pub := s.publish("cam", "key")
	early := s.receive("cam", "key")
	sendAll(pub, ps[:3]...)
	early.WantPackets(ps[:3]...)

	late := s.receive("cam", "key")
	late.WantPackets(ps[:3]...)
	sendAll(pub, ps[3:]...)
	late.WantPackets(ps[3:]...)
	early.WantPackets(ps[3:]...)
	late.WantNothing(100 * time.Millisecond)

	pub.CloseHandshake(1000)
	for _, r := range []*wstest.Conn{early, late} {
		r.WantClose(1000)
		r.WantEOF()
	}
}

func TestReceiverWaitsForAPublisher(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.receive("cam", "key")
	other := s.receive("other", "key")
	r.WantNothing(200 * time.Millisecond)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("first"))
	r.WantPacket([]byte("first"))
	other.WantNothing(200 * time.Millisecond)
}

func TestPacketsOfEverySizeArriveByteForByte(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	sizes := []int{
		0, 1, 2, 3, 124, 125, 126, 127, 128, 1023, 4086, 4096, 16384, 32767,
		65525, 65526, 65527, 65534, 65535, 65536, 65537, 131072, 1 << 20, 1<<20 + 1, 0,
	}
	live := s.receive("cam", "key")
	pub := s.publish("cam", "key")
	for i, n := range sizes {
		pub.Send(wstest.Binary, payload(n, uint64(i)))
		live.WantPacket(payload(n, uint64(i)))
	}
	cached := s.receive("cam", "key")
	for i, n := range sizes {
		cached.WantPacket(payload(n, uint64(i)))
	}
}

// A case's name begins with the section of RFC 6455 that it is about.
func TestPublisherFramesInEveryShape(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := payload(3000, 1)
	var ping = wstest.Frame{Op: wstest.Ping, Payload: []byte("in between")}
	for _, c := range []struct {
		name   string
		frames []wstest.Frame
		want   [][]byte
	}{
		{"5.4 two fragments", wstest.Message(wstest.Binary, p, 2), [][]byte{p}},
		{"5.4 3000 fragments", wstest.Message(wstest.Binary, p, 3000), [][]byte{p}},
		{"5.4 empty fragments only", wstest.Message(wstest.Binary, nil, 3), [][]byte{{}}},
		{"5.4 an empty last fragment", []wstest.Frame{
			{Op: wstest.Binary, Payload: p, More: true},
			{Op: wstest.Continuation},
		}, [][]byte{p}},
		{"5.4 an empty first fragment", []wstest.Frame{
			{Op: wstest.Binary, More: true},
			{Op: wstest.Continuation, Payload: p},
		}, [][]byte{p}},
		{"5.4 a ping between fragments", []wstest.Frame{
			{Op: wstest.Binary, Payload: p[:1000], More: true},
			ping,
			{Op: wstest.Continuation, Payload: p[1000:]},
		}, [][]byte{p}},
		{"5.2 longer lengths than needed", []wstest.Frame{ // tolerated; ours are minimal
			{Op: wstest.Binary, Payload: p[:5], Form: 16},
			{Op: wstest.Binary, Payload: p[:200], Form: 64},
			{Op: wstest.Binary, Form: 64},
		}, [][]byte{p[:5], p[:200], {}}},
		{"5.3 mask 0", []wstest.Frame{{Op: wstest.Binary, Payload: p, ZeroMask: true}}, [][]byte{p}},
		{"5.6 text between packets", []wstest.Frame{
			{Op: wstest.Binary, Payload: p[:10]},
			{Op: wstest.Text, Payload: []byte("h")},
			{Op: wstest.Text, Payload: []byte("anything else")},
			{Op: wstest.Text, Payload: []byte("frag"), More: true},
			{Op: wstest.Continuation, Payload: []byte("mented")},
			{Op: wstest.Text},
			{Op: wstest.Binary, Payload: p[10:20]},
		}, [][]byte{p[:10], p[10:20]}},
	} {
		for _, chop := range []int{1 << 20, 7, 1} {
			b := wstest.Bytes(c.frames...)
			if chop == 1 && len(b) > 8000 {
				continue
			}
			name := fmt.Sprintf("%s, in writes of %d", c.name, chop)
			pub := s.publish("shapes", "key")
			r := s.receive("shapes", "key")
			var life wstest.LifeSigns // of the receiver: thousands of writes may take longer than a minute
			for part := range slices.Chunk(b, 200*chop) {
				life.From(r)
				pub.SendChopped(part, chop)
			}
			for i, want := range c.want {
				if m := r.Next(); m.Op != wstest.Binary || !bytes.Equal(m.Payload, want) {
					t.Errorf("%s: packet %d: wanted %d bytes, got %v", name, i, len(want), m)
				}
			}
			pub.CloseHandshake(1000)
			r.WantClose(1000)
			r.WantEOF()
		}
	}
}

func TestWhatAReceiverSendsIsIgnored(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	r := s.receive("cam", "key")
	other := s.receive("cam", "key")
	r.Send(wstest.Binary, []byte("not a packet"))
	r.SendText("h")
	r.SendText("")
	r.SendFrames(wstest.Message(wstest.Binary, payload(100_000, 3), 10)...)
	r.SendText("sometext")
	r.Send(wstest.Binary, payload(3<<20, 4)) // more than a publisher may send
	r.Sync()
	pub := s.publish("cam", "key")
	r.Send(wstest.Binary, []byte("not a packet either"))
	r.Sync()
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	other.WantPacket([]byte("p"))
	other.WantNothing(100 * time.Millisecond)
	pub.WantNothing(0)
}

func TestPublisherGetsNoPackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	s.receive("cam", "key").WantPacket([]byte("p"))
	pub.WantNothing(200 * time.Millisecond)
}

func TestChannelsAndKeysAreCaseSensitiveAndSeparate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lower, upper := s.publish("cam", "key"), s.publish("CAM", "KEY")
	rl, ru := s.receive("cam", "key"), s.receive("CAM", "KEY")
	lower.Send(wstest.Binary, []byte("lower"))
	upper.Send(wstest.Binary, []byte("upper"))
	rl.WantPacket([]byte("lower"))
	ru.WantPacket([]byte("upper"))
	s.receive("cam", "Key").WantError(wrongKey, 1008)
	s.receive("Cam", "key").WantNothing(100 * time.Millisecond)
}

// Keys.

func TestMistake04JoinersDuringTheStreamMissAndRepeatNothing(t *testing.T) {
	t.Parallel()
	heavy(t)
	for _, c := range []struct {
		name, kind string
		env        []string
		fromFirst  bool
	}{
		{"cache", "receive", nil, true},
		{"no cache", "receive", []string{"GOP_CACHE_SIZE_MB=0"}, false},
		{"clear", "receive-clear-cache", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, c.env...)
			const total, joiners = 4000, 40
			pub := s.publish("cam", "key")
			watch := s.receive("cam", "key")
			watch.Sync()
			var wg, joined sync.WaitGroup
			errs := make(chan error, joiners)
			join := func() {
				conn, resp, err := wstest.Open(s.addr, "/cam/key/"+c.kind)
				joined.Done()
				if conn == nil {
					errs <- fmt.Errorf("cannot join: %v, %v", resp, err)
					return
				}
				defer conn.Close()
				errs <- wantRun(conn, total, c.fromFirst)
			}
			b := payload(700, 9)
			for i := range total {
				binary.BigEndian.PutUint32(b, uint32(i))
				pub.Send(wstest.Binary, b[:4+i%690])
				if i%(total/joiners) == 50 {
					joined.Add(1)
					wg.Go(join)
				}
				if i == total-20 {
					joined.Wait() // the last packets come when everybody is there
				}
				if i%8 == 0 { // keeps the load even: it goes at the speed of one receiver
					for j := max(0, i-7); j <= i; j++ {
						if _, err := watch.NextE(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			pub.CloseHandshake(1000)
			wg.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// wantRun reads numbered packets to the close: one run without gap or repeat, from
// 0 when fromFirst, to total-1.
func wantRun(c *wstest.Conn, total int, fromFirst bool) error {
	next := -1
	if fromFirst {
		next = 0
	}
	for {
		m, err := c.NextWithin(60 * time.Second)
		if err != nil {
			return fmt.Errorf("after packet %d of %d: %w", next-1, total, err)
		}
		if m.Op == wstest.Close {
			if m.Code() != 1000 {
				return fmt.Errorf("after packet %d of %d: %v", next-1, total, m)
			}
			break
		}
		i := int(binary.BigEndian.Uint32(m.Payload))
		if next >= 0 && i != next {
			return fmt.Errorf("wanted packet %d, got packet %d", next, i)
		}
		next = i + 1
	}
	if next != total && next != -1 {
		return fmt.Errorf("wanted packet %d last, got %d", total-1, next-1)
	}
	if _, err := c.NextE(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wanted the end after the close, got %v", err)
	}
	return nil
}

// Limits on messages.

func TestMistake07MessageSizeIsLimited(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=4")
	most := payload(1<<20, 1)
	tooMuch := payload(1<<20+1, 2)
	huge := wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 1 << 62})
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"one frame", wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: tooMuch})},
		{"fragments", wstest.Bytes(wstest.Message(wstest.Binary, tooMuch, 5)...)},
		{"one byte beyond, in a last fragment", wstest.Bytes(
			wstest.Frame{Op: wstest.Binary, Payload: most, More: true},
			wstest.Frame{Op: wstest.Continuation, Payload: []byte("x")})},
		{"only declared", huge},
	} {
		t.Run(c.name, func(t *testing.T) {
			pub := s.publish("cam", "key")
			r := s.receive("cam", "key")
			pub.Send(wstest.Binary, most)
			r.WantPacket(most)
			pub.SendFrames(wstest.Message(wstest.Binary, most, 7)...)
			r.WantPacket(most)
			if err := pub.SendRawE(c.send); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			var m wstest.Msg
			for m = pub.Next(); m.Op == wstest.Text; m = pub.Next() {
				if !bytes.HasPrefix(m.Payload, []byte("ERROR: ")) {
					t.Fatalf("wanted an error and CLOSE 1009, got %v", m)
				}
			}
			if m.Op != wstest.Close || m.Code() != 1009 {
				t.Fatalf("wanted CLOSE 1009, got %v", m)
			}
			r.WantClose(1000)
			r.WantEOF()
		})
	}
}

func TestDefaultMessageLimitIs64MiB(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 64 << 20}))
	pub.WantNothing(200 * time.Millisecond)
	pub2 := s.publish("cam2", "key")
	pub2.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 64<<20 + 1}))
	m := pub2.Next()
	if m.Op == wstest.Text {
		m = pub2.Next()
	}
	if m.Op != wstest.Close || m.Code() != 1009 {
		t.Fatalf("wanted CLOSE 1009, got %v", m)
	}
}

// Errors.

func TestErrorsAreTextThenClose(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "wrong")
	m := r.Next()
	if m.Op != wstest.Text || string(m.Payload) != "ERROR: "+wrongKey {
		t.Fatalf("wanted the error first, got %v", m)
	}
	r.WantClose(1008)
	r.WantEOF()
	pub.Sync()
}

// Pages.

func TestPages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	status, body, header := s.get("/")
	if status != 200 || !bytes.Contains([]byte(header.Get("Content-Type")), []byte("text/html")) || len(body) < 500 {
		t.Errorf("GET /: wanted a page, got %d, %s, %d bytes", status, header.Get("Content-Type"), len(body))
	}
	if status, _, _ := s.get("/healthz"); status != 200 {
		t.Errorf("GET /healthz: wanted 200, got %d", status)
	}
	for _, path := range []string{"/nothing", "/healthz/", "/healthz/x", "/a/b", "/a/b/c/d", "/favicon.txt", "/.env", "/%2e%2e/etc/passwd"} {
		if status, body, _ := s.get(path); status != 404 {
			t.Errorf("GET %s: wanted 404, got %d %q", path, status, body)
		}
	}
	if status, _, _ := s.get("/healthz?x=y"); status != 200 {
		t.Errorf("GET /healthz?x=y: wanted 200, got %d", status)
	}
	if status, _, _ := s.get("/?x=y"); status != 200 {
		t.Errorf("GET /?x=y: wanted 200, got %d", status)
	}
}

func TestTestClientCanBeDisabled(t *testing.T) {
	t.Parallel()
	s := startServer(t, "DISABLE_TEST_CLIENT=YES")
	status, body, header := s.get("/")
	if status != 200 || !bytes.Contains([]byte(body), []byte("ws-stream-server")) || len(body) > 200 {
		t.Errorf("GET /: wanted the name and version, got %d %q", status, body)
	}
	if !bytes.HasPrefix([]byte(header.Get("Content-Type")), []byte("text/plain")) {
		t.Errorf("GET /: wanted text, got %q", header.Get("Content-Type"))
	}
	if status, _, _ := s.get("/healthz"); status != 200 {
		t.Errorf("GET /healthz: wanted 200, got %d", status)
	}
}
