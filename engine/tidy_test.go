package engine

import "testing"

// Memory is given back once a burst of handshakes is over, not in the middle of it,
// not twice, not for a trickle, and not while there is a stream to carry.
func TestTidyAfterABurst(t *testing.T) {
	var tidy tidier
	for i, look := range []struct {
		handshakes, streams int64
		due                 bool
	}{
		{0, 0, false}, {1, 0, false}, {1, 0, false}, // one
		{600, 0, false}, {600, 0, false}, {1200, 0, false}, {1200, 0, false}, // some, and some
		{1200 + burst, 0, false}, {1207 + burst, 0, false}, // a burst goes on
		{1207 + burst, 0, true}, {1207 + burst, 0, false}, // it is over
		{4000, 1, false}, {4000, 1, false}, {4000, 1, false}, {4000, 0, true}, {4000, 0, false},
	} {
		if due := tidy.due(look.handshakes, look.streams); due != look.due {
			t.Errorf("look %d, at %d handshakes and %d streams: due is %v", i, look.handshakes, look.streams, due)
		}
	}
}
