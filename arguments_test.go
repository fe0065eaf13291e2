package main

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

func TestCheckSaysThatSettingsAreValid(t *testing.T) {
	t.Parallel()
	const valid = "settings are valid\n"
	id := wstest.NewIdentity(t, "one")
	cert, key := id.Files(t, t.TempDir())
	s := startServer(t) // -check binds nothing: it may be asked while the server runs
	_, port, _ := net.SplitHostPort(s.addr)
	for _, env := range [][]string{
		{"HTTP_PORT=" + port}, {"SSL_CERT=" + cert, "SSL_KEY=" + key}, {"CONTROL_BASE_URL=wss://coordinator.example", "CONTROL_SECRET=x"}, {".env:LOG_DEBUG=YES"},
	} {
		if e := runServerArgs(t, []string{"-check"}, env...); e.code != 0 || e.out != valid {
			t.Errorf("%v: wanted exit code 0 and one line, got %d:\n%s", env, e.code, e.out)
		}
	}
	old := wstest.NewIdentityValid(t, "one", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	cert, key = old.Files(t, t.TempDir())
	for _, c := range []struct {
		warns string
		env   []string
	}{
		{"has expired", []string{"SSL_CERT=" + cert, "SSL_KEY=" + key}},
		{"BIND_ADDRESS", []string{"BIND_ADDRESS=192.0.2.1"}},
		{"there is less memory", []string{"GOMEMLIMIT=64MiB"}},
		{"the path of CONTROL_BASE_URL is replaced", []string{"CONTROL_BASE_URL=ws://coordinator.example/path"}},
		{"RTMP_CHUNK_SIZE has no effect", []string{"RTMP_CHUNK_SIZE=128"}},
	} {
		e := runServerArgs(t, []string{"-check"}, c.env...)
		if l := lines(e.out); e.code != 0 || len(l) != 2 || !strings.Contains(l[0], c.warns) || l[1]+"\n" != valid {
			t.Errorf("%v: wanted exit code 0 and a line with %q before the last one, got %d:\n%s", c.env, c.warns, e.code, e.out)
		}
	}
}

func TestCheckRefusesWhatAStartRefuses(t *testing.T) {
	t.Parallel()
	cert, key := wstest.NewIdentity(t, "one").Files(t, t.TempDir())
	_, other := wstest.NewIdentity(t, "two").Files(t, t.TempDir())
	for _, env := range [][]string{
		{"HTTP_PORT=eighty"}, {"LOG_FORMAT=xml"}, {"RECEIVER_LAG_MB=7", "MAX_MESSAGE_MB=8"}, {"PLAY_WHITELIST=10.0.0.0/33"}, {"ALLOWED_ORIGINS=example.org"},
		{"PROXY_PROTOCOL=YES"}, {"CONTROL_BASE_URL=http://coordinator.example"}, {"SSL_CERT=" + cert, "SSL_KEY=" + other}, {"SSL_KEY=" + key, "SSL_CERT=/none.pem"}, {".env:nonsense"},
	} {
		checked, started := runServerArgs(t, []string{"-check"}, env...), runServer(t, env...)
		if checked != started || checked.code != 2 || len(lines(checked.out)) != 1 {
			t.Errorf("%v: wanted what a start says, %d %q, got %d %q", env, started.code, started.out, checked.code, checked.out)
		}
	}
}

func (s *server) health(env ...string) ended {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	return runServerArgs(s.t, []string{"-health"}, append([]string{"HTTP_PORT=" + port}, env...)...)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	well := func(s *server, env ...string) {
		t.Helper()
		if e := s.health(env...); e.code != 0 || e.out != "" {
			t.Errorf("%v: wanted exit code 0 and not a word, got %d:\n%s", env, e.code, e.out)
		}
	}
	cert, key := wstest.NewIdentity(t, "one").Files(t, t.TempDir())
	withTLS := []string{"SSL_CERT=" + cert, "SSL_KEY=" + key}
	s := startServer(t, append(withTLS, "MAX_IP_CONCURRENT_CONNECTIONS=1", "CONCURRENT_LIMIT_WHITELIST=")...)
	s.receive("cam", "key").Sync() // the address has all that it may have
	well(s, withTLS...)
	writeFile(t, cert, "half a file") // the server goes on with the old one
	well(s, withTLS...)

	everywhere := startServer(t, "BIND_ADDRESS=")
	well(everywhere, "BIND_ADDRESS=")
	well(everywhere, "BIND_ADDRESS=0.0.0.0")
	requireLoopbackRange(t)
	elsewhere := startServer(t, "BIND_ADDRESS=127.0.0.77")
	well(elsewhere, "BIND_ADDRESS=127.0.0.77")
	well(startServer(t, "BIND_ADDRESS=localhost"), "BIND_ADDRESS=localhost")
	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = ln.Close()
		well(startServer(t, "BIND_ADDRESS=::1"), "BIND_ADDRESS=[::1]")
	}
	for _, env := range []string{"HTTP_PORT=" + freePort(t), "BIND_ADDRESS=127.0.0.78", "HTTP_PORT=eighty", "PLAY_WHITELIST=10.0.0.0/33"} {
		if e := elsewhere.health(env); e.code != 1 || len(lines(e.out)) != 1 {
			t.Errorf("%s: wanted exit code 1 and one line, got %d:\n%s", env, e.code, e.out)
		}
	}
}

// Where this machine is a trusted proxy, -health speaks the PROXY protocol as well.
func TestHealthOfAServerThatWantsThePROXYProtocol(t *testing.T) {
	t.Parallel()
	env := []string{"PROXY_PROTOCOL=YES", "TRUSTED_PROXIES=127.0.0.0/8"}
	s := launch(t, env...)
	if e := s.health(env...); e.code != 0 {
		t.Errorf("wanted exit code 0, got %d: %s", e.code, e.out)
	}
	if e := s.health(); e.code != 1 {
		t.Errorf("without the header: wanted exit code 1, got %d: %s", e.code, e.out)
	}
}

// Whoever else has the port: -health ends, and puts nothing odd on the terminal.
func TestHealthOfSomebodyElse(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]string{
		"silence": "", "another status": "HTTP/1.1 503 \x1b[31mno\r\n\r\n", "garbage": "SSH-2.0-\x1b[31m\r\n", "half an answer": "HTTP/1.1 200 OK\r\nA",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, say)
					defer c.Close()
				}
			}()
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			e := runServerArgs(t, []string{"-health"}, "HTTP_PORT="+port)
			if e.code != 1 || len(lines(e.out)) != 1 || strings.Contains(e.out, "\x1b") {
				t.Errorf("wanted exit code 1 and one line, got %d %q", e.code, e.out)
			}
		})
	}
}

func TestCheckAndHealthWriteNoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, arg := range []string{"-check", "-health"} {
		_ = child(dir, map[string]string{"HTTP_PORT": freePort(t)}, io.Discard, arg).Run()
	}
	if e, err := os.ReadDir(dir); err != nil || len(e) != 0 {
		t.Errorf("wanted an empty working directory, got %v, %v", e, err)
	}
}
