package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// The door for plain HTTP: publishers.

func (s *server) httpPut(path string, opts ...wstest.Option) *wstest.HTTP {
	s.t.Helper()
	return wstest.Put(s.t, s.addr, path, opts...)
}

func sized(n int) wstest.Option { return wstest.AddHeader("Content-Length", fmt.Sprint(n)) }

// wantBytes reads packets to the close frame with this code and fails unless they are
// this stream, cut anywhere. It returns how many packets there were.
func wantBytes(t *testing.T, c *wstest.Conn, stream []byte, code int) (packets int) {
	t.Helper()
	for {
		m := c.Next()
		if m.Op == wstest.Close {
			if m.Code() != code || len(stream) > 0 {
				t.Fatalf("wanted %d bytes more and CLOSE %d, got %v", len(stream), code, m)
			}
			return packets
		}
		if len(m.Payload) > len(stream) || !bytes.Equal(m.Payload, stream[:len(m.Payload)]) {
			t.Fatalf("packet %d, of %d bytes, is not what follows in the stream", packets, len(m.Payload))
		}
		stream = stream[len(m.Payload):]
		packets++
	}
}

// A body, with a length or in chunks, is the stream that receivers get through both
// doors; at its end the publisher is told 200 and they the end.
func TestHTTPPublishers(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	stream := append(append([]byte{}, webmStart...), payload(700_000, 1)...)
	var chunks []byte
	for i, rest := 1, stream; len(rest) > 0; i = i*3 + 1 {
		n := min(len(rest), i%50_000+1)
		chunks = append(chunks, wstest.Chunk(rest[:n])...)
		rest = rest[n:]
	}
	chunks = append(chunks, "0;last\r\nTrailer: x\r\n\r\n"...)
	const head = 10 // of the body comes along with the header
	chunked := wstest.AddHeader("Transfer-Encoding", "chunked")
	for name, c := range map[string]struct {
		method string
		body   []byte
		tls    bool
		opts   []wstest.Option
	}{
		"sized":           {"PUT", stream, false, []wstest.Option{sized(len(stream))}},
		"sized-post":      {"POST", stream, true, []wstest.Option{sized(len(stream))}},
		"old":             {"PUT", stream, false, []wstest.Option{sized(len(stream)), wstest.Proto("HTTP/1.0"), wstest.WithoutHeader("Host")}},
		"chunked":         {"PUT", chunks, false, []wstest.Option{chunked}},
		"chunked-tls":     {"POST", chunks, true, []wstest.Option{chunked}},
		"chunked-lengthy": {"PUT", chunks, false, []wstest.Option{chunked, sized(3)}}, // RFC 9112, 6.3: chunks win
	} {
		t.Run(name, func(t *testing.T) {
			path := "/" + name + "/key/"
			ws, get := wstest.Dial(t, s.addr, path+"receive"), wstest.Get(t, s.addr, path+"receive")
			s.wantLine("session begins", "channel="+name+" kind=receive ", "door=http")
			addr, opts := s.addr, append(c.opts, wstest.PipelinedRaw(c.body[:head]))
			if c.tls {
				addr, opts = s.tlsAddr, append(opts, wstest.TLS(id.Trust()))
			}
			pub := wstest.Ask(t, c.method, addr, path+"publish", opts...)
			s.wantLine("session begins", "channel="+name+" kind=publish ", "door=http") // after the hand-over
			pub.Send(c.body[head : len(c.body)/2])
			pub.Send(c.body[len(c.body)/2:])
			pub.Send([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")) // no request
			pub.WantAnswer(200, "published")
			wantBytes(t, ws, stream, 1000)
			if h := get.WantHead(200); h.Get("Content-Type") != "application/octet-stream" && h.Get("Content-Type") != "video/webm" {
				t.Errorf("the header is %v", h) // by the packet that the first ten bytes made
			}
			get.WantBody(stream)
			get.WantEnd()
		})
	}
}

// What is there at once is one packet, however many chunks it is, and is published at
// once, however little it is.
func TestHTTPPublishersPackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ws := s.receive("cam", "key")
	tiny := bytes.Repeat(wstest.Chunk([]byte("p")), 500)
	pub := s.httpPut("/cam/key/publish")
	s.wantSessions(2)
	pub.Send(tiny)
	got, packets := 0, 0
	for ; got < 500; packets++ {
		got += len(ws.Next().Payload)
	}
	if packets > 5 { // the kernel may bring it in parts
		t.Errorf("500 chunks that were sent at once became %d packets", packets)
	}
	for _, piece := range []string{"a", "bc", "d"} {
		pub.Send(wstest.Chunk([]byte(piece)))
		ws.WantPacket([]byte(piece))
	}
	pub.Send([]byte("64\r\nhalf of")) // a chunk that goes on
	ws.WantPacket([]byte("half of"))
	pub.Send([]byte(" a chunk"))
	ws.WantPacket([]byte(" a chunk"))
	pub.Close()
	ws.WantClose(1000) // who goes away has ended, what came before is delivered
	s.httpPut("/cam/key/publish", wstest.PipelinedRaw([]byte("0\r\n\r\n"))).WantAnswer(200, "")
}

// Who asks whether to go on is told so once the coordinator has said yes, and nothing
// but the refusal otherwise.
func TestHTTPPublishersThatExpectAWord(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	expect := wstest.AddHeader("Expect", "100-continue")
	pub := s.httpPut("/cam/key/publish", expect)
	r := c.WantMessage("PUBLISH-REQUEST")
	pub.WantNothing(50 * time.Millisecond)
	if r.Get("Stream-Key") != "key" || r.Get("User-IP") != "127.0.0.1" {
		t.Errorf("the coordinator was asked %v", r)
	}
	c.Accept(r.Get("Request-ID"), "cam", "id-1")
	pub.WantHead(100)
	pub.Send(wstest.Chunk([]byte("p")))
	s.receive("cam", "key").WantPacket([]byte("p"))
	s.httpPut("/cam/key/publish", expect).WantAnswer(403, "already has a publisher")
	s.httpPut("/cam/key/publish", wstest.PipelinedRaw(wstest.Chunk(payload(3000, 1)))).WantAnswer(403, "already has a publisher")
	denied := s.httpPut("/other/key/publish", expect)
	r = c.WantMessage("PUBLISH-REQUEST")
	c.Deny(r.Get("Request-ID"), "other")
	denied.WantAnswer(403, "key was refused")
	pub.Send(wstest.Chunk(nil))
	pub.WantAnswer(200, "published")
	if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != "id-1" {
		t.Errorf("the coordinator was told %v", end)
	}
}

// How a publisher is told that others ended it; its receivers get what there was.
func TestHTTPPublishersThatAreEnded(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, unhurried)
	acceptAll(c)
	begin := func(channel string) (*wstest.HTTP, *wstest.Conn) {
		rec := s.receive(channel, "key")
		pub := s.httpPut("/"+channel+"/key/publish", wstest.PipelinedRaw(wstest.Chunk([]byte("p"))))
		rec.WantPacket([]byte("p"))
		return pub, rec
	}
	pub, rec := begin("bad")
	pub.Send([]byte("3\r\nabcd\r\n"))
	pub.WantAnswer(400, "Protocol error")
	rec.WantPacket([]byte("abc"))
	rec.WantClose(1000)

	pub, rec = begin("killed")
	c.Kill("killed", "*")
	pub.WantAnswer(403, "killed by the coordinator")
	rec.WantClose(1000)

	pub, rec = begin("reset")
	c.DropLink()
	if h := pub.WantAnswer(503, "publish again"); h.Get("Retry-After") == "" {
		t.Errorf("the 503 has the header %v", h)
	}
	rec.WantClose(1000)
	wantLinkUp(s, 2)

	pub, rec = begin("stopped")
	last := payload(3<<20, 1)
	pub.Send(wstest.Chunk(last))
	get := s.httpGet("/stopped/key/receive")
	get.WantHead(200)
	get.WantBody([]byte("p"))
	get.WantBody(last) // so that all of it has come
	s.signal(syscall.SIGTERM)
	pub.WantAnswer(503, "going away")
	wantBytes(t, rec, last, 1001)
	get.WantEnd()
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
}

