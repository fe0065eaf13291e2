package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// The door for plain HTTP: receivers.

func (s *server) httpGet(path string, opts ...wstest.Option) *wstest.HTTP {
	s.t.Helper()
	return wstest.Get(s.t, s.addr, path, opts...)
}

// webmStart is how a WebM stream begins, as far as anybody here looks.
var webmStart = []byte("\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm")

// An early receiver, a late one and a probe get the payloads, one behind the other, in
// chunks if they speak HTTP/1.1, and then the end.
func TestHTTPReceiversGetTheStream(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "127.0.0.1")
	cert, key := id.Files(t, t.TempDir())
	s := startServer(t, "SSL_CERT="+cert, "SSL_KEY="+key)
	trust := wstest.TLS(id.Trust())
	ps := [][]byte{webmStart, {}, payload(1, 1), payload(125, 2), payload(126, 3), payload(20_000, 4), payload(65_536, 5), payload(300_000, 6)}
	all := bytes.Join(ps, nil)

	const old = 1 // of HTTP/1.0
	early := []*wstest.HTTP{
		s.httpGet("/cam/key/receive"),
		s.httpGet("/cam/key/receive", wstest.Proto("HTTP/1.0"), wstest.WithoutHeader("Host")),
		s.httpGet("/cam/key/receive?x=y", wstest.PipelinedRaw([]byte("GET /cam/key/receive HTTP/1.1\r\nHost: x\r\n\r\n"))),
		wstest.Get(t, s.tlsAddr, "/cam/key/receive", trust),
		wstest.Get(t, s.tlsAddr, "/cam/key/receive-clear-cache", trust),
	}
	probe := s.httpGet("/cam/key/probe")
	s.wantSessions(6)
	early[0].WantNothing(50 * time.Millisecond) // not even a status: it is not known yet
	pub := s.publish("cam", "key")
	sendAll(pub, ps...)
	pub.Sync()
	early = append(early, s.httpGet("/cam/key/receive")) // the cache is off: it gets what follows
	live := payload(1000, 7)
	eventually(t, "the late one is in", func() bool { return strings.Count(s.logs(), `"session begins"`) == 8 })
	pub.Send(wstest.Binary, live)
	pub.CloseHandshake(1000)
	for i, c := range early {
		h := c.WantHead(200)
		if i == len(early)-1 {
			c.WantBody(live)
			c.WantEnd()
			continue
		}
		chunks := "chunked"
		if i == old {
			chunks = ""
		}
		if h.Get("Content-Type") != "video/webm" || h.Get("Cache-Control") != "no-store" || h.Get("Connection") != "close" ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Length") != "" || h.Get("Transfer-Encoding") != chunks || h.Get("Date") == "" {
			t.Errorf("the header is %v", h)
		}
		c.WantBody(all)
		c.WantBody(live)
		c.WantEnd()
	}
	probe.WantHead(200)
	probe.WantBody(webmStart)
	probe.WantEnd()
}

// Packets of every size arrive byte for byte, however the receiver takes them.
func TestHTTPReceiversOfManySizes(t *testing.T) {
	t.Parallel()
	heavy(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	sum := sha256.New()
	hashed := func(c *wstest.HTTP) func() string {
		done := make(chan string, 1)
		go func() {
			got := sha256.New()
			if status, _, err := c.HeadE(); err != nil || status != 200 {
				done <- fmt.Sprint("no 200: ", status, err)
				return
			}
			b := make([]byte, 50_000)
			for {
				n, err := c.ReadE(b)
				got.Write(b[:n])
				if errors.Is(err, io.EOF) {
					done <- fmt.Sprintf("%x", got.Sum(nil))
					return
				} else if err != nil {
					done <- err.Error()
					return
				}
			}
		}()
		return func() string { return <-done }
	}
	var results []func() string
	for range 3 {
		results = append(results, hashed(s.httpGet("/cam/key/receive", wstest.ReceiveBuffer(256<<10))),
			hashed(wstest.Get(t, s.tlsAddr, "/cam/key/receive", wstest.TLS(id.Trust()))))
	}
	s.wantSessions(6)
	pub := s.publish("cam", "key")
	send := func(p []byte) {
		sum.Write(p)
		pub.Send(wstest.Binary, p)
	}
	for i := range 1000 {
		send(payload(i%130, uint64(i)))
	}
	for i, n := range []int{8 << 20, 65_534, 65_535, 65_536, 65_537, 16_383, 16_384, 0, 1 << 20, 3} {
		send(payload(n, uint64(n)))
		send(payload(i, 1))
	}
	pub.Sync()
	results = append(results, hashed(s.httpGet("/cam/key/receive"))) // all of it from the cache
	s.wantSessions(8)
	for i := range 1000 {
		send(payload(1000+i, uint64(i)))
	}
	pub.CloseHandshake(1000)
	for i, r := range results {
		if got, want := r(), fmt.Sprintf("%x", sum.Sum(nil)); got != want {
			t.Errorf("receiver %d: wanted the stream with the sum %s, got %s", i, want, got)
		}
	}
}

// wantSessions waits until so many sessions have begun.
func (s *server) wantSessions(n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprint(n, " sessions have begun"), func() bool { return strings.Count(s.logs(), `"session begins"`) >= n })
}

