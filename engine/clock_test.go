package engine

import (
	"testing"
	"time"
	"unsafe"
)

// The wall clock is set while the server runs: its own time goes on as before. A
// time.Time has the wall clock's seconds above 30 bits of nanoseconds; to have taken
// the beginning by a clock that went an hour wrong is to have it set right since.
func TestTheWallClockMayJump(t *testing.T) {
	srv := &Server{}
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		srv.epoch = time.Now()
		before := srv.epoch
		*(*uint64)(unsafe.Pointer(&srv.epoch)) += uint64(jump/time.Second) << 30
		if got := srv.epoch.Round(0).Sub(before.Round(0)); got != jump {
			t.Fatalf("the wall clock's reading was moved by %v, wanted %v: time.Time is made otherwise", got, jump)
		}
		if now := srv.now(); now < 0 || now > int64(time.Minute) {
			t.Errorf("a jump of %v: the server's time is %v", -jump, time.Duration(now))
		}
	}
}
