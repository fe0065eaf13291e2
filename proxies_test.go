package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ws-stream-server/engine/wstest"
)

// Who the client is when a proxy stands between: what trusted ones say counts for the
// lists, the limits, the log and the coordinator, what others say for nothing. How
// the headers are read in detail is tested in netfilter and engine.

// The proxies of these tests; 127.0.8.1 is a client that comes directly.
var (
	viaProxy = wstest.From("127.0.7.1")
	direct   = wstest.From("127.0.8.1")
)

func xff(list string) wstest.Option       { return wstest.Header("X-Forwarded-For", list) }
func forwarded(list string) wstest.Option { return wstest.Header("Forwarded", list) }

func TestListsSeeTheClientBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "TRUSTED_PROXIES=127.0.7.0/24", "PLAY_WHITELIST=203.0.113.9,2001:db8::/32,127.0.7.1", "CONCURRENT_LIMIT_WHITELIST=*")
	for _, c := range []struct {
		name   string
		from   wstest.Option
		opts   []wstest.Option
		status int
		addr   string // in the log
	}{
		{"named", viaProxy, []wstest.Option{xff("203.0.113.9")}, 101, "addr=203.0.113.9 "},
		{"named with a port", viaProxy, []wstest.Option{xff("203.0.113.9:1234")}, 101, "addr=203.0.113.9:1234 "},
		{"Forwarded", viaProxy, []wstest.Option{forwarded(`for="[2001:db8::9]:1234";proto=https`)}, 101, "addr=[2001:db8::9]:1234 "},
		{"a chain of proxies", viaProxy, []wstest.Option{xff("203.0.113.9, 127.0.7.2"), wstest.AddHeader("X-Forwarded-For", "127.0.7.3")}, 101, "addr=203.0.113.9 "},
		{"both headers", viaProxy, []wstest.Option{xff("203.0.113.9"), forwarded("for=203.0.113.9")}, 101, "addr=203.0.113.9 "},
		{"the proxy itself", viaProxy, nil, 101, "addr=127.0.7.1:"},
		{"a long chain", viaProxy, []wstest.Option{xff("203.0.113.9" + strings.Repeat(",127.0.7.9", 1200))}, 101, "addr=203.0.113.9 "},

		{"not on the list", viaProxy, []wstest.Option{xff("203.0.113.10")}, 403, "addr=203.0.113.10 "},
		{"its own claim", viaProxy, []wstest.Option{xff("203.0.113.9, 203.0.113.10")}, 403, "addr=203.0.113.10 "},
		{"a claim in a line of its own", viaProxy, []wstest.Option{xff("203.0.113.9"), wstest.AddHeader("X-Forwarded-For", "203.0.113.10")}, 403, "addr=203.0.113.10 "},
		{"a client without a proxy", direct, []wstest.Option{xff("203.0.113.9"), forwarded("for=203.0.113.9")}, 403, "addr=127.0.8.1:"},

		{"garbage", viaProxy, []wstest.Option{xff("203.0.113.9, garbage")}, 400, "addr=127.0.7.1:"},
		{"nothing", viaProxy, []wstest.Option{xff("")}, 400, "addr=127.0.7.1:"},
		{"unknown", viaProxy, []wstest.Option{forwarded("for=203.0.113.9, for=unknown")}, 400, "addr=127.0.7.1:"},
		{"obfuscated", viaProxy, []wstest.Option{forwarded(`for="_hidden"`)}, 400, "addr=127.0.7.1:"},
		{"headers that differ", viaProxy, []wstest.Option{xff("203.0.113.9"), forwarded("for=203.0.113.8")}, 400, "addr=127.0.7.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.on(t)
			channel := strings.ReplaceAll(c.name, " ", "-")
			for _, secure := range []bool{false, true} {
				addr, opts := s.addr, append([]wstest.Option{c.from}, c.opts...)
				if secure {
					addr, opts = s.tlsAddr, append(opts, wstest.TLS(id.Trust()))
				}
				if c.status == 101 {
					wstest.Dial(t, addr, "/"+channel+"/key/receive", opts...).Sync()
				} else {
					wstest.Refused(t, c.status, addr, "/"+channel+"/key/receive", opts...)
				}
			}
			s.wantLog(" channel=" + channel + " ")
			if !s.log.waitFor(func(log string) bool {
				n := 0
				for line := range strings.Lines(log) {
					if strings.Contains(line, "msg=request") && strings.Contains(line, "channel="+channel+" ") && strings.Contains(line, c.addr) {
						n++
					}
				}
				return n == 2
			}) {
				t.Errorf("wanted two requests of %q in the log, got:\n%s", c.addr, tail(s.logs()))
			}
		})
	}
	// A session's lines have the same address as its request's.
	s.wantLog(`msg="session begins" channel=named kind=receive addr=203.0.113.9 `)
	// Pages need no address.
	if r := wstest.Handshake(t, s.addr, "/healthz", viaProxy, xff("garbage")); r.Status != 200 {
		t.Errorf("/healthz with garbage: wanted 200, got %v", r)
	}
}

func TestTheLimitCountsClientsBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "TRUSTED_PROXIES=127.0.7.1", "CONCURRENT_LIMIT_WHITELIST=203.0.113.50", "MAX_IP_CONCURRENT_CONNECTIONS=2")
	for i, client := range []string{"203.0.113.9", "203.0.113.10", "2001:db8::9"} {
		for _, list := range []string{client, "203.0.113.50, " + client} { // a claim does not exempt
			s.receive(fmt.Sprintf("cam%d", i), "key", viaProxy, xff(list)).Sync()
		}
		s.refuses(429, "/cam/key/receive", viaProxy, xff(client))
	}
	for range 5 {
		s.receive("cam", "key", viaProxy, xff("203.0.113.50")).Sync()
	}
	// The same address, however it comes: the place is given back to it.
	for range 4 {
		s.dialSoon("/cam/key/receive", viaProxy, xff("203.0.113.11")).CloseHandshake(1000)
		s.dialSoon("/cam/key/receive", viaProxy, forwarded("for=203.0.113.11")).CloseHandshake(1000)
	}
	// The proxy's own address has its places, and a client that comes directly too,
	// whatever it says.
	for _, o := range []wstest.Option{viaProxy, direct} {
		s.receive("cam", "key", o).Sync()
		s.receive("cam", "key", o).Sync()
		s.refuses(429, "/cam/key/receive", o)
	}
	s.refuses(429, "/cam/key/receive", direct, xff("203.0.113.77"))
}

func TestTheCoordinatorIsToldTheClientBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	c, s := startCoordinated(t, "TRUSTED_PROXIES=127.0.7.1,127.0.7.2", "PROXY_PROTOCOL=NO")
	acceptAll(c)
	for _, try := range []struct {
		opts []wstest.Option
		want string
	}{
		{[]wstest.Option{viaProxy, xff("203.0.113.9:77")}, "203.0.113.9"},
		{[]wstest.Option{viaProxy, forwarded(`for="[2001:db8::9]:77"`)}, "2001:db8::9"},
		{[]wstest.Option{viaProxy, xff("6.6.6.6, ::ffff:203.0.113.9, 127.0.7.2")}, "203.0.113.9"},
		{[]wstest.Option{direct, xff("6.6.6.6")}, "127.0.8.1"},
	} {
		pub := s.publish("cam", "key", try.opts...)
		if ip := c.WantMessage("PUBLISH-REQUEST").Get("User-IP"); ip != try.want {
			t.Errorf("wanted User-IP %s, got %q", try.want, ip)
		}
		pub.CloseHandshake(1000)
		c.WantMessage("PUBLISH-END")
	}
	// Who is not known is not asked for.
	s.refuses(400, "/cam/key/publish", viaProxy, xff("unknown"))
	s.refuses(404, "/the/end")
	if n := count(c, "PUBLISH-REQUEST"); n != 4 {
		t.Errorf("wanted 4 questions, got %d", n)
	}
}

