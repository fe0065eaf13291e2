package engine

import (
	"net/http"
	"net/netip"
)

// client returns the address of the client that a request comes from: the peer's, or
// what trusted proxies say in the request's headers. An error says that it is not
// known; its text is fit for the client, and the address is then the peer's, for the
// log only.
func (f *front) client(r *http.Request) (netip.AddrPort, error) {
	p := peer(r.RemoteAddr)
	if own, ok := r.Context().Value(proxiedKey{}).(*proxied); ok && !own.named() {
		return p, own.unclear // the headers may be those of somebody else
	}
	c, err := f.srv.filter.Client(p, r.Header["X-Forwarded-For"], r.Header["Forwarded"])
	if err != nil {
		return p, err
	}
	return c, nil
}

// peer returns the address of who sent a request to us; IPv4-mapped IPv6 counts as
// IPv4.
func peer(remote string) netip.AddrPort {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// shownMethod is a request's method in a log line: a client may call it anything.
func shownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, http.MethodConnect, http.MethodTrace:
		return m
	}
	return "other"
}

// shownAddr is a client's address in a log line. Proxies seldom tell the port.
func shownAddr(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}
