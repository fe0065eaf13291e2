package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// certificate is the pair of files the TLS listener serves, loaded again when
// they change.
type certificate struct {
	// Static after construction.
	certFile, keyFile string
	log               *slog.Logger

	current atomic.Pointer[tls.Certificate] // any goroutine

	// Owned by watch: the files' contents when they were last looked at, why those
	// cannot be used (nil: they are in use), and what was logged of them last.
	cert, key []byte
	unusable  error
	waiting   *tls.Certificate // the files', not in use for its dates; nil: there is none
	told      string           // the last error; "" when the files are in use
	expiry    string           // what expiredOrEarly said last
}

// newCertificate loads a pair of PEM files. One that has expired is used: clients
// refuse it, or were told to take it, and the plain listener's clients need the
// server in any case.
func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	now := time.Now()
	if _, err := c.load(now); err != nil {
		return nil, err
	}
	c.warn(now)
	return c, nil
}

// load reads the files, and takes them if they have changed and fit together.
func (c *certificate) load(now time.Time) (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("cannot read SSL_CERT: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("cannot read SSL_KEY: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		if c.waiting != nil {
			return c.take(c.waiting, now)
		}
		return false, c.unusable
	}
	c.cert, c.key, c.waiting = cert, key, nil
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		c.unusable = fmt.Errorf("cannot use SSL_CERT and SSL_KEY: %w", err)
		return false, c.unusable
	}
	return c.take(&pair, now)
}

// take has a pair used. One that has expired, or is not valid yet, does not take the
// place of a valid one: it waits until its time has come, or the other's is over.
func (c *certificate) take(pair *tls.Certificate, now time.Time) (changed bool, err error) {
	what, current := dates(pair, now), c.current.Load()
	if what != "" && current != nil && dates(current, now) == "" {
		c.waiting, c.unusable = pair, fmt.Errorf("cannot use SSL_CERT in the place of a valid certificate: it %s", what)
		return false, c.unusable
	}
	c.waiting, c.unusable = nil, nil
	c.current.Store(pair)
	return true, nil
}

// watch looks at the files again and again until stop is closed.
func (c *certificate) watch(every time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look(time.Now())
		case <-stop:
			return
		}
	}
}

// look takes the files if they have changed. Files that cannot be used are logged
// once, and the old pair kept. now is the wall clock's, which certificates go by.
func (c *certificate) look(now time.Time) {
	changed, err := c.load(now)
	switch {
	case err != nil:
		if c.told != err.Error() {
			c.told = err.Error()
			c.log.Error("certificate not reloaded, the old one stays in use", "error", err)
		}
	case changed:
		c.told = ""
		c.log.Info("certificate reloaded")
	case c.told != "":
		c.told = ""
		c.log.Info("certificate files are back, unchanged")
	}
	c.warn(now)
}

// warn logs, once, that clients will not believe the certificate in use.
func (c *certificate) warn(now time.Time) {
	pair := c.current.Load()
	what := dates(pair, now)
	if what == c.expiry {
		return
	}
	c.expiry = what
	if what != "" {
		leaf := pair.Leaf
		c.log.Warn("certificate in use "+what+", clients will refuse it", "valid_from", leaf.NotBefore, "valid_until", leaf.NotAfter)
	}
}

// dates is expiredOrEarly of a pair. Go does not parse it with GODEBUG=x509keypairleaf=0.
func dates(pair *tls.Certificate, now time.Time) string {
	if pair.Leaf == nil {
		return ""
	}
	return expiredOrEarly(pair.Leaf, now)
}

// expiredOrEarly says what is wrong with a certificate's dates; "" if nothing is.
func expiredOrEarly(leaf *x509.Certificate, now time.Time) string {
	switch {
	case now.After(leaf.NotAfter):
		return "has expired"
	case now.Before(leaf.NotBefore):
		return "is not valid yet"
	default:
		return ""
	}
}

// config returns how the listener speaks TLS: 1.2 at least, HTTP/1.1 only, large
// records from the beginning.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{"http/1.1"},
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// tlsListener gives net/http connections that speak TLS over a wire of ours.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(&wire{Conn: c}, l.config), nil
}
