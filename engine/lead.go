package engine

import (
	"slices"

	"ws-stream-server/ring"
)

// lead is packets of no ring that receivers get, before those of the ring or between them
// (see ring). It counts in the budget as long as somebody holds it: the index, for those
// who are still to come, or a receiver that is not through with it.
type lead struct {
	*ring.Lead
	holders int // guarded by the index's mu
}

// maxLeads is how many leads to sync points an index holds. Joiners ask for the first
// point in the cache, for the newest one, and for one that was just found.
const maxLeads = 4

// hold has one more hold the lead, drop one less. The caller holds the index's mu.
func (l *lead) hold(b *budget) {
	if l.holders++; l.holders == 1 {
		b.lead(int64(l.Size()))
	}
}

func (l *lead) drop(b *budget) {
	if l.holders--; l.holders == 0 {
		b.lead(-int64(l.Size()))
	}
}

// takes has a receiver hold a lead until it is through. The caller holds the index's mu.
func (s *session) takes(l *lead) {
	l.hold(&s.srv.budget)
	s.tallied().lead.Store(l)
}

// through lets go of the lead that a receiver has had, if there was one. The caller holds
// the group's passing.
func (s *session) through() {
	t := s.tally.Load()
	if t == nil || t.lead.Load() == nil {
		return
	}
	x := &s.ch.index
	x.mu.Lock()
	defer x.mu.Unlock()
	t.lead.Swap(nil).drop(&s.srv.budget)
}

// setLead keeps the lead to a sync point for those who are still to come. The caller holds
// mu.
func (x *index) setLead(b *budget, p *syncPoint, l *lead) {
	l.hold(b)
	p.lead = l
	if x.led = append(x.led, p); len(x.led) > maxLeads {
		x.unlead(b, x.led[0])
	}
}

// unlead gives the lead to a sync point up, if there is one. The caller holds mu.
func (x *index) unlead(b *budget, p *syncPoint) {
	if p.lead == nil {
		return
	}
	p.lead.drop(b)
	p.lead = nil
	x.led = slices.DeleteFunc(x.led, func(o *syncPoint) bool { return o == p })
}

// setBridge keeps what stands between two sync points for the next one who asks. The
// caller holds mu.
func (x *index) setBridge(b *budget, from, to *syncPoint, l *lead) {
	if x.bridge.lead != nil {
		x.bridge.lead.drop(b)
	}
	if l != nil {
		l.hold(b)
	}
	x.bridge.from, x.bridge.to, x.bridge.lead = from, to, l
}

// setProbed keeps what probes get that begin at a point for those who are still to come.
// The caller holds mu.
func (x *index) setProbed(b *budget, p *syncPoint, l *lead, next uint64, full bool) {
	if x.probed.lead != nil {
		x.probed.lead.drop(b)
	}
	if l != nil {
		l.hold(b)
	}
	x.probed.point, x.probed.lead, x.probed.next, x.probed.full = p, l, next, full
}
