package engine

import "testing"

// Memory is given back once a burst of handshakes is over, not in the middle of it,
// not twice, and not for a few.
func TestTidyAfterABurst(t *testing.T) {
	var tidy tidier
	for i, look := range []struct {
		handshakes int64
		due        bool
	}{
		{0, false}, {1, false}, {1, false}, // a few
		{burst, false}, {burst + 7, false}, // a burst goes on
		{burst + 7, true}, {burst + 7, false}, {burst + 8, false}, {burst + 8, false}, // it is over
		{2*burst + 7, false}, {2*burst + 7, true},
	} {
		if due := tidy.due(look.handshakes); due != look.due {
			t.Errorf("look %d, at %d handshakes: due is %v", i, look.handshakes, due)
		}
	}
}
