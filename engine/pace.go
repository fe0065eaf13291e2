package engine

import (
	"math"
	"time"
)

const (
	// paceWindow is over what time packets are counted to know how fast they come.
	paceWindow = 100 * time.Millisecond

	// manyEvents is a gap between events (connections to read from), on average, at
	// which a poller begins to gather: 10,000 events a second, of one poller.
	manyEvents = 100 * time.Microsecond

	// shortIdle is how long nothing comes from epoll or kqueue at least when it has to
	// wait, and idleShare what part of a poller's work before that it is then. To bring
	// a large batch takes that long, too, but a smaller part: some hundredths.
	shortIdle = 20 * time.Microsecond
	idleShare = 8

	// longestGather is how long a poller gathers at most, whatever the setting: each
	// of its connections waits.
	longestGather = 2 * time.Millisecond

	// goodWrite is how much of a channel has gathered, in bytes, when the system
	// call is a small part of what it costs to write it, and waiting for more gains
	// nothing. It is below the smallest RECEIVER_LAG_MB.
	goodWrite = 256 << 10

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

func newPace(now int64, head uint64) pace { return pace{since: now, head: head, gap: math.MaxInt64} }

// note is told the ring's head before each of the drainer's passes.
func (p *pace) note(now int64, head uint64) {
	if now-p.since < int64(paceWindow) {
		return
	}
	p.gap = (now - p.since) / int64(max(head-p.head, 1))
	p.since, p.head = now, head
}

// rest returns how long to rest after a pass that took so long, in nanoseconds:
// twice as long, shortRest at least, the longest rest at most. Not at all where fewer
// than three packets come, on average, in the time of two passes and their rests: few
// would be written together, and all would be put off.
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
	since      int64 // Server.now when the window began
	events     int64 // in it
	fast       bool  // they came fast in the last whole window
	works      int64 // Server.now since when it goes from event to event
	done       int64 // Server.now when a read, a flush or a hand-over was last done
	awakeUntil int64 // Server.now until when it does not wait again

	_ cacheLinePad
}

func newPolling(now int64) polling { return polling{since: now, works: now, done: now} }

// cacheLinePad keeps what stands before it away from what follows: 64 bytes, and
// the neighbour that the processor fetches along.
type cacheLinePad [128]byte

// waits is told of each read before it is done, and reports whether to wait
// first: where events come fast, and the poller had nothing to do just now. One that
// goes from event to event does not wait.
func (p *polling) waits(now int64) bool {
	p.events++
	if now-p.since >= int64(paceWindow) {
		// Where it waits, what one connection sends meanwhile is one event: it goes on
		// until events are four times as rare.
		gap, limit := (now-p.since)/p.events, int64(manyEvents)
		if p.fast {
			limit *= 4
		}
		p.fast = gap < limit
		p.since, p.events = now, 0
	}
	idle := now - p.done
	if idle < int64(shortIdle) {
		return false
	}
	worked := p.done - p.works
	p.works = now
	return p.fast && idle*idleShare >= worked && now >= p.awakeUntil
}

// waited is told when a wait of so long is over. What has gathered comes now, and it
// takes the kernel a while to bring it, which must not pass for idleness.
func (p *polling) waited(now int64, long time.Duration) {
	p.awakeUntil = now + int64(long)/4
	p.works = now
}
