package main

import (
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// What hostile clients do with TLS, and with the wrong port.

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		cfg := id.Trust()
		cfg.MinVersion, cfg.MaxVersion = version, version
		c, _, err := wstest.Open(s.tlsAddr, "/cam/key/receive", wstest.TLS(cfg))
		if c != nil || err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: wanted the version refused, got %v", tls.VersionName(version), err)
		}
	}
	least := id.Trust()
	least.MinVersion, least.MaxVersion = tls.VersionTLS10, tls.VersionTLS12
	c := wstest.Dial(t, s.tlsAddr, "/cam/key/receive", wstest.TLS(least))
	c.Sync()
	nc, _ := c.Raw()
	if v := nc.(*tls.Conn).ConnectionState().Version; v != tls.VersionTLS12 {
		t.Errorf("wanted TLS 1.2, got %s", tls.VersionName(v))
	}
}

// A client of TLS 1.2 may ask to begin anew, which costs it nothing and the server a
// handshake. Go's client never asks; openssl does on the line "R".
func TestTLSRenegotiationIsRefused(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		wstest.Skip(t, "openssl is not installed")
	}
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id)
	other := s.tlsDial(t, "/other/key/receive", id)
	for _, upgrade := range []bool{false, true} {
		cmd := exec.Command(openssl, "s_client", "-connect", s.tlsAddr, "-tls1_2")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := newLogBuffer()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			out.end()
			close(ended)
		}()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		say := func(what, answer string) {
			t.Helper()
			if _, err := io.WriteString(in, what); err != nil {
				t.Fatal(err)
			}
			if !out.waitFor(func(log string) bool { return strings.Contains(log, answer) }) {
				t.Fatalf("wanted %q of openssl, got:\n%s", answer, out)
			}
		}
		say("", "Verify return code")
		if upgrade {
			say(wstest.UpgradeRequest("/renegotiates/key/receive"), "101 Switching")
			s.wantLog(`msg="session begins" channel=renegotiates`)
		}
		say("R\n", "RENEGOTIATING")
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("upgrade %t: wanted the connection ended, openssl says:\n%s", upgrade, out)
		}
		if log := out.String(); !strings.Contains(log, "unexpected message") {
			t.Errorf("upgrade %t: wanted an alert, openssl says:\n%s", upgrade, log)
		}
		if upgrade {
			s.wantLog(`msg="session ends" channel=renegotiates`)
		}
	}
	other.Sync()
}

// HTTP on the TLS port is told so, TLS on the plain port is no HTTP; neither becomes
// a stream.
func TestTheWrongPort(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "LOG_DEBUG=YES")
	if answer := s.raw(s.tlsAddr, "127.0.0.1", wstest.UpgradeRequest("/wrong/key/publish")+"\x82\x80xxxx"); !strings.HasPrefix(answer, "HTTP/1.0 400 ") || strings.Count(answer, "HTTP/1") != 1 {
		t.Errorf("HTTP on the TLS port: wanted 400, got %q", answer)
	}
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("TLS on the plain port: wanted it refused")
	}
	for _, addr := range []string{s.addr, s.tlsAddr} {
		for seed := range 30 {
			s.raw(addr, "127.0.0.1", string(payload(1+seed*300, uint64(seed))))
		}
	}
	s.wantWholeLog()
	if strings.Contains(s.logs(), "wrong") {
		t.Errorf("wanted no stream, got:\n%s", s.logs())
	}
	s.publish("wrong", "key").Sync()
	s.tlsDial(t, "/right/key/publish", id).Sync()
}

// The name a client asks for in TLS is any text. It decides nothing and is not logged.
func TestServerNamesOfTLS(t *testing.T) {
	t.Parallel()
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "LOG_DEBUG=YES")
	for _, name := range []string{"FORGED", "FORGED\nline", "\x1b[31mFORGED", "FORGED\x00", strings.Repeat("FORGED", 5000), "../FORGED", "FORGED."} {
		nc, err := net.Dial("tcp", s.tlsAddr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if c.Handshake() == nil {
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		_, _ = io.Copy(io.Discard, c)
		_ = nc.Close()
	}
	s.wantWholeLog()
	if log := s.logs(); strings.Contains(log, "FORGED") || strings.ContainsAny(log, "\x00\x1b") {
		t.Errorf("wanted no name in the log, got:\n%s", log)
	}
	s.tlsDial(t, "/cam/key/receive", id).Sync()
}
