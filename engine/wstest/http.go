package wstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// HTTP is a connection with one request of plain HTTP on it, for streams.
type HTTP struct {
	// Static after construction.
	t       testing.TB
	name    string   // method and path, for failures
	nc      net.Conn // what is read and written: the TCP connection or TLS over it
	tcp     *net.TCPConn
	br      *bufio.Reader
	timeout time.Duration

	chunks io.Reader // the body, if the answer's header says that it comes in chunks; else nil
}

// Get sends a GET and does not wait for the answer. The connection is closed at the
// test's end. Of the options those for handshakes have no effect.
func Get(t testing.TB, addr, path string, opts ...Option) *HTTP {
	t.Helper()
	return Ask(t, "GET", addr, path, opts...)
}

// Put sends the header of a PUT with a body in chunks, and does not wait for anything.
func Put(t testing.TB, addr, path string, opts ...Option) *HTTP {
	t.Helper()
	return Ask(t, "PUT", addr, path, append([]Option{AddHeader("Transfer-Encoding", "chunked")}, opts...)...)
}

// Ask sends the header of a request. Pipelined bytes come with it, in the same write.
func Ask(t testing.TB, method, addr, path string, opts ...Option) *HTTP {
	t.Helper()
	c, err := AskE(method, addr, path, opts...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	c.t = t
	t.Cleanup(c.Close)
	return c
}

// AskE is Ask for any goroutine. Of such a connection only the methods that end in E
// may be used, and Close.
func AskE(method, addr, path string, opts ...Option) (*HTTP, error) {
	d := &dialer{method: method, proto: "HTTP/1.1", timeout: Timeout}
	for _, o := range opts {
		o(d)
	}
	tcp, err := d.connect(addr)
	if err != nil {
		return nil, err
	}
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
	request := d.raw
	if request == nil {
		request = []byte(d.method + " " + path + " " + d.proto + "\r\n")
		if !contains(d.without, "host") {
			request = append(request, "Host: "+addr+"\r\n"...)
		}
		for _, h := range d.headers {
			request = append(request, h+"\r\n"...)
		}
		request = append(request, "\r\n"...)
	}
	_ = nc.SetDeadline(time.Now().Add(d.timeout))
	if err := d.send(nc, append(request, d.extra...)); err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("cannot send the request: %w", err)
	}
	return &HTTP{name: method + " " + path, nc: nc, tcp: tcp, br: bufio.NewReaderSize(nc, 64<<10), timeout: d.timeout}, nil
}

// LocalAddr is the client's own address.
func (c *HTTP) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// TCP is the connection below everything, for tests that want to hurt it.
func (c *HTTP) TCP() *net.TCPConn { return c.tcp }

// Raw gives the HTTP up: it returns what is below it, TLS if the connection speaks that,
// and a copy of what was read already.
func (c *HTTP) Raw() (nc net.Conn, early []byte) {
	b, _ := c.br.Peek(c.br.Buffered())
	return c.nc, bytes.Clone(b)
}

// Close ends the connection.
func (c *HTTP) Close() { _ = c.tcp.Close() }

// Send sends bytes as they are.
func (c *HTTP) Send(b []byte) {
	c.t.Helper()
	if err := c.SendE(b); err != nil {
		c.t.Fatalf("%s: cannot send %d bytes: %v", c.name, len(b), err)
	}
}

// SendE is Send for any goroutine.
func (c *HTTP) SendE(b []byte) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
	_, err := c.nc.Write(b)
	return err
}

// Chunk is bytes as one chunk of a body; none are its end.
func Chunk(b []byte) []byte {
	return append(append(fmt.Appendf(nil, "%x\r\n", len(b)), b...), "\r\n"...)
}

// HeadE reads the answer's header.
func (c *HTTP) HeadE() (status int, h http.Header, err error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(c.timeout))
	r := textproto.NewReader(c.br)
	line, err := r.ReadLine()
	if err != nil {
		return 0, nil, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	if status, err = strconv.Atoi(code); err != nil || proto != "HTTP/1.1" && proto != "HTTP/1.0" { // net/http answers as it was asked
		return 0, nil, fmt.Errorf("no status line: %q", line)
	}
	m, err := r.ReadMIMEHeader()
	if m.Get("Transfer-Encoding") == "chunked" {
		c.chunks = httputil.NewChunkedReader(c.br)
	}
	return status, http.Header(m), err
}

