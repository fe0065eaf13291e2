package main

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

// startCoordinated starts a coordinator and a server that is connected to it.
func startCoordinated(t *testing.T, env ...string) (*authtest.Coordinator, *server) {
	t.Helper()
	c := authtest.New(t)
	s := startServer(t, append(env, "CONTROL_BASE_URL="+c.URL())...)
	c.WantLink()
	wantLinkUp(s, 1)
	return c, s
}

// wantLinkUp waits until the server knows that its link is up, for the nth time:
// the coordinator knows a moment earlier.
func wantLinkUp(s *server, n int) {
	s.t.Helper()
	const up = "the control link is up"
	if !s.log.waitFor(func(log string) bool { return strings.Count(log, up) >= n }) {
		s.t.Fatalf("wanted %q in the log %d times, got:\n%s", up, n, tail(s.logs()))
	}
}

// acceptAll makes a coordinator accept everybody, with Stream-IDs id-1, id-2 and so on.
func acceptAll(c *authtest.Coordinator) {
	var n atomic.Int64
	c.Decide(func(authtest.Message) (string, bool) { return fmt.Sprintf("id-%d", n.Add(1)), true })
}

// asked opens a publisher that waits for its answer on another goroutine.
type asked struct {
	answer chan *wstest.Response
	conn   *wstest.Conn // set when the answer is 101
	err    error
	at     time.Time // when the answer was there
}

func ask(s *server, path string, opts ...wstest.Option) *asked {
	a := &asked{answer: make(chan *wstest.Response, 1)}
	go func() {
		var resp *wstest.Response
		a.conn, resp, a.err = wstest.Open(s.addr, path, opts...)
		a.at = time.Now()
		a.answer <- resp
	}()
	return a
}

func (a *asked) want(t *testing.T, status int) *wstest.Conn {
	t.Helper()
	resp := <-a.answer
	if a.err != nil || resp.Status != status {
		t.Fatalf("wanted %d, got %v, %v", status, resp, a.err)
	}
	if a.conn != nil {
		a.conn.On(t)
	}
	return a.conn
}

func count(c *authtest.Coordinator, typ string) (n int) {
	for _, m := range c.Messages() {
		if m.Type == typ {
			n++
		}
	}
	return n
}

func TestPublishIsAskedAndAccepted(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	a := ask(s, "/cam/key/publish", wstest.From("127.0.8.1"))
	m := c.WantMessage("PUBLISH-REQUEST")
	for name, want := range map[string]string{"Stream-Channel": "cam", "Stream-Key": "key", "User-IP": "127.0.8.1"} {
		if m.Get(name) != want {
			t.Errorf("PUBLISH-REQUEST: wanted %s %q, got %q", name, want, m.Get(name))
		}
	}
	if m.Get("Request-ID") == "" {
		t.Error("PUBLISH-REQUEST: wanted a Request-ID")
	}
	c.Accept(m.Get("Request-ID"), "cam", "stream-7")
	pub := a.want(t, 101)
	r := s.receive("cam", "key") // receivers are never asked about
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	if n := count(c, "PUBLISH-REQUEST"); n != 1 {
		t.Errorf("wanted one PUBLISH-REQUEST, got %d", n)
	}
	pub.CloseHandshake(1000)
	end := c.WantMessage("PUBLISH-END")
	if end.Get("Stream-Channel") != "cam" || end.Get("Stream-ID") != "stream-7" {
		t.Errorf("PUBLISH-END: wanted cam, stream-7, got %v", end)
	}
	if n := count(c, "PUBLISH-END"); n != 1 {
		t.Errorf("wanted one PUBLISH-END, got %d", n)
	}
}

