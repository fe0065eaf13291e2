package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// wantServed waits until a new connection is shown this certificate.
func (s *server) wantServed(id wstest.Identity) {
	s.t.Helper()
	got := ""
	eventually(s.t, "the certificate of "+id.Name+" is served", func() bool {
		nc, err := tls.Dial("tcp", s.tlsAddr, &tls.Config{InsecureSkipVerify: true}) // its dates are not the question
		if err != nil {
			s.t.Fatalf("TLS handshake: %v", err)
		}
		defer func() { _ = nc.Close() }()
		got = nc.ConnectionState().PeerCertificates[0].Subject.CommonName
		return got == id.Name
	})
}

// wantLogs waits until these words stand in the log n times, and fails if they
// stand there more often.
func (s *server) wantLogs(n int, words string) {
	s.t.Helper()
	s.log.waitFor(func(log string) bool { return strings.Count(log, words) >= n })
	if got := strings.Count(s.logs(), words); got != n {
		s.t.Fatalf("wanted %q in the log %d times, got it %d times:\n%s", words, n, got, s.logs())
	}
}

// While the server runs its certificate is removed for a moment, broken, and swapped
// half-way: new connections get the old one until there is a pair that fits, those
// that stand notice nothing, and the log has one line for each fault.
func TestTLSCertificateReload(t *testing.T) {
	t.Parallel()
	one, two := wstest.NewIdentity(t, "one"), wstest.NewIdentity(t, "two")
	s, dir := startTLS(t, one, "SSL_CHECK_RELOAD_SECONDS=1")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	r := s.tlsDial(t, "/cam/key/receive", one)
	pub := s.tlsDial(t, "/cam/key/publish", one)
	const kept, reloaded = "the old one stays in use", "certificate reloaded"

	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	s.wantLogs(1, kept)
	s.wantLog("cannot read SSL_CERT")
	s.wantServed(one)

	writeFile(t, cert, "nonsense")
	s.wantLogs(2, kept)
	s.wantServed(one)

	writeFile(t, cert, string(two.Cert)) // with the key of one
	s.wantLogs(3, kept)
	s.wantServed(one)
	s.wantLogs(0, reloaded)

	writeFile(t, key, string(two.Key))
	s.wantLogs(1, reloaded)
	s.wantServed(two)
	s.tlsDial(t, "/cam/key/receive", two).Sync()
	s.wantLogs(3, kept)

	// Old connections go on.
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))

	// And back again.
	one.Files(t, dir)
	s.wantServed(one)
}

// An expired certificate is no reason to serve nobody: it is used with a warning, but
// not in the place of a valid one.
func TestExpiredCertificateIsUsedWithAWarning(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := wstest.NewIdentityValid(t, "old", now.Add(-48*time.Hour), now.Add(-time.Hour))
	early := wstest.NewIdentityValid(t, "early", now.Add(24*time.Hour), now.Add(48*time.Hour))
	good := wstest.NewIdentity(t, "good")
	s, dir := startTLS(t, old, "SSL_CHECK_RELOAD_SECONDS=1")
	s.wantLogs(1, "certificate in use has expired")
	if before, _, _ := strings.Cut(s.logs(), "listening"); !strings.Contains(before, "has expired") {
		t.Errorf("wanted the warning at the start, got:\n%s", s.logs())
	}
	s.wantServed(old)
	trusting := func() wstest.Option { return wstest.TLS(&tls.Config{InsecureSkipVerify: true}) }
	pub := wstest.Dial(t, s.tlsAddr, "/cam/key/publish", trusting())
	r := wstest.Dial(t, s.tlsAddr, "/cam/key/receive", trusting())
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	if _, _, err := wstest.Open(s.tlsAddr, "/cam/key/receive", wstest.TLS(old.Trust())); err == nil {
		t.Error("a client that looks at the dates was content")
	}

	good.Files(t, dir)
	s.wantServed(good)
	s.tlsDial(t, "/cam/key/receive", good).WantPacket([]byte("p"))

	early.Files(t, dir)
	s.wantLogs(1, "in the place of a valid certificate: it is not valid yet")
	s.wantServed(good)
	old.Files(t, dir)
	s.wantLogs(1, "in the place of a valid certificate: it has expired")
	s.wantServed(good)
	s.tlsDial(t, "/cam/key/receive", good).WantPacket([]byte("p"))
	s.wantLogs(1, "certificate in use")
	pub.Send(wstest.Binary, []byte("q"))
	r.WantPacket([]byte("q"))
}
