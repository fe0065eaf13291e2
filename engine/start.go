package engine

import (
	"bytes"
	"cmp"
	"math"
	"net/url"
	"slices"
	"strings"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/media"
	"ws-stream-server/ring"
)

// start is where in a stream a receiver begins. It matters where the container is known:
// of other streams everybody gets what the cache has.
type start uint8

const (
	startFull     start = iota // everything that the cache has and that can be decoded
	startKeyFrame              // the newest key frame
	startLive                  // the next key frame
)

var startNames = [...]string{startFull: "full", startKeyFrame: "keyframe", startLive: "live"}

const badStart = "Bad request: start is full, keyframe or live, and given once"

// parseStart reads what a query says of the start; if it says nothing, GOP_CACHE_MODE
// does, but for an encoder that wants everything. A word that is none of them, and a second
// one, is refused. A publisher may have a query of its own.
func (f *front) parseStart(query string, k kind) (s start, ok bool) {
	if k == publish {
		return startFull, true
	}
	word := ""
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err != nil || n != "start" {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil || word != "" || value == "" {
			return 0, false
		}
		word = value
	}
	switch {
	case word != "":
	case k == receiveClearCache:
		return startFull, true
	default:
		word = cmp.Or(f.srv.cfg.GOPCacheMode, startNames[startFull])
	}
	i := slices.Index(startNames[:], word)
	return start(i), i >= 0
}

// place is where a receiver begins to read. A zero place is the cache's beginning.
type place struct {
	whole bool       // the first packet of all, as long as the cache begins with it
	point *syncPoint // the init segment, then from here on
	wait  bool       // not yet: at the next sync point
	fresh bool       // the point was just found, by the caller: it may lie before the cache
	since uint64     // as waiter.since: from there on; to enter in.mu is held
	head  bool       // behind everything: the stream is over
}

// choose returns where a receiver that comes now starts. The caller holds the channel's
// lock; there is a ring.
//
// The policy: as long as the beginning of the stream is there, and wanted, a receiver
// gets the stream as it was published. After that what the cache begins with cannot be
// decoded: it gets the init segment, and goes on at a sync point. A stream of no known
// container is always given from the cache's beginning on; who waits until it is known to be
// one is given from there on what would have been given when it came.
func (ch *Channel) choose(s *session) place {
	x, r := &ch.index, ch.ring
	x.mu.Lock()
	defer x.mu.Unlock()
	cached, off := r.JoinPoint(), r.CacheOff()
	whole := cached == 0 && !off
	switch {
	case x.container == media.Opaque:
		return place{}
	case s.kind == probe && x.blank && whole:
		return place{whole: true}
	case s.kind == probe && x.container == media.Undecided:
		return place{wait: true, since: sinceNow}
	case s.kind == probe:
		return x.chooseProbe(cached, whole, off)
	case x.container == media.Undecided && off && cached > 0 && !x.blank && !x.recurs:
		return place{wait: true, since: sinceNow} // the beginning is gone, but for a decoder it may be needed
	case x.container == media.Undecided:
		return place{whole: cached == 0}
	case whole && (s.start == startFull || len(x.points) == 0):
		return place{whole: true}
	case off || s.start == startLive:
		return place{wait: true}
	case s.start == startKeyFrame:
		return atOrWait(x.newest(cached))
	default:
		return atOrWait(x.first(cached))
	}
}

// chooseProbe is choose for a probe of a known container. It gets one message, and waits
// until that can have the init segment and some media, unless the first packet does. The
// caller holds mu.
func (x *index) chooseProbe(cached uint64, whole, off bool) place {
	switch {
	case off || len(x.points) == 0:
		return place{wait: true}
	case whole && x.points[0].shown == 0:
		return place{whole: true}
	default:
		return atOrWait(x.first(cached))
	}
}

func atOrWait(p *syncPoint) place { return place{point: p, wait: p == nil} }

// admitWaiting gives those that wait for a sync point their places, if there is a new one,
// and all if the stream has turned out to be of no known container; probes that may have
// the first packet also if that is empty. Who would begin with a packet that has left the
// ring meanwhile is a slow receiver. Called on the publisher's poller after it has published,
// without in.mu: no packet is published meanwhile.
func (ch *Channel) admitWaiting() {
	var lost overrun
	defer func() { lost.end(ch.srv) }()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	in := &ch.publisher.in
	in.mu.Lock() // excludes the keeper: the ring keeps what it has
	defer in.mu.Unlock()
	ch.index.mu.Lock()
	opaque, p := ch.index.container == media.Opaque, ch.index.found
	blank := ch.index.blank
	ch.index.found = nil
	ch.index.mu.Unlock()
	defer ch.found.Store(0)
	if !opaque && !blank && p == nil {
		return
	}
	for _, w := range ch.takeWaiting() {
		if w.ending.Load() != 0 {
			continue // see start
		}
		switch to := ch.chooseNow(w, p, opaque); {
		case !to.wait && ch.admit(w.session, to):
			w.wakeOwner()
			continue
		case !to.wait && to.since > 0:
			lost = append(lost, w.session)
			continue
		case p != nil:
			w.since = 0 // what came before the sync point is not for it
		}
		ch.keepWaiting(w)
	}
}

