package engine

import (
	"testing"
	"time"
)

// What waited for the server, and is read before the deadline, gives the client time to go
// on: else it would have for its next step what the server has left of it. What waited for
// a place does not: then nobody was to read.
func TestAGuestsDeadlineIsMovedForBytesThatWaited(t *testing.T) {
	for _, place := range []bool{false, true} {
		x, client := guestPair(t)
		until := time.Now().Add(guestGrace / 2)
		if place {
			_ = x.SetReadDeadline(until)
		}
		if _, err := client.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it came, and has waited", func() bool { return brings(x.Conn, 0) && waited(x.Conn) > lateAfter })
		if !place {
			_ = x.SetReadDeadline(until)
		}
		before := time.Now()
		var b [5]byte
		if n, err := x.Read(b[:]); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		moved := x.until != until
		switch {
		case place && (!moved || x.until.Sub(before) < guestGrace):
			t.Errorf("it waited for the server, and the deadline was moved: %v", moved)
		case !place && moved && time.Since(before) < lateAfter/2: // and not this test that was late
			t.Error("it waited for a place, and the deadline was moved")
		}
	}
}
