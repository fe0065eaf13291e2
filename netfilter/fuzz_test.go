package netfilter

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// twinHas says in the plainest way whether a list that was accepted holds a: both
// as 128 bits, an IPv4 address in its mapped form, compared bit by bit.
func twinHas(value string, a netip.Addr) bool {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "*" {
			return true
		}
		addr, length, isCIDR := strings.Cut(entry, "/")
		e := netip.MustParseAddr(addr)
		n := 128
		if isCIDR {
			n, _ = strconv.Atoi(length)
			if e.Is4() {
				n += 96
			}
		}
		if twinFamily(e) == twinFamily(a) && twinBits(e)[:n] == twinBits(a)[:n] {
			return true
		}
	}
	return false
}

// twinTakes says what README.md says of a list: IPs or CIDRs, v4 and v6, or *. Not a
// zone, not an IPv4-mapped range that reaches beyond IPv4.
func twinTakes(value string) bool {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		addr, err := netip.ParseAddr(entry)
		net, errNet := netip.ParsePrefix(entry)
		mapped := errNet == nil && twinFamily(net.Addr()) == 4 && !net.Addr().Is4() // ::ffff:0:0 in any writing
		if entry != "*" && (err != nil || addr.Zone() != "") && (errNet != nil || mapped && net.Bits() < 96) {
			return false
		}
	}
	return strings.TrimSpace(value) != ""
}

// twinFamily is 4, 6, or 0 for an address that is not known.
func twinFamily(a netip.Addr) int {
	switch {
	case !a.IsValid():
		return 0
	case strings.HasPrefix(twinBits(a), strings.Repeat("0", 80)+strings.Repeat("1", 16)):
		return 4
	}
	return 6
}

func twinBits(a netip.Addr) string {
	var b strings.Builder
	for _, c := range a.As16() {
		b.WriteString(strconv.FormatInt(int64(c)+256, 2)[1:])
	}
	return b.String()
}

// FuzzList draws lists and addresses. Parsing never panics; its twin takes the same
// lists; what is refused names the variable; what is accepted holds what its twin
// holds.
func FuzzList(f *testing.F) {
	for _, list := range []string{
		"*", "", " ", ",", "10.0.0.1", "10.1.2.3/8", "10.0.0.0/8, 2001:db8::/32", "::ffff:10.0.0.0/104",
		"::ffff:10.0.0.0/8", "::/0", "0.0.0.0/0", "fe80::1%eth0", "10.0.0.300", "::ffff:0:0/96,::1", "1.2.3.4/31 ,5.6.7.8",
	} {
		for _, addr := range []string{"10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "::1"} {
			a := netip.MustParseAddr(addr).As16()
			f.Add(list, a[:])
		}
	}
	f.Fuzz(func(t *testing.T, value string, addr []byte) {
		l, err := parseList("VARIABLE", split(value))
		if want := twinTakes(value); want != (err == nil) {
			t.Fatalf("%q: error %v, accepted should be %t", value, err, want)
		}
		if err != nil {
			if text := err.Error(); !strings.HasPrefix(text, "VARIABLE: ") || strings.ContainsAny(text, "\n\r\x1b\x00") {
				t.Fatalf("%q: error %q", value, text)
			}
			return
		}
		for _, a := range drawn(value, addr) {
			if got, want := l.has(plain(a)), twinHas(value, a); got != want {
				t.Fatalf("%q holds %s: %t, want %t", value, a, got, want)
			}
		}
	})
}