// Headers of the PROXY protocol, version 2: 203.0.113.9, port 4321, and a LOCAL one.
const (
	proxyV1      = "PROXY TCP4 203.0.113.9 127.0.0.1 4321 80\r\n"
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x10\xe1\x00\x50"
	proxyV2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "TRUSTED_PROXIES=127.0.7.0/24", "PROXY_PROTOCOL=YES", "PLAY_WHITELIST=203.0.113.9,2001:db8::9,127.0.8.1", "CONCURRENT_LIMIT_WHITELIST=*")
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS=%t", secure), func(t *testing.T) {
			s := s.on(t)
			addr, more := s.addr, []wstest.Option{}
			if secure {
				addr, more = s.tlsAddr, append(more, wstest.TLS(id.Trust()))
			}
			dial := func(path string, opts ...wstest.Option) *wstest.Conn {
				t.Helper()
				return wstest.Dial(t, addr, path, append(opts, more...)...)
			}
			refused := func(status int, path string, opts ...wstest.Option) {
				t.Helper()
				wstest.Refused(t, status, addr, path, append(opts, more...)...)
			}
			for i, header := range []string{proxyV1, proxyV2, "PROXY TCP6 2001:db8::9 ::1 4321 80\r\n"} {
				channel := fmt.Sprintf("cam%d", i)
				r := dial("/"+channel+"/key/receive", viaProxy, wstest.Preface(header))
				// Header, handshake and the first frames in one segment; then in many.
				for _, n := range []int{100, 300_000} {
					p := payload(n, uint64(i))
					pub := dial("/"+channel+"/key/publish", viaProxy, wstest.Preface(header), wstest.Pipelined(
						frame{Op: wstest.Binary, Payload: p},
						frame{Op: wstest.Ping, Payload: []byte("x")},
						frame{Op: wstest.Binary, Payload: []byte("end")}))
					pub.WantPong([]byte("x"))
					r.WantPackets(p, []byte("end"))
					pub.CloseHandshake(1000)
					r.WantClose(1000)
					r = dial("/"+channel+"/key/receive", viaProxy, wstest.Preface(header))
				}
			}
			s.wantLog("addr=203.0.113.9:4321 ", "addr=[2001:db8::9]:4321 ")

			// The lists see the client, not the proxy.
			other := strings.Replace(proxyV1, "113.9", "113.10", 1)
			refused(403, "/cam/key/receive", viaProxy, wstest.Preface(other))
			// Its headers are its own: who came by the PROXY protocol is no proxy ...
			refused(403, "/cam/key/receive", viaProxy, wstest.Preface(other), xff("203.0.113.9"))
			// ... unless the address is that of a trusted one.
			chain := strings.Replace(proxyV1, "203.0.113.9", "127.0.7.9", 1)
			dial("/cam/key/receive", viaProxy, wstest.Preface(chain), xff("203.0.113.9")).Sync()
			refused(403, "/cam/key/receive", viaProxy, wstest.Preface(chain), xff("203.0.113.10"))
			// LOCAL is the proxy itself and UNKNOWN nobody, whatever HTTP says.
			for own, status := range map[string]int{proxyV2Local: 403, "PROXY UNKNOWN\r\n": 400} {
				refused(status, "/cam/key/receive", viaProxy, wstest.Preface(own), xff("203.0.113.9"))
				if r := wstest.Handshake(t, addr, "/healthz", append(more, viaProxy, wstest.Preface(own))...); r.Status != 200 {
					t.Errorf("/healthz with %q: wanted 200, got %v", own, r)
				}
			}
			// From elsewhere nothing is expected, and nothing understood.
			dial("/cam/key/receive", direct).Sync()
			if c, resp, err := wstest.Open(addr, "/cam/key/receive", append(more, direct, wstest.Preface(proxyV1))...); c != nil || err == nil && resp.Status != 400 {
				t.Errorf("a header from elsewhere: wanted no upgrade, got %v, %v", resp, err)
			}
		})
	}
}