// Which bodies are none.
func TestHTTPPublishersThatAreRefused(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "ALLOWED_ORIGINS=https://example.org", "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1", "MAX_CONNECTIONS=2", "PLAY_WHITELIST=127.0.0.9")
	ask := func(method string, opts ...wstest.Option) *wstest.HTTP {
		return wstest.Ask(t, method, s.addr, "/cam/key/publish", append(opts, hangUp)...)
	}
	page, foreign := wstest.AddHeader("Origin", "https://example.org"), wstest.AddHeader("Origin", "https://evil.example")
	ask("PUT").WantAnswer(411, "Length required")
	ask("PUT", wstest.Proto("HTTP/1.0"), wstest.AddHeader("Transfer-Encoding", "chunked")).WantAnswer(411, "")
	ask("POST", sized(0)).WantAnswer(400, "empty")
	ask("PUT", sized(5), wstest.AddHeader("Content-Range", "bytes 5-9/10")).WantAnswer(400, "ranges")
	ask("PUT", wstest.AddHeader("Transfer-Encoding", "gzip, chunked")).WantHead(501)
	ask("PUT", sized(5), sized(6)).WantHead(400)
	ask("PUT", sized(5), wstest.AddHeader("Expect", "200-ok")).WantHead(417)
	if h := ask("PUT", sized(5), foreign).WantAnswer(403, "origin"); h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign page may read %v", h)
	}
	one := ask("PUT", sized(5), page, wstest.From("127.0.0.8"))
	s.wantSessions(1)
	if h := ask("PUT", sized(500_000), page, wstest.From("127.0.0.8"), wstest.PipelinedRaw(payload(5000, 1))).WantAnswer(429, "Too many"); h.Get("Access-Control-Allow-Origin") != "https://example.org" {
		t.Errorf("the page may not read %v", h)
	}
	wstest.Ask(t, "PUT", s.addr, "/other/key/publish", sized(5), wstest.From("127.0.0.7"))
	s.wantSessions(2)
	ask("PUT", sized(5), wstest.From("127.0.0.6")).WantAnswer(503, "all the connections")
	one.Send([]byte("hello"))
	if h := one.WantAnswer(200, ""); h.Get("Access-Control-Allow-Origin") != "https://example.org" {
		t.Errorf("the page may not read %v", h)
	}
	ask("PUT", sized(1), wstest.From("127.0.0.8"), wstest.PipelinedRaw([]byte("p"))).WantAnswer(200, "")
}

