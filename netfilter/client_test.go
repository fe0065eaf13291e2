package netfilter

import (
	"net/netip"
	"strings"
	"testing"
)

// proxies is what the tests trust.
const proxies = "10.0.0.0/8, 192.0.2.1, 2001:db8:aaaa::/48"

// client asks who the client is; lines of a header are separated by "|", and "-" is
// a header that is not there.
func client(f *Filter, peer, xForwardedFor, forwarded string) (string, error) {
	a, err := f.Client(netip.AddrPortFrom(netip.MustParseAddr(peer), 4000), headerLines(xForwardedFor), headerLines(forwarded))
	switch {
	case err != nil:
		return "", err
	case a.Port() == 0:
		return a.Addr().String(), nil
	}
	return a.String(), nil
}

func headerLines(s string) []string {
	if s == "-" {
		return nil
	}
	return strings.Split(s, "|")
}

// The walk is the same with both headers: each row is tried as X-Forwarded-For, and
// again as Forwarded with every entry as a quoted for=.
func TestClientIsTheFirstFromTheRightThatIsNotTrusted(t *testing.T) {
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	for _, c := range []struct{ list, want string }{
		{"203.0.113.9", "203.0.113.9"},
		{"203.0.113.9, 10.1.1.1", "203.0.113.9"},
		{"203.0.113.9,10.1.1.1,192.0.2.1,10.255.255.255", "203.0.113.9"},
		{"6.6.6.6, 203.0.113.9", "203.0.113.9"}, // what the client says about itself
		{"6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"},
		{"10.6.6.6, 203.0.113.9", "203.0.113.9"}, // trusted, but left of the client
		{"192.0.2.2", "192.0.2.2"},               // beside the trusted one
		{"10.1.1.1", "10.1.1.1"},                 // all trusted: the leftmost
		{"10.1.1.1, 10.2.2.2", "10.1.1.1"},
		{"203.0.113.9|10.1.1.1", "203.0.113.9"}, // several lines are one list
		{"203.0.113.9, 10.1.1.1|10.2.2.2, 192.0.2.1", "203.0.113.9"},
		{"6.6.6.6|203.0.113.9", "203.0.113.9"},
		{"203.0.113.9|6.6.6.6", "6.6.6.6"},
		{" \t203.0.113.9 \t,\t 10.1.1.1 ", "203.0.113.9"},

		{"203.0.113.9:1234", "203.0.113.9:1234"},
		{"203.0.113.9:1234, 10.1.1.1:80", "203.0.113.9:1234"},
		{"203.0.113.9:65535", "203.0.113.9:65535"},
		{"203.0.113.9:0", "203.0.113.9"},
		{"203.0.113.9:_http.x-1_", "203.0.113.9"},
		{"2001:db8::9", "2001:db8::9"},
		{"2001:DB8:0:0::9", "2001:db8::9"},
		{"[2001:db8::9]", "2001:db8::9"},
		{"[2001:db8::9]:1234", "[2001:db8::9]:1234"},
		{"[2001:db8::9]:1234, [2001:db8:aaaa::1]:443, 2001:db8:aaaa:1::", "[2001:db8::9]:1234"},
		{"[2001:db8::9]:_x", "2001:db8::9"},
		{"::ffff:203.0.113.9", "203.0.113.9"},
		{"[::ffff:203.0.113.9]:80", "203.0.113.9:80"},
		{"203.0.113.9, ::ffff:10.1.1.1", "203.0.113.9"}, // trusted as its IPv4 address

		// Garbage does no harm where the walk does not come.
		{"unknown, 203.0.113.9, 10.1.1.1", "203.0.113.9"},
		{"_hidden, , garbage, 203.0.113.9", "203.0.113.9"},
		{strings.Repeat("6.6.6.6, ", 3000) + "203.0.113.9" + strings.Repeat(", 10.1.1.1", 3000), "203.0.113.9"},
	} {
		if got, err := client(f, "10.0.0.1", c.list, "-"); got != c.want || err != nil {
			t.Errorf("X-Forwarded-For %.60q: got %q, %v, want %q", c.list, got, err, c.want)
		}
		if got, err := client(f, "10.0.0.1", "-", elements(c.list)); got != c.want || err != nil {
			t.Errorf("Forwarded %.60q: got %q, %v, want %q", elements(c.list), got, err, c.want)
		}
	}
}