func TestPublishIsDenied(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	for range 3 {
		a := ask(s, "/cam/key/publish")
		m := c.WantMessage("PUBLISH-REQUEST")
		c.Deny(m.Get("Request-ID"), "cam")
		a.want(t, 403)
	}
	// The channel is not taken, nor the slot, and nothing has ended.
	acceptAll(c)
	s.publish("cam", "key").Sync()
	if n := count(c, "PUBLISH-END"); n != 0 {
		t.Errorf("wanted no PUBLISH-END for what was denied, got %d", n)
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	acceptAll(c)
	ids := map[string]bool{}
	for i := range 20 {
		s.publish(fmt.Sprintf("cam%d", i), "key")
		ids[c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")] = true
	}
	if len(ids) != 20 {
		t.Errorf("wanted 20 different Request-IDs, got %d", len(ids))
	}
}

func TestAnswersInEveryWritingAreUnderstood(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	for i, format := range []string{
		"PUBLISH-ACCEPT\nRequest-ID: %s\nStream-Channel: cam\nStream-ID: x\n",
		"PUBLISH-ACCEPT\nRequest-Id:%s\nStream-Channel:cam\nStream-Id:x",
		"PUBLISH-ACCEPT\r\nrequest-id: %s  \r\nSTREAM-CHANNEL:   cam\r\nstream-id: x\r\n\r\n",
		"PUBLISH-ACCEPT\nStream-ID: x\nUnknown: y\nStream-Channel: cam\nRequest-ID: %s\n\nbody: z\n",
	} {
		a := ask(s, "/cam/key/publish")
		c.Send(fmt.Sprintf(format, c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")))
		a.want(t, 101).CloseHandshake(1000)
		if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != "x" {
			t.Errorf("answer %d: wanted PUBLISH-END with Stream-ID x, got %v", i, end)
		}
	}
}

func TestEveryEndOfAnAcceptedPublisherIsTold(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "MAX_MESSAGE_MB=1")
	acceptAll(c)
	for i, end := range []func(*wstest.Conn){
		func(p *wstest.Conn) { p.CloseHandshake(1000) },
		func(p *wstest.Conn) { p.Close() },
		func(p *wstest.Conn) { p.Reset() },
		func(p *wstest.Conn) { p.SendFrames(frame{Op: 7}); p.WantGone() },
		func(p *wstest.Conn) { p.SendFrames(frame{Op: wstest.Binary, Declare: 1 << 31}); p.WantGone() },
		func(p *wstest.Conn) { p.SendRaw([]byte{0x82, 0xFF, 0}); p.Reset() },
	} {
		end(s.publish("cam", "key"))
		m := c.WantMessage("PUBLISH-END")
		if want := fmt.Sprintf("id-%d", i+1); m.Get("Stream-ID") != want || m.Get("Stream-Channel") != "cam" {
			t.Fatalf("wanted PUBLISH-END of cam, %s, got %v", want, m)
		}
	}
}

// The order of the messages is what the coordinator goes by: it denies a publisher
// of a channel that has not ended yet.
func TestPublishEndComesBeforeTheNextRequest(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	acceptAll(c)
	for i := range 20 {
		r := s.receive("cam", "key")
		pub := s.publish("cam", "key")
		if i%2 == 0 {
			pub.CloseHandshake(1000)
		} else {
			pub.Reset()
		}
		r.WantClose(1000)
	}
	open := false
	for i, m := range c.Messages() {
		switch m.Type {
		case "PUBLISH-REQUEST":
			if open {
				t.Fatalf("message %d: a request for a channel that has not ended: %v", i, c.Messages())
			}
			open = true
		case "PUBLISH-END":
			open = false
		}
	}
}

func TestTheHandshakeIsCheckedBeforeTheCoordinatorIsAsked(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	acceptAll(c)
	s.publish("taken", "key")
	s.dialSoon("/x/y/receive", wstest.From("127.0.9.1"))
	before := count(c, "PUBLISH-REQUEST")
	s.refuses(404, "/ca.m/key/publish")
	s.refuses(403, "/taken/key/publish")
	s.refuses(403, "/taken/other/publish")
	s.refuses(429, "/cam/key/publish", wstest.From("127.0.9.1"))
	wstest.Handshake(t, s.addr, "/cam/key/publish", wstest.WithoutHeader("Upgrade"))
	wstest.Handshake(t, s.addr, "/cam/key/publish", wstest.Header("Sec-WebSocket-Version", "7"))
	wstest.Handshake(t, s.addr, "/cam/key/publish", wstest.WithoutHeader("Sec-WebSocket-Key"))
	wstest.Handshake(t, s.addr, "/cam/key/publish", wstest.Method("POST"), wstest.AddHeader("Content-Length", "0"))
	if n := count(c, "PUBLISH-REQUEST"); n != before {
		t.Errorf("wanted nothing asked for handshakes that cannot succeed, got %d requests", n-before)
	}
}

func TestMistake11ClientThatLeavesWhileWaiting(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	for i, leave := range []func(net.Conn){
		func(nc net.Conn) { _ = nc.Close() },
		func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0); _ = nc.Close() },
	} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(nc, wstest.UpgradeRequest("/cam/key/publish"))
		m := c.WantMessage("PUBLISH-REQUEST")
		leave(nc)
		time.Sleep(200 * time.Millisecond) // the server may or may not notice: both must work
		c.Accept(m.Get("Request-ID"), "cam", fmt.Sprintf("left-%d", i))
		if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != fmt.Sprintf("left-%d", i) || end.Get("Stream-Channel") != "cam" {
			t.Errorf("wanted PUBLISH-END of left-%d, got %v", i, end)
		}
	}
	// Accepted first, then gone at once.
	c.Decide(func(authtest.Message) (string, bool) { return "quick", true })
	for range 10 {
		pub := s.dialSoon("/cam/key/publish")
		pub.Reset()
		c.WantMessage("PUBLISH-END")
	}
	s.dialSoon("/cam/key/publish").Sync()
}