// Real programs: curl and ffmpeg publish and receive, and what arrives can be played.
func TestHTTPWithRealPrograms(t *testing.T) {
	t.Parallel()
	needTools(t, "ffmpeg", "ffprobe", "curl")
	heavy(t)
	s := startServer(t, "GOP_CACHE_SIZE_MB=16")
	url := func(channel, kind string) string { return "http://" + s.addr + "/" + channel + "/key/" + kind }
	media := filepath.Join(t.TempDir(), "media.webm")
	encode := func(args ...string) []string {
		return append([]string{"-hide_banner", "-loglevel", "error", "-nostdin", "-y",
			"-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=192x108:rate=%d:duration=%d", mediaRate, mediaSeconds),
			"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k", "-g", fmt.Sprint(mediaRate), "-pix_fmt", "yuv420p"}, args...)
	}
	runTool(t, "ffmpeg", encode("-f", "webm", media)...)
	stream := readFile(t, media)

	for channel, publish := range map[string]func(to string){
		"file":  func(to string) { runTool(t, "curl", "-sfT", media, to) },
		"pipe":  func(to string) { runTool(t, "sh", "-c", `cat "$0" | curl -sfT - "$1"`, media, to) },
		"post":  func(to string) { runTool(t, "curl", "-sf", "--data-binary", "@"+media, to) },
		"plain": func(to string) { runTool(t, "ffmpeg", encode("-f", "webm", to)...) },
		"put": func(to string) {
			runTool(t, "ffmpeg", encode("-method", "PUT", "-content_type", "video/webm", "-f", "webm", to)...)
		},
	} {
		saved := filepath.Join(t.TempDir(), "saved.webm")
		copied := filepath.Join(t.TempDir(), "copied.webm")
		curl := start(t, "curl", "-sf", "-o", saved, url(channel, "receive"))
		ffmpeg := start(t, "ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", url(channel, "receive"), "-c", "copy", "-f", "webm", copied)
		ws := startReceiver(t, s.addr, "/"+channel+"/key/receive", nil)
		eventually(t, "all three wait", func() bool {
			return strings.Count(s.logs(), fmt.Sprintf("\"session begins\" channel=%s kind=receive ", channel)) == 3
		})
		publish(url(channel, "publish"))
		if err := errors.Join(curl(), ffmpeg()); err != nil {
			t.Fatalf("%s: %v", channel, err)
		}
		got := readFile(t, saved)
		if sent := bytes.Join(ws.wantClose(t, 1000), nil); !bytes.Equal(got, sent) {
			t.Errorf("%s: %d bytes came over HTTP, %d over WebSocket", channel, len(got), len(sent))
		}
		if channel == "file" || channel == "pipe" || channel == "post" {
			if !bytes.Equal(got, stream) {
				t.Errorf("%s: %d bytes arrived, wanted the %d of the file", channel, len(got), len(stream))
			}
		}
		for name, b := range map[string][]byte{"curl": got, "ffmpeg": readFile(t, copied)} {
			if n := probeMedia(t, b).codecs["vp8"]; n != mediaFrames {
				t.Errorf("%s: %s has %d pictures, wanted %d", channel, name, n, mediaFrames)
			}
		}
	}
}