// elements makes a Forwarded of an X-Forwarded-For.
func elements(list string) string {
	lines := strings.Split(list, "|")
	for i, line := range lines {
		entries := strings.Split(line, ",")
		for j, e := range entries {
			entries[j] = `for="` + strings.Trim(e, " \t") + `";proto=https`
		}
		lines[i] = strings.Join(entries, " , ")
	}
	return strings.Join(lines, "|")
}

func TestEntriesThatNameNoClient(t *testing.T) {
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	for _, bad := range []string{
		"", " ", "unknown", "Unknown", "_hidden", "_", "localhost", "example.org", "203.0.113", "203.0.113.300", "203.0.113.09", "3405803785",
		"203.0.113.9:", "203.0.113.9:65536", "203.0.113.9:123456", "203.0.113.9:-1", "203.0.113.9:+1", "203.0.113.9:x", "203.0.113.9:_", "203.0.113.9:_a b",
		"203.0.113.9 203.0.113.8", "203.0.113.9/32", "203.0.113.9%eth0", "[203.0.113.9]", "[203.0.113.9]:80", "[2001:db8::9", "2001:db8::9]", "[2001:db8::9]80",
		"[2001:db8::9]:", "[2001:db8::9]]", "[]", "[]:80", "[2001:db8::9]:80:80", "2001:db8:::9", "fe80::1%eth0", "[fe80::1%eth0]", "unix:", "unix:/run/x",
		"203.0.113.9\x00", "203.0.113.9\r\nX: y", "\x1b[31m", "٢٠٣.0.113.9",
	} {
		for _, list := range []string{bad, "203.0.113.9," + bad, "203.0.113.9," + bad + ",10.1.1.1", "203.0.113.9|" + bad + "|10.1.1.1"} {
			if got, err := client(f, "10.0.0.1", list, "-"); err != errXForwardedFor {
				t.Errorf("X-Forwarded-For %q: got %q, %v", list, got, err)
			}
			if got, err := client(f, "10.0.0.1", "-", elements(list)); err != errForwarded {
				t.Errorf("Forwarded %q: got %q, %v", elements(list), got, err)
			}
		}
	}
}