// drawn is the address in raw, in all forms that it has, and those at and beside
// the borders of the list's own entries.
func drawn(value string, raw []byte) []netip.Addr {
	var b [16]byte
	copy(b[:], raw)
	addrs := []netip.Addr{
		{},
		netip.AddrFrom16(b),
		netip.AddrFrom16(b).WithZone("eth0"),
		netip.AddrFrom4([4]byte(b[:4])),
		netip.AddrFrom16(netip.AddrFrom4([4]byte(b[:4])).As16()),
	}
	for entry := range strings.SplitSeq(value, ",") {
		addr, _, _ := strings.Cut(strings.TrimSpace(entry), "/")
		if a, err := netip.ParseAddr(addr); err == nil {
			addrs = append(addrs, a, a.Prev(), a.Next())
			near := a.As16()
			near[int(b[0])%16] ^= 1 << (b[1] % 8)
			addrs = append(addrs, netip.AddrFrom16(near))
		}
	}
	return addrs
}

// FuzzClient draws what a client sends in both headers, and the Host that its proxy
// passes on. Whatever that is: a peer that is not trusted is the client itself; and
// behind a proxy that appends the client's address, to the line or as a line of its
// own, the client is that address, or refused, but never somebody else.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		"", "6.6.6.6", "6.6.6.6,", ",6.6.6.6", "10.1.1.1, 10.1.1.2", "unknown", "_x", "[2001:db8::1]:80", "fe80::1%eth0", "1.2.3.4:_x",
		"for=6.6.6.6", `for="`, `a="`, `for=6.6.6.6;b="`, `for=6.6.6.6, for="[::1]:80";proto=https`, `for="\"`, "for=6.6.6.6;", "\x00\r\n", "for=6.6.6.6;for=7.7.7.7",
	} {
		f.Add(s, s, "example.org")
		f.Add(s, `a="`, ", for=6.6.6.6;b=")
	}
	filter, err := New(Config{TrustedProxies: split(proxies)})
	if err != nil {
		f.Fatal(err)
	}
	proxy, stranger := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("203.0.113.9:5000")
	f.Fuzz(func(t *testing.T, xff, forwarded, host string) {
		if a, err := filter.Client(stranger, []string{xff}, []string{forwarded}); a != stranger || err != nil {
			t.Fatalf("a stranger with %q and %q is %s, %v", xff, forwarded, a, err)
		}
		wantOr := func(what string, want netip.Addr, must bool, xs, fs []string) {
			t.Helper()
			a, err := filter.Client(proxy, xs, fs)
			if err == nil && a.Addr() == want {
				return
			}
			if must || err == nil {
				t.Fatalf("%s: the client is %s, %v; X-Forwarded-For %q, Forwarded %q", what, a, err, xs, fs)
			}
			if text := err.Error(); text != errXForwardedFor.Error() && text != errForwarded.Error() && text != errDiffer.Error() {
				t.Fatalf("error %q", text)
			}
		}
		four, six := stranger.Addr(), netip.MustParseAddr("2001:db8::9")
		wantOr("appended", four, true, []string{xff + ", 203.0.113.9"}, nil)
		wantOr("appended before a second proxy", six, true, []string{xff + ",2001:db8::9, 10.2.2.2"}, nil)
		wantOr("a line of its own", four, true, []string{xff, "203.0.113.9:1"}, nil)
		wantOr("appended, and the client's Forwarded", four, false, []string{xff + ", 203.0.113.9"}, []string{forwarded})

		host = strings.Map(func(r rune) rune { // as no proxy passes it on unquoted
			if r == '"' || r == '\\' {
				return -1
			}
			return r
		}, host)
		element := `for="[2001:db8::9]:4711";proto=https;host="` + host + `"`
		wantOr("Forwarded, appended", six, false, nil, []string{forwarded + ", " + element})
		wantOr("Forwarded, appended without quotes", four, false, nil, []string{forwarded + ",for=203.0.113.9"})
		wantOr("Forwarded, a line of its own", six, false, nil, []string{forwarded, element})
		wantOr("Forwarded, and the client's X-Forwarded-For", six, false, []string{xff}, []string{forwarded + ", " + element})

		if a, err := filter.Client(proxy, []string{xff}, nil); err == nil && (!a.IsValid() || a.Addr() != plain(a.Addr())) {
			t.Fatalf("%q is %s, which is not plain", xff, a)
		}
	})
}
