package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

const secretKey = "S3CR3T-streaming-key"

// finalLog stops the server and returns everything it has logged: nothing is on its way
// any more, in a goroutine or in the pipe.
func (s *server) finalLog() string {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != 0 {
		s.t.Errorf("wanted exit code 0, got %d", code)
	}
	return s.logs()
}

func TestMistake15KeysAreNeverLogged(t *testing.T) {
	t.Parallel()
	for _, format := range logFormats {
		t.Run(format, func(t *testing.T) { testKeysAreNeverLogged(t, format) })
	}
}

func testKeysAreNeverLogged(t *testing.T, format string) {
	c, s := startCoordinated(t, "LOG_FORMAT="+format, "LOG_DEBUG=YES", "LOG_REQUESTS=YES", "CONTROL_SECRET="+secretKey+"-control")
	acceptAll(c)
	pub := s.publish("cam", secretKey)
	pub.Send(wstest.Binary, []byte("p"))
	s.receive("cam", secretKey).WantPacket([]byte("p"))
	s.receive("cam", secretKey+"2").WantError(wrongKey, 1008)
	s.refuses(403, "/cam/"+secretKey+"/publish")
	s.refuses(404, "/cam/"+secretKey+"/nothing")
	s.refuses(404, "/c.m/"+secretKey+"/receive")
	s.refuses(404, "/"+secretKey)
	s.refuses(404, "/x/y/cam/"+secretKey+"/receive")
	wstest.Handshake(t, s.addr, "/cam/"+secretKey+"/publish", wstest.Header("Sec-WebSocket-Version", "7"))
	wstest.Handshake(t, s.addr, "/cam/"+secretKey+"/receive?key="+secretKey)
	wstest.Handshake(t, s.addr, "/cam/%53"+secretKey[1:]+"/receive")
	wstest.Handshake(t, s.addr, "//cam/"+secretKey+"/receive")
	wstest.Handshake(t, s.addr, "/cam/"+secretKey+"/receive", wstest.Header("Referer", "http://a/"+secretKey))
	wstest.Handshake(t, s.addr, "/cam/"+secretKey+"%zz/receive")
	c.Decide(func(authtest.Message) (string, bool) { return "", false })
	s.refuses(403, "/denied/"+secretKey+"/publish")
	pub.Reset()
	c.WantMessage("PUBLISH-END")
	c.DropLink()
	c.WantLink()
	if log := s.finalLog(); strings.Contains(log, secretKey) || strings.Contains(log, secretKey[1:]) {
		t.Errorf("a key or the secret stands in the log:\n%s", from(log, secretKey[1:]))
	}
}

func TestSecretsAreNotInConfigurationErrors(t *testing.T) {
	t.Parallel()
	e := runServer(t, "CONTROL_SECRET="+secretKey, "HTTP_PORT=nonsense")
	if strings.Contains(e.out, secretKey) {
		t.Errorf("the secret stands in the error: %q", e.out)
	}
	e = runServer(t, "CONTROL_BASE_URL=ws://user:"+secretKey+"@[bad")
	if strings.Contains(e.out, secretKey) {
		t.Errorf("the password of a URL stands in the error: %q", e.out)
	}
}

func TestMistake15ControlCharactersNeverReachTheLogRaw(t *testing.T) {
	t.Parallel()
	for _, format := range logFormats {
		t.Run(format, func(t *testing.T) { testControlCharactersNeverReachTheLog(t, format) })
	}
}

func testControlCharactersNeverReachTheLog(t *testing.T, format string) {
	s := startServer(t, "LOG_FORMAT="+format, "LOG_DEBUG=YES")
	for _, path := range []string{
		"/cam%0aFORGED%20line/key/receive", "/cam/key%0d%0aFORGED/receive", "/cam/key/receive%0aFORGED", "/%1b[31mFORGED/key/publish",
		"/cam/key/receive?x=%0aFORGED", "/%00%01%02/key/receive", "/%c2%85FORGED/k/receive", "/%e2%80%a8FORGED/k/receive", "/\x1b[2JFORGED",
	} {
		wstest.Handshake(t, s.addr, path)
	}
	for _, h := range [][2]string{
		{"User-Agent", "FORGED\tagent"}, {"Origin", "FORGED\torigin"}, {"X-Forwarded-For", "1.2.3.4\tFORGED"}, {"Host", "FORGED\x7fhost"},
		{"Sec-WebSocket-Key", "FORGED\tkey"}, {"Upgrade", "FORGED\tx"}, {"Sec-WebSocket-Version", "FORGED\t1"},
	} {
		_, _, _ = wstest.Open(s.addr, "/cam/key/receive", wstest.Header(h[0], h[1]))
	}
	_, _, _ = wstest.Open(s.addr, "/cam/key/receive", wstest.Method("FORGED\x1b"))
	_, _, _ = wstest.Open(s.addr, "/cam/key/receive", wstest.Request("GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nFORGED\x1b[31m: x\r\nUpgrade: \x1b\r\n\r\n"))
	c := s.receive("cam", "key")
	c.SendText("FORGED\nline \x1b[31m")
	c.SendClose(4000, "FORGED\nreason \x1b[31m \u0085 \u2028")
	c.WantClose(4000)
	c.WantEOF()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = nc.Write([]byte("FORGED \x1b[31m\x00 nonsense\r\n\r\n"))
	_ = nc.Close()
	log := s.finalLog()
	if format == logJSON {
		wantJSONLines(t, log)
	}
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "FORGED") {
			t.Errorf("a forged log line: %q", line)
		}
		for _, r := range line {
			if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == '\ufffd' {
				t.Errorf("a raw control character in the log: %q", line)
				break
			}
		}
		if strings.Contains(line, "FORGED") && strings.Contains(line, "\t") {
			t.Errorf("a tab from a client in the log: %q", line)
		}
	}
}

