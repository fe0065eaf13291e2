// Package netfilter finds out a client's address (TRUSTED_PROXIES, PROXY_PROTOCOL) and
// decides by it alone: may it receive or probe (PLAY_WHITELIST), and has it a place
// left among the connections that one address may have open
// (MAX_IP_CONCURRENT_CONNECTIONS, with CONCURRENT_LIMIT_WHITELIST for those that are
// not limited).
//
// It opens no socket, logs nothing and knows nothing of channels. The front asks
// it before the upgrade, and whoever ends the session gives the place back:
//
//	addr, err := f.Client(peer, …)
//	if err != nil { ... }        // 400
//	if !f.MayPlay(addr) { ... }  // 403
//	if !f.Acquire(addr) { ... }  // 429
//	...
//	f.Release(addr)              // once for each Acquire that said true
//
// # Addresses
//
// One client has one address, however it reaches us. An IPv4-mapped IPv6 address
// (::ffff:192.0.2.1, what a dual-stack listener reports) is its IPv4 address, in
// peers and in entries; so ::ffff:192.0.2.0/120 is 192.0.2.0/24. A peer's zone
// (fe80::1%eth0) does not count. IPv4 and IPv6 are apart otherwise: ::/0 is all of
// IPv6 and no IPv4 address; both together are 0.0.0.0/0,::/0, or *.
//
// # Proxies
//
// A request that a trusted proxy sent comes from whom its headers name; those of
// anybody else are ignored. Each proxy appends the address that it saw, so the list is
// read from the right: trusted addresses are stepped over, and the first one that is
// not trusted is the client, whatever it claims further left. If all are trusted the
// leftmost one is. Several lines of a header are one list, in their order.
//
// X-Forwarded-For is addresses separated by commas, Forwarded is RFC 7239's; IPv6
// may stand in brackets, and a port may follow. Whatever else the walk meets
// ("unknown", an obfuscated identifier, an empty entry, a name, garbage) means that
// the client is not known, and so does a Forwarded that is not well formed anywhere.
// Then there is no address that could safely stand in: the proxy's own may be on a
// list, and what stands further left may be the client's invention. So the request is
// refused.
//
// Proxies write one of the two headers and most pass on the other as it came from the
// client. So with both they must name the same client, or it counts as not known. A
// proxy should remove the one that it does not write. Without any the client is the
// proxy itself, which asks whether we are alive, say.
//
// # Lists
//
// A list is entries separated by commas, with spaces around them ignored. An entry
// is an address, a CIDR (bits beyond the prefix are ignored: 10.1.2.3/8 is
// 10.0.0.0/8) or *, which is every address. A list guards something, so it fails
// closed: it is taken as a whole, or the start stops with the entry that is wrong.
// An empty entry, a zone, or a list that was set but holds only blanks is an error
// and not a default. An unknown address (netip.Addr{}) is on no list but *.
//
// # Places
//
// A place is taken from acceptance to close. Exempt addresses are not counted,
// neither when they come nor when they go, so that the two always match. With the
// limit at 0 places are counted and never refused.
package netfilter
