package engine

import (
	"container/list"
	"net"
	"net/netip"
	"slices"
	"time"
)

// How long a connection may have its place, and then have it with an answer that it does
// not take, before others may have the place instead. Who asks at once, as clients do, is
// answered in milliseconds, even in a storm; TLS and the request take three round trips.
const (
	// hogGrace is for a silent one of a source that has more than twice its share.
	hogGrace = time.Second

	// guestGrace is for all others.
	guestGrace = 3 * time.Second
)

// roomFactor is how many times MAX_HANDSHAKES connections may wait for a place. One
// that waits has a descriptor, and no goroutine.
const roomFactor = 16

// crowd is who is at the front door: who has one of the places, and who waits for one,
// in a queue for each source. It decides who is next and who has to go; gate does it.
//
// The policy: each source that is here may have an equal share of the places, one at
// least. Free places go to the queues in turn, first to sources that have less than
// their share, so that who comes behind a crowd waits for one or two places, not for the
// crowd. When no place is free, sources that have more than their share have to give
// places up for one that has less: of the source that has the most, the connection that
// has had its time, which is short for those that have sent no request. A source within
// its share keeps its places, however slow it is; unless there are more sources than
// places: then whoever has had its time gives its place to one that has none.
type crowd struct {
	limit int // static; places; 0: no limit

	// Guarded by gate.mu, with all guests and sources.
	sources map[netip.Prefix]*source // who has a place, or waits
	holders map[*source]struct{}     // of those, who has a place: limit at most
	turns   []*source                // those with a queue, next first
	lengths []map[*source]struct{}   // the same, by how many wait in it; the longest is not empty
	waiting int
	held    int
}

// source is all connections of one address, of one /64 in IPv6.
type source struct {
	name   netip.Prefix // static
	queue  []*guest     // waits, oldest first
	held   int          // places
	silent list.List    // of those, who has not sent a request; oldest first
	asking list.List    // of those, who has sent one and gets its answer; oldest first
}

func newCrowd(limit int) crowd {
	return crowd{limit: limit, sources: map[netip.Prefix]*source{}, holders: map[*source]struct{}{}}
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
	c.requeue(p, append(p.queue, g))
	if len(p.queue) == 1 {
		c.turns = append(c.turns, p)
	}
	if c.limit == 0 || c.waiting <= roomFactor*c.limit {
		return nil
	}
	return c.dropNewest(c.longest(p), 1)[0]
}

// longest returns a source whose queue is as long as any, p if that is one.
func (c *crowd) longest(p *source) *source {
	all := c.lengths[len(c.lengths)-1]
	if _, ok := all[p]; !ok {
		for p = range all {
			break
		}
	}
	return p
}

// requeue gives a source another queue. Whether it has a turn is the caller's.
func (c *crowd) requeue(p *source, queue []*guest) {
	before, after := len(p.queue), len(queue)
	p.queue = queue
	c.waiting += after - before
	if before > 0 {
		delete(c.lengths[before], p)
	}
	for len(c.lengths) <= after {
		c.lengths = append(c.lengths, map[*source]struct{}{})
	}
	if after > 0 {
		c.lengths[after][p] = struct{}{}
	}
	for n := len(c.lengths); n > 0 && len(c.lengths[n-1]) == 0; n-- {
		c.lengths = c.lengths[:n-1]
	}
}

