package netfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// What stands in errors about lists.
const (
	allowedProxies = "IPs or CIDRs (v4, v6) separated by commas"
	allowedEntries = allowedProxies + ", or *"
)

// mappedBits is the length of ::ffff:0:0/96, the prefix in front of every
// IPv4-mapped address (RFC 4291, 2.5.5.2).
const mappedBits = 96

// Why an entry is refused. Parts of an error's text; nobody branches on them.
var (
	errNotAddress  = errors.New("is not an address")
	errNotPrefix   = errors.New("is not a CIDR")
	errZone        = errors.New("has a zone")
	errEmpty       = errors.New("is an empty entry")
	errMappedShort = errors.New("is an IPv4-mapped CIDR shorter than /96")
)

// list is a set of addresses. Immutable after parseList; any goroutine. It is
// walked from front to back: it is asked once for a connection, and a list is
// written by hand.
type list struct {
	everyone bool
	prefixes []netip.Prefix // masked, IPv4 never in its mapped form
}

// parseList reads the entries of the list that variable holds. It does not keep
// entries. An error begins with the variable's name.
func parseList(variable string, entries []string) (list, error) {
	return parseEntries(variable, entries, allowedEntries)
}

// parseProxies reads TRUSTED_PROXIES. It refuses what holds every address: then each
// client could say who it is.
func parseProxies(entries []string) (list, error) {
	l, err := parseEntries(varTrustedProxies, entries, allowedProxies)
	if err != nil {
		return list{}, err
	}
	whole := ""
	if l.everyone {
		whole = "*"
	}
	for _, p := range l.prefixes {
		if p.Bits() == 0 {
			whole = p.String()
		}
	}
	if whole != "" {
		return list{}, fmt.Errorf("%s: %q would let every client choose its own address; allowed: %s", varTrustedProxies, whole, allowedProxies)
	}
	return l, nil
}

func parseEntries(variable string, entries []string, allowed string) (list, error) {
	var l list
	if entries != nil && len(entries) == 0 {
		return list{}, fmt.Errorf("%s: it is set but blank; allowed: %s", variable, allowed)
	}
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "*" {
			l.everyone = true
			continue
		}
		p, err := parseEntry(entry)
		if err != nil {
			return list{}, fmt.Errorf("%s: %q %w; allowed: %s", variable, entry, err, allowed)
		}
		l.prefixes = append(l.prefixes, p)
	}
	return l, nil
}

// parseEntry reads one address or CIDR, trimmed.
func parseEntry(entry string) (netip.Prefix, error) {
	switch {
	case entry == "":
		return netip.Prefix{}, errEmpty
	case strings.Contains(entry, "%"):
		return netip.Prefix{}, errZone
	case !strings.Contains(entry, "/"):
		a, err := netip.ParseAddr(entry)
		if err != nil {
			return netip.Prefix{}, errNotAddress
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, errNotPrefix
	}
	if p.Addr().Is4In6() {
		// A shorter one would be a range of IPv6 around ::, which nobody means who
		// writes an IPv4 address into it.
		if p.Bits() < mappedBits {
			return netip.Prefix{}, errMappedShort
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked(), nil
}

// has says whether the list holds a, which plain has returned.
func (l list) has(a netip.Addr) bool {
	if l.everyone {
		return true
	}
	for _, p := range l.prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// plain is the one form of an address in which it is compared and counted: IPv4
// unmapped, without a zone. Unmap drops the zone of a mapped address already.
func plain(a netip.Addr) netip.Addr {
	return a.Unmap().WithZone("")
}