// A trusted proxy that sends no proper header is not answered; the log says why.
func TestProxyProtocolHeadersThatAreNone(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "TRUSTED_PROXIES=127.0.7.1", "PROXY_PROTOCOL=YES")
	const request = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	bad := []string{
		"", "PROXY TCP4 203.0.113.9\r\n", "PROXY TCP4 203.0.113.9 127.0.0.1 4321 80\n", "PROXY " + strings.Repeat("x", 200), "PROXY TCP4 a b c d\r\n",
		proxyV2[:13], strings.Replace(proxyV2, "\x21\x11", "\x21\x00", 1), strings.Replace(proxyV2, "\x21\x11", "\x21\x12", 1), strings.Replace(proxyV2, "\x00\x0c", "\xff\xff", 1),
		"\x00\xff\x1b[31mFORGED\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	}
	for _, addr := range []string{s.addr, s.tlsAddr} {
		for _, header := range bad {
			if answer := s.raw(addr, "127.0.7.1", header+request); answer != "" {
				t.Errorf("%q: wanted the connection closed, got %q", header, answer)
			}
		}
	}
	const line = "connection refused: a header of the PROXY protocol is needed"
	if !s.log.waitFor(func(log string) bool { return strings.Count(log, line) == 2*len(bad) }) {
		t.Errorf("wanted %d lines %q, got:\n%s", 2*len(bad), line, s.logs())
	}
	// One that only looks whether somebody listens is no news.
	for range 3 {
		s.raw(s.addr, "127.0.7.1", "")
	}
	if answer := s.raw(s.addr, "127.0.7.1", proxyV1+request); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("wanted the next one served, got %q", answer)
	}
	if n := strings.Count(s.logs(), line); n != 2*len(bad) {
		t.Errorf("wanted no line about who sends nothing, got %d more", n-2*len(bad))
	}
	for l := range strings.Lines(s.logs()) {
		if strings.HasPrefix(l, "FORGED") || strings.ContainsAny(strings.TrimSuffix(l, "\n"), "\x00\x1b\r") || !utf8.ValidString(l) {
			t.Errorf("a raw control character in the log: %q", l)
		}
	}
}

// raw sends bytes from an address, ends its side, and returns what comes until the
// server's end; a reset counts as an end.
func (s *server) raw(addr, from, b string) string {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, _ = nc.Write([]byte(b))
	_ = nc.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(nc)
	if os.IsTimeout(err) {
		s.t.Errorf("%.60q: the connection is not closed", b)
	}
	return string(answer)
}

// A header that does not come, or not to its end, holds up nobody and ends within the
// time of a handshake.
func TestProxyProtocolHeadersTimeOut(t *testing.T) {
	t.Parallel()
	slow(t)
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "TRUSTED_PROXIES=127.0.7.1", "PROXY_PROTOCOL=YES")
	before := s.descriptors()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.7.1")}}
	var waiting []net.Conn
	for _, addr := range []string{s.addr, s.tlsAddr} {
		for _, start := range []string{"", "P", proxyV1[:20], proxyV2[:20], proxyV2, proxyV1 + "GET /x HTTP/1.1\r\n"} {
			nc, err := d.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			if _, err := io.WriteString(nc, start); err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, nc)
		}
	}
	s.receive("cam", "key", direct).Sync()
	s.receive("cam", "key", viaProxy, wstest.Preface(proxyV1)).Sync()
	deadline := time.Now().Add(60 * time.Second)
	for i, nc := range waiting {
		_ = nc.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, nc); err != nil && !isReset(err) {
			t.Errorf("connection %d: wanted it closed within 60 s, got %v", i, err)
		}
	}
	eventually(t, "no descriptor of them is left", func() bool { return s.descriptors() <= before+2 })
}
