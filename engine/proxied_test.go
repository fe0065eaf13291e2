package engine

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

// Headers of version 2, written out by hand: signature, version and command, family
// and protocol, length, addresses.
const (
	v2         = "\r\n\r\n\x00\r\nQUIT\n"
	v2TCP4     = v2 + "\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x10\xe1\x00\x50" // 203.0.113.9:4321
	v2TCP6     = v2 + "\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x10\xe1\x00\x50"
	v2WithTLVs = v2 + "\x21\x11\x00\x1a\xcb\x00\x71\x09\x0a\x00\x00\x01\x10\xe1\x00\x50" + "\x01\x00\x02h2" + "\x05\x00\x06abcdef"
	v2Local    = v2 + "\x20\x00\x00\x00"
	v2UDP4     = v2 + "\x21\x12\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x10\xe1\x00\x50"
)

func TestProxyHeaders(t *testing.T) {
	unix := v2 + "\x21\x31\x00\xd8/run/x" + strings.Repeat("\x00", 210)
	long := v2 + "\x21\x11\x0f\xff\xcb\x00\x71\x09\x0a\x00\x00\x01\x10\xe1\x00\x50" + "\x05\x0f\xf0" + strings.Repeat("x", 4080)
	for _, c := range []struct {
		name, header, want string // want "": the proxy's own; "?": not known; "-": refused
	}{
		{"v1, IPv4", "PROXY TCP4 203.0.113.9 10.0.0.1 4321 80\r\n", "203.0.113.9:4321"},
		{"v1, IPv6", "PROXY TCP6 2001:db8::9 2001:db8::1 4321 80\r\n", "[2001:db8::9]:4321"},
		{"v1, IPv4 in IPv6", "PROXY TCP6 ::ffff:203.0.113.9 ::1 4321 80\r\n", "203.0.113.9:4321"},
		{"v1, unknown", "PROXY UNKNOWN\r\n", "?"},
		{"v1, unknown with addresses", "PROXY UNKNOWN 203.0.113.9 10.0.0.1 4321 80\r\n", "?"},
		{"v1, longest", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", "?"},
		{"v2, IPv4", v2TCP4, "203.0.113.9:4321"},
		{"v2, IPv6", v2TCP6, "[2001:db8::9]:4321"},
		{"v2, with TLVs", v2WithTLVs, "203.0.113.9:4321"},
		{"v2, long", long, "203.0.113.9:4321"},
		{"v2, local", v2Local, ""},
		{"v2, local with addresses", strings.Replace(v2TCP4, "\x21\x11", "\x20\x11", 1), ""},

		{"v1, too long", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "-"},
		{"v1, without an end", "PROXY TCP4 203.0.113.9 10.0.0.1 4321 80", "-"},
		{"v1, LF only", "PROXY TCP4 203.0.113.9 10.0.0.1 4321 80\n", "-"},
		{"v1, a family of its own", "PROXY TCP5 203.0.113.9 10.0.0.1 4321 80\r\n", "-"},
		{"v1, lower case", "proxy TCP4 203.0.113.9 10.0.0.1 4321 80\r\n", "-"},
		{"v1, the other family's address", "PROXY TCP4 2001:db8::9 2001:db8::1 4321 80\r\n", "-"},
		{"v1, a name", "PROXY TCP4 example.org 10.0.0.1 4321 80\r\n", "-"},
		{"v1, a zone", "PROXY TCP6 fe80::1%eth0 ::1 4321 80\r\n", "-"},
		{"v1, a port too large", "PROXY TCP4 203.0.113.9 10.0.0.1 65536 80\r\n", "-"},
		{"v1, a port with a sign", "PROXY TCP4 203.0.113.9 10.0.0.1 +1 80\r\n", "-"},
		{"v1, one address", "PROXY TCP4 203.0.113.9 4321\r\n", "-"},
		{"v1, two spaces", "PROXY  TCP4 203.0.113.9 10.0.0.1 4321 80\r\n", "-"},
		{"v1, one more", "PROXY TCP4 203.0.113.9 10.0.0.1 4321 80 x\r\n", "-"},
		{"v1, nothing in it", "PROXY\r\n", "-"},
		{"v1, something like it", "PROXYTCP4 203.0.113.9 10.0.0.1 4321 80\r\n", "-"},
		{"v2, version 1", strings.Replace(v2TCP4, "\x21\x11", "\x11\x11", 1), "-"},
		{"v2, version 3", strings.Replace(v2TCP4, "\x21\x11", "\x31\x11", 1), "-"},
		{"v2, another command", strings.Replace(v2TCP4, "\x21\x11", "\x22\x11", 1), "-"},
		{"v2, another protocol", strings.Replace(v2TCP4, "\x21\x11", "\x21\x13", 1), "-"},
		{"v2, client of no family", v2 + "\x21\x00\x00\x00", "-"},
		{"v2, a Unix socket", unix, "-"},
		{"v2, UDP", v2UDP4, "-"},
		{"v2, too short for the family", strings.Replace(v2TCP4, "\x00\x0c", "\x00\x0b", 1), "-"},
		{"v2, longer than any", strings.Replace(v2TCP4, "\x00\x0c", "\xff\xff", 1), "-"},
		{"no header", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "-"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "-"},
		{"garbage", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", "-"},
		{"an empty line", "\r\n\r\n", "-"},
		{"nothing", "", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, from := range map[string]io.Reader{
				"at once":      strings.NewReader(c.header + "rest"),
				"byte by byte": iotest.OneByteReader(strings.NewReader(c.header + "rest")),
			} {
				r := bufio.NewReaderSize(from, aheadBuffer)
				addr, err := readProxyHeader(r)
				got := ""
				switch {
				case err == errUnknown:
					got = "?"
				case err != nil:
					got = "-"
				case addr != nil:
					got = addr.String()
				}
				if got != c.want {
					t.Errorf("%s: got %v, %v, want %q", name, addr, err, c.want)
				}
				if c.want == "-" {
					continue
				}
				if rest, err := io.ReadAll(r); string(rest) != "rest" || err != nil {
					t.Errorf("%s: behind it is %q, %v", name, rest, err)
				}
			}
			// Each part of it is none: never a client, never a panic.
			for n := range len(c.header) {
				if addr, err := readProxyHeader(bufio.NewReaderSize(strings.NewReader(c.header[:n]), aheadBuffer)); err == nil || err == errUnknown {
					t.Errorf("the first %d bytes are taken for %v", n, addr)
				}
			}
		})
	}
}

// FuzzProxyHeader: reading never panics, a client has an address, and what follows a
// header of version 1 is left where it was.
func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{
		"", "PROXY UNKNOWN\r\n", "PROXY TCP4 203.0.113.9 10.0.0.1 4321 80\r\nGET", "PROXY TCP6 ::1 ::1 0 0\r\n", "PROXY TCP4 1.2.3.4\r\n",
		v2TCP4 + "GET", v2TCP6, v2WithTLVs, v2Local, v2UDP4, v2[:5], v2 + "\x21\x31\x00\xd8",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), aheadBuffer)
		addr, err := readProxyHeader(r)
		if err != nil && err != errUnknown {
			return
		}
		if addr != nil && !peer(addr.String()).IsValid() {
			t.Fatalf("%q names %q", b, addr)
		}
		rest, _ := io.ReadAll(r)
		if !bytes.HasSuffix(b, rest) {
			t.Fatalf("behind the header of %q is %q", b, rest)
		}
		if bytes.HasPrefix(b, []byte("PROXY ")) && string(b[:len(b)-len(rest)]) != string(b[:bytes.IndexByte(b, '\n')+1]) {
			t.Fatalf("the header of %q is followed by %q", b, rest)
		}
	})
}

