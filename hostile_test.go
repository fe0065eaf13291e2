package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// What hostile clients send over HTTP, and what they must not learn or leave behind.
// Frames are attacked in rfc6455_test.go, TLS in tls_test.go and hostile_tls_test.go.

// wantWholeLog waits until the log has the lines of all requests answered so far.
func (s *server) wantWholeLog() {
	s.t.Helper()
	wstest.Handshake(s.t, s.addr, "/the/end", wstest.Method("PATCH"))
	s.wantLog("method=PATCH")
}

// statuses reads the answers in b, and fails the test if there is anything else.
func statuses(t *testing.T, b string) (all []int) {
	t.Helper()
	br := bufio.NewReader(strings.NewReader(b))
	for {
		if _, err := br.Peek(1); err != nil {
			return all
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("no HTTP in %q: %v", b, err)
		}
		all = append(all, resp.StatusCode)
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return all // what follows is WebSocket
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("no HTTP in %q: %v", b, err)
		}
	}
}

// Where a proxy in front and the server could disagree about a request's end, there
// is one answer and then no other: what comes behind is never taken for a request.
func TestRequestsAreNotSmuggled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	victim := wstest.UpgradeRequest("/smuggled/key/publish")
	body := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(victim), victim)
	for _, c := range []struct {
		name, head, body string
		status           int
	}{
		{"a body of some length", "Content-Length: 400", victim, 0},
		{"a chunked body", "Transfer-Encoding: chunked", body, 0},
		{"length 0 and a chunked body", "Content-Length: 0\r\nTransfer-Encoding: chunked", body, 0},
		{"a length and a chunked body", "Content-Length: 5\r\nTransfer-Encoding: chunked", body, 0},
		{"a chunked body and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n" + victim, 0},
		{"two lengths", "Content-Length: 0\r\nContent-Length: 400", victim, 400},
		{"two lengths in one line", "Content-Length: 0, 400", victim, 400},
		{"the same length twice", "Content-Length: 400\r\nContent-Length: 400", victim, 0},
		{"a length with a sign", "Content-Length: +400", victim, 400},
		{"a negative length", "Content-Length: -1", victim, 400},
		{"a length in hex", "Content-Length: 0x190", victim, 400},
		{"a length that overflows", "Content-Length: 18446744073709551616", victim, 400},
		{"no length at all", "Content-Length:", victim, 400},
		{"a length with a space before the colon", "Content-Length : 400", victim, 400},
		{"a length with a tab before the colon", "Content-Length\t: 400", victim, 400},
		{"a length behind a NUL", "X: \x00\r\nContent-Length: 400", victim, 400},
		{"a NUL in a name", "Content-Length\x00: 400", victim, 400},
		{"a carriage return in a value", "X: a\rContent-Length: 400", victim, 400},
		{"a coding that is none", "Transfer-Encoding: xchunked", body, 501},
		{"a coding behind another", "Transfer-Encoding: gzip, chunked", body, 501},
		{"two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", body, 501},
		{"a coding in quotes", "Transfer-Encoding: \"chunked\"", body, 501},
		{"a coding with a vertical tab", "Transfer-Encoding: \x0bchunked", body, 400},
		{"a coding with a space before the colon", "Transfer-Encoding : chunked", body, 400},
		{"a folded coding", "Transfer-Encoding:\r\n chunked", body, 0},
		{"a folded length", "Content-Length:\r\n 400", victim, 0},
		{"a length that goes on in the next line", "Content-Length: 4\r\n 00", victim, 400},
		{"a line that begins with a space", " X: y\r\nContent-Length: 400", victim, 400},
		{"a bare LF before the length", "X: y\nContent-Length: 400", victim, 0},
		{"an expectation", "Content-Length: 400\r\nExpect: 100-continue", victim, 0},
		{"an HTTP/2 upgrade", "Content-Length: 400\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", victim, 0},
		{"a keep-alive that is asked for", "Content-Length: 400\r\nConnection: keep-alive", victim, 0},
		{"a length that Connection hides", "Content-Length: 400\r\nConnection: Content-Length", victim, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.on(t)
			for _, target := range []struct {
				line   string
				status int
			}{
				{"GET /healthz HTTP/1.1", 200}, {"POST /nothing HTTP/1.1", 404}, {"GET /smuggler/key/publish HTTP/1.1", 400}, {"POST / HTTP/1.1", 405},
			} {
				want := target.status
				if c.status != 0 {
					want = c.status
				}
				answer := s.raw(s.addr, "127.0.0.1", target.line+"\r\nHost: a\r\n"+c.head+"\r\n\r\n"+c.body+victim)
				if got := statuses(t, answer); len(got) != 1 || got[0] != want {
					t.Errorf("%s: wanted %d and the end, got %v:\n%q", target.line, want, got, answer)
				}
			}
		})
	}
	s.wantWholeLog()
	if log := s.logs(); strings.Contains(log, "smuggled") {
		t.Errorf("wanted no request for the smuggled channel, got:\n%s", from(log, "smuggled"))
	}
	s.publish("smuggled", "key").Sync()
}

