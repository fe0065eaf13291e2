package engine

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ws-stream-server/auth"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 2 * wstest.Timeout

// testServer is a server in this process, and what a script says to it.
type testServer struct {
	*Server
	t       *testing.T
	addr    string
	tlsAddr string
	trust   *tls.Config // what a client needs to believe the certificate

	hastened bool // the test itself has ended the server
}

// A server that is shut down as soon as it runs ends, whether its pollers have begun or
// not.
func TestAServerThatIsShutDownAtOnce(t *testing.T) {
	procs(t, 8)
	rounds := 60
	if raceEnabled {
		rounds = 20
	}
	for range rounds {
		done := make(chan struct{})
		s := &testServer{t: t, Server: newServer(t, Config{BindAddress: "127.0.0.1", HTTPPort: wstest.FreePort(t), ReceiverLagMB: 1, MaxMessageMB: 1})}
		if err := s.Start(); err != nil {
			t.Log(err) // somebody took the port
			continue
		}
		go func() {
			defer close(done)
			s.shutdown()
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
	}
}

// newTestServer starts a server on ports of its own: no limit for an address, a
// small cache, buffers poisoned. At the test's end it is shut down, and must have
// nothing left.
func newTestServer(t *testing.T, change ...func(*Config)) *testServer {
	t.Helper()
	cfg := Config{
		BindAddress: "127.0.0.1", IDMaxLength: 128, SSLCheckReloadSeconds: 60,
		GOPCacheSizeMB: 1, MaxMessageMB: 16, ReceiverLagMB: 16, SendBufferKB: 256, GatherMS: 10,
		MaxHandshakes: 1024, MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10,
	}
	for _, f := range change {
		f(&cfg)
	}
	for try := 1; ; try++ {
		s := &testServer{t: t}
		cfg.HTTPPort, cfg.SSLPort = wstest.FreePort(t), wstest.FreePort(t)
		if cfg.TLS() {
			s.trust = trust(t, cfg.SSLCert)
			s.tlsAddr = cfg.listenAddress(cfg.SSLPort)
		}
		s.addr = cfg.listenAddress(cfg.HTTPPort)
		s.Server = newServer(t, cfg)
		err := s.Start()
		if err == nil {
			t.Cleanup(s.shutdown)
			return s
		}
		if try == 10 { // somebody else was faster, each time
			t.Fatalf("cannot start: %v", err)
		}
	}
}

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	filter, err := netfilter.New(netfilter.Config{MaxIPConcurrentConnections: 0})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(cfg, Options{Version: "test", Log: slog.New(slog.DiscardHandler), Filter: filter, Auth: auth.AcceptAll()})
	if err != nil {
		t.Fatal(err)
	}
	srv.poison = true
	srv.survey.patience = patience // whatever else the machine does
	return srv
}

// hasten has the server's end cut off whoever is not gone when ctx ends: the test's end
// makes no other.
func (s *testServer) hasten(ctx context.Context) {
	s.t.Helper()
	s.hastened = true
	if err := s.Shutdown(ctx); err == nil {
		s.t.Error("nobody was cut off")
	}
	s.wantNothingLeft()
}

// shutdown ends the server and checks that everything was given back.
func (s *testServer) shutdown() {
	if s.hastened {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		s.t.Errorf("shutdown: %v", err)
	}
	s.wantNothingLeft()
}

// wantNothingLeft fails unless no session, channel or address is left.
func (s *testServer) wantNothingLeft() {
	s.t.Helper()
	eventually(s.t, "every session is closed", func() bool { return s.Census().Sessions == 0 })
	eventually(s.t, "no session is closing", func() bool { return s.Census().Closing == 0 })
	eventually(s.t, "no stream is under way", func() bool { return s.Census().Streams == 0 })
	eventually(s.t, "no channel is left", func() bool { return s.Census().Channels == 0 })
	eventually(s.t, "no memory is counted", func() bool { return s.Census().Memory == 0 })
	eventually(s.t, "every address has its places back", func() bool { return s.Census() == Census{} })
}

func (s *testServer) publish(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/publish", opts...)
}

func (s *testServer) receive(channel, key string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, "/"+channel+"/"+key+"/receive", opts...)
}

func (s *testServer) dial(path string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.addr, path, opts...)
}

// dialTLS opens a connection over TLS.
func (s *testServer) dialTLS(path string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return wstest.Dial(s.t, s.tlsAddr, path, append(opts, wstest.TLS(s.trust))...)
}

// session returns the server's side of a client's connection. The client's address does
// not tell which: a system gives one port to a connection to each of our two.
func (s *testServer) session(c interface{ TCP() *net.TCPConn }) *session {
	s.t.Helper()
	client := netip.MustParseAddrPort(c.TCP().LocalAddr().String())
	server := c.TCP().RemoteAddr().String()
	var found *session
	eventually(s.t, "the session is handed over", func() bool {
		for shard := range rosterShards {
			for _, o := range s.roster.snapshot(shard, nil) {
				if o.addr == client && o.handed.Load() && o.conn.LocalAddr().String() == server {
					found = o
				}
			}
		}
		return found != nil
	})
	return found
}

// eventually waits until cond is true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// procs sets GOMAXPROCS until the test's end; to be called before the server is
// made.
func procs(t *testing.T, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// withTLS turns the TLS listener on, with a certificate of the test's own.
func withTLS(t *testing.T) func(*Config) {
	t.Helper()
	cert, key := wstest.NewIdentity(t, "test").Files(t, t.TempDir())
	return func(c *Config) { c.SSLCert, c.SSLKey = cert, key }
}

// trust is what a client needs to believe a certificate.
func trust(t *testing.T, certFile string) *tls.Config {
	t.Helper()
	b, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(b); block == nil {
		t.Fatal("no certificate in " + certFile)
	}
	return wstest.Identity{Cert: b}.Trust()
}

func numbered(i, n int) []byte { return wstest.Numbered(i, n) }

// number reads a packet's number; -1 if it is not that packet, byte for byte.
func number(b []byte) int {
	i, err := wstest.Number(b)
	if err != nil {
		return -1
	}
	return i
}

// goroutines counts those whose stack names a word; "" counts all.
func goroutines(word string) int {
	if word == "" {
		return runtime.NumGoroutine()
	}
	buf := make([]byte, 4<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, word) {
			n++
		}
	}
	return n
}
