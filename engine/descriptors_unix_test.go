//go:build !windows

package engine

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bare is a connection that the kernel refuses a second descriptor for, some times.
type bare struct {
	net.Conn
	refusals []error
}

func (b *bare) SyscallConn() (syscall.RawConn, error) {
	rc, err := b.Conn.(*net.TCPConn).SyscallConn()
	return &bareRaw{rc, b}, err
}

type bareRaw struct {
	syscall.RawConn
	b *bare
}

func (r *bareRaw) Control(f func(fd uintptr)) error {
	if len(r.b.refusals) > 0 {
		err := r.b.refusals[0]
		r.b.refusals = r.b.refusals[1:]
		return err
	}
	return r.RawConn.Control(f)
}

// A hand-over gives its spare descriptor up, and tries again when somebody was faster.
func TestAHandOverTriesAgainForADescriptor(t *testing.T) {
	s := newTestServer(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	emfile := func(n int) (errs []error) {
		for range n {
			errs = append(errs, syscall.EMFILE)
		}
		return errs
	}
	for _, c := range []struct {
		name     string
		refusals []error
		patience time.Duration
		want     error
		left     int // refusals not met
	}{
		{"none", nil, 0, nil, 0},
		{"some", emfile(5), patience, nil, 0},
		{"the last one in time", emfile(1 << 20), 20 * time.Millisecond, syscall.EMFILE, -1},
		{"another error", []error{syscall.ENOTCONN, syscall.EMFILE}, patience, syscall.ENOTCONN, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tcp, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tcp.Close() }()
			sp, err := s.handover.spare()
			if err != nil {
				t.Fatal(err)
			}
			b := &bare{tcp, c.refusals}
			conn, err := toNBIO(b, sp, c.patience)
			if !errors.Is(err, c.want) || (conn == nil) != (c.want != nil) {
				t.Errorf("%v, %v, wanted %v", conn, err, c.want)
			}
			if sp.fd >= 0 {
				t.Error("the spare descriptor was kept")
			}
			if c.left >= 0 && len(b.refusals) != c.left {
				t.Errorf("%d refusals are left, wanted %d", len(b.refusals), c.left)
			}
			if conn != nil {
				_ = conn.Close()
			}
			sp.release() // once more does nothing
		})
	}
}

// A connection that nbio cannot take ends alone, and gives everything back.
func TestAConnectionThatCannotBeHandedOver(t *testing.T) {
	s := newTestServer(t)
	pub, rec := s.publish("cam", "key"), s.receive("cam", "key")
	for _, path := range []string{"/cam/key/receive", "/waiting/key/receive", "/other/key/publish", "/cam/key/probe"} {
		client, ours := net.Pipe() // has no descriptor at all
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		r.RemoteAddr = "127.0.0.9:1234"
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(client)
			got <- string(b)
		}()
		s.front.ServeHTTP(&hijacked{httptest.NewRecorder(), ours}, r)
		select {
		case b := <-got:
			if !strings.HasPrefix(b, "HTTP/1.1 101 ") || !strings.HasSuffix(b, "\r\n\r\n") {
				t.Errorf("%s: the client got %q", path, b)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the connection stays open", path)
		}
		eventually(t, "its session is closed", func() bool { return s.roster.size() == 2 })
		eventually(t, "its channel is free", func() bool { return s.registry.size() == 1 })
		if n, all := s.filter.Open(), s.places.taken.Load(); n != 2 || all != 2 {
			t.Errorf("%s: %d places of addresses and %d of all are taken, wanted 2 and 2", path, n, all)
		}
	}
	pub.Send(2, numbered(0, 1000))
	rec.WantPacket(numbered(0, 1000))
}

// hijacked is an http.ResponseWriter over a connection.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