// WantHead fails unless an answer with this status comes, and returns its header.
func (c *HTTP) WantHead(status int) http.Header {
	c.t.Helper()
	got, h, err := c.HeadE()
	if err != nil {
		c.t.Fatalf("%s: wanted %d, got %v", c.name, status, err)
	}
	if got != status {
		rest, _ := io.ReadAll(io.LimitReader(c.br, 200))
		c.t.Fatalf("%s: wanted %d, got %d %v %q", c.name, status, got, h, rest)
	}
	return h
}

// ReadE reads some bytes of the body. Its error is io.EOF if the connection ends in order,
// and of a body in chunks the last one has come.
func (c *HTTP) ReadE(b []byte) (int, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(c.timeout))
	return c.read(b)
}

func (c *HTTP) read(b []byte) (int, error) {
	if c.chunks == nil {
		return c.br.Read(b)
	}
	n, err := c.chunks.Read(b)
	if errors.Is(err, io.EOF) { // behind the last chunk's size
		rest, err := io.ReadAll(c.br)
		if err == nil && string(rest) != "\r\n" {
			err = fmt.Errorf("behind the last chunk stands %q", rest)
		}
		c.chunks = nil
		if err != nil {
			return n, err
		}
	}
	return n, err
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// WantBody fails unless these bytes are next.
func (c *HTTP) WantBody(want []byte) {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(c.timeout))
	got := make([]byte, len(want))
	n, err := io.ReadFull(readerFunc(c.read), got)
	if err != nil {
		c.t.Fatalf("%s: wanted %d bytes, got %d and %v", c.name, len(want), n, err)
	}
	if !bytes.Equal(got, want) {
		c.t.Fatalf("%s: wanted %d bytes %q, got %q%s", c.name, len(want), clip(want), clip(got), difference(want, got))
	}
}

// WantEnd fails unless the connection ends, in order, with nothing before that.
func (c *HTTP) WantEnd() {
	c.t.Helper()
	b := make([]byte, 1)
	if n, err := c.ReadE(b); n > 0 || !errors.Is(err, io.EOF) {
		c.t.Fatalf("%s: wanted the end, got %q, %v", c.name, b[:n], err)
	}
}

// WantCut reads on and fails unless the connection ends with an error. It returns how
// many bytes came before.
func (c *HTTP) WantCut() (n int64) {
	c.t.Helper()
	b := make([]byte, 64<<10)
	for {
		m, err := c.ReadE(b)
		n += int64(m)
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatalf("%s: wanted the connection cut after %d bytes, got %v", c.name, n, err)
		}
		return n
	}
}

// WantNothing fails if anything comes within d.
func (c *HTTP) WantNothing(d time.Duration) {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	if b, err := c.br.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("%s: wanted nothing for %v, got %q, %v", c.name, d, b, err)
	}
	// bufio keeps the error for the next read, unless it is asked for.
	_, _ = c.br.ReadByte()
}

// WantAnswer fails unless a whole answer comes, one line of text with these words, and
// then the end of the connection. It returns the header.
func (c *HTTP) WantAnswer(status int, words string) http.Header {
	c.t.Helper()
	h := c.WantHead(status)
	body, err := io.ReadAll(io.LimitReader(c.br, 4096))
	if err != nil {
		c.t.Fatalf("%s: wanted the end behind the %d, got %q, %v", c.name, status, body, err)
	}
	line, whole := bytes.CutSuffix(body, []byte("\n"))
	if !whole || bytes.ContainsAny(line, "\r\n") || !bytes.Contains(line, []byte(words)) || h.Get("Content-Length") != fmt.Sprint(len(body)) {
		c.t.Fatalf("%s: wanted one line with %q, got %q, %v", c.name, words, body, h)
	}
	return h
}
