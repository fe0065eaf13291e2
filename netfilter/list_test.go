package netfilter

import (
	"net/netip"
	"strings"
	"testing"
)

// split is what cleanenv does with a variable's value.
func split(value string) []string {
	if strings.TrimSpace(value) == "" {
		return []string{}
	}
	return strings.Split(value, ",")
}

func newFilter(t *testing.T, c Config) *Filter {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMayPlay(t *testing.T) {
	for _, c := range []struct {
		list    string
		in, out string // addresses separated by spaces
	}{
		{"*", "10.0.0.1 ::1 fe80::1%eth0 ::ffff:1.2.3.4", ""},
		{" * ", "10.0.0.1 ::1", ""},
		{"10.0.0.1,*", "192.0.2.1 2001:db8::1", ""},
		{"10.0.0.1", "10.0.0.1 ::ffff:10.0.0.1 ::ffff:a00:1", "10.0.0.2 ::1 ::10.0.0.1 ::ffff:10.0.0.2"},
		{"10.0.0.1, 10.0.0.3", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"\t10.0.0.1 ,\n10.0.0.3 ", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"10.0.0.0/8", "10.0.0.0 10.255.255.255 ::ffff:10.1.2.3", "9.255.255.255 11.0.0.0 ::a00:1"},
		{"10.1.2.3/8", "10.0.0.0 10.255.255.255", "11.0.0.0"},
		{"10.0.0.1/32", "10.0.0.1", "10.0.0.0 10.0.0.2"},
		{"0.0.0.0/0", "10.0.0.1 255.255.255.255 ::ffff:10.0.0.1", "::1 2001:db8::1 ::"},
		{"::/0", "::1 2001:db8::1 fe80::1%eth0", "10.0.0.1 ::ffff:10.0.0.1"},
		{"0.0.0.0/0,::/0", "10.0.0.1 ::1 ::ffff:10.0.0.1", ""},
		{"::ffff:10.0.0.1", "10.0.0.1 ::ffff:10.0.0.1", "10.0.0.2 ::1"},
		{"::ffff:10.1.2.3/104", "10.0.0.1 ::ffff:10.255.0.1", "11.0.0.1 ::1"},
		{"::ffff:0:0/96", "10.0.0.1 ::ffff:10.0.0.1", "::1 2001:db8::1"},
		{"::ffff:10.0.0.1/128", "10.0.0.1", "10.0.0.2"},
		{"2001:db8::1", "2001:db8::1 2001:DB8:0:0::1", "2001:db8::2 10.0.0.1"},
		{"2001:db8:1:2:3::/48", "2001:db8:1:ffff::1", "2001:db8:2::1"},
		{"fe80::/10", "fe80::1 fe80::1%eth0 fe80::1%9", "fec0::1 ::1"},
		{"fe80::1", "fe80::1%eth0", "fe80::2%eth0"},
		{"::1", "::1", "127.0.0.1 ::"},
	} {
		f := newFilter(t, Config{PlayWhitelist: split(c.list)})
		for _, s := range strings.Fields(c.in) {
			if !f.MayPlay(netip.MustParseAddr(s)) {
				t.Errorf("%q does not hold %s", c.list, s)
			}
		}
		for _, s := range strings.Fields(c.out) {
			if f.MayPlay(netip.MustParseAddr(s)) {
				t.Errorf("%q holds %s", c.list, s)
			}
		}
	}
}

func TestListsNotSet(t *testing.T) {
	f := newFilter(t, Config{MaxIPConcurrentConnections: 1})
	for _, a := range []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1"), {}} {
		if !f.MayPlay(a) {
			t.Errorf("%s may not play", a)
		}
		if !f.Acquire(a) || f.Acquire(a) {
			t.Errorf("%s is not limited", a)
		}
	}
}

