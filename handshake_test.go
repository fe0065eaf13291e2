package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

func TestBadPathsAreNotFound(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	long := strings.Repeat("x", 129)
	for _, path := range []string{
		"/cam", "/cam/key", "/cam/key/", "/cam/key/play", "/cam/key/receive/", "/cam/key/receive/x",
		"/cam/key/Receive", "/cam/key/PUBLISH", "/cam/key/publish2", "/cam/key/receive-clear", "/cam/key/receive_clear_cache",
		"//key/receive", "/cam//receive", "///receive", "//cam/key/receive", "/cam/key//receive",
		"/c.m/key/receive", "/cam/k.y/receive", "/cam/k+y/receive", "/cam/k~y/publish", "/c:m/key/receive", "/c@m/key/receive",
		"/c%20m/key/receive", "/cam/key%00/receive", "/cam/key%0a/publish", "/cam/%6b%2fey/receive",
		"/%c3%a4/key/receive", "/cam/%ff/receive", "/cam/\xc3\xa4/receive",
		"/%2563am/key/receive", // decoded once it is %63am
		"/cam/key/receive%20", "/cam/key/receive%3Fx", "/cam/key/receive;x", "/cam/key/receive&x",
		"/" + long + "/key/receive", "/cam/" + long + "/receive", "/cam/" + long + "/publish",
		"/./cam/key/receive", "/cam/./key/receive", "/cam/key/../key/receive", "/x/../cam/key/receive", "/../cam/key/receive",
		"/..%2fcam/key/receive", "/../../etc/passwd", "/cam/*/receive", "/-/-/-", "/ws/control/wss",
	} {
		s.refuses(404, path)
	}
	s.receive("still", "here").Sync()
}

func TestGoodPaths(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	full := strings.Repeat("aZ9-_", 25) + "abc" // 128 characters
	for _, path := range []string{
		"/a/b/receive", "/0/_/receive", "/-/-/probe", "/" + full + "/" + full + "/receive-clear-cache",
		"/receive/receive/receive", "/publish/publish/publish", "/healthz/healthz/receive",
		"/cam/key/receive?", "/cam/key/receive?x=1&y=%zz", "/cam/key/receive?/publish", "/cam/key/receive?a?b", "/cam/key/probe?cache=clear",
	} {
		wstest.Dial(t, s.addr, path).Sync()
	}
	wstest.Dial(t, s.addr, "http://"+s.addr+"/cam/key/receive").Sync() // RFC 9112, section 3.2.2

	// Decoded once: %63 is c, and %2D is -.
	pub := wstest.Dial(t, s.addr, "/%63am%2Dera/k%65y/publish?token=x")
	pub.Send(wstest.Binary, []byte("p"))
	s.receive("cam-era", "key").WantPacket([]byte("p"))
	wstest.Dial(t, s.addr, "/cam-era/key/%72eceive").WantPacket([]byte("p"))
}

func TestIDMaxLength(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ID_MAX_LENGTH=5")
	s.receive("12345", "12345").Sync()
	s.refuses(404, "/123456/12345/receive")
	s.refuses(404, "/12345/123456/receive")
	s.refuses(404, "/123456/12345/publish")
	wstest.Dial(t, s.addr, "/%31%32%33%34%35/1/receive").Sync() // counted when decoded
}

