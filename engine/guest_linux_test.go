package engine

import (
	"testing"
	"time"
)

// What waited for the server, and is read before the deadline, gives the client time to go
// on: else it would have for its next step what the server has left of it.
func TestAGuestsDeadlineIsMovedForBytesThatWaited(t *testing.T) {
	for _, late := range []bool{false, true} {
		x, client := guestPair(t)
		if _, err := client.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it came", func() bool { return brings(x.Conn, 0) })
		if late {
			eventually(t, "it has waited", func() bool { return waited(x.Conn) > lateAfter })
		}
		before := time.Now()
		until := before.Add(guestGrace / 2)
		_ = x.SetReadDeadline(until)
		waits := waited(x.Conn) > lateAfter // also where this test had no processor
		var b [5]byte
		if n, err := x.Read(b[:]); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		moved := x.until != until
		switch {
		case waits && (!moved || x.until.Sub(before) < guestGrace):
			t.Errorf("it waited, and the deadline was moved: %v", moved)
		case moved && waited(x.Conn) <= lateAfter:
			t.Error("it did not wait, and the deadline was moved")
		}
	}
}
