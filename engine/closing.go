package engine

import (
	"sync"
	"time"
)

const (
	// closeTimeout is how long a session that ends may take until its close frame
	// is written: the rest of a packet may stand before it.
	closeTimeout = 5 * time.Second

	// lingerTimeout is how long the client's own close is waited for afterwards.
	lingerTimeout = 2 * time.Second

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
// it. To close now would have the kernel send a reset, and that destroys what it
// holds for the client. Called by the sweep.
func (s *session) stillTaking(now int64) bool {
	if !s.handed.Load() || !closings[s.reason()].complete {
		return false
	}
	kept := s.unsent.Load() + inKernel(s.conn)
	if kept != s.kept || s.keptSince == 0 {
		s.kept, s.keptSince = kept, now
	}
	return s.patience(now)
}

// patience decides how long a client that has been handed everything may take to
// take it: as long as it makes progress, in the bounds of an ended stream.
func (s *session) patience(now int64) bool {
	if s.kept == 0 {
		return false
	}
	over := s.ch.over.Load()
	return now-s.keptSince < int64(endedStall) && (over == 0 || now-over < int64(endedTotal))
}
