package engine

import (
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	for s, want := range map[string]string{
		"https://example.org":             "https://example.org",
		"HTTPS://Example.ORG":             "https://example.org",
		"https://example.org:443":         "https://example.org",
		"http://example.org:80":           "http://example.org",
		"https://example.org:80":          "https://example.org:80",
		"http://example.org:8080":         "http://example.org:8080",
		"http://a-b.x_y.example.org":      "http://a-b.x_y.example.org",
		"http://192.0.2.1:65535":          "http://192.0.2.1:65535",
		"http://[2001:DB8:0::1]:8080":     "http://[2001:db8::1]:8080",
		"http://[::1]":                    "http://[::1]",
		"chrome-extension://abcdefghijkl": "chrome-extension://abcdefghijkl",
		"capacitor://localhost":           "capacitor://localhost",
		"https://xn--bcher-kva.example":   "https://xn--bcher-kva.example",
	} {
		if got, ok := parseOrigin(s); got != want || !ok {
			t.Errorf("%s is %q, %t, want %q", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", "null", "*", "example.org", "//example.org", "https:", "https://", "https:/example.org", "https:example.org", "://example.org", "1x://example.org",
		"https://example.org/", "https://example.org/page", "https://example.org?x", "https://example.org#x", "https://user@example.org", "https://*.example.org",
		"https://example.org:", "https://example.org:0", "https://example.org:080", "https://example.org:65536", "https://example.org:x", "https://example.org:80:80", "https://:80",
		"https://example.org https://example.net", "https://example.org,https://example.net", " https://example.org", "https://bücher.example", "https://example.org\x00",
		"http://::1", "http://[::1", "http://::1]", "http://[::1]8080", "http://[::1]:", "http://[192.0.2.1]", "http://[fe80::1%25eth0]", "http://[]",
		"https://" + strings.Repeat("a", 254),
	} {
		if got, ok := parseOrigin(s); ok {
			t.Errorf("%q is taken for %q", s, got)
		}
	}
}

func TestOrigins(t *testing.T) {
	type list = []string
	for _, c := range []struct {
		entries list
		headers list
		want    bool
	}{
		{nil, list{"https://evil.example"}, true},
		{list{"*"}, list{"https://evil.example"}, true},
		{list{"https://example.org", " * "}, list{"null"}, true},
		{list{"https://example.org"}, nil, true}, // no browser
		{list{"https://example.org"}, list{"https://example.org"}, true},
		{list{"https://Example.org:443"}, list{"HTTPS://example.ORG"}, true},
		{list{"https://example.org", "http://[0:0::1]:8080"}, list{"http://[::1]:8080"}, true},
		{list{"https://example.org"}, list{"https://example.org:443"}, true},
		{list{"https://example.org"}, list{"http://example.org"}, false},
		{list{"https://example.org"}, list{"https://example.org:8443"}, false},
		{list{"https://example.org"}, list{"https://www.example.org"}, false},
		{list{"https://example.org"}, list{"https://example.org.evil.example"}, false},
		{list{"https://example.org"}, list{"https://evilexample.org"}, false},
		{list{"https://example.org"}, list{"https://evil.example/https://example.org"}, false},
		{list{"https://example.org"}, list{"null"}, false},
		{list{"https://example.org"}, list{""}, false},
		{list{"https://example.org"}, list{"https://example.org", "https://example.org"}, false},
		{list{"https://example.org"}, list{"https://example.org https://evil.example"}, false},
	} {
		o, err := newOrigins(c.entries)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.allow(c.headers); got != c.want {
			t.Errorf("%q with %q: %t", c.entries, c.headers, got)
		}
	}
	if _, err := newOrigins([]string{"https://example.org", "null"}); err == nil || !strings.HasPrefix(err.Error(), `ALLOWED_ORIGINS: "null" is not an origin; allowed: `) {
		t.Errorf("null is accepted: %v", err)
	}
}

// FuzzOrigin: what is an origin keeps being the same one, and is nothing but scheme,
// host and port.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://example.org", "HTTP://[::1]:80", "null", "https://a:443", "a+b://c_d:1", "http://[::ffff:1.2.3.4]", "https://a@b", "x://\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		origin, ok := parseOrigin(s)
		if !ok {
			return
		}
		if again, ok := parseOrigin(origin); again != origin || !ok {
			t.Fatalf("%q is %q, and that is %q, %t", s, origin, again, ok)
		}
		if strings.Count(origin, "/") != 2 || strings.ContainsAny(origin, "@?#\\*, \t\r\n") || strings.ToLower(origin) != origin {
			t.Fatalf("%q is %q", s, origin)
		}
		if o, err := newOrigins([]string{s}); err != nil || !o.allow([]string{s}) || !o.allow([]string{origin}) {
			t.Fatalf("%q does not allow itself: %v", s, err)
		}
	})
}
