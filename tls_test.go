package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

func startTLS(t *testing.T, c wstest.Identity, env ...string) (s *server, dir string) {
	t.Helper()
	dir = t.TempDir()
	cert, key := c.Files(t, dir)
	return startServer(t, append(env, "SSL_CERT="+cert, "SSL_KEY="+key)...), dir
}

func (s *server) tlsDial(t *testing.T, path string, c wstest.Identity, opts ...wstest.Option) *wstest.Conn {
	t.Helper()
	return wstest.Dial(t, s.tlsAddr, path, append(opts, wstest.TLS(c.Trust()))...)
}

func TestTLSCarriesTheSameProtocol(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	sizes := []int{0, 1, 125, 126, 127, 16383, 16384, 16385, 65535, 65536, 1 << 20, 3 << 20, 0, 5}
	plain := s.receive("cam", "key")
	secure := s.tlsDial(t, "/cam/key/receive", c)
	pub := s.tlsDial(t, "/cam/key/publish", c)
	for i, n := range sizes {
		if i%2 == 0 {
			pub.Send(wstest.Binary, payload(n, uint64(i)))
		} else {
			pub.SendFrames(wstest.Message(wstest.Binary, payload(n, uint64(i)), 4)...)
		}
		secure.WantPacket(payload(n, uint64(i)))
		plain.WantPacket(payload(n, uint64(i)))
	}
	late := s.tlsDial(t, "/cam/key/receive", c)
	for i, n := range sizes {
		late.WantPacket(payload(n, uint64(i)))
	}
	for i := range 20 { // pings among packets, both ways
		p := fmt.Appendf(nil, "%d", i)
		late.Send(wstest.Ping, p)
		late.WantPong(p)
		pub.Send(wstest.Ping, p)
		pub.WantPong(p)
	}
	s.tlsDial(t, "/cam/wrong/receive", c).WantError(wrongKey, 1008)
	probe := s.tlsDial(t, "/cam/key/probe", c)
	probe.WantPacket(nil)
	probe.WantClose(1000)
	probe.WantEOF()
	wstest.Refused(t, 404, s.tlsAddr, "/cam/key/play", wstest.TLS(c.Trust()))
	wstest.Refused(t, 403, s.tlsAddr, "/cam/key/publish", wstest.TLS(c.Trust()))
	pub.CloseHandshake(1000)
	for _, r := range []*wstest.Conn{plain, secure, late} {
		r.WantClose(1000)
		r.WantEOF()
	}
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := c.Trust()
		cfg.MinVersion, cfg.MaxVersion = version, version
		r := wstest.Dial(t, s.tlsAddr, fmt.Sprintf("/cam%d/key/receive", version), wstest.TLS(cfg))
		pub := wstest.Dial(t, s.tlsAddr, fmt.Sprintf("/cam%d/key/publish", version), wstest.TLS(cfg))
		p := payload(300_000, 1)
		pub.Send(wstest.Binary, p)
		r.WantPacket(p)
		r.Sync()
		pub.Close()
		r.WantClose(1000)
	}
	old := c.Trust()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, _, err := wstest.Open(s.tlsAddr, "/cam/key/receive", wstest.TLS(old)); err == nil || conn != nil {
		t.Error("wanted TLS 1.1 refused")
	}
	h2 := c.Trust()
	h2.NextProtos = []string{"h2", "http/1.1"} // a browser's offer: h2 cannot be upgraded
	wstest.Dial(t, s.tlsAddr, "/cam/key/receive", wstest.TLS(h2)).Sync()
	status, body, _ := s.getFrom("https://"+s.tlsAddr+"/", &http.Transport{TLSClientConfig: c.Trust(), ForceAttemptHTTP2: true})
	if status != 200 || len(body) < 500 {
		t.Errorf("GET / over TLS: wanted the page, got %d and %d bytes", status, len(body))
	}
}

