package main

import (
	"io"
	"net/http"
	"time"

	"ws-stream-server/engine/wstest"
)

// Clients, in the words of a script.

func (s *server) publish(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/publish", opts...)
}

func (s *server) receive(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/receive", opts...)
}

func (s *server) receiveClear(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/receive-clear-cache", opts...)
}

func (s *server) probe(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/probe", opts...)
}

func (s *server) refuses(status int, path string, opts ...wstest.Option) *wstest.Response {
	s.t.Helper()
	return wstest.Refused(s.t, status, s.addr, path, opts...)
}

// dialSoon is wstest.Dial for a channel or a slot that was freed a moment ago by
// another connection's end: the server may need a moment to notice.
func (s *server) dialSoon(path string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return s.dialSoonAt(s.addr, path, opts...)
}

// dialSoonAt is dialSoon at one of the two listeners.
func (s *server) dialSoonAt(addr, path string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c, resp, err := wstest.Open(addr, path, opts...)
		if c != nil {
			return c.On(s.t)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: wanted an upgrade within %v, got %v, %v", path, patience, resp, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) get(path string) (status int, body string, header http.Header) {
	s.t.Helper()
	return s.getFrom("http://"+s.addr+path, http.DefaultTransport)
}

func (s *server) getFrom(url string, tr http.RoundTripper) (status int, body string, header http.Header) {
	s.t.Helper()
	client := http.Client{Timeout: patience, Transport: tr}
	resp, err := client.Get(url)
	if err != nil {
		s.t.Fatalf("GET %s: %v", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("GET %s: %v", url, err)
	}
	return resp.StatusCode, string(b), resp.Header
}
