package wstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Identity is a certificate for 127.0.0.1 that nobody has signed (ECDSA, P-256), and
// its key.
type Identity struct {
	Name      string // common name
	Cert, Key []byte // PEM
}

// NewIdentity makes one with this common name, good for a day.
func NewIdentity(t testing.TB, name string) Identity {
	t.Helper()
	return NewIdentityValid(t, name, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// NewIdentityValid makes one that is good between two moments.
func NewIdentityValid(t testing.TB, name string, from, until time.Time) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    from,
		NotAfter:     until,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{
		Name: name,
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// Files writes the pair to a directory, each file in one step, so that nobody reads
// half of it. It takes the place of an earlier pair.
func (id Identity) Files(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, f := range []struct {
		path string
		pem  []byte
	}{{cert, id.Cert}, {key, id.Key}} {
		if err := os.WriteFile(f.path+".new", f.pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(f.path+".new", f.path); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Trust is a client's configuration that believes this certificate only.
func (id Identity) Trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(id.Cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