// A wrong key is 403: at once on a live channel, when the publisher comes for one that
// has waited.
func TestHTTPReceiversWithAWrongKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	waits, right := s.httpGet("/cam/guess/receive"), s.httpGet("/cam/key/receive")
	s.wantSessions(2)
	waits.WantNothing(50 * time.Millisecond)
	pub := s.publish("cam", "key")
	h := waits.WantAnswer(403, "Invalid streaming key")
	if h.Get("Connection") != "close" || h.Get("Access-Control-Allow-Origin") != "*" || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
		t.Errorf("the header is %v", h)
	}
	for _, path := range []string{"/cam/guess/receive", "/cam/guess/probe", "/cam/guess/receive-clear-cache"} {
		s.httpGet(path, hangUp).WantAnswer(403, "Invalid streaming key")
	}
	wstest.Ask(t, "HEAD", s.addr, "/cam/guess/receive", hangUp).WantHead(403)
	s.wantLogs(3, `"session begins"`) // the two that waited, and the publisher
	pub.Send(wstest.Binary, []byte("p"))
	pub.CloseHandshake(1000)
	right.WantHead(200)
	right.WantBody([]byte("p"))
	right.WantEnd()
}

// hangUp asks net/http not to wait for another request.
var hangUp = wstest.AddHeader("Connection", "close")

// The ends of a stream without a byte, and of a server.
func TestHTTPReceiversAreToldTheEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t, unhurried)
	nothing, empty, emptyProbe := s.httpGet("/nothing/key/receive"), s.httpGet("/empty/key/receive"), s.httpGet("/empty/key/probe")
	s.wantSessions(3)
	s.publish("nothing", "key").CloseHandshake(1000)
	pub := s.publish("empty", "key")
	pub.Send(wstest.Binary, nil)
	for _, c := range []*wstest.HTTP{nothing, emptyProbe} {
		if h := c.WantHead(200); h.Get("Content-Length") != "0" || h.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("a stream without a byte has the header %v", h)
		}
		c.WantEnd()
	}
	pub.Send(wstest.Binary, []byte("ID3"))
	if h := empty.WantHead(200); h.Get("Content-Type") != "audio/mpeg" {
		t.Errorf("the header is %v", h)
	}
	empty.WantBody([]byte("ID3"))

	big := payload(20<<20, 1)
	live, waits := s.httpGet("/cam/key/receive", wstest.ReceiveBuffer(256<<10)), s.httpGet("/nobody/key/receive")
	s.wantSessions(7)
	pub = s.publish("cam", "key")
	pub.Send(wstest.Binary, big)
	pub.Sync()
	s.signal(syscall.SIGTERM)
	if h := waits.WantAnswer(503, "server going away"); h.Get("Retry-After") == "" {
		t.Errorf("the 503 has the header %v", h)
	}
	live.WantHead(200)
	live.WantBody(big)
	live.WantEnd()
	empty.WantEnd()
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

