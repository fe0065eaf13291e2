package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

const secretKey = "S3CR3T-streaming-key"

func TestMistake15KeysAreNeverLogged(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "LOG_DEBUG=YES", "LOG_REQUESTS=YES", "CONTROL_SECRET="+secretKey+"-control")
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
	s.refuses(404, "/the/end")
	if log := s.logs(); strings.Contains(log, secretKey) || strings.Contains(log, secretKey[1:]) {
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
	s := startServer(t, "LOG_DEBUG=YES")
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
	s.refuses(404, "/the/end")
	time.Sleep(200 * time.Millisecond)
	for line := range strings.Lines(s.logs()) {
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
	c, s := startCoordinated(t, "LOG_DEBUG=YES")
	c.Send("ERROR\nError-Code: X\x1b[31m\nError-Message: bad\x1b[31m\rFORGED\x07 things\n")
	s.wantLog("things")
	for line := range strings.Lines(s.logs()) {
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
	eventually(t, 5*time.Second, "a line for each session's beginning and end", func() bool {
		return strings.Count(s.logs(), "chatty") >= 4
	})
	n := len(lines(s.logs()))

	s = startServer(t, "LOG_REQUESTS=NO")
	s.wantLog("started") // the log comes through a pipe
	before := len(lines(s.logs()))
	for range 10 {
		talk(s)
	}
	if after := len(lines(s.logs())); after != before || strings.Contains(s.logs(), "chatty") {
		t.Errorf("LOG_REQUESTS=NO: wanted quiet, got %d more lines:\n%s", after-before, tail(s.logs()))
	}
	if n < 4 {
		t.Errorf("LOG_REQUESTS=YES: wanted a line for each request and session, got %d lines:\n%s", n, s.logs())
	}
}

func TestDebugLinesOnlyOnDemand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.publish("cam", "key").CloseHandshake(1000)
	if strings.Contains(strings.ToUpper(s.logs()), "DEBUG") {
		t.Errorf("wanted no debug lines by default, got:\n%s", tail(s.logs()))
	}
}