func TestCoordinatorCannotForgeLogLines(t *testing.T) {
	t.Parallel()
	for _, format := range logFormats {
		t.Run(format, func(t *testing.T) { testCoordinatorCannotForge(t, format) })
	}
}

func testCoordinatorCannotForge(t *testing.T, format string) {
	c, s := startCoordinated(t, "LOG_FORMAT="+format, "LOG_DEBUG=YES")
	c.Send("ERROR\nError-Code: X\x1b[31m\nError-Message: bad\x1b[31m\rFORGED\x07 things\n")
	s.wantLog("things")
	log := s.finalLog()
	if format == logJSON {
		wantJSONLines(t, log)
	}
	for line := range strings.Lines(log) {
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\r\x07") || strings.HasPrefix(line, "FORGED") {
			t.Errorf("a raw control character in the log: %q", line)
		}
	}
}

func TestLogRequests(t *testing.T) {
	t.Parallel()
	talk := func(s *server) {
		pub := s.publish("chatty", "key")
		r := s.receive("chatty", "key")
		pub.Send(wstest.Binary, []byte("p"))
		r.WantPacket([]byte("p"))
		s.refuses(403, "/chatty/key/publish")
		s.refuses(404, "/chatty/key/nothing")
		pub.CloseHandshake(1000)
		r.WantClose(1000)
		r.WantEOF()
		s.get("/")
	}
	s := startServer(t)
	talk(s)
	s.wantLog("chatty", "127.0.0.1")
	eventually(t, "a line for each session's beginning and end", func() bool {
		return strings.Count(s.logs(), "chatty") >= 4
	})
	n := len(lines(s.logs()))

	s = startServer(t, "LOG_REQUESTS=NO")
	s.wantLog("started") // the log comes through a pipe
	before := len(lines(s.logs()))
	for range 10 {
		talk(s)
	}
	log := s.finalLog()
	if after := slices.IndexFunc(lines(log), func(l string) bool { return strings.Contains(l, "shutting down") }); after != before || strings.Contains(log, "chatty") {
		t.Errorf("LOG_REQUESTS=NO: wanted quiet, got %d more lines:\n%s", after-before, tail(log))
	}
	if n < 4 {
		t.Errorf("LOG_REQUESTS=YES: wanted a line for each request and session, got %d lines:\n%s", n, s.logs())
	}
}

// Several refusals have one status: the log says which one it was, in the words that the
// client got.
func TestRefusalsInTheLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, "PLAY_WHITELIST=192.0.2.1", "ALLOWED_ORIGINS=https://good.example")
	s.publish("taken", "key")
	for _, c := range []struct{ kind, origin, words string }{
		{"publish", "https://good.example", "Forbidden: the channel already has a publisher"},
		{"receive", "https://good.example", "Forbidden: this address may not play"},
		{"probe", "https://evil.example", "Forbidden: pages of this origin may not connect"},
	} {
		if r := s.refuses(403, "/taken/key/"+c.kind, origin(c.origin)); r.Body != c.words+"\n" {
			t.Errorf("%s from %s: wanted %q, got %q", c.kind, c.origin, c.words, r.Body)
		}
		s.wantLine("msg=request", " status=403 ", " channel=taken kind="+c.kind, ` refusal="`+c.words+`"`)
	}
	s.get("/taken/key/receive") // by plain HTTP
	log := s.finalLog()
	if refused := ` refusal="Forbidden: this address may not play"`; strings.Count(log, refused) != 2 || strings.Count(log, "refusal=") != 4 {
		t.Errorf("wanted a reason for each of four refusals, and for nothing else, got:\n%s", tail(log))
	}
}

