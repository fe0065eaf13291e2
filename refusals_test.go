package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

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
