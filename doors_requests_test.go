package main

import (
	"net/http"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
)

// The door for plain HTTP: which requests it takes, and whose.

// Which requests the door for plain HTTP takes, and how the others are refused.
func TestHTTPMethods(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
		opts         []wstest.Option
	}{
		{"POST", "/cam/key/receive", 405, "GET, HEAD, OPTIONS", nil},
		{"DELETE", "/cam/key/probe", 405, "GET, HEAD, OPTIONS", nil},
		{"get", "/cam/key/receive", 405, "GET, HEAD, OPTIONS", nil},
		{"DELETE", "/cam/key/publish", 405, publishMethods, nil},
		{"GET", "/cam/key/publish", 426, "", nil},
		{"GET", "/cam/k.y/receive", 404, "", nil},
		{"GET", "/cam/key/receive", 400, "", []wstest.Option{wstest.AddHeader("Content-Length", "3"), wstest.PipelinedRaw([]byte("abc"))}},
		{"GET", "/cam/key/receive", 400, "", []wstest.Option{wstest.AddHeader("Transfer-Encoding", "chunked"), wstest.PipelinedRaw([]byte("0\r\n\r\n"))}},
		{"GET", "/cam/key/receive", 426, "", []wstest.Option{wstest.AddHeader("Upgrade", "h2c")}},
		{"GET", "/cam/key/receive", 426, "", []wstest.Option{wstest.AddHeader("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA==")}},
	} {
		h := wstest.Ask(t, c.method, s.addr, c.path, append(c.opts, hangUp)...).WantAnswer(c.status, "")
		if h.Get("Allow") != c.allow {
			t.Errorf("%s %s: wanted Allow: %q, got %v", c.method, c.path, c.allow, h)
		}
	}
	head := func(path string) http.Header {
		return wstest.Ask(t, "HEAD", s.addr, path, hangUp).WantHead(200)
	}
	if h := head("/cam/key/receive"); h.Get("Content-Type") != "" {
		t.Errorf("HEAD of a channel without a publisher has the header %v", h)
	}
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, webmStart)
	pub.Sync()
	if h := head("/cam/key/receive"); h.Get("Content-Type") != "video/webm" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD of a channel with a publisher has the header %v", h)
	}
	h := wstest.Ask(t, "OPTIONS", s.addr, "/cam/key/receive", hangUp).WantHead(204)
	if h.Get("Access-Control-Allow-Methods") != "GET, HEAD, OPTIONS" || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("OPTIONS has the header %v", h)
	}
}

const publishMethods = "GET, PUT, POST, OPTIONS"

// Pages may read a stream, and why they are refused, if ALLOWED_ORIGINS lets them.
func TestHTTPFromPages(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ALLOWED_ORIGINS=https://example.org", "PLAY_WHITELIST=127.0.0.1")
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	pub.Sync()
	page, foreign := wstest.AddHeader("Origin", "https://example.org"), wstest.AddHeader("Origin", "https://evil.example")
	referer := func(u string) wstest.Option { return wstest.AddHeader("Referer", u) }
	site := func(w string) wstest.Option { return wstest.AddHeader("Sec-Fetch-Site", w) }
	agent := func(name string) wstest.Option { return wstest.AddHeader("User-Agent", name) }
	for name, c := range map[string]struct {
		status int
		share  string
		opts   []wstest.Option
	}{
		"a page":                             {200, "https://example.org", []wstest.Option{page}},
		"a foreign page":                     {403, "", []wstest.Option{foreign}},
		"no page":                            {200, "", nil},
		"what a page shows":                  {200, "", []wstest.Option{referer("https://example.org/watch?x=y"), site("cross-site")}},
		"what a foreign page shows":          {403, "", []wstest.Option{referer("https://evil.example/https://example.org/")}},
		"what shows a page without a name":   {403, "", []wstest.Option{site("cross-site")}},
		"what a user typed":                  {200, "", []wstest.Option{site("none"), agent("Mozilla/5.0 (X11)")}},
		"a browser that names nobody":        {403, "", []wstest.Option{agent("Mozilla/5.0 (X11)")}},
		"what a page shows in a browser":     {200, "", []wstest.Option{referer("https://example.org/"), agent("Mozilla/5.0 (X11)")}},
		"a program with a name":              {200, "", []wstest.Option{agent("Lavf/61.7.100")}},
		"a page, and the address may not":    {403, "https://example.org", []wstest.Option{page, wstest.From("127.0.0.9")}},
		"a page, and another one besides it": {403, "", []wstest.Option{page, foreign}},
	} {
		h := s.httpGet("/cam/key/receive", append(c.opts, hangUp)...).WantHead(c.status)
		if h.Get("Access-Control-Allow-Origin") != c.share || h.Get("Vary") != "Origin" {
			t.Errorf("%s: wanted it shared with %q, got %v", name, c.share, h)
		}
	}
	wstest.Ask(t, "OPTIONS", s.addr, "/cam/key/publish", foreign, hangUp).WantHead(403)
	if h := wstest.Ask(t, "OPTIONS", s.addr, "/cam/key/publish", page, hangUp).WantHead(204); h.Get("Access-Control-Allow-Origin") != "https://example.org" {
		t.Errorf("the preflight has the header %v", h)
	}
	// Later answers too: they are written without net/http.
	waits := s.httpGet("/late/guess/receive", page)
	s.wantLog("channel=late")
	s.publish("late", "key").Sync()
	if h := waits.WantAnswer(403, "key"); h.Get("Access-Control-Allow-Origin") != "https://example.org" || h.Get("Vary") != "Origin" {
		t.Errorf("the 403 has the header %v", h)
	}
}

// Receivers over HTTP have their places, and are who a trusted proxy says.
func TestHTTPReceiversAreCounted(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=2", "MAX_CONNECTIONS=4", "TRUSTED_PROXIES=127.0.9.1", "PLAY_WHITELIST=127.0.9.0/24,203.0.113.9")
	from := func(ip string, opts ...wstest.Option) *wstest.HTTP {
		return s.httpGet("/cam/key/receive", append(opts, wstest.From(ip), hangUp)...)
	}
	from("127.0.8.1").WantAnswer(403, "may not play")
	one := from("127.0.9.2")
	from("127.0.9.2")
	s.wantSessions(2)
	from("127.0.9.2").WantAnswer(429, "Too many")
	from("127.0.9.1", wstest.AddHeader("X-Forwarded-For", "unknown")).WantAnswer(400, "")
	from("127.0.9.1", wstest.AddHeader("X-Forwarded-For", "203.0.113.9"))
	s.wantLog("session begins", "addr=203.0.113.9")
	from("127.0.9.3")
	s.wantSessions(4)
	if h := from("127.0.9.4").WantAnswer(503, "all the connections"); h.Get("Retry-After") == "" {
		t.Errorf("the 503 has the header %v", h)
	}
	one.Close()
	s.wantLog("session ends")
	from("127.0.9.2")
	s.wantSessions(5)
	from("127.0.9.2").WantAnswer(429, "Too many")
}
