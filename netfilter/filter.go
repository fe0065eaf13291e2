package netfilter

import (
	"net/netip"
	"sync"
)

// Filter answers for addresses. All methods may be called by any goroutine.
type Filter struct {
	// Static after construction.

	restricted bool // PLAY_WHITELIST is set
	play       list // who may play, if restricted
	exempt     list // who is neither counted nor limited
	limit      int  // places of one address; 0: no limit

	trusted       list // proxies that are believed
	proxyProtocol bool // they begin with a header of the PROXY protocol

	// Guarded by mu. One mutex for all: it is taken twice in the life of a
	// connection, for one look into a map, beside a handshake that costs a
	// thousand times as much. Nothing is called while it is held.

	mu sync.Mutex

	// places holds the addresses that have a place taken, with how many, which is
	// above zero and, with a limit, not above it. So it has no more entries than
	// there are connections.
	places map[netip.Addr]int
	open   int // sum of places
}

// New makes a Filter of a configuration, or says as Validate does what is wrong
// with it. It does not keep the slices of c.
func New(c Config) (*Filter, error) {
	play, err := parseList(varPlayWhitelist, c.PlayWhitelist)
	if err != nil {
		return nil, err
	}
	if err := c.checkLimit(); err != nil {
		return nil, err
	}
	exempt, err := parseList(varLimitWhitelist, c.ConcurrentLimitWhitelist)
	if err != nil {
		return nil, err
	}
	trusted, err := parseProxies(c.TrustedProxies)
	if err != nil {
		return nil, err
	}
	if err := c.checkProxyProtocol(); err != nil {
		return nil, err
	}
	return &Filter{
		restricted:    c.PlayWhitelist != nil,
		play:          play,
		exempt:        exempt,
		limit:         c.MaxIPConcurrentConnections,
		trusted:       trusted,
		proxyProtocol: c.ProxyProtocol,
		places:        make(map[netip.Addr]int),
	}, nil
}

// MayPlay says whether the address may receive or probe.
func (f *Filter) MayPlay(a netip.Addr) bool {
	return !f.restricted || f.play.has(plain(a))
}

// Acquire takes a place for a connection of the address. False: it has all that
// it may have, and nothing was taken. Unknown addresses (netip.Addr{}) share the
// places of one.
func (f *Filter) Acquire(a netip.Addr) bool {
	a = plain(a)
	if f.exempt.has(a) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.places[a]
	if f.limit > 0 && n >= f.limit {
		return false
	}
	f.places[a] = n + 1
	f.open++
	return true
}

// Release gives back a place that Acquire took for the address. For an address
// that has none taken it does nothing: a place given back twice must not become a
// place too many.
func (f *Filter) Release(a netip.Addr) {
	a = plain(a)
	if f.exempt.has(a) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch n := f.places[a]; n {
	case 0:
		return
	case 1:
		delete(f.places, a) // else the map would keep every address ever seen
	default:
		f.places[a] = n - 1
	}
	f.open--
}

// Open is how many places are taken now, by all addresses together.
func (f *Filter) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}