func TestTLSFramesSentWithTheHandshake(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	r := s.tlsDial(t, "/cam/key/receive", c)
	p, q := payload(2<<20, 1), payload(40_000, 2)
	pub := s.tlsDial(t, "/cam/key/publish", c, wstest.Pipelined(
		frame{Op: wstest.Binary, Payload: q},
		frame{Op: wstest.Ping, Payload: []byte("x")},
		frame{Op: wstest.Binary, Payload: p},
		frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "")}))
	r.WantPackets(q, p)
	r.WantClose(1000)
	pub.WantClose(1000)
	for cut := 1; cut < 60; cut += 7 {
		b := wstest.Bytes(frame{Op: wstest.Binary, Payload: q[:50]})
		r := s.tlsDial(t, "/cut/key/receive", c)
		pub := s.tlsDial(t, "/cut/key/publish", c, wstest.PipelinedRaw(b[:min(cut, len(b))]))
		pub.SendRaw(b[min(cut, len(b)):])
		r.WantPacket(q[:50])
		pub.Close()
		r.WantClose(1000)
	}
}

func TestTLSPublisherThatSendsAndClosesLosesNothing(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	for i := range 10 {
		channel := fmt.Sprintf("cam%d", i)
		r := s.receive(channel, "key")
		pub := s.tlsDial(t, "/"+channel+"/key/publish", c)
		p := payload(1<<20, uint64(i))
		pub.Send(wstest.Binary, p)
		pub.Close()
		r.WantPacket(p)
		r.WantClose(1000)
		r.WantEOF()
	}
}

func TestTLSSlowReaderGetsEverything(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	r := s.tlsDial(t, "/cam/key/receive", c, wstest.ReceiveBuffer(256<<10))
	pub := s.tlsDial(t, "/cam/key/publish", c)
	r.StopReading()
	const n = 60
	for i := range n {
		pub.Send(wstest.Binary, payload(200_000+i, uint64(i)))
	}
	pub.CloseHandshake(1000)
	r.ResumeReading()
	for i := range n {
		r.WantPacket(payload(200_000+i, uint64(i)))
	}
	r.WantClose(1000)
	r.WantEOF()
}

func TestTLSPortTakesHarmAndGoesOn(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c)
	watch := s.tlsDial(t, "/cam/key/receive", c)
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", "\x16", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
		strings.Repeat("\x00", 70_000), strings.Repeat("\xff", 70_000), string(payload(5000, 1)),
	} {
		nc, err := net.Dial("tcp", s.tlsAddr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write([]byte(raw))
		_ = nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); err != nil && !isReset(err) {
			t.Errorf("%.20q: wanted the connection closed, got %v", raw, err)
		}
		_ = nc.Close()
	}
	// Garbage below the TLS of an established connection.
	broken := s.tlsDial(t, "/cam/key/receive", c)
	_, _ = broken.TCP().Write(bytes.Repeat([]byte("garbage"), 100))
	broken.WantGone()
	// Plain garbage inside it.
	inside := s.tlsDial(t, "/cam/key/receive", c)
	inside.SendRaw([]byte{0xff, 0xff})
	wantErrorClose(t, inside, 1002)

	pub := s.tlsDial(t, "/cam/key/publish", c)
	pub.Send(wstest.Binary, []byte("p"))
	watch.WantPacket([]byte("p"))
}

func TestTLSChurnWithResets(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c, "LOG_REQUESTS=NO")
	pub := s.tlsDial(t, "/cam/key/publish", c)
	stay := s.tlsDial(t, "/cam/key/receive", c)
	for i := range 120 {
		r, _, err := wstest.Open(s.tlsAddr, "/cam/key/receive", wstest.TLS(c.Trust()))
		if r == nil {
			t.Fatalf("round %d: %v", i, err)
		}
		p := payload(3000, uint64(i))
		pub.Send(wstest.Binary, p)
		stay.WantPacket(p)
		switch i % 3 {
		case 0:
			r.Reset()
		case 1:
			r.Close()
		case 2:
			_ = r.SendE(wstest.Close, nil)
			r.Close()
		}
	}
	pub.CloseHandshake(1000)
	stay.WantClose(1000)
}