// runTool runs a program to its end.
func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if err := start(t, name, args...)(); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs a program in the background; what it returns waits for the end.
func start(t *testing.T, name string, args ...string) (wait func() error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(within(t, 2*mediaPatience), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() error {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, &out)
		}
		return nil
	}
}

// The body of a PUT that the coordinator's absence refuses may go on for a second, in which
// the client is to stop: so long it has the place of its address, and others of that wait.
func TestARefusedBodyKeepsItsPlace(t *testing.T) {
	t.Parallel()
	s := startServer(t, fmt.Sprint("CONTROL_BASE_URL=ws://127.0.0.1:", wstest.FreePort(t)), "MAX_IP_CONCURRENT_CONNECTIONS=1", "CONCURRENT_LIMIT_WHITELIST=")
	kept := false
	for try := 0; try < 50 && !kept; try++ { // who comes later than in a second finds it free
		first := s.httpPut("/cam/key/publish")
		first.WantHead(503)
		second := s.httpPut("/cam/key/publish")
		status, _, err := second.HeadE()
		if err != nil || status != 429 && status != 503 {
			t.Fatalf("the second: %d, %v", status, err)
		}
		kept = status == 429
		first.Close()
		second.Close()
		inTime(t, patience, "the place is free again", func() bool {
			c := s.httpPut("/cam/key/publish")
			defer c.Close()
			status, _, err := c.HeadE()
			return err == nil && status == 503
		})
	}
	if !kept {
		t.Error("a connection whose body goes on has never had a place")
	}
}
