package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// The bounds of a handshake: how many are under way, their size and their time.

// silent opens a connection that says these bytes and then nothing.
func silent(t *testing.T, addr, first string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if _, err := io.WriteString(nc, first); err != nil {
		t.Fatal(err)
	}
	return nc
}

// As many handshakes as allowed are served at a time. Who comes then waits, until one
// of them is over; who is in notices nothing.
func TestMaxHandshakes(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_HANDSHAKES=3", "HANDSHAKE_TIMEOUT_SECONDS=300")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	var held []net.Conn
	for range 2 {
		held = append(held, silent(t, s.addr, "GET /cam"))
	}
	for range 10 { // with one place left, one after the other
		s.receive("cam", "key").Sync()
	}
	held = append(held, silent(t, s.addr, ""))
	late := make(chan error, 1)
	go func() {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive")
		if c == nil {
			err = fmt.Errorf("%v, %w", resp, err)
		} else {
			c.Close()
		}
		late <- err
	}()
	for i, end := 0, time.Now().Add(500*time.Millisecond); time.Now().Before(end); i++ {
		pub.Send(wstest.Binary, numbered(i, 1000))
		r.WantPacket(numbered(i, 1000))
	}
	select {
	case err := <-late:
		t.Fatalf("wanted no answer while three handshakes are under way, got %v", err)
	default:
	}
	s.wantLog("MAX_HANDSHAKES")
	_ = held[0].Close()
	if err := <-late; err != nil {
		t.Errorf("wanted an upgrade once a place was free, got %v", err)
	}
	if n := strings.Count(s.logs(), "MAX_HANDSHAKES"); n != 1 {
		t.Errorf("wanted one line about MAX_HANDSHAKES, got %d", n)
	}
}

// A newcomer that waits for its place does not hold up the end of the server.
func TestShutdownWhileNewcomersWait(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_HANDSHAKES=1", "HANDSHAKE_TIMEOUT_SECONDS=300")
	for range 3 {
		silent(t, s.addr, "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\n")
	}
	s.wantLog("MAX_HANDSHAKES")
	s.wantStop()
}