func TestTheFirstAcceptedPublisherClaimsTheChannel(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	// A wrong key, whose answer takes its time, must not keep the owner out.
	wrong := ask(s, "/cam/wrong/publish")
	m1 := c.WantMessage("PUBLISH-REQUEST")
	owner := ask(s, "/cam/right/publish")
	m2 := c.WantMessage("PUBLISH-REQUEST")
	c.Accept(m2.Get("Request-ID"), "cam", "owner")
	pub := owner.want(t, 101)
	c.Deny(m1.Get("Request-ID"), "cam")
	wrong.want(t, 403)
	pub.CloseHandshake(1000)
	if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != "owner" {
		t.Errorf("wanted PUBLISH-END of the owner, got %v", end)
	}

	// Of two that are accepted the first answer wins, the other costs an END.
	a := ask(s, "/cam/key/publish")
	ma := c.WantMessage("PUBLISH-REQUEST")
	b := ask(s, "/cam/key/publish")
	mb := c.WantMessage("PUBLISH-REQUEST")
	c.Accept(mb.Get("Request-ID"), "cam", "second-asked")
	pub = b.want(t, 101)
	c.Accept(ma.Get("Request-ID"), "cam", "first-asked")
	a.want(t, 403)
	if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != "first-asked" {
		t.Errorf("wanted PUBLISH-END of the loser, got %v", end)
	}
	pub.Sync()
}

