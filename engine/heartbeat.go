package engine

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// sweepEvery is how often the sweep looks at one shard of the sessions, and at
	// those that are closing; rosterShards sweeps look at every session once.
	sweepEvery   = 500 * time.Millisecond
	rosterShards = 10

	// beatEvery is after how many looks a session gets a heartbeat: every 20 s.
	beatEvery = int(20 * time.Second / (rosterShards * sweepEvery))

	// mostPostponed is how many looks a publisher's heartbeat waits at most for what it
	// sent to be read: 30 s, after the 20 s between two. Clients give up after 60 s.
	mostPostponed = 6

	// lifeTimeout is how long a client may show no life.
	lifeTimeout = 60 * time.Second
)

// roster is all sessions, from the claim or the join to closed, in shards that are
// swept one after the other, so that heartbeats are spread over time.
type roster struct {
	shards [rosterShards]struct {
		mu       sync.Mutex
		sessions []*session
		gone     Totals // what those carried that are not here any more
	}
}

// add puts a session in. Any goroutine.
func (r *roster) add(s *session) {
	s.shard = rand.Int32N(rosterShards)
	sh := &r.shards[s.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.place = int32(len(sh.sessions))
	sh.sessions = append(sh.sessions, s)
}

// remove takes a session out, if it is in. Any goroutine, once a session.
func (r *roster) remove(s *session) {
	sh := &r.shards[s.shard]
	carried := s.numbers().sum
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.place < 0 {
		return // its handshake has failed before
	}
	sh.gone.add(s.kind, carried)
	last := len(sh.sessions) - 1
	moved := sh.sessions[last]
	sh.sessions[s.place], moved.place = moved, s.place
	sh.sessions[last] = nil
	sh.sessions = sh.sessions[:last]
}

// size returns how many sessions there are. Any goroutine.
func (r *roster) size() (n int) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		n += len(sh.sessions)
		sh.mu.Unlock()
	}
	return n
}

// totals adds up what all sessions have carried, up to the last look at them, and what
// those had that are gone. A session is in one of the two. Any goroutine.
func (r *roster) totals() (t Totals) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		t.addAll(sh.gone)
		for _, s := range sh.sessions {
			t.add(s.kind, s.numbers().sum)
		}
		sh.mu.Unlock()
	}
	return t
}

// find returns the session with an id, nil if there is none. Any goroutine.
func (r *roster) find(id uint64) *session {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		at := slices.IndexFunc(sh.sessions, func(s *session) bool { return s.id == id })
		var s *session
		if at >= 0 {
			s = sh.sessions[at]
		}
		sh.mu.Unlock()
		if s != nil {
			return s
		}
	}
	return nil
}

// snapshot appends the sessions of one shard to buf.
func (r *roster) snapshot(shard int, buf []*session) []*session {
	sh := &r.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return append(buf, sh.sessions...)
}

// sweep is the one goroutine that sends heartbeats, drops who shows no life, and
// cuts off who does not come to an end. It works until stop is closed.
func (srv *Server) sweep(stop <-chan struct{}) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var buf []*session
	tidy := newTidier()
	for shard := 0; ; shard = (shard + 1) % rosterShards {
		for waits := true; waits; {
			select {
			case <-tick.C:
				waits = false
			case answer := <-srv.sweepAsked:
				answer()
			case <-stop:
				return
			}
		}
		now := srv.now()
		buf = srv.closing.due(now, buf[:0])
		for _, s := range buf {
			if !s.stillTaking(now) {
				s.abort()
			}
		}
		clear(buf)
		buf = srv.roster.snapshot(shard, buf[:0])
		for _, s := range buf {
			s.look(now)
		}
		clear(buf)
		srv.short.look(srv.room)
		tidy.look(srv.shaken.Load(), srv.streams.Load())
	}
}

// look is the sweep's look at a session, every 5 s.
func (s *session) look(now int64) {
	if s.ending.Load() != 0 {
		return
	}
	s.noteProgress(now)
	r := s.verdict(now)
	if r == noSignOfLife && s.handed.Load() && unread(s.conn) > 0 {
		r = notEnded // it lives, and the server is late
	}
	if r != notEnded {
		s.end(r)
		return
	}
	if s.door == httpDoor {
		return // nothing but the stream may be written
	}
	if s.beats++; int(s.beats) < beatEvery {
		return
	}
	if s.unheard(now) {
		s.postponed++ // it is due again at the next look
		return
	}
	s.beats, s.postponed = 0, 0
	s.raise(sendBeat)
}

// unheard reports whether a publisher's heartbeat has to wait until what it sent is
// read. It may be gone, with megabytes that its kernel still has and ours has no room
// for; whatever is written to it would be answered with a reset, which destroys those. A
// poller that comes round to it reads on; a publisher that sends faster than it is read
// is seldom heard to the end, so mostPostponed looks are all that its heartbeat waits.
// Called by the sweep.
func (s *session) unheard(now int64) bool {
	if s.kind != publish || !s.handed.Load() || unread(s.conn) == 0 {
		return false
	}
	late := now-s.life.Load() >= int64(rosterShards*sweepEvery)
	return late || int(s.postponed) < mostPostponed
}

// noteProgress asks the kernel whether a client takes what is written to it. nbio
// hears of that only when a good part of what the kernel may hold is sent: a client
// that takes a few KiB a second would look dead. And what the kernel takes for a
// client that has vanished says nothing: of a slow stream it takes minutes' worth.
// Only those are asked about whose socket is full or who were silent for a while.
// Called by the sweep.
func (s *session) noteProgress(now int64) {
	silent := now-s.life.Load() >= int64(lifeTimeout/2)
	if !s.handed.Load() || s.free() && !silent {
		s.acked, s.held = 0, 0
		return
	}
	acked, held := acknowledged(s.conn)
	s.noteTaken(now, acked, held)
}

// noteTaken is told how many bytes the client has acknowledged so far, and how many
// the kernel holds that it has not. Heartbeats are written too, and no sign of life
// when they are acknowledged: with nothing held, the last packet's time counts. Over HTTP
// there are none: with nothing held a receiver lives until the kernel says that it does
// not (keepAlive).
// acked is 0 where the system does not tell it (Linux before 4.1, gVisor): then the
// client has taken something when less waits for it than at the last look. Called by
// the sweep.
func (s *session) noteTaken(now int64, acked uint64, held int64) {
	waits := held + s.unsent.Load()
	switch {
	case waits == 0 && s.door == httpDoor && s.kind != publish:
		s.took = now
	case held == 0:
		s.took = s.progress.Load()
	case s.acked != 0 && acked > s.acked, acked == 0 && waits < s.held:
		s.took = now
		s.progress.Store(now)
	}
	s.acked, s.held = acked, waits
}

// verdict decides whether a session has to go because it was silent for too long. Who has
// waited for its turn in a shutdown begins anew when nobody waits any more.
func (s *session) verdict(now int64) reason {
	progress := s.progress.Load()
	if over := s.ch.over.Load(); over != 0 && s.kind != publish && s.group.Load() != nil && !s.awaitsTurn() {
		over = max(over, s.srv.parted.Load())
		if now-max(over, progress) >= int64(endedStall) || now-over >= int64(endedTotal) {
			return slowReceiver
		}
	}
	if now-max(s.life.Load(), s.took) >= int64(lifeTimeout) {
		return noSignOfLife
	}
	return notEnded
}
