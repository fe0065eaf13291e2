package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard decides who may ask for what. Static after construction.
type guard struct {
	name  string            // host of ADMIN_ADDRESS
	token [sha256.Size]byte // of ADMIN_TOKEN
	set   bool              // there is an ADMIN_TOKEN
	local bool              // the listener is on a loopback address
}

func newGuard(cfg Config, local bool) guard {
	host, _, _ := net.SplitHostPort(cfg.Address)
	return guard{name: host, token: sha256.Sum256([]byte(cfg.Token)), set: cfg.Token != "", local: local}
}

// access is what a client must show.
type access int

const (
	open   access = iota // nothing
	look                 // the token, unless the listener is on a loopback address
	change               // the token
)

// foreign returns why a request may come from a web page that is not ours, or nothing.
func (g guard) foreign(r *http.Request) string {
	if !g.ours(r.Host) {
		return "the Host is not an address, nor localhost, nor the host of ADMIN_ADDRESS"
	}
	switch origins := r.Header["Origin"]; {
	case len(origins) == 0:
	case len(origins) > 1 || !strings.EqualFold(origins[0], "http://"+r.Host):
		return "pages of another origin may not ask"
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return "pages of another site may not ask nor lead here: type the address"
		}
	}
	return ""
}

// ours reports whether nobody but us decides where a Host leads: a web page's own name
// may lead to this listener, an address cannot.
func (g guard) ours(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && (strings.EqualFold(host, "localhost") || strings.EqualFold(host, g.name))
}

// knows reports whether the client has shown the token. It takes the same time
// whatever the client has sent.
func (g guard) knows(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 && strings.EqualFold(scheme, "Bearer") && g.set
}

// guesses reports whether the client has shown a token that is not ours, whatever it
// asks for: also other answers differ a little for those who know the token.
func (g guard) guesses(r *http.Request) bool {
	return g.set && r.Header.Get("Authorization") != "" && !g.knows(r)
}

// admit returns 0, or the status with which a request is refused and why.
func (g guard) admit(r *http.Request, a access) (status int, why string) {
	switch {
	case a == open, a == look && g.local, g.knows(r):
		return 0, ""
	case !g.set: // on a loopback address: elsewhere there is a token
		return http.StatusForbidden, "this needs a token, and ADMIN_TOKEN is not set"
	}
	return http.StatusUnauthorized, "the token is missing or wrong: Authorization: Bearer ADMIN_TOKEN"
}
