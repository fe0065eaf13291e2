package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// watched is a certificate whose files a test changes, and what it logs.
type watched struct {
	*certificate
	t   *testing.T
	dir string
	log bytes.Buffer
}

func newWatched(t *testing.T, id wstest.Identity) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir()}
	cert, key := id.Files(t, w.dir)
	c, err := newCertificate(cert, key, slog.New(slog.NewTextHandler(&w.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	w.certificate = c
	return w
}

// wants looks at the files again and again, at the moment now, and fails unless
// that logs one line with these words, or none without words, and serves id.
func (w *watched) wants(now time.Time, id wstest.Identity, words ...string) {
	w.t.Helper()
	for range 5 {
		w.look(now)
	}
	log := w.log.String()
	w.log.Reset()
	wanted := min(1, len(words))
	if strings.Count(log, "\n") != wanted || !containsAll(log, words) {
		w.t.Errorf("wanted %d line with %q in the log, got:\n%s", wanted, words, log)
	}
	if got := w.current.Load(); got.Leaf.Subject.CommonName != id.Name {
		w.t.Errorf("wanted the certificate of %s in use, got %s", id.Name, got.Leaf.Subject.CommonName)
	}
}

func containsAll(s string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(s, word) {
			return false
		}
	}
	return true
}

// Whatever happens to the files, a pair that fits is in use, and every fault is
// logged once, each time that it comes.
func TestCertificateFilesThatComeAndGo(t *testing.T) {
	now := time.Now()
	one, two := wstest.NewIdentity(t, "one"), wstest.NewIdentity(t, "two")
	w := newWatched(t, one)
	w.wants(now, one)
	for range 2 {
		write := func(name string, b []byte) {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		remove := func(name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		// Removed for a moment.
		remove(w.keyFile)
		w.wants(now, one, "ERROR", "cannot read SSL_KEY")
		write(w.keyFile, one.Key)
		w.wants(now, one, "INFO", "unchanged")
		remove(w.certFile)
		w.wants(now, one, "ERROR", "cannot read SSL_CERT")
		write(w.certFile, one.Cert)
		w.wants(now, one, "INFO", "unchanged")
		// Broken, empty, cut short, then as it was.
		for _, b := range [][]byte{[]byte("nonsense"), nil, one.Cert[:len(one.Cert)/2]} {
			write(w.certFile, b)
			w.wants(now, one, "ERROR", "cannot use SSL_CERT and SSL_KEY")
			write(w.certFile, one.Cert)
			w.wants(now, one, "INFO", "certificate reloaded")
		}
		// Swapped half-way: the new certificate with the old key, then both.
		write(w.certFile, two.Cert)
		w.wants(now, one, "ERROR", "cannot use SSL_CERT and SSL_KEY", "does not match")
		write(w.keyFile, two.Key)
		w.wants(now, two, "INFO", "certificate reloaded")
		one, two = two, one
	}
}

func TestCertificatesThatAreNotValidNow(t *testing.T) {
	now := time.Now()
	id := wstest.NewIdentity(t, "good for a day")
	w := newWatched(t, id)
	w.wants(now, id)
	// The days go by, and somebody sets the clock.
	w.wants(now.Add(25*time.Hour), id, "WARN", "has expired", "valid_until")
	w.wants(now.Add(26*time.Hour), id)
	w.wants(now, id)
	w.wants(now.Add(-2*time.Hour), id, "WARN", "is not valid yet", "valid_from")
	w.wants(now.Add(25*time.Hour), id, "WARN", "has expired")
	w.wants(now, id)

	leaf := &x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{-time.Second, "is not valid yet"}, {0, ""}, {time.Hour, ""}, {time.Hour + time.Second, "has expired"},
	} {
		if got := expiredOrEarly(leaf, now.Add(c.at)); got != c.want {
			t.Errorf("%v after its beginning: wanted %q, got %q", c.at, c.want, got)
		}
	}
	w.current.Store(&tls.Certificate{}) // a certificate that Go did not parse
	w.look(now)
}

// A pair that is not valid now does not take the place of one that is, until its time
// has come, or the other's is over.
func TestAnExpiredPairDoesNotReplaceAValidOne(t *testing.T) {
	now := time.Now()
	good := wstest.NewIdentity(t, "good for a day")
	old := wstest.NewIdentityValid(t, "old", now.Add(-48*time.Hour), now.Add(-time.Hour))
	early := wstest.NewIdentityValid(t, "early", now.Add(2*time.Hour), now.Add(30*time.Hour))
	late := wstest.NewIdentityValid(t, "late", now.Add(48*time.Hour), now.Add(50*time.Hour))
	w := newWatched(t, good)

	old.Files(t, w.dir)
	w.wants(now, good, "ERROR", "the old one stays in use", "it has expired")
	if err := os.Remove(w.keyFile); err != nil {
		t.Fatal(err)
	}
	w.wants(now, good, "ERROR", "cannot read SSL_KEY")
	old.Files(t, w.dir)
	w.wants(now, good, "ERROR", "it has expired")
	good.Files(t, w.dir)
	w.wants(now, good, "INFO", "certificate reloaded")

	early.Files(t, w.dir)
	w.wants(now, good, "ERROR", "the old one stays in use", "it is not valid yet")
	w.wants(now.Add(3*time.Hour), early, "INFO", "certificate reloaded")

	// Of two that are not valid the newer one is used: it is what the operator wants.
	now = now.Add(4 * time.Hour)
	old.Files(t, w.dir)
	w.wants(now, early, "ERROR", "it has expired")
	now = now.Add(27 * time.Hour)
	w.look(now)
	if log := w.log.String(); !containsAll(log, []string{"certificate reloaded", "WARN", "certificate in use has expired"}) {
		t.Errorf("wanted the other one in use, with a warning, got:\n%s", log)
	}
	w.log.Reset()
	w.wants(now, old)
	late.Files(t, w.dir)
	w.look(now)
	w.log.Reset()
	w.wants(now, late)
	w.wants(now.Add(18*time.Hour), late)
}