func TestForwarded(t *testing.T) {
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	for list, want := range map[string]string{
		// RFC 7239, sections 4 and 6.
		`For="[2001:db8:cafe::17]:4711"`:                  "[2001:db8:cafe::17]:4711",
		`for=192.0.2.60;proto=http;by=203.0.113.43`:       "192.0.2.60",
		`for=192.0.2.43, for=198.51.100.17`:               "198.51.100.17",
		`for="192.0.2.43:47011"`:                          "192.0.2.43:47011",
		`for=unknown, for=192.0.2.43`:                     "192.0.2.43",
		`for="_mdn", for=192.0.2.43`:                      "192.0.2.43",
		`proto=https;FOR=192.0.2.43;host="example.org:8"`: "192.0.2.43",
		`for=192.0.2.43;`:                                 "192.0.2.43",
		`;;for=192.0.2.43;;proto=http;`:                   "192.0.2.43",
		`for=192.0.2.43; proto=http ; by=_x`:              "192.0.2.43",
		`for=192.0.2.43;x="a = b"`:                        "192.0.2.43",
		// Not quoted as the RFC has it, but nothing else can be meant.
		`for=192.0.2.43:80`:           "192.0.2.43:80",
		`for=[2001:db8::9]:80`:        "[2001:db8::9]:80",
		`proto=https, for=192.0.2.43`: "192.0.2.43",
		`, ,for=192.0.2.43`:           "192.0.2.43",
	} {
		if got, err := client(f, "10.0.0.1", "-", list); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", list, got, err, want)
		}
	}
	for _, list := range []string{
		`for=192.0.2.43, proto=https`, `proto=https`, `for=192.0.2.43,`, `for=unknown`, `for=_mdn`, `for=""`,
		// Not well formed, wherever that is.
		`for`, `for=`, `=192.0.2.43`, `192.0.2.43`, `for =192.0.2.43`, `for= 192.0.2.43`, `for=192.0.2.43;for=192.0.2.44`, `for=192.0.2.43;FOR=192.0.2.43`,
		`for="192.0.2.43`, `for=192.0.2.43"`, `for="192.0.2.43"x`, `for="192.0.2.43""192.0.2.44"`, `for='192.0.2.43'`, `for=192.0.2.43 proto=http`,
		`garbage, for=192.0.2.43`, `for=, for=192.0.2.43`, `for=a b, for=192.0.2.43`, "for=\x01, for=192.0.2.43", `a="b, for=192.0.2.43`, `for="\"", for=192.0.2.43`,
		"garbage|for=192.0.2.43", `for="a|for=192.0.2.43`,
		// A client that leaves a quote open, before what its proxy appends; with a
		// Host that closes it again.
		`for=6.6.6.6, for=", for="[2001:db8::9]:4711"`,
		`a=", for=192.0.2.43;host=", for=6.6.6.6;b=""`,
		`a=", for="192.0.2.43";host=", for=6.6.6.6;b=""`,
	} {
		if got, err := client(f, "10.0.0.1", "-", list); err != errForwarded {
			t.Errorf("%s: got %q, %v, want no client", list, got, err)
		}
	}
}

func TestBothHeadersMustAgree(t *testing.T) {
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	for _, c := range []struct {
		xff, forwarded string
		want           string
		err            error
	}{
		{"203.0.113.9", "for=203.0.113.9", "203.0.113.9", nil},
		{"203.0.113.9", `for="203.0.113.9:1234"`, "203.0.113.9:1234", nil},
		{"6.6.6.6, 203.0.113.9", "for=203.0.113.9, for=10.1.1.1", "203.0.113.9", nil},
		{"::ffff:203.0.113.9", "for=203.0.113.9", "203.0.113.9", nil},
		{"203.0.113.9", "for=6.6.6.6", "", errDiffer},
		{"6.6.6.6", "for=203.0.113.9", "", errDiffer},
		{"203.0.113.9", "for=10.1.1.1", "", errDiffer},
		{"10.1.1.1", "for=10.1.1.2", "", errDiffer},
		{"unknown", "for=203.0.113.9", "", errXForwardedFor},
		{"203.0.113.9", "for=unknown", "", errForwarded},
		{"203.0.113.9", "", "", errForwarded},
		{"", "for=203.0.113.9", "", errXForwardedFor},
	} {
		if got, err := client(f, "10.0.0.1", c.xff, c.forwarded); got != c.want || err != c.err {
			t.Errorf("%q and %q: got %q, %v, want %q, %v", c.xff, c.forwarded, got, err, c.want, c.err)
		}
	}
}