// chooseNow returns the place of one that has waited for a sync point. p is the newest, which
// has just come; nil: none has, but the stream is opaque, or has begun with an empty packet,
// which is what a probe gets that may have it. The caller holds the channel's lock and in.mu.
func (ch *Channel) chooseNow(w waiter, p *syncPoint, opaque bool) place {
	switch {
	case ch.mayHaveFirst(w) && ch.index.firstIsForProbes():
		return place{since: w.since}
	case p == nil:
		return place{wait: !opaque, since: w.since}
	case w.kind == probe:
		if to := ch.choose(w.session); !to.wait {
			return to
		}
	}
	return place{point: p, fresh: true}
}

// waiter is a receiver that came before the publisher, or waits for a sync point.
type waiter struct {
	*session

	// Of who came before it was known what the stream is: one more than the packet with which
	// it begins if that is of no known container. 0: of anybody else.
	since uint64
}

const (
	// sinceFirst is the waiter.since of one that begins with the stream's first packet.
	sinceFirst = 1

	// sinceNow stands for the cache's beginning when it is noted that the receiver waits:
	// keepWaiting replaces it by that.
	sinceNow = math.MaxUint64
)

// mayHaveFirst reports whether one that waits may be given the stream's first packet: a
// probe that came before that, or while the cache had it, as long as the ring does. The
// caller holds in.mu.
func (ch *Channel) mayHaveFirst(w waiter) bool {
	return w.kind == probe && w.since == sinceFirst && ch.ring.Oldest() == 0
}

// firstIsForProbes reports whether probes get the first packet as it is: it has an init
// segment and media, or is empty.
func (x *index) firstIsForProbes() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blank || len(x.points) > 0 && x.points[0].shown == 0
}

// overrun is receivers that have waited, and lost meanwhile what they would have begun with.
type overrun []*session

// end has a drainer end them: session.end may write, they may be many, and this may be the
// goroutine for all closed connections, or a poller with a publisher to read. Any goroutine.
func (o overrun) end(srv *Server) {
	if len(o) > 0 {
		srv.nextDrainer().add(o)
	}
}

func (o overrun) run() {
	for _, s := range o {
		s.end(slowReceiver)
	}
}

// takeWaiting takes those that wait, who are to be given their places or kept waiting. The
// caller holds mu, and in.mu until they are, unless the stream has not begun: the ring's
// writer would find that nobody waits.
func (ch *Channel) takeWaiting() []waiter {
	waiting := ch.waiting
	ch.waiting = nil
	ch.awaited.Store(false)
	ch.keepAll.Store(0)
	for _, w := range waiting {
		w.waiting = -1
	}
	return waiting
}

// keepWaiting puts a receiver among those that wait. The caller holds mu.
func (ch *Channel) keepWaiting(w waiter) {
	w.waiting = int32(len(ch.waiting))
	if w.since > 0 {
		ch.keepAll.Add(1)
	}
	if w.since == sinceNow {
		// Asked when keepAll is stored: what the ring drops without asking lowest again lies below
		// the join point (see ring.Join).
		w.since = ch.ring.JoinPoint() + 1
	}
	ch.waiting = append(ch.waiting, w)
	ch.awaited.Store(true)
}

// dismissWaiting has those that still wait for a sync point told that the stream is over:
// no other comes, unless one has just come. A probe gets what there is, and of an opaque
// stream, or one too short to tell what it was, everybody does. Who was to begin with a packet
// that has left the ring is a slow receiver: of a known container this is a probe that was to
// have the first packet. Called when the publisher has ended.
func (ch *Channel) dismissWaiting() {
	var lost overrun
	defer func() { lost.end(ch.srv) }()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	in := &ch.publisher.in
	in.mu.Lock() // see admitWaiting
	defer in.mu.Unlock()
	ch.index.mu.Lock()
	// Also what was just found: the poller has not come to admit them.
	unknown, p := ch.index.container <= media.Opaque, ch.index.found
	ch.index.found = nil
	ch.index.mu.Unlock()
	defer ch.found.Store(0)
	for _, w := range ch.takeWaiting() {
		if p != nil && ch.admit(w.session, ch.chooseNow(w, p, false)) {
			continue
		}
		to := place{head: w.kind != probe && !unknown}
		if unknown || w.kind == probe && w.since == sinceFirst {
			to.since = w.since
		}
		if !ch.admit(w.session, to) {
			lost = append(lost, w.session)
		}
	}
}