func TestMistake12SecondAnswersAndNonsenseAreIgnored(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	a := ask(s, "/cam/key/publish")
	id := c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")
	for _, raw := range []string{
		"", "\n", "\n\n\n", "NONSENSE", "NONSENSE\nA: b\n", ":::", "PUBLISH-ACCEPT", "PUBLISH-ACCEPT\n\n", "PUBLISH-DENY\nRequest-ID\n",
		"PUBLISH-ACCEPT\nRequest-ID: nobody\nStream-Channel: cam\nStream-ID: n\n",
		"PUBLISH-DENY\nRequest-ID: nobody\nStream-Channel: cam\n", "PUBLISH-DENY\nRequest-ID:\nStream-Channel: cam\n",
		"ERROR\nError-Code: X\nError-Message: nothing serious\n", "ERROR", "HEARTBEAT\n", "heartbeat",
		"STREAM-KILL", "STREAM-KILL\nStream-ID: *\n", "STREAM-KILL\nStream-Channel: nobody\nStream-ID: *\n",
		"PUBLISH-REQUEST\nRequest-ID: 1\n", "\x00\x01\x02", strings.Repeat("A: b\n", 5000), "X\n\n" + strings.Repeat("body", 5000),
	} {
		c.Send(raw)
	}
	c.SendBinary("PUBLISH-DENY\nRequest-ID: " + id + "\nStream-Channel: cam\n")
	c.Accept(id, "cam", "one")
	pub := a.want(t, 101)
	for range 50 {
		c.Accept(id, "cam", "one")
		c.Accept(id, "cam", "two")
		c.Deny(id, "cam")
	}
	b := ask(s, "/cam2/key/publish")
	c.Accept(c.WantMessage("PUBLISH-REQUEST").Get("Request-ID"), "cam2", "three")
	b.want(t, 101)
	pub.Sync()
	if c.Links() != 1 {
		t.Errorf("wanted the link to stay, got %d links", c.Links())
	}
}

// A stand-alone server asks nobody.
func TestStandAloneAcceptsEveryKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 5 {
		s.publish("cam", fmt.Sprintf("key%d", i)).CloseHandshake(1000)
	}
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestWhatTheCoordinatorIsToldAboutAClient(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "BIND_ADDRESS=") // IPv4 comes as IPv4-mapped IPv6
	acceptAll(c)
	wstest.Dial(t, s.addr, "/%63am%5F1/%6bey/publish?x=y", wstest.From("127.0.8.9")).Sync()
	m := c.WantMessage("PUBLISH-REQUEST")
	for name, want := range map[string]string{"Stream-Channel": "cam_1", "Stream-Key": "key", "User-IP": "127.0.8.9"} {
		if m.Get(name) != want {
			t.Errorf("PUBLISH-REQUEST: wanted %s %q, got %q", name, want, m.Get(name))
		}
	}
	_, port, _ := net.SplitHostPort(s.addr)
	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = ln.Close()
		wstest.Dial(t, "[::1]:"+port, "/six/key/publish").Sync()
		if ip := c.WantMessage("PUBLISH-REQUEST").Get("User-IP"); ip != "::1" {
			t.Errorf("PUBLISH-REQUEST: wanted User-IP ::1, got %q", ip)
		}
	}
}

// What a publisher sends before it has its answer is processed, or given up with it.
func TestFramesSentWhileTheCoordinatorThinks(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	r := s.receive("cam", "key")
	p := payload(100_000, 1)
	a := ask(s, "/cam/key/publish", wstest.Pipelined(
		frame{Op: wstest.Binary, Payload: []byte("early")},
		frame{Op: wstest.Binary, Payload: p}))
	id := c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")
	r.WantNothing(100 * time.Millisecond)
	c.Accept(id, "cam", "one")
	pub := a.want(t, 101)
	r.WantPackets([]byte("early"), p)
	pub.Send(wstest.Binary, []byte("late"))
	r.WantPacket([]byte("late"))
	pub.CloseHandshake(1000)
	c.WantMessage("PUBLISH-END")

	// And when it leaves meanwhile, what it claimed is given back.
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = nc.Write(append([]byte(wstest.UpgradeRequest("/cam/key/publish")), wstest.Bytes(frame{Op: wstest.Binary, Payload: p})...))
	id = c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")
	_ = nc.Close()
	c.Accept(id, "cam", "two")
	if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != "two" {
		t.Errorf("wanted PUBLISH-END of two, got %v", end)
	}
}