// Connections that are kept between two requests make room, those that ask again and
// again as well.
func TestKeptConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c, "MAX_HANDSHAKES=1")
	const page = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
	dials := map[string]func() net.Conn{
		"plain": func() net.Conn { return silent(t, s.addr, "") },
		"TLS": func() net.Conn {
			cfg := c.Trust()
			cfg.ServerName = "127.0.0.1"
			return tls.Client(silent(t, s.tlsAddr, ""), cfg)
		},
	}
	for name, dial := range dials {
		t.Run(name+" idle", func(t *testing.T) {
			nc := dial()
			_, _ = io.WriteString(nc, page)
			br := bufio.NewReader(nc)
			if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 || resp.Close {
				t.Fatalf("wanted 200 and the connection kept, got %v, %v", resp, err)
			} else {
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			s.on(t).receive("cam", "key").Sync()
			_ = nc.SetReadDeadline(time.Now().Add(patience))
			if _, err := br.ReadByte(); err == nil || isTimeout(err) {
				t.Errorf("wanted the kept connection closed, got %v", err)
			}
		})
		t.Run(name+" busy", func(t *testing.T) {
			nc := dial()
			_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
			served, first := make(chan error, 1), make(chan struct{})
			go func() {
				br := bufio.NewReader(nc)
				for i := 0; ; i++ {
					_, err := io.WriteString(nc, page)
					if err == nil {
						var resp *http.Response
						if resp, err = http.ReadResponse(br, nil); err == nil {
							_, err = io.Copy(io.Discard, resp.Body)
						}
					}
					if i == 0 {
						close(first)
					}
					if err != nil {
						served <- err
						return
					}
				}
			}()
			<-first
			s.on(t).receive("cam", "key").Sync()
			if err := <-served; isTimeout(err) {
				t.Errorf("wanted the connection closed that asks again and again, got %v", err)
			}
		})
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// A body that is announced and never comes keeps the connection's place for a moment,
// not for the time that a request may last.
func TestBodiesThatNeverComeHoldNoPlace(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_HANDSHAKES=1", "HANDSHAKE_TIMEOUT_SECONDS=300")
	for _, body := range []string{"Content-Length: 10", "Content-Length: 200000", "Transfer-Encoding: chunked"} {
		nc := silent(t, s.addr, "POST /healthz HTTP/1.1\r\nHost: a\r\n"+body+"\r\n\r\n")
		_ = nc.SetReadDeadline(time.Now().Add(60 * time.Second))
		b, err := io.ReadAll(nc)
		if !strings.HasPrefix(string(b), "HTTP/1.1 405 ") || isTimeout(err) {
			t.Errorf("%s: wanted 405 and the connection's end, got %.40q, %v", body, b, err)
		}
		s.receive("cam", "key").Sync()
	}
}

// Clients that are slow with their handshakes hold places no longer than
// HANDSHAKE_TIMEOUT_SECONDS: whoever comes behind them gets in.
func TestSlowHandshakesDoNotLockOthersOut(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, c, "MAX_HANDSHAKES=2", "HANDSHAKE_TIMEOUT_SECONDS=1")
	for i := range 4 {
		silent(t, s.addr, "GET /cam/key/receive HTTP/1.1\r\n"[:i*10])
		silent(t, s.tlsAddr, "\x16\x03\x01"[:i%3])
	}
	start := time.Now()
	getIn := func(addr string, opts ...wstest.Option) {
		eventually(t, "whoever comes behind slow handshakes gets in", func() bool {
			c, _, _ := wstest.Open(addr, "/cam/key/receive", opts...) // has a second itself
			if c != nil {
				c.On(t)
			}
			return c != nil
		})
	}
	getIn(s.addr)
	getIn(s.tlsAddr, wstest.TLS(c.Trust()))
	t.Logf("in behind 8 slow handshakes, two at a time, after %v", time.Since(start).Round(100*time.Millisecond))
}

// A header may have MAX_HEADER_KB to the byte, counted from its request line to its
// empty line; what the client sends along is not counted.
func TestMaxHeader(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	const path = "/cam/key/receive"
	for _, kb := range []int{5, 16, 40} {
		s, _ := startTLS(t, id, fmt.Sprint("MAX_HEADER_KB=", kb))
		header := func(size int) wstest.Option {
			rest := size - len(wstest.UpgradeRequest(path, "X: "))
			return wstest.Request(wstest.UpgradeRequest(path, "X: "+strings.Repeat("x", rest)))
		}
		line := func(size int) wstest.Option { // all in the request line
			rest := size - len(wstest.UpgradeRequest(path+"?"))
			return wstest.Request(wstest.UpgradeRequest(path + "?" + strings.Repeat("x", rest)))
		}
		along := wstest.Pipelined(frame{Op: wstest.Ping, Payload: []byte("along")}, frame{Op: wstest.Text, Payload: payload(20_000, 1)})
		for _, request := range []func(int) wstest.Option{header, line} {
			for _, to := range []struct {
				addr string
				opt  wstest.Option
			}{{s.addr, wstest.Patience(wstest.Timeout)}, {s.tlsAddr, wstest.TLS(id.Trust())}} {
				wstest.Dial(t, to.addr, "", to.opt, request(kb<<10), along).WantPong([]byte("along"))
				if resp := wstest.Handshake(t, to.addr, "", to.opt, request(kb<<10+1)); resp.Status != 431 {
					t.Errorf("a header of %d KiB and a byte: wanted 431, got %v", kb, resp)
				}
			}
		}
	}
}

// TLS's handshake and the header have HANDSHAKE_TIMEOUT_SECONDS, each; then the
// connection is closed, whatever it did.
func TestMistake15HandshakesTimeOut(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "HANDSHAKE_TIMEOUT_SECONDS=2")
	const half = "GET /cam/key/receive HTTP/1.1\r\nHost: a\r\nX: "
	var wg sync.WaitGroup
	for _, c := range []struct {
		name, first string
		drip        time.Duration
		tls, inside bool // to the TLS port; inside TLS
	}{
		{name: "nothing sent"},
		{name: "half a request line", first: "GET /cam/key/rec"},
		{name: "headers without an end", first: half},
		{name: "a byte a time", first: half, drip: 100 * time.Millisecond},
		{name: "nothing sent to TLS", tls: true},
		{name: "half a ClientHello", first: "\x16\x03\x01\x02\x00\x01", tls: true},
		{name: "a ClientHello a byte a time", first: "\x16\x03\x01\x02\x00\x01", drip: 100 * time.Millisecond, tls: true},
		{name: "nothing inside TLS", tls: true, inside: true},
		{name: "a byte a time inside TLS", first: half, drip: 100 * time.Millisecond, tls: true, inside: true},
	} {
		wg.Go(func() {
			addr := s.addr
			if c.tls {
				addr = s.tlsAddr
			}
			start, nc, err := dialFor(addr, c.inside, id)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			defer func() { _ = nc.Close() }()
			_, _ = nc.Write([]byte(c.first))
			closed := make(chan struct{})
			go func() {
				for c.drip > 0 {
					select {
					case <-closed:
						return
					case <-time.After(c.drip):
						_, _ = nc.Write([]byte("x"))
					}
				}
			}()
			_ = nc.SetReadDeadline(time.Now().Add(60 * time.Second))
			_, err = io.Copy(io.Discard, nc)
			close(closed)
			took := time.Since(start)
			if isTimeout(err) {
				t.Errorf("%s: wanted the connection closed after 2 s, it is open after %v", c.name, took)
			}
			if took < 2*time.Second { // the server's clock started after ours
				t.Errorf("%s: wanted 2 s for a handshake, the connection was closed after %v", c.name, took)
			}
			t.Logf("%s: closed after %v", c.name, took.Round(100*time.Millisecond))
		})
	}
	wg.Wait()
	s.dialSoon("/still/here/receive").Sync()
}

