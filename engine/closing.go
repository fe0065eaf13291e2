package engine

import (
	"sync"
	"time"
)

const (
	// closeTimeout is how long a session that ends may take until its close frame
	// is written: the rest of a packet may stand before it.
	closeTimeout = 5 * time.Second

	// lingerTimeout is how long the client's own close is waited for afterwards, and
	// doneTimeout how long, once that is there, for the end of its connection.
	lingerTimeout = 2 * time.Second
	doneTimeout   = sweepEvery

	// afterlife is how long a client may take nothing of what the kernel still holds
	// for it when the connection is closed. Left alone, Linux keeps that for minutes,
	// for one that has vanished as for one that answers probes and takes nothing.
	afterlife = 30 * time.Second

	// A receiver of a stream that has ended may take nothing for endedStall, and
	// has endedTotal in all.
	endedStall = 30 * time.Second
	endedTotal = 5 * time.Minute
)

// closingList is the sessions that end, with the moment when they are looked at to
// be cut off.
type closingList struct {
	mu sync.Mutex
	at map[*session]int64 // Server.now
}

// add sets the moment, or moves it. A session that is closed is not taken. Any
// goroutine.
func (l *closingList) add(s *session, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.gone.Load() {
		l.at[s] = at
	}
}

// remove forgets a session that is closed. Any goroutine.
func (l *closingList) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.at, s)
}

// size returns how many sessions end. Any goroutine.
func (l *closingList) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

// due appends the sessions whose moment has come to buf.
func (l *closingList) due(now int64, buf []*session) []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, at := range l.at {
		if now >= at {
			buf = append(buf, s)
		}
	}
	return buf
}

// stillTaking reports whether a session whose moment has come is left more time:
// everything was handed over, down to the close frame, and the client still takes
// it. To close now would have the kernel send a reset if the client says anything,
// and that destroys what the kernel holds. Called by the sweep.
func (s *session) stillTaking(now int64) bool {
	if !s.handed.Load() || s.clientDone.Load() || !closings[s.reason()].complete {
		return false
	}
	kept := s.unsent.Load() + inKernel(s.conn)
	switch {
	case s.keptSince == 0 && kept == 0: // since when is not known: the wait is over
		s.kept, s.keptSince = 0, now-int64(lingerTimeout)
	case s.keptSince == 0 || kept != s.kept:
		s.kept, s.keptSince = kept, now
	}
	return s.patience(now)
}

// patience decides how long a client that has been handed everything may take: as
// long as it makes progress, or talks as one does that has not come to the close
// frame yet, and no longer than a receiver of a stream that has ended.
func (s *session) patience(now int64) bool {
	end := s.endedAt
	if over := s.ch.over.Load(); over != 0 {
		end = min(end, over)
	}
	if now-end >= int64(endedTotal) {
		return false
	}
	life, wait := s.life.Load(), int64(endedStall)
	if s.kept == 0 && life <= s.endedAt {
		wait = int64(lingerTimeout)
	}
	return now-max(s.keptSince, life) < wait
}
