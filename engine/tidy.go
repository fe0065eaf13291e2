package engine

import "runtime/debug"

// burst is how many handshakes leave enough behind to be worth giving back at once
// when they are over.
const burst = 1000

// tidier gives memory back to the system when a burst of handshakes is over, thousands
// of receivers that came to wait for a publisher, say: an established connection needs
// a small part of what its handshake took, and Go alone keeps twice what is needed.
// Owned by the sweep.
//
// To give back takes some 80 ms for a GiB, and on one core nothing else runs
// meanwhile: it is left to Go while there is a stream to carry.
type tidier struct {
	release func() // static; gives memory back

	seen int64 // handshakes at the last look
	base int64 // handshakes when the burst began, or what came is forgotten
}

// newTidier returns one that gives everything back that it can.
func newTidier() tidier { return tidier{release: debug.FreeOSMemory} }

// due reports whether memory is given back now, after so many handshakes, with so
// many streams under way.
func (t *tidier) due(handshakes, streams int64) bool {
	quiet := handshakes == t.seen
	t.seen = handshakes
	if !quiet {
		return false
	}
	came := handshakes - t.base
	if came >= burst && streams > 0 {
		return false // when they have ended
	}
	t.base = handshakes
	return came >= burst
}

// look is the sweep's look at the handshakes so far and the streams under way.
func (t *tidier) look(handshakes, streams int64) {
	if t.due(handshakes, streams) {
		t.release()
	}
}