// sessionLine is what a log line of a session says, by name; nil if there is none.
func sessionLine(log, msg, kind string) map[string]string {
	for _, l := range lines(log) {
		if !strings.Contains(l, `msg="`+msg+`"`) || !strings.Contains(l, " kind="+kind+" ") {
			continue
		}
		says := map[string]string{}
		_, rest, _ := strings.Cut(l, `msg="`+msg+`" `)
		for _, word := range strings.Fields(rest) {
			name, value, _ := strings.Cut(word, "=")
			says[name] = value
		}
		return says
	}
	return nil
}

// A session's beginning says who it is, its end also what it did; neither has the key.
func TestSessionsInTheLog(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", secretKey)
	rec := s.receive("cam", secretKey)
	probe := s.probe("cam", secretKey)
	for i, p := range []string{"first", "", "third"} {
		pub.Send(wstest.Binary, []byte(p))
		rec.WantPacket([]byte(p))
		if i == 0 {
			probe.WantPacket([]byte(p))
			probe.WantClose(1000)
		}
	}
	waits := s.receiveClear("lone", secretKey)
	waits.CloseHandshake(1000)
	addr := map[string]string{"publish": pub.LocalAddr().String(), "receive": rec.LocalAddr().String()}
	pub.CloseHandshake(1000)
	rec.WantClose(1000)
	rec.WantEOF()
	s.wantLog("kind=publish", "reason=stream_ended")
	log := s.finalLog()
	if strings.Contains(log, secretKey) {
		t.Errorf("a key stands in the log:\n%s", from(log, secretKey))
	}
	ids := map[string]bool{}
	for _, c := range []struct {
		kind, channel, reason string
		carried               string // bytes, of frames, and packets
		names                 string // what the end says more than the beginning
	}{
		{"publish", "cam", "client_closed", "16 3", "reason seconds bytes packets"},
		{"receive", "cam", "stream_ended", "16 3", "reason seconds bytes packets lag_bytes lag_seconds first_byte_seconds"},
		{"probe", "cam", "probe_done", "7 1", "reason seconds bytes packets lag_bytes lag_seconds first_byte_seconds"},
		{"receive-clear-cache", "lone", "client_closed", "0 0", "reason seconds bytes packets lag_bytes lag_seconds"},
	} {
		begins, ends := sessionLine(log, "session begins", c.kind), sessionLine(log, "session ends", c.kind)
		if begins == nil || ends == nil {
			t.Errorf("%s: no line for its beginning or its end:\n%s", c.kind, log)
			continue
		}
		if begins["channel"] != c.channel || begins["door"] != "websocket" || begins["tls"] != "false" || ids[begins["id"]] {
			t.Errorf("%s begins: %v", c.kind, begins)
		}
		if a := addr[c.kind]; a != "" && begins["addr"] != a {
			t.Errorf("%s begins with the address %s, wanted %s", c.kind, begins["addr"], a)
		}
		ids[begins["id"]] = true
		more := 0
		for name, value := range begins {
			if ends[name] != value {
				t.Errorf("%s begins with %s=%s and ends with %s", c.kind, name, value, ends[name])
			}
		}
		for _, name := range strings.Fields(c.names) {
			if ends[name] == "" {
				t.Errorf("%s ends without %s: %v", c.kind, name, ends)
			}
			more++
		}
		if len(begins) != 6 || len(ends) != 6+more {
			t.Errorf("%s has other words in its lines: %v, %v", c.kind, begins, ends)
		}
		if got := ends["bytes"] + " " + ends["packets"]; got != c.carried || ends["reason"] != c.reason {
			t.Errorf("%s ends with %v, wanted %s and %s", c.kind, ends, c.reason, c.carried)
		}
		for _, name := range []string{"lag_bytes", "lag_seconds"} {
			if v := ends[name]; c.kind == "receive" && v != "0" {
				t.Errorf("%s, which got everything, ends with %s=%s", c.kind, name, v)
			}
		}
	}
}

func TestDebugLinesOnlyOnDemand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.publish("cam", "key").CloseHandshake(1000)
	if log := s.finalLog(); strings.Contains(strings.ToUpper(log), "DEBUG") {
		t.Errorf("wanted no debug lines by default, got:\n%s", tail(log))
	}
}

// sealedKey is a key that must not be found anywhere; hiddenSecret likewise.
const (
	sealedKey    = "K3y-that-nobody-may-read"
	hiddenSecret = "S3cret-of-the-coordinator"
)