func TestHeadersOfOthersAreIgnored(t *testing.T) {
	for list, peers := range map[string]string{
		proxies:      "203.0.113.1 9.255.255.255 11.0.0.0 192.0.2.2 2001:db8:aaab::1 ::1 ::10.0.0.1",
		"":           "10.0.0.1 127.0.0.1 ::1",
		"2001:db8::": "10.0.0.1 2001:db8::1",
	} {
		config := Config{}
		if list != "" {
			config.TrustedProxies = split(list)
		}
		f := newFilter(t, config)
		for _, peer := range strings.Fields(peers) {
			want := netip.AddrPortFrom(netip.MustParseAddr(peer), 4000).String()
			for _, h := range [][2]string{{"6.6.6.6", "-"}, {"-", "for=6.6.6.6"}, {"6.6.6.6", "for=6.6.6.7"}, {"garbage", "garbage"}, {"-", "-"}} {
				if got, err := client(f, peer, h[0], h[1]); got != want || err != nil {
					t.Errorf("%s with %q: got %q, %v", peer, h, got, err)
				}
			}
		}
	}
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	for _, peer := range []string{"10.0.0.1", "::ffff:10.0.0.1", "192.0.2.1", "2001:db8:aaaa::1", "2001:db8:aaaa::1%eth0"} {
		if got, err := client(f, peer, "203.0.113.9", "-"); got != "203.0.113.9" || err != nil {
			t.Errorf("%s is not believed: %q, %v", peer, got, err)
		}
	}
	// A proxy without headers is a client itself.
	if got, err := client(f, "10.0.0.1", "-", "-"); got != "10.0.0.1:4000" || err != nil {
		t.Errorf("the proxy itself: got %q, %v", got, err)
	}
	// The unknown address is no proxy.
	if f.Trusted(netip.Addr{}) {
		t.Error("the unknown address is trusted")
	}
}

func TestWhoOwesAHeader(t *testing.T) {
	on := newFilter(t, Config{TrustedProxies: split(proxies), ProxyProtocol: true})
	off := newFilter(t, Config{TrustedProxies: split(proxies)})
	for a, want := range map[string]bool{"10.0.0.1": true, "::ffff:10.0.0.1": true, "203.0.113.1": false, "::1": false} {
		if got := on.OwesHeader(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s owes a header: %t", a, got)
		}
		if off.OwesHeader(netip.MustParseAddr(a)) {
			t.Errorf("%s owes a header without PROXY_PROTOCOL", a)
		}
	}
}

func TestBadProxies(t *testing.T) {
	const allowed = "; allowed: IPs or CIDRs (v4, v6) separated by commas"
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{TrustedProxies: split("10.0.0.300")}, `TRUSTED_PROXIES: "10.0.0.300" is not an address` + allowed},
		{Config{TrustedProxies: split("10.0.0.1,proxy")}, `TRUSTED_PROXIES: "proxy" is not an address` + allowed},
		{Config{TrustedProxies: split("10.0.0.1,,10.0.0.2")}, `TRUSTED_PROXIES: "" is an empty entry` + allowed},
		{Config{TrustedProxies: split("  ")}, `TRUSTED_PROXIES: it is set but blank` + allowed},
		{Config{TrustedProxies: split("10.0.0.1, *")}, `TRUSTED_PROXIES: "*" would let every client choose its own address` + allowed},
		{Config{TrustedProxies: split("0.0.0.0/0")}, `TRUSTED_PROXIES: "0.0.0.0/0" would let every client choose its own address` + allowed},
		{Config{TrustedProxies: split("::/0")}, `TRUSTED_PROXIES: "::/0" would let every client choose its own address` + allowed},
		{Config{TrustedProxies: split("::ffff:0:0/96")}, `TRUSTED_PROXIES: "0.0.0.0/0" would let every client choose its own address` + allowed},
		{Config{ProxyProtocol: true}, "PROXY_PROTOCOL=YES needs TRUSTED_PROXIES: set it to the addresses of the proxies that send the header"},
	} {
		if err := c.config.Validate(); err == nil || err.Error() != c.want {
			t.Errorf("%v: got %v\nwant %s", c.config, err, c.want)
		}
	}
}

// Nothing a client can put into X-Forwarded-For makes its reading dear.
func TestReadingXForwardedForAllocatesNothing(t *testing.T) {
	f := newFilter(t, Config{TrustedProxies: split(proxies)})
	peer := netip.MustParseAddrPort("10.0.0.1:4000")
	lines := []string{"203.0.113.9" + strings.Repeat(",10.1.1.1", 1000)}
	if n := testing.AllocsPerRun(10, func() {
		if a, err := f.Client(peer, lines, nil); err != nil || a.Addr() != netip.MustParseAddr("203.0.113.9") {
			t.Fatal(a, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
