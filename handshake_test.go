package main

import (
	"bufio"
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
