package engine

import (
	"container/list"
	"net"
	"net/netip"
	"slices"
	"time"
)

// silentGrace is how long a connection may have its place without a request before
// others may have the place instead. Who asks at once, as clients do, is answered in
// milliseconds, even in a storm.
const silentGrace = time.Second

// roomFactor is how many times MAX_HANDSHAKES connections may wait for a place. One
// that waits has a descriptor, and no goroutine.
const roomFactor = 16

// crowd is who is at the front door: who has one of the places, and who waits for one,
// in a queue for each source. It decides who is next and who has to go; gate does it.
//
// The policy: free places go to the queues in turn, so that who comes behind a crowd
// of one address waits for one or two places, not for the crowd. A source that has more
// than half of all places (there is one at most) lets the others go first, and as long
// as others wait has to give up places that it holds without a request.
type crowd struct {
	limit int // static; places; 0: no limit

	// Guarded by gate.mu, with all guests and sources.
	sources map[netip.Prefix]*source // who has a place, or waits
	turns   []*source                // those with a queue, next first
	waiting int
	held    int
	hog     *source // who was the last to get more than half of all places
}

// source is all connections of one address, of one /64 in IPv6.
type source struct {
	name   netip.Prefix // static
	queue  []*guest     // waits, oldest first
	held   int          // places
	silent list.List    // of those, who has not sent a request; oldest first
}

// guest is one connection at the front door.
type guest struct {
	// Static.
	conn net.Conn // below TLS and the PROXY protocol
	door *door    // the listener that it came by
	from *source  // whose it is

	since  time.Time     // when it got its place
	silent *list.Element // in source.silent; nil: not there
}

// sourceName returns whose a connection is.
func sourceName(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // the zero Prefix stands for no address
	return p
}

// sourceOf returns a source, which joins the crowd if it was not there.
func (c *crowd) sourceOf(name netip.Prefix) *source {
	p := c.sources[name]
	if p == nil {
		p = &source{name: name}
		c.sources[name] = p
	}
	return p
}

// forget drops a source that has nothing here any more.
func (c *crowd) forget(p *source) {
	if p.held == 0 && len(p.queue) == 0 {
		delete(c.sources, p.name)
	}
}

// full reports whether all places are taken.
func (c *crowd) full() bool { return c.limit > 0 && c.held >= c.limit }

// arrive has a newcomer wait. It returns who is to be hung up because too many wait:
// the newest of the longest queue, the newcomer itself if its queue is as long as any;
// nil: nobody.
func (c *crowd) arrive(g *guest) *guest {
	p := g.from
	p.queue = append(p.queue, g)
	c.waiting++
	if len(p.queue) == 1 {
		c.turns = append(c.turns, p)
	}
	if c.limit == 0 || c.waiting <= roomFactor*c.limit {
		return nil
	}
	longest := p
	for _, q := range c.turns {
		if len(q.queue) > len(longest.queue) {
			longest = q
		}
	}
	return c.dropNewest(longest, 1)[0]
}

// dropNewest takes the n newest out of a queue.
func (c *crowd) dropNewest(p *source, n int) []*guest {
	at := len(p.queue) - n
	gone := append([]*guest(nil), p.queue[at:]...)
	clear(p.queue[at:])
	p.queue = p.queue[:at]
	c.waiting -= n
	if at == 0 {
		i := slices.Index(c.turns, p)
		c.turns = slices.Delete(c.turns, i, i+1)
	}
	c.forget(p)
	return gone
}

// thin halves the queues: each loses the newer ones; where there is one in each, the
// newest queue goes. It returns who is hung up.
func (c *crowd) thin() (gone []*guest) {
	for _, p := range c.turns {
		gone = append(gone, c.dropNewest(p, len(p.queue)/2)...) // leaves one at least
	}
	if n := len(c.turns); gone == nil && n > 0 {
		gone = c.dropNewest(c.turns[n-1], 1)
	}
	return gone
}

// clear has nobody wait any more, and returns who did.
func (c *crowd) clear() (gone []*guest) {
	for len(c.turns) > 0 {
		p := c.turns[len(c.turns)-1]
		gone = append(gone, c.dropNewest(p, len(p.queue))...)
	}
	return gone
}

// next gives a free place to whose turn it is; nil: there is none, or nobody waits.
func (c *crowd) next(now time.Time) *guest {
	for c.waiting > 0 && !c.full() {
		p := c.turns[0]
		c.turns[0] = nil
		c.turns = c.turns[1:]
		if c.hogging(p) && c.waiting > len(p.queue) {
			c.turns = append(c.turns, p)
			continue
		}
		g := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		c.waiting--
		if len(p.queue) > 0 {
			c.turns = append(c.turns, p)
		}
		c.take(g, now)
		g.silent = p.silent.PushBack(g)
		return g
	}
	return nil
}

// take counts a place that g has from now on.
func (c *crowd) take(g *guest, now time.Time) {
	g.since = now
	g.from.held++
	c.held++
	if c.hogging(g.from) {
		c.hog = g.from
	}
}

// hogging reports whether a source has more than half of all places.
func (c *crowd) hogging(p *source) bool { return c.limit > 0 && p.held > c.limit/2 }

// asked tells that a guest has sent a request.
func (c *crowd) asked(g *guest) {
	if g.silent != nil {
		g.from.silent.Remove(g.silent)
		g.silent = nil
	}
}

// leave gives a guest's place back.
func (c *crowd) leave(g *guest) {
	c.asked(g)
	g.from.held--
	c.held--
	c.forget(g.from)
}

// victim returns who has to give up a place for those who wait, if anybody has to. in
// is in how long somebody may have to, 0 if nobody.
func (c *crowd) victim(now time.Time) (g *guest, in time.Duration) {
	p := c.hog
	if p == nil || !c.full() || !c.hogging(p) || c.waiting == len(p.queue) || p.silent.Len() == 0 {
		return nil, 0
	}
	g = p.silent.Front().Value.(*guest)
	if left := silentGrace - now.Sub(g.since); left > 0 {
		return nil, left
	}
	return g, 0
}