// Every refusal and every end is driven with a key that would be found: in the log with
// all its debug lines, in an answer, or on a page.
func TestKeysAndSecretAreNowhere(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	c := authtest.New(t)
	s, _ := startTLS(t, id, "LOG_DEBUG=YES", "CONTROL_BASE_URL="+c.URL(), "CONTROL_SECRET="+hiddenSecret, "TRUSTED_PROXIES=127.0.7.1", "ALLOWED_ORIGINS=https://example.org",
		"PLAY_WHITELIST=127.0.0.1,127.0.8.1", "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", "MAX_IP_CONCURRENT_CONNECTIONS=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1", "GOP_CACHE_SIZE_MB=1")
	c.WantLink()
	wantLinkUp(s, 1)
	acceptAll(c)
	var said strings.Builder // everything that clients were told before an upgrade
	refused := func(status int, path string, opts ...wstest.Option) {
		t.Helper()
		for _, o := range [][]wstest.Option{opts, append([]wstest.Option{wstest.TLS(id.Trust())}, opts...)} {
			addr := s.addr
			if len(o) > len(opts) {
				addr = s.tlsAddr
			}
			r := wstest.Handshake(t, addr, path, o...)
			if r.Status != status {
				t.Errorf("%s: wanted %d, got %v", path, status, r)
			}
			fmt.Fprintln(&said, r.Body, r.Header)
		}
	}
	publish, receive := "/cam/"+sealedKey+"/publish", "/cam/"+sealedKey+"/receive"

	refused(404, "/"+sealedKey)
	refused(404, "/cam/"+sealedKey+"/play")
	refused(404, "/c.m/"+sealedKey+"/receive")
	refused(404, "/client/"+sealedKey)
	refused(400, "/cam/"+sealedKey+"%zz/receive")
	refused(400, publish, wstest.Header("Sec-WebSocket-Key", sealedKey))
	refused(400, publish, wstest.Method(sealedKey))
	refused(400, publish, wstest.AddHeader("Content-Length", sealedKey))
	refused(405, "/", wstest.Method(sealedKey))
	refused(426, publish, wstest.WithoutHeader("Upgrade"))
	refused(426, publish, wstest.Header("Sec-WebSocket-Version", sealedKey))
	refused(403, publish, wstest.Header("Origin", "https://"+sealedKey))
	refused(400, publish, viaProxy, xff(sealedKey))
	refused(400, publish, viaProxy, forwarded("for="+sealedKey))
	refused(403, receive, wstest.From("127.0.8.9"))
	held := s.receive("held", sealedKey, direct)
	refused(429, receive, direct)
	held.CloseHandshake(1000)
	c.Decide(func(authtest.Message) (string, bool) { return "", false })
	refused(403, publish)
	acceptAll(c)

	// And every end of a session that a client can bring about.
	end := func(path string, code int, frames ...frame) {
		t.Helper()
		conn := s.dialSoon(path)
		conn.SendFrames(frames...)
		wantErrorClose(t, conn, code)
	}
	end(publish, 1002, frame{Op: 7, Payload: []byte(sealedKey)})
	end(publish, 1007, frame{Op: wstest.Text, Payload: []byte(sealedKey + "\xff")})
	end(publish, 1009, frame{Op: wstest.Binary, Declare: 2 << 20})
	end(receive, 4321, frame{Op: wstest.Close, Payload: wstest.ClosePayload(4321, sealedKey)})
	pub := s.dialSoon(publish)
	refused(403, publish) // taken
	s.receive("cam", "another").WantError(wrongKey, 1008)
	s.receive("cam", sealedKey+"x").WantError(wrongKey, 1008)
	r := s.receive("cam", sealedKey)
	pub.Send(wstest.Binary, []byte(sealedKey))
	r.WantPacket([]byte(sealedKey))
	c.Kill("cam", "*")
	wantErrorClose(t, pub, 4000)
	r.WantClose(1000)
	pub = s.dialSoon(publish)
	c.DropLink()
	wantErrorClose(t, pub, 1013)
	c.WantLink()
	c.Stop()
	eventually(t, "503 without a coordinator", func() bool {
		resp := wstest.Handshake(t, s.addr, publish)
		fmt.Fprintln(&said, resp.Body, resp.Header)
		return resp.Status == 503
	})
	for _, path := range []string{"/", "/healthz", "/client/main.js", "/client/link.js", "/nothing"} {
		_, body, header := s.get(path)
		fmt.Fprintln(&said, body, header)
	}
	stay := s.receive("stay", sealedKey)
	log := s.finalLog()
	stay.WantClose(1001)

	token := c.Headers().Get("x-control-auth-token")
	if token == "" {
		t.Fatal("wanted a token")
	}
	for _, word := range []string{sealedKey, sealedKey[3:], hiddenSecret, token, token[strings.LastIndexByte(token, '.')+1:]} {
		if strings.Contains(said.String(), word) {
			t.Errorf("%q was told to a client: %q", word, from(said.String(), word))
		}
		if strings.Contains(log, word) {
			t.Errorf("%q stands in the log: %q", word, from(log, word))
		}
	}
}