// A receiver that is too slow is cut off so that it cannot take that for the end; one
// beside it gets everything.
func TestHTTPReceiverThatIsTooSlowIsCut(t *testing.T) {
	t.Parallel()
	s := startSmall(t)
	slow, good := s.httpGet("/cam/key/receive", wstest.ReceiveBuffer(4096)), s.httpGet("/cam/key/receive")
	old := s.httpGet("/cam/key/receive", wstest.ReceiveBuffer(4096), wstest.Proto("HTTP/1.0")) // has nothing but the reset
	s.wantSessions(3)
	pub := s.publish("cam", "key")
	sent := int64(0)
	for i := 0; strings.Count(s.logs(), "reason=slow_receiver") < 2; i++ {
		p := payload(200_000, uint64(i))
		pub.Send(wstest.Binary, p)
		if i == 0 {
			good.WantHead(200)
		}
		good.WantBody(p)
		if sent += int64(len(p)); sent > 500<<20 {
			t.Fatal("it is never too slow")
		}
	}
	for _, c := range []*wstest.HTTP{slow, old} {
		c.WantHead(200)
		if n := c.WantCut(); n >= sent {
			t.Errorf("it got %d bytes of %d", n, sent)
		}
	}
	pub.CloseHandshake(1000)
	good.WantEnd()
}

// Only the end of a stream has the last chunk: not that of a process which is killed, nor
// that of a client which shuts its sending side down.
func TestHTTPReceiversCanTellACut(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	pub := s.publish("cam", "key")
	leaver := s.httpGet("/cam/key/receive")
	cut := []*wstest.HTTP{leaver, s.httpGet("/cam/key/receive"), wstest.Get(t, s.tlsAddr, "/cam/key/receive", wstest.TLS(id.Trust()))}
	s.wantSessions(4)
	pub.Send(wstest.Binary, webmStart)
	for _, c := range cut {
		c.WantHead(200)
		c.WantBody(webmStart)
	}
	_ = leaver.TCP().CloseWrite()
	s.wantLog("reason=client_gone")
	s.signal(syscall.SIGKILL)
	s.wait()
	for _, c := range cut {
		c.WantCut()
	}
}

// What a receiver sends is discarded, also a second request; one that shuts its sending
// side down has left.
func TestWhatAnHTTPReceiverSends(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	c, leaver := s.httpGet("/cam/key/receive"), s.httpGet("/cam/key/receive")
	s.wantSessions(3)
	c.Send([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.Send(payload(300_000, 1))
	_ = leaver.TCP().CloseWrite()
	s.wantLog("reason=client_gone")
	pub.Send(wstest.Binary, []byte("p"))
	pub.CloseHandshake(1000)
	c.WantHead(200)
	c.WantBody([]byte("p"))
	c.WantEnd()
	leaver.WantEnd()
}

// Receivers over HTTP may wait in silence for longer than WebSocket's clients may be
// silent: for a publisher, or for its next packet. Those that have vanished meanwhile
// are found. A publisher may not be silent.
func TestHTTPClientsThatAreSilent(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t)
	waits, idle, gone := s.httpGet("/nobody/key/receive"), s.httpGet("/cam/key/receive"), s.httpGet("/cam/key/receive")
	s.wantSessions(3)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, webmStart)
	for _, c := range []*wstest.HTTP{idle, gone} {
		c.WantHead(200)
		c.WantBody(webmStart)
	}
	start := time.Now()
	mute := wstest.Put(t, s.addr, "/mute/key/publish", wstest.PipelinedRaw(wstest.Chunk([]byte("p"))), wstest.Patience(90*time.Second))
	if runtime.GOOS == "linux" { // elsewhere no client can vanish
		gone.Vanish()
	}
	told := make(chan time.Duration, 1)
	go func() {
		if status, _, err := mute.HeadE(); err != nil || status != 408 {
			t.Errorf("wanted a silent publisher told 408, got %d, %v", status, err)
		}
		told <- time.Since(start)
		mute.Close()
	}()
	for time.Since(start) < watched {
		time.Sleep(time.Second)
		pub.SendText("h")
		if strings.Contains(s.logs(), "session ends") && time.Since(start) < silence-2*time.Second {
			t.Fatalf("somebody was dropped after %v", time.Since(start))
		}
	}
	t.Logf("a silent publisher was told so after %v", (<-told).Round(time.Second))
	s.wantLog("reason=no_sign_of_life")
	if runtime.GOOS == "linux" {
		inTime(t, 90*time.Second-time.Since(start), "the one that vanished is found", func() bool {
			return strings.Count(s.logs(), "session ends") == 2
		})
		t.Logf("one that has vanished was found after %v at most", time.Since(start).Round(time.Second))
	}
	pub.Send(wstest.Binary, []byte("live"))
	pub.CloseHandshake(1000)
	idle.WantBody([]byte("live"))
	idle.WantEnd()
	s.publish("nobody", "key").CloseHandshake(1000)
	waits.WantHead(200)
	waits.WantEnd()
}
