package engine

import (
	"bytes"
	"crypto/tls"
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

	// Owned by watch: the files' contents when they were last looked at.
	cert, key []byte
}

// newCertificate loads a pair of PEM files.
func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// load reads the files, and takes them if they have changed and fit together.
func (c *certificate) load() (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("cannot read SSL_CERT: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("cannot read SSL_KEY: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	c.cert, c.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("cannot use SSL_CERT and SSL_KEY: %w", err)
	}
	c.current.Store(&pair)
	return true, nil
}

// watch looks at the files again and again until stop is closed. A pair that
// cannot be used is logged once, and the old one kept.
func (c *certificate) watch(every time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		switch changed, err := c.load(); {
		case err != nil && err.Error() != last:
			last = err.Error()
			c.log.Error("certificate not reloaded, the old one stays in use", "error", err)
		case changed:
			last = ""
			c.log.Info("certificate reloaded")
		}
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