// dialFor opens a connection, and does TLS's handshake if the rest is said inside TLS:
// where the machine is too busy for the server's few seconds, it tries again. start is
// before the last try.
func dialFor(addr string, inside bool, id wstest.Identity) (start time.Time, c net.Conn, err error) {
	for range 20 {
		start = time.Now()
		if !inside {
			c, err = net.Dial("tcp", addr)
		} else {
			c, err = tls.Dial("tcp", addr, id.Trust())
		}
		if err == nil {
			break
		}
	}
	return start, c, err
}

// A client may take its time, as long as it is done in time: here 2 of 300 s, for TLS
// and for the header.
func TestSlowHandshakesGetIn(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "HANDSHAKE_TIMEOUT_SECONDS=300")
	var wg sync.WaitGroup
	wg.Go(func() {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.Chopped(50, 600*time.Millisecond))
		if c == nil {
			t.Errorf("wanted an upgrade, got %v, %v", resp, err)
			return
		}
		c.On(t)
	})
	wg.Go(func() {
		nc, err := net.Dial("tcp", s.tlsAddr)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		time.Sleep(2 * time.Second) // the client is slow
		cfg := id.Trust()
		cfg.ServerName = "127.0.0.1"
		c := tls.Client(nc, cfg)
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(c, wstest.UpgradeRequest("/cam/key/receive"))
		if err != nil {
			t.Errorf("TLS: %v", err)
			return
		}
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 101 {
			t.Errorf("TLS: wanted an upgrade, got %v, %v", resp, err)
		}
	})
	wg.Wait()
}
