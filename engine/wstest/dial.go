package wstest

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// handshakeKey is the example of RFC 6455, section 1.3; any key would do.
const handshakeKey = "dGhlIHNhbXBsZSBub25jZQ=="

// Option changes how a connection is opened.
type Option func(*dialer)

type dialer struct {
	tls     *tls.Config
	local   string
	method  string
	proto   string
	headers []string // "Name: value", in the order of sending
	without []string // lower case
	extra   []byte   // sent in the same write as the handshake
	preface []byte   // sent in the same write as the first bytes of all, below TLS
	raw     []byte
	chop    int
	pause   time.Duration
	rcvbuf  int
	timeout time.Duration
	noPong  bool
	noEcho  bool
}

// TLS opens the connection over TLS. The configuration is cloned.
func TLS(cfg *tls.Config) Option { return func(d *dialer) { d.tls = cfg.Clone() } }

// From binds the client to a local address, like 127.0.0.2.
func From(ip string) Option { return func(d *dialer) { d.local = ip } }

// Header adds a request header; one that the handshake has anyway is replaced.
func Header(name, value string) Option {
	return func(d *dialer) {
		d.without = append(d.without, strings.ToLower(name))
		d.headers = append(d.headers, name+": "+value)
	}
}

// AddHeader adds a request header beside whatever is there already.
func AddHeader(name, value string) Option {
	return func(d *dialer) { d.headers = append(d.headers, name+": "+value) }
}

// WithoutHeader leaves a header of the handshake out.
func WithoutHeader(name string) Option {
	return func(d *dialer) { d.without = append(d.without, strings.ToLower(name)) }
}

// Method replaces GET.
func Method(m string) Option { return func(d *dialer) { d.method = m } }

// Proto replaces HTTP/1.1.
func Proto(p string) Option { return func(d *dialer) { d.proto = p } }

// Pipelined sends frames in the same write as the handshake.
func Pipelined(frames ...Frame) Option { return PipelinedRaw(Bytes(frames...)) }

// PipelinedRaw sends bytes in the same write as the handshake.
func PipelinedRaw(b []byte) Option {
	return func(d *dialer) { d.extra = append(d.extra, b...) }
}

// Preface sends bytes before everything else, also before TLS, in the same write as
// what comes next: a header of the PROXY protocol.
func Preface(b string) Option { return func(d *dialer) { d.preface = []byte(b) } }

// prefaced is a connection whose first write has something in front.
type prefaced struct {
	*net.TCPConn
	preface []byte
}

func (p *prefaced) Write(b []byte) (int, error) {
	front := p.preface
	p.preface = nil
	n, err := p.TCPConn.Write(append(front[:len(front):len(front)], b...))
	return max(n-len(front), 0), err
}

// Request replaces the whole request by these bytes; the answer to the key of
// RFC 6455's example is expected.
func Request(raw string) Option { return func(d *dialer) { d.raw = []byte(raw) } }

// Chopped sends the handshake in writes of n bytes with a pause after each.
func Chopped(n int, pause time.Duration) Option {
	return func(d *dialer) { d.chop, d.pause = n, pause }
}

// ReceiveBuffer sets SO_RCVBUF before connecting, so that a client that stops
// reading fills up after a known number of bytes. A connection with less than
// 256 KiB never gets up to speed again: its window is smaller than one segment of
// the loopback interface, and the sending kernel then waits 200 ms for each.
func ReceiveBuffer(n int) Option { return func(d *dialer) { d.rcvbuf = n } }

// Patience replaces Timeout for this connection's reads and writes.
func Patience(t time.Duration) Option { return func(d *dialer) { d.timeout = t } }

// NoPong leaves the server's pings unanswered.
func NoPong() Option { return func(d *dialer) { d.noPong = true } }

// NoEcho leaves the server's close frame unanswered.
func NoEcho() Option { return func(d *dialer) { d.noEcho = true } }

