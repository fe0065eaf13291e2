package engine

import "testing"

// Memory is given back once a burst of handshakes is over, not in the middle of it,
// not twice, not for a trickle, and not while there is a stream to carry.
func TestTidyAfterABurst(t *testing.T) {
	released := 0
	tidy := tidier{release: func() { released++ }}
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
		before := released
		tidy.look(look.handshakes, look.streams)
		if n := released - before; n > 1 || (n == 1) != look.due {
			t.Errorf("look %d, at %d handshakes and %d streams: given back %d times", i, look.handshakes, look.streams, n)
		}
	}
}