// After an upgrade nothing is HTTP any more: a request is a broken frame.
func TestARequestBehindAnUpgradeIsABrokenFrame(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i, request := range []string{"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", wstest.UpgradeRequest("/second/key/publish"), "POST / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\n"} {
		for _, kind := range []string{"publish", "receive", "receive-clear-cache", "probe"} {
			path := fmt.Sprintf("/cam%d-%s/key/%s", i, kind, kind)
			wantErrorClose(t, wstest.Dial(t, s.addr, path, wstest.PipelinedRaw([]byte(request))), 1002)
			c := s.dialSoon(path)
			c.SendRaw([]byte(request))
			wantErrorClose(t, c, 1002)
		}
	}
	s.wantWholeLog()
	if strings.Contains(s.logs(), "channel=second") {
		t.Errorf("wanted no second request, got:\n%s", s.logs())
	}
}

// Compression that was offered was not agreed on.
func TestCompressedFramesAreRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	deflated := frame{Op: wstest.Binary, RSV: 4, Payload: []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")} // "Hello" (RFC 7692, section 7.2.3.1)
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits; server_no_context_takeover", "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=10",
	} {
		c := s.dialSoon("/cam/key/publish", wstest.Header("Sec-WebSocket-Extensions", offer)) // Dial fails on an extension in the answer
		c.SendFrames(frame{Op: wstest.Binary, Payload: []byte("plain")}, deflated)
		wantErrorClose(t, c, 1002)
	}
}