// An address that is not known is on no list that names addresses.
func TestUnknownAddress(t *testing.T) {
	for list, want := range map[string]bool{"*": true, "0.0.0.0/0,::/0": false} {
		f := newFilter(t, Config{PlayWhitelist: split(list)})
		if f.MayPlay(netip.Addr{}) != want {
			t.Errorf("%s: the unknown address may play: %t", list, !want)
		}
	}
}

func TestBadLists(t *testing.T) {
	const allowed = "; allowed: IPs or CIDRs (v4, v6) separated by commas, or *"
	for _, c := range []struct{ list, want string }{
		{"10.0.0.300", `"10.0.0.300" is not an address`},
		{"10.0.0.1,localhost", `"localhost" is not an address`},
		{"10.0.0.1 10.0.0.2", `"10.0.0.1 10.0.0.2" is not an address`},
		{"10.0.0", `"10.0.0" is not an address`},
		{"010.0.0.1", `"010.0.0.1" is not an address`},
		{"10.0.0.*", `"10.0.0.*" is not an address`},
		{"**", `"**" is not an address`},
		{"10.0.0.1:80", `"10.0.0.1:80" is not an address`},
		{"[::1]", `"[::1]" is not an address`},
		{"10.0.0.0/33", `"10.0.0.0/33" is not a CIDR`},
		{"10.0.0.0/-1", `"10.0.0.0/-1" is not a CIDR`},
		{"10.0.0.0/08", `"10.0.0.0/08" is not a CIDR`},
		{"10.0.0.0/", `"10.0.0.0/" is not a CIDR`},
		{"10.0.0.0 /8", `"10.0.0.0 /8" is not a CIDR`},
		{"10.0.0.0/255.0.0.0", `"10.0.0.0/255.0.0.0" is not a CIDR`},
		{"::/129", `"::/129" is not a CIDR`},
		{"*/0", `"*/0" is not a CIDR`},
		{"::ffff:10.0.0.0/8", `"::ffff:10.0.0.0/8" is an IPv4-mapped CIDR shorter than /96`},
		{"::ffff:0:0/95", `"::ffff:0:0/95" is an IPv4-mapped CIDR shorter than /96`},
		{"fe80::1%eth0", `"fe80::1%eth0" has a zone`},
		{"fe80::%eth0/64", `"fe80::%eth0/64" has a zone`},
		{"", "it is set but blank"},
		{"   ", "it is set but blank"},
		{",", `"" is an empty entry`},
		{" , ,", `"" is an empty entry`},
		{"10.0.0.1,", `"" is an empty entry`},
		{",10.0.0.1", `"" is an empty entry`},
		{"10.0.0.1,,10.0.0.2", `"" is an empty entry`},
		{"*,", `"" is an empty entry`},
		{"*,nonsense", `"nonsense" is not an address`},
		{"10.0.0.1\x1b[2J", `"10.0.0.1\x1b[2J" is not an address`},
	} {
		for _, v := range []struct {
			name   string
			config Config
		}{
			{"PLAY_WHITELIST", Config{PlayWhitelist: split(c.list)}},
			{"CONCURRENT_LIMIT_WHITELIST", Config{ConcurrentLimitWhitelist: split(c.list)}},
		} {
			want := v.name + ": " + c.want + allowed
			if err := v.config.Validate(); err == nil || err.Error() != want {
				t.Errorf("%q: got %v\nwant %s", c.list, err, want)
			}
			if f, err := New(v.config); f != nil || err == nil {
				t.Errorf("%q: New gave a filter", c.list)
			}
		}
	}
}

func TestValidateLimit(t *testing.T) {
	for n, want := range map[int]string{
		-1:      "MAX_IP_CONCURRENT_CONNECTIONS: -1 is out of range; allowed: 0 (no limit) to 1000000",
		0:       "",
		1:       "",
		1000000: "",
		1000001: "MAX_IP_CONCURRENT_CONNECTIONS: 1000001 is out of range; allowed: 0 (no limit) to 1000000",
	} {
		got := ""
		if err := (Config{MaxIPConcurrentConnections: n}).Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
