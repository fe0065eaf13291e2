// Package netfilter decides by a client's address alone: may it receive or probe
// (PLAY_WHITELIST), and has it a place left among the connections that one
// address may have open (MAX_IP_CONCURRENT_CONNECTIONS, with
// CONCURRENT_LIMIT_WHITELIST for those that are not limited).
//
// It opens no socket, logs nothing and knows nothing of channels. The front asks
// it before the upgrade, and whoever ends the session gives the place back:
//
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