// A case's name begins with the section of RFC 6455, and the item there, that it is
// about.
func TestBadUpgrades(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const path = "/cam/key/publish"
	type opts = []wstest.Option
	for _, c := range []struct {
		name string
		opts opts
		want []int
	}{
		{"4.2.1(3) no upgrade at all", opts{wstest.WithoutHeader("Upgrade"), wstest.WithoutHeader("Connection")}, []int{426, 400}},
		{"4.2.1(3) no Upgrade", opts{wstest.WithoutHeader("Upgrade")}, []int{426, 400}},
		{"4.2.1(4) no Connection", opts{wstest.WithoutHeader("Connection")}, []int{426, 400}},
		{"4.2.1(3) Upgrade: h2c", opts{wstest.Header("Upgrade", "h2c")}, []int{426, 400}},
		{"4.2.1(3) Upgrade: websockets", opts{wstest.Header("Upgrade", "websockets")}, []int{426, 400}},
		{"4.2.1(4) Connection: keep-alive", opts{wstest.Header("Connection", "keep-alive")}, []int{426, 400}},
		{"4.2.1(4) Connection: upgrades", opts{wstest.Header("Connection", "upgrades")}, []int{426, 400}},
		{"4.2.1(5) no key", opts{wstest.WithoutHeader("Sec-WebSocket-Key")}, []int{400}},
		{"4.2.1(5) empty key", opts{wstest.Header("Sec-WebSocket-Key", "")}, []int{400}},
		{"4.2.1(5) key of 15 bytes", opts{wstest.Header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")}, []int{400}},
		{"4.2.1(5) key of 17 bytes", opts{wstest.Header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")}, []int{400}},
		{"4.2.1(5) key not base64", opts{wstest.Header("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==")}, []int{400}},
		{"11.3.1 two keys", opts{wstest.AddHeader("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA==")}, []int{400}},
		{"4.2.1(6) no version", opts{wstest.WithoutHeader("Sec-WebSocket-Version")}, []int{426, 400}},
		{"4.4 version 8", opts{wstest.Header("Sec-WebSocket-Version", "8")}, []int{426}},
		{"4.4 version 14", opts{wstest.Header("Sec-WebSocket-Version", "14")}, []int{426}},
		{"4.4 version 0", opts{wstest.Header("Sec-WebSocket-Version", "0")}, []int{426, 400}},
		{"4.2.1(6) version 13.0", opts{wstest.Header("Sec-WebSocket-Version", "13.0")}, []int{426, 400}},
		{"4.2.1(1) POST", opts{wstest.Method("POST"), wstest.AddHeader("Content-Length", "0")}, []int{400, 405, 426}},
		{"4.2.1(1) PUT", opts{wstest.Method("PUT"), wstest.AddHeader("Content-Length", "0")}, []int{400, 405, 426}},
		{"4.2.1(1) OPTIONS", opts{wstest.Method("OPTIONS")}, []int{400, 405, 426}},
		{"4.2.1(1) DELETE", opts{wstest.Method("DELETE")}, []int{400, 405, 426}},
		{"4.2.1(1) HTTP/1.0", opts{wstest.Proto("HTTP/1.0")}, []int{400, 426, 505}},
		{"4.2.1(1) get", opts{wstest.Method("get")}, []int{400, 405, 426}},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := wstest.Handshake(t, s.addr, path, c.opts...)
			if !slices.Contains(c.want, resp.Status) {
				t.Fatalf("wanted one of %v, got %v", c.want, resp)
			}
			if body := strings.TrimSuffix(resp.Body, "\n"); body == "" || strings.ContainsAny(body, "\r\n") {
				t.Errorf("wanted one line of text, got %q", resp.Body)
			}
			if resp.Status == 426 && resp.Header.Get("Upgrade") == "" {
				t.Errorf("wanted an Upgrade header with the 426 (RFC 9110, section 15.5.22), got %v", resp.Header)
			}
			if strings.HasPrefix(c.name, "4.4 ") && resp.Status == 426 && resp.Header.Get("Sec-WebSocket-Version") != "13" {
				t.Errorf("wanted Sec-WebSocket-Version: 13 (RFC 6455, section 4.4), got %v", resp.Header)
			}
		})
	}
	// None of them took the channel.
	s.publish("cam", "key").Sync()
	// HEAD, whose answer has no body.
	if resp := wstest.Handshake(t, s.addr, path, wstest.Method("HEAD")); resp.Status == 101 || resp.Status >= 500 {
		t.Errorf("HEAD: wanted a refusal, got %v", resp)
	}
}

func TestUnusualButGoodUpgrades(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, opts := range map[string][]wstest.Option{
		"Firefox":            {wstest.Header("Connection", "keep-alive, Upgrade")},
		"case of values":     {wstest.Header("Upgrade", "WebSocket"), wstest.Header("Connection", "UPGRADE")},
		"list of upgrades":   {wstest.Header("Upgrade", "foo/2, websocket")},
		"two Connections":    {wstest.AddHeader("Connection", "keep-alive")},
		"Connection list":    {wstest.Header("Connection", "foo ,Upgrade,bar")},
		"an Origin":          {wstest.Header("Origin", "https://evil.example")},
		"an extension":       {wstest.Header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")},
		"many headers":       {wstest.Header("Cookie", strings.Repeat("a=b; ", 800))},
		"lower-case headers": {wstest.Header("upgrade", "websocket"), wstest.Header("connection", "upgrade"), wstest.Header("sec-websocket-version", "13"), wstest.Header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")},
		"upper-case headers": {wstest.Header("UPGRADE", "websocket"), wstest.Header("SEC-WEBSOCKET-KEY", "AQIDBAUGBwgJCgsMDQ4PEA==")},
		"spaces":             {wstest.Header("Upgrade", "  websocket  ")},
		"byte by byte":       {wstest.Chopped(1, 0)},
		"in four pieces":     {wstest.Chopped(50, 30*time.Millisecond)},
		"another host":       {wstest.Header("Host", "other.example:9999")},
	} {
		t.Run(name, func(t *testing.T) {
			wstest.Dial(t, s.addr, "/cam/key/receive", opts...).Sync()
		})
	}
	// A subprotocol that was offered must not be chosen by a server that has none.
	resp := wstest.Handshake(t, s.addr, "/cam/key/receive", wstest.Header("Sec-WebSocket-Protocol", "chat, superchat"))
	if resp.Status != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != "" {
		t.Errorf("wanted 101 without a subprotocol, got %v %v", resp, resp.Header)
	}
}

func TestFramesSentWithTheHandshake(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	t.Run("packets", func(t *testing.T) {
		s := s.on(t)
		r := s.receive("a", "key")
		s.publish("a", "key", wstest.Pipelined(
			frame{Op: wstest.Binary, Payload: []byte("one")},
			frame{Op: wstest.Ping, Payload: []byte("two")},
			frame{Op: wstest.Binary, Payload: []byte("three")},
		)).WantPong([]byte("two"))
		r.WantPackets([]byte("one"), []byte("three"))
	})
	t.Run("packets and a close", func(t *testing.T) {
		s := s.on(t)
		r := s.receive("b", "key")
		pub := s.publish("b", "key", wstest.Pipelined(
			frame{Op: wstest.Binary, Payload: []byte("one")},
			frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "")},
		))
		pub.WantClose(1000)
		pub.WantEOF()
		r.WantPacket([]byte("one"))
		r.WantClose(1000)
		r.WantEOF()
	})
	t.Run("two MiB", func(t *testing.T) {
		s := s.on(t)
		r := s.receive("c", "key")
		p := payload(2<<20, 1)
		s.publish("c", "key", wstest.Pipelined(frame{Op: wstest.Binary, Payload: p}))
		r.WantPacket(p)
	})
	t.Run("every cut of a frame", func(t *testing.T) {
		s := s.on(t)
		p := payload(20, 3)
		b := wstest.Bytes(frame{Op: wstest.Binary, Payload: p}, frame{Op: wstest.Binary, Payload: []byte("end")})
		for cut := range b {
			r := s.receive("d", "key")
			pub := s.publish("d", "key", wstest.PipelinedRaw(b[:cut]))
			pub.SendRaw(b[cut:])
			r.WantPackets(p, []byte("end"))
			pub.CloseHandshake(1000)
			r.WantClose(1000)
		}
	})
	t.Run("a broken frame", func(t *testing.T) {
		s := s.on(t)
		for _, kind := range []string{"publish", "receive", "probe"} {
			c := s.dialSoon("/e/key/"+kind, wstest.Pipelined(frame{Op: wstest.Binary, RSV: 7}))
			wantErrorClose(t, c, 1002)
		}
	})
	t.Run("a ping of a receiver", func(t *testing.T) {
		s := s.on(t)
		s.receive("f", "key", wstest.Pipelined(frame{Op: wstest.Ping, Payload: []byte("x")})).WantPong([]byte("x"))
	})
	t.Run("then the end", func(t *testing.T) {
		s := s.on(t)
		for i := range 20 {
			r := s.receive("g", "key")
			p := payload(100_000, uint64(i))
			pub := s.publish("g", "key", wstest.Pipelined(frame{Op: wstest.Binary, Payload: p}))
			pub.Close()
			r.WantPacket(p)
			r.WantClose(1000)
		}
	})
}

func TestHandshakesThatAreNoHTTP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, raw := range []string{
		"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
		"GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nNul: \x00\r\n\r\n",
		"GET /cam/key/receive HTTP/1.1\nHost: a\n\n",
		"GET /cam/key%/receive HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /cam/key%zz/receive HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /cam/key/publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
		strings.Repeat("\x00", 2000), strings.Repeat("A", 20_000) + "\r\n\r\n",
	} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write([]byte(raw))
		_ = nc.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(nc)
		_ = nc.Close()
		if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.") || strings.HasPrefix(string(b), "HTTP/1.1 5") && !strings.HasPrefix(string(b), "HTTP/1.1 505") {
			t.Errorf("%.40q: wanted an HTTP refusal, got %.80q", raw, b)
		}
	}
	s.receive("still", "here").Sync()
}