// dropNewest takes the n newest out of a queue.
func (c *crowd) dropNewest(p *source, n int) []*guest {
	at := len(p.queue) - n
	gone := append([]*guest(nil), p.queue[at:]...)
	clear(p.queue[at:])
	c.requeue(p, p.queue[:at])
	if at == 0 {
		i := len(c.turns) - 1
		for c.turns[i] != p { // most often it is the last one
			i--
		}
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

// share returns how many places each source may have that is here.
func (c *crowd) share() int { return max(1, c.limit/max(1, len(c.sources))) }

// next gives a free place to whose turn it is; nil: there is none, or nobody waits.
func (c *crowd) next(now time.Time) *guest {
	if c.waiting == 0 || c.full() {
		return nil
	}
	at := 0
	if c.limit > 0 {
		at = max(0, c.wanting(c.share()))
	}
	p := c.turns[at]
	copy(c.turns[1:at+1], c.turns[:at]) // those before it are few, those behind it may be thousands
	c.turns[0] = nil
	c.turns = c.turns[1:]
	g := p.queue[0]
	p.queue[0] = nil
	c.requeue(p, p.queue[1:])
	if len(p.queue) > 0 {
		c.turns = append(c.turns, p)
	}
	c.take(g, now)
	g.enter(&p.silent)
	return g
}

// wanting returns the turn of the first source that waits and has less than its share;
// -1: there is none.
func (c *crowd) wanting(share int) int {
	return slices.IndexFunc(c.turns, func(p *source) bool { return p.held < share })
}

// take counts a place that g has from now on.
func (c *crowd) take(g *guest, now time.Time) {
	g.since = now
	g.from.held++
	c.held++
	c.holders[g.from] = struct{}{}
}

// enter puts a guest at the end of one of its source's lists, nil: of none.
func (g *guest) enter(l *list.List) {
	if g.in != nil {
		g.in.Remove(g.at)
	}
	g.in, g.at = l, nil
	if l != nil {
		g.at = l.PushBack(g)
	}
}

// asked tells that a guest has sent a request.
func (c *crowd) asked(g *guest, now time.Time) {
	g.since = now
	g.enter(&g.from.asking)
}

// answered tells that a guest has its answer, and is kept for its next request.
func (c *crowd) answered(g *guest) { g.enter(nil) }

// leave gives a guest's place back.
func (c *crowd) leave(g *guest) {
	g.enter(nil)
	g.from.held--
	c.held--
	if g.from.held == 0 {
		delete(c.holders, g.from)
	}
	c.forget(g.from)
}

// victim returns who has to give up a place for those who wait, if anybody has to. in
// is in how long somebody may have to, 0 if nobody. late reports whether the next step is
// the server's, not the guest's: its time begins anew.
func (c *crowd) victim(now time.Time, late func(*guest) bool) (g *guest, in time.Duration) {
	share := c.share()
	if !c.full() || c.wanting(share) < 0 {
		return nil, 0
	}
	most := share // who has more has to give
	if len(c.sources) > c.limit && !c.anyAbove(share) {
		most = 0
	}
	in = guestGrace
	for p := range c.holders {
		if p.held <= most {
			continue
		}
		x, left := p.first(now, share, late)
		switch {
		case x == nil:
		case left > 0:
			in = min(in, left)
		case g == nil, p.held > g.from.held, p.held == g.from.held && x.since.Before(g.since):
			g = x
		}
	}
	if g != nil {
		in = 0
	}
	return g, in
}

// anyAbove reports whether a source has more than its share.
func (c *crowd) anyAbove(share int) bool {
	for p := range c.holders {
		if p.held > share {
			return true
		}
	}
	return false
}

// first returns the guest whose time is over first, and how much of it is left; nil:
// there is none.
func (p *source) first(now time.Time, share int, late func(*guest) bool) (g *guest, left time.Duration) {
	grace := guestGrace
	if p.held > 2*share {
		grace = hogGrace
	}
	g, left = firstOf(&p.silent, now, grace, late)
	if x, l := firstOf(&p.asking, now, guestGrace, late); x != nil && (g == nil || l < left) {
		g, left = x, l
	}
	return g, left
}

// firstOf is first in one of the lists.
func firstOf(l *list.List, now time.Time, grace time.Duration, late func(*guest) bool) (g *guest, left time.Duration) {
	for range l.Len() {
		g = l.Front().Value.(*guest)
		if left = grace - now.Sub(g.since); left > 0 || !late(g) {
			break
		}
		g.since = now
		l.MoveToBack(g.at)
		left = grace
	}
	return g, left
}
