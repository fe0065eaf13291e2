package engine

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// A publisher over TLS that goes on sending after a violation is told what it did:
// what it sends is read and discarded, no reset destroys the close frame.
func TestAViolationOverTLSIsToldThoughTheClientSendsOn(t *testing.T) {
	s := newTestServer(t, withTLS(t), func(c *Config) { c.MaxMessageMB = 1 })
	for range 10 {
		pub := s.dialTLS("/cam/key/publish")
		rs := s.session(pub)
		// Until the close frame is there the client sends as fast as it can.
		sent := make(chan error, 1)
		big := wstest.Frame{Op: wstest.Binary, Payload: make([]byte, 3*mib)}.AppendTo(nil)
		go func() { sent <- pub.SendRawE(big) }()
		pub.WantError("Message too big", 1009)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if r := rs.reason(); r != messageTooBig {
			t.Fatalf("the reason is %v", r)
		}
		pub.Close()
		eventually(t, "it is gone", func() bool { return s.roster.size() == 0 })
	}
}

// A client that has ended TLS and goes on sending is cut off like a silent one: it
// has no place of its address any more.
func TestAfterTheEndOfTLSNothingKeepsAConnection(t *testing.T) {
	s := newTestServer(t, withTLS(t))
	tcp, err := net.Dial("tcp", s.tlsAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	trust := s.trust.Clone()
	trust.ServerName = "127.0.0.1"
	c := tls.Client(tcp, trust)
	_, err = io.WriteString(c, wstest.UpgradeRequest("/cam/key/receive"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is a session", func() bool { return s.roster.size() == 1 })
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = tcp.SetDeadline(time.Time{}) // crypto/tls lets nothing more be written
	eventually(t, "it is gone, whatever it sends", func() bool {
		_, _ = tcp.Write([]byte{0})
		return s.roster.size() == 0
	})
}

// What TLS has to say by itself to a client that does not listen is bounded.
func TestWhatTLSSaysByItselfIsBounded(t *testing.T) {
	s := newTestServer(t, withTLS(t))
	rec := s.dialTLS("/cam/key/receive")
	rs := s.session(rec)
	rs.unsent.Add(1) // its socket is full
	s.budget.add(1)
	for i := 0; rs.ending.Load() == 0; i++ {
		if i > 2*maxOwn/1000 {
			t.Fatalf("%d bytes wait, and the session lives", rs.tls.wire.size())
		}
		_, _ = rs.tls.wire.Write(make([]byte, 1000)) // as crypto/tls answers a key update
		life := rs.life.Load()
		rec.SendText("h")
		eventually(t, "it is read", func() bool { return rs.life.Load() != life })
	}
	if r := rs.reason(); r != protocolError {
		t.Errorf("the reason is %v", r)
	}
	size := rs.tls.wire.size()
	for range 10 {
		rec.SendText("h")
	}
	if now := rs.tls.wire.size(); now > size || size > maxOwn+sealedPiece {
		t.Errorf("%d bytes wait, %d later", size, now)
	}
	rec.Close()
}

// A client may ask for a new key whenever it likes (RFC 8446, 4.6.3), and TLS
// answers by itself, on the poller, while the drainer seals packets. Go's client
// never asks; openssl does on the line "K".
func TestKeyUpdatesOverTLS(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		wstest.Skip(t, "openssl is not installed")
	}
	s := newTestServer(t, withTLS(t))
	pub := s.publish("cam", "key")
	cmd := exec.Command(openssl, "s_client", "-connect", s.tlsAddr, "-tls1_3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	say := func(what string) {
		t.Helper()
		if _, err := io.WriteString(in, what); err != nil {
			t.Fatal(err)
		}
	}
	say(wstest.UpgradeRequest("/cam/key/receive"))
	eventually(t, "openssl shows the answer", func() bool { return out.count("101 Switching") == 1 })

	const rounds, each = 5, 200
	for i := range rounds {
		sent := make(chan error, 1)
		go func() { // packets before, during and after the change
			for range each {
				if err := pub.SendE(wstest.Binary, []byte(strings.Repeat("x", 1000)+"|packet|")); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		say("K\n")
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		eventually(t, "openssl has changed its key", func() bool { return out.count("KEYUPDATE") == i+1 })
		eventually(t, "openssl shows every packet", func() bool { return out.count("|packet|") == (i+1)*each })
	}
}

// output is what a program prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) count(s string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Count(o.b.Bytes(), []byte(s))
}