func TestUpgradeWithABodyDoesNotConfuse(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, h := range [][2]string{{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}, {"Expect", "100-continue"}} {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.AddHeader(h[0], h[1]), wstest.Patience(3*time.Second))
		if c != nil {
			c.Close()
		}
		if err == nil && resp.Status >= 500 {
			t.Errorf("%v: wanted no failure of the server, got %v", h, resp)
		}
	}
	s.receive("still", "here").Sync()
}

// Of several reasons to refuse, the first of this order is told: path, upgrade, origin,
// a client that is not known, address, limit per address, limit in total, channel.
func TestTheOrderOfRefusals(t *testing.T) {
	t.Parallel()
	s := startServer(t, "TRUSTED_PROXIES=127.0.7.1", "ALLOWED_ORIGINS=https://example.org", "PLAY_WHITELIST=127.0.8.1,127.0.8.2", "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1", "MAX_CONNECTIONS=2")
	s.publish("cam", "key", wstest.From("127.0.8.1"))
	noUpgrade := wstest.WithoutHeader("Upgrade")
	s.refuses(404, "/c*m/key/receive", noUpgrade, wstest.From("127.0.8.9"))
	foreign, unknown := wstest.Header("Origin", "https://evil.example"), forwarded("for=unknown")
	s.refuses(426, "/cam/key/receive", noUpgrade, viaProxy, foreign, unknown)
	if r := s.refuses(403, "/cam/key/receive", viaProxy, foreign, unknown); !strings.Contains(r.Body, "origin") {
		t.Errorf("a foreign origin and an unknown client: the refusal is %v", r)
	}
	s.refuses(400, "/cam/key/receive", viaProxy, unknown) // the proxy is on no list
	s.refuses(426, "/cam/key/receive", noUpgrade, wstest.From("127.0.8.9"))
	other := s.publish("other", "key", wstest.From("127.0.8.9"))
	s.refuses(403, "/cam/key/receive", wstest.From("127.0.8.9"))
	s.refuses(429, "/cam/key/publish", wstest.From("127.0.8.1"))
	s.refuses(429, "/cam/key/receive", wstest.From("127.0.8.1"))
	s.refuses(503, "/cam/key/publish", wstest.From("127.0.8.2"))
	s.refuses(503, "/cam/key/receive", wstest.From("127.0.8.2"))
	other.CloseHandshake(1000) // its place is free before it can know
	s.refuses(403, "/cam/key/publish", wstest.From("127.0.8.2"))
	s.receive("cam", "key", wstest.From("127.0.8.2")).Sync()
}

