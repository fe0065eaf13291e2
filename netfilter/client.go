package netfilter

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Why a proxy's headers do not say who the client is. The texts are fit to be shown
// to it: nothing that it sent is in them.
var (
	errXForwardedFor = errors.New("the header X-Forwarded-For does not name the client's address")
	errForwarded     = errors.New("the header Forwarded does not name the client's address")
	errDiffer        = errors.New("the headers X-Forwarded-For and Forwarded name different clients")
)

// Trusted says whether the address is on TRUSTED_PROXIES.
func (f *Filter) Trusted(a netip.Addr) bool { return f.trusted.has(plain(a)) }

// OwesHeader says whether a connection from the address has to begin with a header
// of the PROXY protocol: with PROXY_PROTOCOL, those of trusted proxies and no others.
func (f *Filter) OwesHeader(a netip.Addr) bool { return f.proxyProtocol && f.Trusted(a) }

// Client returns the address a request comes from. peer is who sent it to us;
// xForwardedFor and forwarded (RFC 7239) are the values of these headers, line by
// line. They count only if peer is a trusted proxy; the package comment says how
// they are read. The port is 0 where the headers give none.
//
// An error means that the client is not known: a trusted proxy sent headers that
// cannot be read where it matters, or that contradict each other. Its text may be
// shown to the client.
func (f *Filter) Client(peer netip.AddrPort, xForwardedFor, forwarded []string) (netip.AddrPort, error) {
	if len(xForwardedFor)+len(forwarded) == 0 || !f.Trusted(peer.Addr()) {
		return peer, nil
	}
	if len(forwarded) == 0 {
		return f.trusted.byXForwardedFor(xForwardedFor)
	}
	client, err := f.trusted.byForwarded(forwarded)
	if err != nil || len(xForwardedFor) == 0 {
		return client, err
	}
	// Which of the two the proxy writes is not known, and the other one is the
	// client's own invention: neither is believed against the other.
	other, err := f.trusted.byXForwardedFor(xForwardedFor)
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case other.Addr() != client.Addr():
		return netip.AddrPort{}, errDiffer
	}
	return client, nil
}

// byXForwardedFor walks the lines of X-Forwarded-For from the right, and returns the
// first address that is not trusted, or the leftmost one if all are. An entry that
// is not an address stops the walk: what stands left of it was written by nobody
// that we know of. The walk takes no memory, however long the list.
func (l list) byXForwardedFor(lines []string) (netip.AddrPort, error) {
	var client netip.AddrPort
	for _, line := range slices.Backward(lines) {
		for more := true; more; {
			entry := line
			comma := strings.LastIndexByte(line, ',')
			if more = comma >= 0; more {
				line, entry = line[:comma], line[comma+1:]
			}
			var ok bool
			if client, ok = parseNode(strings.Trim(entry, " \t")); !ok {
				return netip.AddrPort{}, errXForwardedFor
			}
			if !l.has(client.Addr()) {
				return client, nil
			}
		}
	}
	return client, nil
}

// byForwarded does the same with Forwarded. Here the whole header must be well
// formed before anything in it is believed: a quote that a client leaves open would
// otherwise turn what its proxy appends into the inside of a string.
func (l list) byForwarded(lines []string) (netip.AddrPort, error) {
	var nodes []string
	for _, line := range lines {
		for more := true; more; {
			node, rest, ok := parseElement(line)
			if !ok {
				return netip.AddrPort{}, errForwarded
			}
			nodes = append(nodes, node)
			line, more = strings.CutPrefix(rest, ",")
		}
	}
	var client netip.AddrPort
	for _, node := range slices.Backward(nodes) {
		var ok bool
		if client, ok = parseNode(node); !ok {
			return netip.AddrPort{}, errForwarded
		}
		if !l.has(client.Addr()) {
			break
		}
	}
	return client, nil
}

// parseElement reads one forwarded-element (RFC 7239, section 4) and returns the
// value of its "for", "" if it has none, and what follows: nothing, or a comma and
// the next element. It takes more than the RFC in two ways that proxies are known
// for, spaces around the separators and values that should be quoted, and less in
// one: a quoted value has no backslash, comma, or semicolon in it, for then nothing
// can be mistaken for a separator or the reverse.
func parseElement(s string) (node, rest string, ok bool) {
	seen := false
	for s = trimLeft(s); s != "" && s[0] != ','; {
		if s[0] == ';' { // an empty pair, which the RFC allows
			s = trimLeft(s[1:])
			continue
		}
		name, after, found := strings.Cut(s, "=")
		if !found || !all(name, isToken) {
			return "", "", false
		}
		value, after, ok := cutValue(after)
		if !ok {
			return "", "", false
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return "", "", false
			}
			node, seen = value, true
		}
		if s = trimLeft(after); s != "" && s[0] != ',' && s[0] != ';' {
			return "", "", false
		}
	}
	return node, s, true
}

// cutValue reads a pair's value, in quotes or not.
func cutValue(s string) (value, rest string, ok bool) {
	if quoted, found := strings.CutPrefix(s, `"`); found {
		value, rest, ok = strings.Cut(quoted, `"`)
		return value, rest, ok && (value == "" || all(value, func(c byte) bool { return c == ' ' || isValue(c) }))
	}
	n := 0
	for n < len(s) && isValue(s[n]) {
		n++
	}
	return s[:n], s[n:], n > 0
}

// parseNode reads an address with or without a port: 192.0.2.1, 192.0.2.1:80,
// [2001:db8::1], [2001:db8::1]:80, 2001:db8::1. A port may be an obfuscated one
// (RFC 7239, section 6.3), which counts as none. The address is in its plain form.
// "unknown", obfuscated identifiers and everything else are no addresses.
func parseNode(s string) (netip.AddrPort, bool) {
	host, port := s, ""
	if inner, found := strings.CutPrefix(s, "["); found {
		if host, port, found = strings.Cut(inner, "]"); !found || !strings.Contains(host, ":") {
			return netip.AddrPort{}, false
		}
	} else if colon := strings.IndexByte(s, ':'); colon >= 0 && colon == strings.LastIndexByte(s, ':') {
		host, port = s[:colon], s[colon:]
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" { // a zone is any text, and none of ours
		return netip.AddrPort{}, false
	}
	n, ok := parsePort(port)
	return netip.AddrPortFrom(plain(a), n), ok
}

// parsePort reads nothing, or a colon and a port.
func parsePort(s string) (uint16, bool) {
	if s == "" {
		return 0, true
	}
	s, found := strings.CutPrefix(s, ":")
	if name, obfuscated := strings.CutPrefix(s, "_"); found && obfuscated {
		return 0, all(name, func(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '_' || c == '-' })
	}
	if !found || len(s) > 5 || !all(s, func(c byte) bool { return '0' <= c && c <= '9' }) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}

func trimLeft(s string) string { return strings.TrimLeft(s, " \t") }

// all says whether s has characters, and all of them are of a kind.
func all(s string, kind func(byte) bool) bool {
	for i := range len(s) {
		if !kind(s[i]) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isToken says whether c may stand in a token (RFC 9110, section 5.6.2).
func isToken(c byte) bool { return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

// isValue says whether c may stand in a value: what is visible and no separator.
func isValue(c byte) bool { return c > ' ' && c <= '~' && strings.IndexByte(`",;\`, c) < 0 }
