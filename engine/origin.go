package engine

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// origins are the pages that may open streams, by their origin in the form of
// parseOrigin; nil: all of them.
type origins map[string]bool

// newOrigins reads ALLOWED_ORIGINS. nil entries, or *, are everyone.
func newOrigins(entries []string) (origins, error) {
	if entries == nil {
		return nil, nil
	}
	o := origins{}
	everyone := false
	for _, entry := range entries {
		if entry = strings.TrimSpace(entry); entry == "*" {
			everyone = true
			continue
		}
		origin, ok := parseOrigin(entry)
		if !ok {
			return nil, fmt.Errorf("ALLOWED_ORIGINS: %q is not an origin; allowed: origins like https://example.org or http://example.org:8080 (scheme, host and perhaps a port, nothing else) separated by commas, or *", entry)
		}
		o[origin] = true
	}
	if everyone {
		return nil, nil
	}
	return o, nil
}

// allow reports whether a handshake with these Origin headers may go on. One without
// any comes from no browser, and an origin would be no proof then.
func (o origins) allow(headers []string) bool {
	if o == nil || len(headers) == 0 {
		return true
	}
	origin, ok := parseOrigin(headers[0])
	return ok && len(headers) == 1 && o[origin]
}

// browserAgent is what every browser's User-Agent begins with (HTML standard, "The
// navigator object"): a page cannot change it in what it only shows.
const browserAgent = "Mozilla/"

// allowFetch is allow for a request of plain HTTP. Browsers send an Origin with those
// of a page's scripts, but not with all that a page shows (a <video>, say): those name
// the page in Referer, unless it does not want to be named, and over TLS in
// Sec-Fetch-Site, which pages cannot forge (Fetch Metadata). Who sends none of them and
// does not say that it is a browser is none. A browser that names nobody without TLS may
// be showing any page, or what its user typed: nothing tells these apart.
func (o origins) allowFetch(h http.Header) bool {
	if o == nil || len(h["Origin"]) > 0 {
		return o.allow(h["Origin"])
	}
	referer := h["Referer"]
	if len(referer) == 0 {
		site := h.Get("Sec-Fetch-Site")
		return site == "none" || site == "" && !strings.HasPrefix(h.Get("User-Agent"), browserAgent)
	}
	u, err := url.Parse(referer[0])
	return err == nil && o.allow([]string{u.Scheme + "://" + u.Host})
}

// share returns the header lines that let a page read an answer (Fetch standard, "HTTP
// extensions"), given the request's Origin headers: all pages, or those on the list.
func (o origins) share(headers []string) []headerLine {
	if o == nil {
		return []headerLine{{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Expose-Headers", "Retry-After"}}
	}
	lines := []headerLine{{"Vary", "Origin"}}
	if len(headers) == 1 && o.allow(headers) {
		lines = append(lines, headerLine{"Access-Control-Allow-Origin", headers[0]}, headerLine{"Access-Control-Expose-Headers", "Retry-After"})
	}
	return lines
}

// parseOrigin reads an origin as browsers write it (RFC 6454, section 6.2) and returns
// it in lower case without the scheme's default port. "null", which sandboxed pages
// and files send, is none: it would be all of them.
func parseOrigin(s string) (string, bool) {
	scheme, rest, found := strings.Cut(strings.ToLower(s), "://")
	if !found || !validScheme(scheme) {
		return "", false
	}
	host, port := rest, ""
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, ']') {
		if host, port = rest[:colon], rest[colon+1:]; !validPort(port) {
			return "", false
		}
	}
	if inner, v6 := strings.CutPrefix(host, "["); v6 {
		inner, closed := strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		if !closed || err != nil || !a.Is6() || a.Zone() != "" {
			return "", false
		}
		host = "[" + a.String() + "]"
	} else if !validHost(host) {
		return "", false
	}
	if port == "" || port == "80" && (scheme == "http" || scheme == "ws") || port == "443" && (scheme == "https" || scheme == "wss") {
		return scheme + "://" + host, true
	}
	return scheme + "://" + host + ":" + port, true
}

// validScheme says whether s, in lower case, is a URL's scheme (RFC 3986, section 3.1):
// browsers have some of their own, for extensions and apps.
func validScheme(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// validHost says whether s, in lower case, can be a host name or an IPv4 address.
// Browsers write other letters in their ASCII form (xn--…).
func validHost(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

// validPort says whether s is a port as browsers write it.
func validPort(s string) bool {
	return s != "" && len(s) <= 5 && s[0] != '0' && strings.Trim(s, "0123456789") == "" && (len(s) < 5 || s <= "65535")
}