// Response is the answer to a handshake.
type Response struct {
	Status int
	Proto  string
	Header http.Header
	Body   string
}

func (r *Response) String() string {
	return fmt.Sprintf("%s %d %q", r.Proto, r.Status, clip([]byte(r.Body)))
}

// Dial opens a WebSocket and fails the test when the server does not agree. The
// connection is closed at the test's end.
func Dial(t testing.TB, addr, path string, opts ...Option) *Conn {
	t.Helper()
	c, resp, err := Open(addr, path, opts...)
	if err != nil {
		t.Fatalf("%s: wanted an upgrade, got %v", path, err)
	}
	if c == nil {
		t.Fatalf("%s: wanted an upgrade, got %v", path, resp)
	}
	c.t = t
	t.Cleanup(c.Close)
	return c
}

// Handshake sends a handshake and returns the answer, whatever it is. An
// established connection is closed at once.
func Handshake(t testing.TB, addr, path string, opts ...Option) *Response {
	t.Helper()
	c, resp, err := Open(addr, path, opts...)
	if err != nil {
		t.Fatalf("%s: wanted an HTTP answer, got %v", path, err)
	}
	if c != nil {
		c.Close()
	}
	return resp
}

// Refused fails unless the handshake is answered with this status and a one-line
// text body, which it returns.
func Refused(t testing.TB, status int, addr, path string, opts ...Option) *Response {
	t.Helper()
	resp := Handshake(t, addr, path, opts...)
	if resp.Status != status {
		t.Fatalf("%s: wanted %d, got %v", path, status, resp)
	}
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Fatalf("%s: wanted a text body with the %d, got Content-Type %q", path, status, ct)
	}
	line := strings.TrimSuffix(resp.Body, "\n")
	if strings.TrimSpace(line) == "" || strings.ContainsAny(line, "\r\n") {
		t.Fatalf("%s: wanted one line of text with the %d, got %q", path, status, resp.Body)
	}
	return resp
}

// Open is Dial for any goroutine: it returns a connection, or the refusal, or an
// error when there was no proper answer at all. The response is set whenever the
// error is nil. Of such a connection only the methods that end in E may be used.
func Open(addr, path string, opts ...Option) (*Conn, *Response, error) {
	d := &dialer{method: "GET", proto: "HTTP/1.1", timeout: Timeout}
	for _, o := range opts {
		o(d)
	}
	tcp, err := d.connect(addr)
	if err != nil {
		return nil, nil, err
	}
	c, resp, err := d.handshake(tcp, addr, path)
	if c == nil {
		_ = tcp.Close()
	}
	return c, resp, err
}

func (d *dialer) connect(addr string) (*net.TCPConn, error) {
	nd := net.Dialer{Timeout: d.timeout}
	if d.local != "" {
		nd.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.local)}
	}
	if d.rcvbuf > 0 {
		nd.Control = func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) { setReceiveBuffer(fd, d.rcvbuf) })
		}
	}
	nc, err := nd.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nil
}

