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

// FuzzList draws lists and addresses. Parsing never panics; what is refused names
// the variable; what is accepted holds what its twin holds.
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
