package engine

import (
	"math"
	"time"
)

const (
	// paceWindow is over what time packets are counted to know how fast they come.
	paceWindow = 100 * time.Millisecond

	// shortPass is a pass after which it is not worth to rest: Go's timers are no
	// finer where nothing else runs.
	shortPass = time.Millisecond
)

// pace decides how long a group rests after a pass, so that the packets of a fast
// publisher are written together: as interrupts are moderated. Owned by the
// group's drainer.
type pace struct {
	since int64  // Server.now when the window began
	head  uint64 // the ring's head then
	gap   int64  // nanoseconds from packet to packet in the last whole window
}

func newPace(now int64) pace { return pace{since: now, gap: math.MaxInt64} }

// note is told the ring's head before each pass.
func (p *pace) note(now int64, head uint64) {
	if now-p.since < int64(paceWindow) {
		return
	}
	p.gap = (now - p.since) / int64(max(head-p.head, 1))
	p.since, p.head = now, head
}

// rest returns how long to rest after a pass that took so long, in nanoseconds: as
// long again, the longest rest at most. Not at all where packets come further apart,
// on average, than a pass and its rest together would take: few would be written
// together, and all would be put off.
func (p *pace) rest(took, longest int64) int64 {
	if took < int64(shortPass) || p.gap >= 2*took {
		return 0
	}
	return min(took, longest)
}