// Clients that send their headers byte by byte hold up nobody, and are not waited for
// longer than anybody else.
func TestManySlowHeaders(t *testing.T) {
	t.Parallel()
	slow(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	const n = 150
	ended := make(chan error, n)
	for i := range n {
		addr := s.addr
		if i%3 == 0 {
			addr = s.tlsAddr
		}
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		go func() {
			request := wstest.UpgradeRequest("/slow/key/receive")
			if i%3 == 0 {
				request = "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + strings.Repeat("x", 1000)
			}
			for at := 0; ; at++ {
				if _, err := nc.Write([]byte{request[at%len(request)]}); err != nil {
					ended <- nil
					return
				}
				_ = nc.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
				if _, err := nc.Read(make([]byte, 1000)); err == nil || !os.IsTimeout(err) {
					ended <- nil
					return
				}
				if at == 150 { // a minute
					ended <- fmt.Errorf("connection %d is still read after a minute", i)
					return
				}
			}
		}()
	}
	r, pub := s.receive("cam", "key"), s.tlsDial(t, "/cam/key/publish", id)
	for done := 0; done < n; { // others are served meanwhile
		pub.Send(wstest.Binary, []byte("p"))
		r.WantPacket([]byte("p"))
		s.receive("new", "key").CloseHandshake(1000)
		select {
		case err := <-ended:
			if done++; err != nil {
				t.Error(err)
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Nothing but the files of the page is ever served, however the path is written.
func TestPathTraversal(t *testing.T) {
	t.Parallel()
	s := startServer(t, "CONTROL_SECRET=traversed", ".env:# traversed")
	writeFile(t, filepath.Join(s.dir, "index.html"), "traversed")
	up := []string{"..", "%2e%2e", ".%2e", "%2E%2e", "%252e%252e", "..%00", "..;", "..%5c", `..\`, "%c0%ae%c0%ae", "%uff0e%uff0e", "...."}
	var paths []string
	for _, u := range up {
		for _, base := range []string{"/", "/client/", "/cam/key/receive/"} {
			for _, file := range []string{"etc/passwd", ".env", "index.html", "static/index.html", "client/main.js", "main.go"} {
				for _, slash := range []string{"/", "%2f", "//", "%5c", "%252f"} {
					paths = append(paths, base+strings.Repeat(u+slash, 3)+file)
				}
			}
		}
	}
	paths = append(paths, "/.env", "//.env", "/./.env", "/client/", "/client", "/client/.", "/client/static/main.js", "/static/main.js", "/client//main.js", "/client/./main.js",
		"/client/main.js/", "/client/main.js%00", "/client/main.js%00.svg", "/client/main.js.map", "/client/MAIN.JS", "/client%2fmain.js", "/CLIENT/main.js", "/proc/self/environ", "//etc/passwd", "/~root/", "/index.html")
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	br := bufio.NewReader(nc)
	var all bytes.Buffer
	for _, path := range paths {
		_ = nc.SetDeadline(time.Now().Add(wstest.Timeout))
		if strings.Contains(path, "%u") { // no percent-encoding: net/http answers and closes
			if got := statuses(t, s.raw(s.addr, "127.0.0.1", "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")); len(got) != 1 || got[0] != 400 {
				t.Errorf("%s: wanted 400, got %v", path, got)
			}
			continue
		}
		if _, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_, _ = io.Copy(&all, resp.Body)
		if resp.StatusCode != 404 || resp.Header.Get("Location") != "" {
			t.Errorf("%s: wanted 404, got %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	if strings.Contains(all.String(), "traversed") || strings.Contains(all.String(), "root:") {
		t.Error("a file of the machine was served")
	}
}

// What a client says comes back in no page, no refusal and no header, and what it
// says that is not plain stands in no log line raw.
func TestNothingAClientSaysIsEchoed(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "LOG_DEBUG=YES", "TRUSTED_PROXIES=127.0.0.1", "ALLOWED_ORIGINS=https://example.org", "PLAY_WHITELIST=203.0.113.9")
	_, clean, _ := s.get("/")
	const evil = "<script>EVIL</script>"
	upgrade := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, request := range []string{
		"GET /" + evil + " HTTP/1.1\r\nHost: a\r\n", "GET /" + evil + "/key/receive HTTP/1.1\r\nHost: a\r\n", "GET /cam/" + evil + "/publish HTTP/1.1\r\nHost: a\r\n",
		"GET /cam/key/" + evil + " HTTP/1.1\r\nHost: a\r\n", "GET /cam/key/receive?" + evil + " HTTP/1.1\r\nHost: a\r\n", "GET /%3Cscript%3EEVIL HTTP/1.1\r\nHost: a\r\n",
		"GET /?" + evil + " HTTP/1.1\r\nHost: " + evil + "\r\n", "GET / HTTP/1.1\r\nHost: EVIL.example\r\n", "GET http://EVIL.example/nothing HTTP/1.1\r\nHost: EVIL.example\r\n",
		evil + " / HTTP/1.1\r\nHost: a\r\n", "EVIL / HTTP/1.1\r\nHost: a\r\n", "EVIL /cam/key/publish HTTP/1.1\r\nHost: a\r\n", "GET / " + evil + "\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" + evil + ": x\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: EVIL\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: EVIL\r\n", "GET / HTTP/1.1\r\nHost: a\r\nExpect: EVIL\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: " + evil + "\r\nReferer: " + evil + "\r\nCookie: " + evil + "\r\nX-Forwarded-For: " + evil + "\r\nX-Forwarded-Host: EVIL\r\n",
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n" + strings.Replace(upgrade, "13", evil, 1), "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n" + strings.Replace(upgrade, "dGhl", evil, 1),
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n" + strings.Replace(upgrade, "websocket", evil, 1), "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nOrigin: " + evil + "\r\n" + upgrade,
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + evil + "\r\n" + upgrade, "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nForwarded: for=\"" + evil + "\"\r\n" + upgrade,
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: fe80::1%EVIL\r\n" + upgrade, "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n" + upgrade,
		"GET /EVIL/EVIL/receive HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: EVIL\r\nSec-WebSocket-Extensions: EVIL\r\nX-Forwarded-For: 203.0.113.9\r\n" + upgrade,
	} {
		answer := s.raw(s.addr, "127.0.0.1", request+"Connection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.") || strings.Contains(answer, "EVIL") {
			t.Errorf("%q: wanted an answer that does not repeat it, got %q", request, answer)
		}
		if strings.HasPrefix(request, "GET /?") && strings.HasPrefix(answer, "HTTP/1.1 200") && !strings.HasSuffix(answer, clean) {
			t.Errorf("%q: the page is another one", request)
		}
	}
	s.wantWholeLog()
	for line := range strings.Lines(s.logs()) {
		// Only a channel of lawful letters is named there.
		if strings.Contains(strings.ReplaceAll(line, " channel=EVIL ", ""), "EVIL") {
			t.Errorf("a client's words in the log: %q", line)
		}
	}
}

// A client that pings as fast as it can, and reads the answers, gets one for each ping, but
// not each in a write of its own: its pings would cost the others more than any stream does.
func TestAPingFloodIsAnsweredInFewWrites(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.receive("cam", "key")
	r.Sync()
	const rounds, n = 20, 1000 // the answers to n are what may wait while a heartbeat is written
	pings := bytes.Repeat(wstest.Frame{Op: wstest.Ping}.AppendTo(nil), n)
	before := s.writes()
	for round := range rounds {
		r.SendRaw(pings)
		for i, end := 0, time.Now().Add(patience); i < n; {
			m, err := r.NextFrame(time.Until(end))
			if err != nil {
				t.Fatalf("round %d, after %d answers: %v", round, i, err)
			}
			if m.Op == wstest.Pong { // else it is a heartbeat, on a slow machine
				i++
			}
		}
	}
	used := s.writes() - before
	t.Logf("%d pings were answered in %d writes", rounds*n, used)
	if used > rounds*n/4 {
		t.Errorf("%d pings were answered in %d writes, wanted far fewer", rounds*n, used)
	}
}