func (d *dialer) handshake(tcp *net.TCPConn, addr, path string) (*Conn, *Response, error) {
	var nc net.Conn = tcp
	if d.preface != nil {
		nc = &prefaced{tcp, d.preface}
	}
	if d.tls != nil {
		if d.tls.ServerName == "" {
			d.tls.ServerName, _, _ = net.SplitHostPort(addr)
		}
		nc = tls.Client(nc, d.tls)
	}
	_ = nc.SetDeadline(time.Now().Add(d.timeout))
	if err := d.send(nc, d.request(addr, path)); err != nil {
		return nil, nil, fmt.Errorf("cannot send the handshake: %w", err)
	}
	br := bufio.NewReaderSize(nc, 16<<10)
	resp, err := d.answer(br)
	if err != nil || resp.Status != http.StatusSwitchingProtocols {
		return nil, resp, err
	}
	if err := d.check(resp); err != nil {
		return nil, nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	return &Conn{
		name: path, nc: nc, tcp: tcp, br: br,
		timeout: d.timeout, noPong: d.noPong, noEcho: d.noEcho,
	}, resp, nil
}

// UpgradeRequest returns a complete handshake for a path as bytes, with the empty line
// at its end, and with more header lines ("Name: value") behind its own.
func UpgradeRequest(path string, more ...string) string {
	d := &dialer{method: "GET", proto: "HTTP/1.1", headers: more}
	return string(d.request("a", path))
}

func (d *dialer) request(addr, path string) []byte {
	if d.raw != nil {
		return append(d.raw[:len(d.raw):len(d.raw)], d.extra...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", d.method, path, d.proto)
	for _, h := range []string{
		"Host: " + addr,
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Key: " + handshakeKey,
		"Sec-WebSocket-Version: 13",
	} {
		name, _, _ := strings.Cut(h, ":")
		if !contains(d.without, strings.ToLower(name)) {
			b.WriteString(h + "\r\n")
		}
	}
	for _, h := range d.headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	return append([]byte(b.String()), d.extra...)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (d *dialer) send(nc net.Conn, b []byte) error {
	if d.chop == 0 {
		_, err := nc.Write(b)
		return err
	}
	for len(b) > 0 {
		n := min(d.chop, len(b))
		if _, err := nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		time.Sleep(d.pause)
	}
	return nil
}

// answer reads the response: for a 101 the headers only, otherwise the body too.
func (d *dialer) answer(br *bufio.Reader) (*Response, error) {
	hr, err := http.ReadResponse(br, &http.Request{Method: d.method})
	if err != nil {
		return nil, fmt.Errorf("no HTTP answer: %w", err)
	}
	resp := &Response{Status: hr.StatusCode, Proto: hr.Proto, Header: hr.Header}
	if hr.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(hr.Body, 4<<20))
	resp.Body = string(body)
	if err != nil {
		return resp, fmt.Errorf("cannot read the body of %v: %w", resp, err)
	}
	return resp, nil
}

// check fails unless a 101 is what RFC 6455, section 4.2.2, asks for.
func (d *dialer) check(r *Response) error {
	key := handshakeKey
	for _, h := range d.headers {
		if name, value, _ := strings.Cut(h, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	want := base64.StdEncoding.EncodeToString(sum[:])
	switch {
	case r.Proto != "HTTP/1.1":
		return fmt.Errorf("wanted HTTP/1.1 101, got %s", r.Proto)
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return fmt.Errorf("wanted Upgrade: websocket, got %q", r.Header.Get("Upgrade"))
	case !strings.EqualFold(r.Header.Get("Connection"), "Upgrade"):
		return fmt.Errorf("wanted Connection: Upgrade, got %q", r.Header.Get("Connection"))
	case r.Header.Get("Sec-WebSocket-Accept") != want:
		return fmt.Errorf("wanted Sec-WebSocket-Accept %q, got %q", want, r.Header.Get("Sec-WebSocket-Accept"))
	case len(r.Header.Values("Sec-WebSocket-Accept")) != 1:
		return fmt.Errorf("wanted one Sec-WebSocket-Accept, got %q", r.Header.Values("Sec-WebSocket-Accept"))
	case r.Header.Get("Sec-WebSocket-Extensions") != "":
		return fmt.Errorf("wanted no extension, got %q", r.Header.Get("Sec-WebSocket-Extensions"))
	case r.Header.Get("Content-Length") != "" || r.Header.Get("Transfer-Encoding") != "":
		return fmt.Errorf("wanted a 101 without a body, got Content-Length %q, Transfer-Encoding %q",
			r.Header.Get("Content-Length"), r.Header.Get("Transfer-Encoding"))
	}
	return nil
}

// On gives a connection made by Open to a test, so that every method may be used
// and the connection is closed at the test's end.
func (c *Conn) On(t testing.TB) *Conn {
	c.t = t
	t.Cleanup(c.Close)
	return c
}
