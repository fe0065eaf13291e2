package engine

import "runtime/debug"

// burst is how many handshakes leave enough behind, some 20 KiB each, to be worth
// a collection when they are over.
const burst = 1000

// tidier gives memory back to the system when a burst of handshakes is over: an
// established connection needs a small part of what its handshake took, and the
// collector would not run again before the next burst. Owned by the sweep.
type tidier struct {
	seen   int64 // handshakes when it last looked
	tidied int64 // handshakes when memory was last given back
}

// due reports whether a burst has just ended: nothing came since the last look, and
// enough since memory was last given back.
func (t *tidier) due(handshakes int64) bool {
	quiet := handshakes == t.seen
	t.seen = handshakes
	if !quiet || handshakes-t.tidied < burst {
		return false
	}
	t.tidied = handshakes
	return true
}

// look is the sweep's look at the handshakes so far.
func (t *tidier) look(handshakes int64) {
	if t.due(handshakes) {
		debug.FreeOSMemory()
	}
}
