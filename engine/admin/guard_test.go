package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func request(host string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = host
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// No web page of somebody else's reaches the listener through a browser: not by its own
// name, nor from its own origin.
func TestForeignPagesAreRefused(t *testing.T) {
	t.Parallel()
	g := newGuard(Config{Address: "Admin.example:9090"}, false)
	const host = "127.0.0.1:9090"
	for _, r := range []*http.Request{
		request(host), request("127.0.0.1"), request("[::1]:9090"), request("[::1]"), request("192.0.2.7:1"), request("localhost:9090"),
		request("LocalHost"), request("admin.example:9090"), request("admin.example"),
		request(host, "Origin", "http://"+host),
		request("localhost:9090", "Origin", "http://localhost:9090"),
		request(host, "Sec-Fetch-Site", "none"), request(host, "Sec-Fetch-Site", "same-origin", "Origin", "http://"+host),
	} {
		if why := g.foreign(r); why != "" {
			t.Errorf("%s %v: wanted it served, got %q", r.Host, r.Header, why)
		}
	}
	for _, r := range []*http.Request{
		request(""), request("evil.example:9090"), request("evil.example"), request("localhost.evil.example"), request("127.0.0.1.evil.example:9090"),
		request("localhost."), request("127.0.0.1@evil.example"), request("2130706433:9090"), request("0x7f.1"), request("[evil.example]:9090"), request("admin.example.evil"),
		request(host, "Origin", "http://evil.example"), request(host, "Origin", "null"), request(host, "Origin", ""),
		request(host, "Origin", "https://"+host), request(host, "Origin", "http://127.0.0.1:8080"), request(host, "Origin", "http://127.0.0.1"),
		request(host, "Origin", "http://"+host, "Origin", "http://evil.example"),
		request("evil.example:9090", "Origin", "http://evil.example:9090", "Sec-Fetch-Site", "same-origin"),
		request(host, "Sec-Fetch-Site", "cross-site"), request(host, "Sec-Fetch-Site", "same-site"), request(host, "Sec-Fetch-Site", ""),
	} {
		if g.foreign(r) == "" {
			t.Errorf("%q %v: wanted it refused", r.Host, r.Header)
		}
	}
	// Without a name nobody's name is ours.
	g = newGuard(Config{Address: ":9090"}, false)
	if g.ours("") || g.ours(":9090") || !g.ours("127.0.0.1") {
		t.Error("wanted no name to be ours where ADMIN_ADDRESS has none")
	}
}

func TestWhoNeedsTheToken(t *testing.T) {
	t.Parallel()
	const right = "Bearer " + aToken
	for _, c := range []struct {
		local  bool
		token  string
		header string
		access access
		want   int
	}{
		{true, "", "", open, 0}, {true, "", "", look, 0}, {true, "", "", change, 403}, {true, "", "Bearer ", change, 403}, {true, "", "Bearer x", change, 403},
		{true, aToken, "", open, 0}, {true, aToken, "", look, 0}, {true, aToken, "", change, 401}, {true, aToken, right, change, 0},
		{false, aToken, "", open, 0}, {false, aToken, "", look, 401}, {false, aToken, right, look, 0}, {false, aToken, "", change, 401}, {false, aToken, right, change, 0},
		{false, aToken, "bearer " + aToken, change, 0},
		{false, aToken, "Basic " + aToken, change, 401}, {false, aToken, aToken, change, 401}, {false, aToken, right + "x", change, 401},
		{false, aToken, right[:len(right)-1], change, 401}, {false, aToken, "Bearer", change, 401}, {false, aToken, "Bearer  " + aToken, change, 401},
	} {
		g := newGuard(Config{Token: c.token}, c.local)
		r := request("127.0.0.1")
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		if status, why := g.admit(r, c.access); status != c.want || (status != 0) != (why != "") {
			t.Errorf("%+v: wanted %d, got %d %q", c, c.want, status, why)
		}
	}
}