// pair is a connection as a listener accepts it, and its other end.
func pair(t *testing.T) (accepted net.Conn, other *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = accepted.Close() })
	return accepted, c.(*net.TCPConn)
}

// fromProxy makes of a connection what the listener makes of it.
func fromProxy(c net.Conn, refuse func(net.Addr, error)) *proxied {
	return &proxied{Conn: c, within: patience, refuse: refuse, ahead: bufio.NewReaderSize(c, aheadBuffer)}
}

// What was read along with the header, and by nobody since, is not lost when the
// connection is unwrapped, however little was read before.
func TestUnwrapLosesNothing(t *testing.T) {
	const rest = "GET / HTTP/1.1 and frames"
	for n := range len(rest) + 1 {
		c, other := pair(t)
		if _, err := io.WriteString(other, v2TCP4+rest); err != nil {
			t.Fatal(err)
		}
		_ = other.CloseWrite()
		p := fromProxy(c, nil)
		if got := p.RemoteAddr().String(); got != "203.0.113.9:4321" {
			t.Fatalf("the client is %s", got)
		}
		before := make([]byte, n)
		if _, err := io.ReadFull(p, before); err != nil {
			t.Fatal(err)
		}
		tcp, ahead := p.unwrap()
		if tcp != c {
			t.Fatalf("unwrapped to %T", tcp)
		}
		later, err := io.ReadAll(p)
		if got := string(before) + string(ahead) + string(later); got != rest || err != nil {
			t.Fatalf("after %d bytes: %q, %q, %q, %v", n, before, ahead, later, err)
		}
	}
}

