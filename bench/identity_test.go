package bench

import (
	"crypto/tls"
	"testing"

	"ws-stream-server/engine/wstest"
)

// identity is a certificate for 127.0.0.1, and what a client needs to believe it.
type identity struct {
	certFile, keyFile string // PEM
	config            *tls.Config
	trust             *tls.Config
}

// newIdentity makes one that is there until the benchmark b is over.
func newIdentity(b *testing.B) *identity {
	b.Helper()
	pair := wstest.NewIdentity(b, "bench")
	id := &identity{trust: pair.Trust()}
	id.certFile, id.keyFile = pair.Files(b, b.TempDir())
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		b.Fatal(err)
	}
	id.trust.ServerName = "127.0.0.1"
	// As the server speaks it: records are large from the beginning.
	id.trust.DynamicRecordSizingDisabled = true
	id.config = &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true}
	return id
}
