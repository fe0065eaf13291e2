package engine

import (
	"math"
	"time"
)

const (
	// paceWindow is over what time packets are counted to know how fast they come.
	paceWindow = 100 * time.Millisecond

	// manyEvents is a gap between events, on average, at which a poller gathers:
	// 10,000 events a second, of one poller.
	manyEvents = 100 * time.Microsecond

	// shortIdle is how long nothing comes from epoll or kqueue when it has to wait; what
	// is between the events of one batch is shorter.
	shortIdle = 20 * time.Microsecond

	// longestGather is how long a poller gathers at most, whatever the setting: each
	// of its connections waits.
	longestGather = 2 * time.Millisecond

	// shortPass is a pass after which it is not worth to rest.
	shortPass = 250 * time.Microsecond

	// shortRest is the shortest rest: Go's timers are no finer where nothing else runs.
	shortRest = time.Millisecond
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

// rest returns how long to rest after a pass that took so long, in nanoseconds:
// twice as long, the longest rest at most. Not at all where fewer than three packets
// come, on average, in the time of two passes and their rests: few would be written
// together, and all would be put off.
func (p *pace) rest(took, longest int64) int64 {
	rest := min(max(2*took, int64(shortRest)), longest)
	if took < int64(shortPass) || p.gap > (took+rest)*2/3 {
		return 0
	}
	return rest
}

// polling decides when a poller waits a moment before it reads, so that it finds
// many connections to read from when it looks again: with one or two at a time it
// would spend more on falling asleep and being woken than on them. Owned by the poller.
type polling struct {
	since  int64 // Server.now when the window began
	events int64 // in it
	gap    int64 // nanoseconds from event to event in the last whole window
	done   int64 // Server.now when the last event was handled
	works  int64 // Server.now until when it does not wait again

	_ cacheLinePad
}

// cacheLinePad keeps what stands before it away from what follows: 64 bytes, and
// the neighbour that the processor fetches along.
type cacheLinePad [128]byte

// gathers is told of each event before it is handled, and reports whether to wait:
// where events come fast, and the poller had nothing to do just now. One that is
// busy all the time never waits.
func (p *polling) gathers(now int64) bool {
	p.events++
	if now-p.since >= int64(paceWindow) {
		p.gap = (now - p.since) / p.events
		p.since, p.events = now, 0
	}
	return p.gap < int64(manyEvents) && now-p.done >= int64(shortIdle) && now >= p.works
}

// gathered is told when the wait is over: what has gathered is handled first. To
// bring it takes the kernel a while, too, and that must not pass for idleness.
func (p *polling) gathered(now int64, waited time.Duration) {
	p.works = now + int64(waited)/4
}