// The bytes that are read ahead reach the session in their order: what net/http has
// read, then what lies below it, and with TLS that goes into TLS. net/http and
// crypto/tls use up all that we read ahead, so this is their work made by hand.
func TestAttachKeepsWhatWasReadAhead(t *testing.T) {
	s := newTestServer(t, withTLS(t))
	frames := func(payload string) []byte {
		return wstest.Frame{Op: wstest.Ping, Payload: []byte(payload)}.AppendTo(nil)
	}
	// handOver makes a session of a connection, as a handshake does.
	handOver := func(conn net.Conn, r *bufio.Reader) {
		t.Helper()
		session := s.newSession(target{"cam", "key", receive}, peer(conn.RemoteAddr().String()))
		if !s.filter.Acquire(session.addr.Addr()) || !s.places.take() {
			t.Fatal("no place")
		}
		if r := s.registry.join(session); r != notEnded {
			t.Fatal(r)
		}
		s.roster.add(session)
		if err := session.attach(conn, r, nil); err != nil {
			t.Fatal(err)
		}
		s.handover.add(session)
	}
	wantPongs := func(c net.Conn, payloads ...string) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for _, p := range payloads {
			want := append([]byte{0x8a, byte(len(p))}, p...)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("wanted the pong %q, got %q, %v", want, got, err)
			}
		}
	}

	t.Run("plain", func(t *testing.T) {
		c, other := pair(t)
		first := frames("first")
		if _, err := other.Write(slices.Concat([]byte(v2TCP4), first, frames("second"))); err != nil {
			t.Fatal(err)
		}
		p := fromProxy(c, nil)
		r := bufio.NewReaderSize(io.LimitReader(p, int64(len(first)+1)), 16)
		if _, err := r.Peek(len(first) + 1); err != nil { // a byte of the second, too
			t.Fatal(err)
		}
		handOver(p, r)
		wantPongs(other, "first", "second")
	})
	t.Run("TLS", func(t *testing.T) {
		c, other := pair(t)
		if _, err := io.WriteString(other, v2TCP4); err != nil {
			t.Fatal(err)
		}
		trust := s.trust.Clone()
		trust.ServerName = "127.0.0.1"
		client := tls.Client(other, trust)
		shaken := make(chan error, 1)
		go func() { shaken <- client.Handshake() }()
		p := fromProxy(c, nil)
		server := tls.Server(&wire{Conn: p}, s.cert.config())
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(frames("sealed")); err != nil {
			t.Fatal(err)
		}
		p.ahead = bufio.NewReaderSize(c, aheadBuffer)
		if _, err := p.ahead.Peek(10); err != nil { // half a record
			t.Fatal(err)
		}
		handOver(server, bufio.NewReader(strings.NewReader("")))
		wantPongs(client, "sealed")
	})
}

// A header that does not come ends the connection, and a silent one is not worth a
// line in the log.
func TestAProxyThatSendsNoHeader(t *testing.T) {
	for _, sent := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 "} {
		c, other := pair(t)
		var why error
		p := fromProxy(c, func(_ net.Addr, err error) { why = err })
		if _, err := io.WriteString(other, sent); err != nil {
			t.Fatal(err)
		}
		_ = other.CloseWrite()
		if n, err := p.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("%q: Read gives %d, %v", sent, n, err)
		}
		if _, err := p.Write([]byte("HTTP/1.1 400")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%q: Write gives %v", sent, err)
		}
		if p.RemoteAddr().String() != other.LocalAddr().String() || p.named() {
			t.Errorf("%q: the client is %v", sent, p.RemoteAddr())
		}
		if (why == nil) != (sent == "") {
			t.Errorf("%q: refused because of %v", sent, why)
		}
	}
}

// Accepting does not wait for anybody's header.
func TestAcceptDoesNotWaitForTheHeader(t *testing.T) {
	filter, err := netfilter.New(netfilter.Config{TrustedProxies: []string{"127.0.0.1"}, ProxyProtocol: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	listener := proxyListener{l, filter, patience, func(net.Addr, error) {}}
	for range 3 {
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, ok := c.(*proxied); !ok {
			t.Errorf("accepted a %T", c)
		}
	}
}

// net/http asks for RemoteAddr before it sets a deadline, which reading the header
// would clear: the request's own time limit holds behind a header, too.
func TestARequestBehindAHeaderTimesOut(t *testing.T) {
	filter, err := netfilter.New(netfilter.Config{TrustedProxies: []string{"127.0.0.1"}, ProxyProtocol: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 100 * time.Millisecond, Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(proxyListener{l, filter, patience, func(net.Addr, error) {}})
	}()
	defer func() { _ = server.Close(); <-done }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, v2TCP4+"GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("wanted the end of the connection, got %v", err)
	}
}
