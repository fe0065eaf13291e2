package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth"
)

// However many goroutines race, there are never more in than there are places, and
// every one of them can be taken again.
func TestPlaces(t *testing.T) {
	const limit, racers, rounds = 3, 8, 20_000
	p := &places{limit: limit}
	var in, most, refused atomic.Int64
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			for range rounds {
				if !p.take() {
					refused.Add(1)
					continue
				}
				n := in.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				in.Add(-1)
				p.release()
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > limit {
		t.Errorf("%d had a place at a time, the limit is %d", m, limit)
	}
	if n := p.taken.Load(); n != 0 {
		t.Errorf("%d places are taken, and nobody has one", n)
	}
	for i := range limit {
		if !p.take() {
			t.Errorf("place %d of %d cannot be taken", i, limit)
		}
	}
	if p.take() {
		t.Error("one place too many")
	}
	t.Logf("at most %d at a time, %d refused", most.Load(), refused.Load())
	free := &places{}
	for range 1000 {
		if !free.take() {
			t.Fatal("refused without a limit")
		}
	}
}

// panicking is an authorizer with a fault.
type panicking struct{ auth.Authorizer }

func (panicking) Authorize(context.Context, auth.Request) (*auth.Grant, error) { panic("a fault") }

// A fault while a publisher is asked about costs no place.
func TestAPanicWhileAuthorizingGivesThePlacesBack(t *testing.T) {
	s := newTestServer(t)
	s.auth = panicking{s.auth}
	if !s.panics(httptest.NewRecorder(), "/cam/key/publish") {
		t.Error("the authorizer was not asked")
	}
	if n, all := s.filter.Open(), s.places.taken.Load(); n != 0 || all != 0 {
		t.Errorf("%d places of addresses and %d of all are taken, wanted none", n, all)
	}
}

// panics has the front answer a handshake, and reports whether that panicked.
func (s *testServer) panics(w http.ResponseWriter, path string) (it bool) {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.RemoteAddr = "127.0.0.9:1234"
	defer func() { it = recover() != nil }()
	s.front.ServeHTTP(w, r)
	return false
}

// hijacking is an answer whose connection can be taken, as hijack says.
type hijacking struct {
	http.ResponseWriter
	hijack func() (net.Conn, *bufio.ReadWriter, error)
}

func (w hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

// unwritable is a connection with a fault.
type unwritable struct{ net.Conn }

func (unwritable) Write([]byte) (int, error) { panic("a fault") }

// A session whose handshake fails has neither begun nor ended, as far as the log tells.
func TestAHandshakeThatFailsLogsNoSession(t *testing.T) {
	s, log := withLog(t, func(c *Config) { c.LogRequests = true })
	log.take()
	w := hijacking{httptest.NewRecorder(), func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("gone") }}
	s.panics(w, "/cam/key/receive")
	s.wantNothingLeft()
	if lines := log.take(); slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "msg=\"session ") }) {
		t.Errorf("the log has %q", lines)
	}
}

// A fault at any moment of the upgrade costs nothing: no place, no session, no channel,
// no connection.
func TestAPanicWhileUpgradingGivesEverythingBack(t *testing.T) {
	for _, kind := range []string{"publish", "receive", "probe"} {
		for _, c := range []struct {
			name   string
			change func(s *testServer)
			hijack func(ours net.Conn) (net.Conn, *bufio.ReadWriter, error)
		}{
			{name: "while net/http gives the connection", hijack: func(net.Conn) (net.Conn, *bufio.ReadWriter, error) { panic("a fault") }},
			{name: "while the 101 is written", hijack: func(ours net.Conn) (net.Conn, *bufio.ReadWriter, error) {
				return unwritable{ours}, nil, nil
			}},
			{name: "before nbio has the connection", hijack: func(ours net.Conn) (net.Conn, *bufio.ReadWriter, error) {
				return ours, nil, nil // no reader to look into
			}},
			{name: "when nbio has it", change: func(s *testServer) {
				s.cfg.LogRequests = true
				s.log = slog.New(faultyLog{slog.DiscardHandler})
			}, hijack: func(ours net.Conn) (net.Conn, *bufio.ReadWriter, error) {
				return ours, bufio.NewReadWriter(bufio.NewReader(ours), nil), nil
			}},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				s := newTestServer(t)
				client, ours := tcpPair(t)
				if c.change != nil {
					c.change(s)
				}
				w := hijacking{httptest.NewRecorder(), func() (net.Conn, *bufio.ReadWriter, error) { return c.hijack(ours) }}
				if !s.panics(w, "/cam/key/"+kind) {
					t.Error("nothing panicked")
				}
				if n := s.Census(); n != (Census{}) {
					t.Errorf("%+v is left, wanted nothing", n)
				}
				if c.name == "while net/http gives the connection" {
					return // net/http closes it
				}
				_ = client.SetReadDeadline(time.Now().Add(patience))
				if b, err := io.ReadAll(client); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection is open after %q", b)
				}
			})
		}
	}
}

// faultyLog is a log that panics when a session begins.
type faultyLog struct{ slog.Handler }

func (faultyLog) Enabled(context.Context, slog.Level) bool { return true }

func (faultyLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "session begins" {
		panic("a fault")
	}
	return nil
}

// tcpPair returns the two ends of a connection.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}