// A body that is announced and never comes holds up no answer.
func TestBodiesThatNeverCome(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/cam/key/receive", 400}, {"POST", "/cam/key/receive", 405}, {"PUT", "/cam/key/probe", 405},
		{"GET", "/nothing", 404}, {"POST", "/nothing", 404}, {"POST", "/", 405}, {"GET", "/", 200}, {"GET", "/healthz", 200},
	} {
		for _, body := range []string{"Content-Length: 10", "Content-Length: 99999999", "Transfer-Encoding: chunked"} {
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(patience))
			_, _ = fmt.Fprintf(nc, "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", c.method, c.path, body)
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil || resp.StatusCode != c.status || !resp.Close {
				t.Errorf("%s %s, %s: wanted %d and the connection's end, got %v, %v", c.method, c.path, body, c.status, resp, err)
			}
			_ = nc.Close()
		}
	}
}

func TestOversizedHeaders(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, opt := range []wstest.Option{
		wstest.AddHeader("X-Long", strings.Repeat("x", 4<<20)),
		func() wstest.Option {
			var b strings.Builder
			for i := range 60_000 {
				fmt.Fprintf(&b, "X-%d: %050d\r\n", i, i)
			}
			return wstest.Request("GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n" + b.String() + "\r\n")
		}(),
		wstest.Request("GET /" + strings.Repeat("y", 4<<20) + " HTTP/1.1\r\nHost: a\r\n\r\n"),
	} {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", opt)
		if c != nil {
			t.Errorf("wanted oversized headers refused, got %v", resp)
			c.Close()
		}
		if err == nil && (resp.Status < 400 || resp.Status >= 500) {
			t.Errorf("wanted a refusal, got %v", resp)
		}
	}
	s.receive("still", "here").Sync()
}

func TestRefusalsOnAKeptConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, _ = nc.Write([]byte("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"))
	br := bufio.NewReader(nc)
	for _, want := range []int{200, 404} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("wanted %d, got %v", want, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Fatalf("wanted %d, got %d", want, resp.StatusCode)
		}
	}
}

// The upgrade may be the second request of a connection, or come in one write with
// the first.
func TestUpgradeOfAKeptConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	upgrade := wstest.UpgradeRequest("/cam/key/receive")
	const page = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, writes := range [][]string{
		{page, upgrade + string(wstest.Bytes(frame{Op: wstest.Ping, Payload: []byte("x")}))},
		{page + upgrade + string(wstest.Bytes(frame{Op: wstest.Ping, Payload: []byte("x")}))},
	} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(patience))
		br := bufio.NewReader(nc)
		_, _ = nc.Write([]byte(writes[0]))
		for i, want := range []int{200, 101} {
			if i == 1 && len(writes) > 1 {
				_, _ = nc.Write([]byte(writes[1]))
			}
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != want {
				t.Fatalf("wanted %d, got %v, %v", want, resp, err)
			}
			if want == 200 {
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		}
		pong := make([]byte, 3)
		if _, err := io.ReadFull(br, pong); err != nil || string(pong) != "\x8a\x01x" {
			t.Errorf("wanted the pong, got % x, %v", pong, err)
		}
	}
}
