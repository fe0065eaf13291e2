package engine

import (
	"math"
	"slices"
	"sync"
	"time"
)

// survey is a walk over all sessions that reads what they have done: when somebody asks,
// and by itself now and then, for the rates.
//
// What it costs others: each group's passing is held once, while its cursors are read,
// and each publisher's in.mu while two numbers are. A group that is in the middle of a
// long pass is waited for, a while: then what was noted last has to do, and is renewed
// when the pass is over.
type survey struct {
	// Static.
	srv      *Server
	patience time.Duration // for all groups together

	// Guarded by mu: one walk at a time.
	mu       sync.Mutex
	walks    uint64
	sessions []*session        // of the walk under way
	late     []<-chan struct{} // of the groups that are waited for: closed when they are noted
}

// surveyPatience is how long a survey waits for passes under way. On a host that is not
// overloaded a pass takes some milliseconds.
const surveyPatience = time.Second

// surveyEvery is how often the survey goes by itself: so old is a rate at most.
const surveyEvery = 5 * time.Second

// run takes the rates. It works until stop is closed.
func (v *survey) run(stop <-chan struct{}) {
	tick := time.NewTicker(surveyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		v.walk((*session).noteRate)
	}
}

// walk looks at all sessions, and then calls f with each one. Any goroutine.
func (v *survey) walk(f func(s *session, now int64)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for shard := range rosterShards {
		v.sessions = v.srv.roster.snapshot(shard, v.sessions)
	}
	v.walks++
	for _, s := range v.sessions {
		v.look(s)
	}
	v.await()
	now := v.srv.now()
	for _, s := range v.sessions {
		f(s, now)
	}
	clear(v.sessions)
	v.sessions = v.sessions[:0]
}

// look has a session's numbers noted; a receiver's with those of its whole group. The
// caller holds mu.
func (v *survey) look(s *session) {
	if s.kind == publish {
		s.observePublished()
		return
	}
	g := s.group.Load()
	if g == nil || g.walk == v.walks {
		return
	}
	g.walk = v.walks
	if g.passing.TryLock() {
		g.observe()
		g.passing.Unlock()
		return
	}
	v.late = append(v.late, g.observeLater())
}

// await waits until the groups are noted that were making a pass, as long as patience
// lasts. The caller holds mu.
func (v *survey) await() {
	if len(v.late) == 0 {
		return
	}
	end := time.NewTimer(v.patience)
	defer end.Stop()
	for _, noted := range v.late {
		select {
		case <-noted:
			continue
		case <-end.C:
		}
		break
	}
	clear(v.late)
	v.late = v.late[:0]
}

// waits reports whether a receiver waits for a publisher, or for a sync point. Any goroutine that does not
// hold the channel's lock.
func (s *session) waits() bool {
	if s.kind == publish || s.group.Load() != nil {
		return false
	}
	s.ch.mu.Lock()
	defer s.ch.mu.Unlock()
	return s.waiting >= 0
}

// info describes a session as it was last looked at.
func (s *session) info(now int64) SessionInfo {
	i := SessionInfo{
		ID: s.id, Channel: s.name, Kind: s.kind.String(), Door: s.door.String(), Address: shownAddr(s.addr), TLS: s.secure,
		Since: s.srv.wall(s.began), Waiting: s.waits(),
	}
	n := s.numbers()
	i.Bytes, i.Packets, i.BytesPerSecond = n.sum.bytes, n.sum.packets, n.rateAt(now, s.began)
	i.LagBytes, i.LagPackets, i.LagSeconds = n.lagBytes, int64(n.lagPackets), n.lag.seconds()
	i.Skips = int64(n.skips)
	if n.first != 0 {
		sec := time.Duration(n.first - s.began).Seconds()
		i.FirstByteSeconds = &sec
	}
	return i
}

// wall returns the time of day at a moment of Server.now.
func (srv *Server) wall(at int64) time.Time {
	return srv.epoch.Add(time.Duration(at)).Round(0).UTC()
}

// info describes a channel; false: nobody waits there any more, and nobody publishes.
func (ch *Channel) info() (i ChannelInfo, ok bool) {
	ch.mu.Lock()
	p, r := ch.publisher, ch.ring
	i = ChannelInfo{Name: ch.name, Waiting: len(ch.waiting), Codecs: []string{}}
	begun := int64(math.MaxInt64)
	for _, w := range ch.waiting {
		begun = min(begun, w.began)
	}
	ch.mu.Unlock()
	if r == nil {
		if i.Waiting == 0 {
			return i, false
		}
		i.Since = ch.srv.wall(begun)
		return i, true
	}
	if ch.over.Load() != 0 {
		return i, false
	}
	i.Live, i.Since, i.Receivers, i.HeldBytes = true, ch.srv.wall(ch.since), int(ch.receivers()), r.Size()
	i.ContentType = ch.index.contentType(ch.ContentType())
	ch.index.describe(&i)
	p.observePublished()
	pi := p.info(ch.srv.now())
	i.Publisher, i.Bytes, i.Packets, i.BytesPerSecond = &pi, pi.Bytes, pi.Packets, pi.BytesPerSecond
	p.in.mu.Lock()
	bytes, span := r.Cached()
	p.in.mu.Unlock()
	i.CacheBytes, i.CacheSeconds = bytes, (time.Duration(span) * time.Millisecond).Seconds()
	return i, true
}

// endAll ends the channel's publisher, and who waits for one: who waits for a sync point is
// a receiver like others, and is told the stream's end. It reports whether there was any.
// Any goroutine.
func (ch *Channel) endAll(r reason) bool {
	ch.mu.Lock()
	p := ch.publisher
	var waiting []waiter
	if ch.ring == nil {
		waiting = slices.Clone(ch.waiting)
	}
	ch.mu.Unlock()
	if p != nil {
		p.end(r)
	}
	for _, w := range waiting {
		w.end(r)
	}
	return p != nil || len(waiting) > 0
}