// enter returns a cursor at a place, false if the ring does not have it any more. pin is
// as for ring.Join.
func (ch *Channel) enter(s *session, to place, pin func(seq uint64)) (ring.Cursor, bool) {
	at := ch.ring.JoinAt
	switch {
	case to.since > 0:
		return ch.ring.Recall(to.since-1, nil, pin)
	case to.whole:
		return at(0, nil, pin)
	case to.head:
		return at(ch.ring.Head(), nil, pin)
	case to.point == nil:
		return ch.ring.Join(pin), true
	case to.fresh:
		at = ch.ring.Recall
	}
	x := &ch.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.kind == probe {
		return ch.enterProbe(s, to.point, at, pin)
	}
	return ch.enterAt(s, to.point, at, pin)
}

// joinAt is ring.JoinAt, or ring.Recall.
type joinAt func(seq uint64, lead *ring.Lead, pin func(seq uint64)) (ring.Cursor, bool)

// enterAt returns a cursor that gives the init segment, then the rest of the packet in
// which the point lies, if that is not its beginning, each as a packet, and then what
// follows; false as well if the point was forgotten since it was chosen, or if memory has no
// room for a copy of that rest. The caller holds the channel's lock and the index's mu.
func (ch *Channel) enterAt(s *session, p *syncPoint, at joinAt, pin func(seq uint64)) (ring.Cursor, bool) {
	if p.forgotten {
		return ring.Cursor{}, false
	}
	next := p.at.Seq
	if p.at.Offset > 0 {
		next++
	}
	if next == 0 {
		return at(0, nil, pin) // all that a decoder needs comes behind it, and nothing can stand before
	}
	if p.lead == nil {
		c, ok := at(p.at.Seq, nil, pin)
		if !ok || !c.More() {
			return ring.Cursor{}, false
		}
		arrived, _ := c.Arrived()
		payloads := [][]byte{p.init.payload}
		if p.at.Offset > 0 {
			payloads = append(payloads, frame.Payload(c.TakeRest(math.MaxInt))[p.at.Offset:])
		}
		if p.refused = !ch.srv.budget.mayLead(payloads); p.refused {
			return ring.Cursor{}, false
		}
		ch.index.setLead(&ch.srv.budget, p, newLead(arrived, next, payloads))
	}
	l := p.lead
	c, ok := at(next, l.Lead, pin)
	if ok {
		s.takes(l)
	}
	return c, ok
}

// probeMedia is how much of the stream a probe gets with the init segment, in bytes, if
// there is as much: enough for a prober to see a picture in most streams.
const probeMedia = 64 << 10

// maxProbeMedia is the most of it, in bytes: of a larger packet the rest is left out. All
// that begin at the same point have one copy, as long as no more of the stream is there.
const maxProbeMedia = mib

// enterProbe returns a cursor that gives the init segment and what follows the point as
// one packet; false as well if the point was forgotten. The caller holds the index's mu.
func (ch *Channel) enterProbe(s *session, p *syncPoint, at joinAt, pin func(seq uint64)) (ring.Cursor, bool) {
	made := &ch.index.probed
	if p.forgotten || (made.point != p || !made.full && made.next != ch.ring.Head()) && !ch.makeProbed(p, at, pin) {
		return ring.Cursor{}, false
	}
	c, ok := at(made.next, made.lead.Lead, pin)
	if ok {
		s.takes(made.lead)
	}
	return c, ok
}

// makeProbed makes what probes get that begin at a point, false if the ring does not have
// that any more. The caller holds the index's mu.
func (ch *Channel) makeProbed(p *syncPoint, at joinAt, pin func(seq uint64)) bool {
	c, ok := at(p.at.Seq, nil, pin)
	if !ok || !c.More() {
		return false
	}
	arrived, _ := c.Arrived()
	payload := bytes.Clone(p.init.payload)
	for skip := p.at.Offset; len(payload) < len(p.init.payload)+probeMedia; skip = 0 {
		packet := c.TakeRest(math.MaxInt)
		if packet == nil {
			break
		}
		rest := frame.Payload(packet)[skip:]
		payload = append(payload, rest[:min(len(rest), len(p.init.payload)+maxProbeMedia-len(payload))]...)
	}
	full := len(payload) >= len(p.init.payload)+probeMedia
	ch.index.setProbed(&ch.srv.budget, p, newLead(arrived, c.Seq(), [][]byte{payload}), c.Seq(), full)
	return true
}

// newLead makes packets of these payloads, for cursors that go on with packet next. A
// stream's first packets have no more room before them than there are packets: where that
// is too little the payloads become one.
func newLead(arrived uint32, next uint64, payloads [][]byte) *lead {
	if uint64(len(payloads)) > next {
		payloads = [][]byte{bytes.Join(payloads, nil)}
	}
	packets := make([][]byte, len(payloads))
	for i, p := range payloads {
		packets[i] = frame.AppendFrame(nil, frame.Binary, p)
	}
	return &lead{Lead: ring.NewLead(arrived, packets...)}
}
