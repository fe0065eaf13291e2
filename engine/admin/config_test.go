package admin

import (
	"strings"
	"testing"

	"ws-stream-server/engine"
)

const aToken = "0123456789-token"

func TestAddressesAndTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, token string
		want           string // beginning of the error; "": none
	}{
		{"", "", ""},
		{"", aToken, ""},
		{"127.0.0.1:9090", "", ""},
		{"127.9.9.9:1", "", ""},
		{"[::1]:65535", "", ""},
		{"localhost:9090", "", ""},
		{"LOCALHOST:9090", "", ""},
		{"[::ffff:127.0.0.1]:9090", "", ""},
		{":9090", aToken, ""},
		{"0.0.0.0:9090", aToken, ""},
		{"[::]:9090", aToken, ""},
		{"192.0.2.1:9090", aToken, ""},
		{":9090", "", "ADMIN_ADDRESS=\":9090\" is not allowed without ADMIN_TOKEN"},
		{"0.0.0.0:9090", "", "ADMIN_ADDRESS="},
		{"[::]:9090", "", "ADMIN_ADDRESS="},
		{"10.0.0.1:9090", "", "ADMIN_ADDRESS="},
		{"[fe80::1%lo]:9090", "", "ADMIN_ADDRESS="},
		{"9090", aToken, "ADMIN_ADDRESS=\"9090\" is not allowed: an address"},
		{"127.0.0.1", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:0", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:65536", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:http", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:+80", "", "ADMIN_ADDRESS="},
		{"::1:9090", "", "ADMIN_ADDRESS="},
		{"300.0.0.1:9090", aToken, "ADMIN_ADDRESS="},
		{"127.1:9090", aToken, "ADMIN_ADDRESS="},
		{"http://127.0.0.1:9090", aToken, "ADMIN_ADDRESS="},
		{"127.0.0.1:9090/metrics", "", "ADMIN_ADDRESS="},
		{"127.0.0.1:9090", "tiny", "ADMIN_TOKEN is too short: 16 "},
		{"127.0.0.1:9090", strings.Repeat("x", 15), "ADMIN_TOKEN is too short"},
		{"", "tiny", "ADMIN_TOKEN is too short"},
		{"", "sixteen characters", "ADMIN_TOKEN is not allowed"},
		{"", "0123456789abcdef\n", "ADMIN_TOKEN is not allowed"},
		{"", "0123456789abcdéf", "ADMIN_TOKEN is not allowed"},
	} {
		err := Config{Address: c.address, Token: c.token}.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%q with %q: wanted %q, got %v", c.address, c.token, c.want, err)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("the token stands in the error: %v", err)
		}
	}
}

func TestThePortIsNobodyElses(t *testing.T) {
	t.Parallel()
	plain, both := engine.Config{HTTPPort: 80, SSLPort: 443}, engine.Config{HTTPPort: 80, SSLPort: 443, SSLCert: "c", SSLKey: "k"}
	for _, c := range []struct {
		address string
		e       engine.Config
		want    string
	}{
		{"", plain, ""}, {"127.0.0.1:81", plain, ""}, {"127.0.0.1:443", plain, ""},
		{"127.0.0.1:80", plain, "HTTP_PORT"}, {"[::1]:080", plain, "HTTP_PORT"}, {"127.0.0.1:443", both, "SSL_PORT"},
	} {
		err := Config{Address: c.address}.Apart(c.e)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: wanted %q, got %v", c.address, c.want, err)
		}
	}
}
