package engine

import (
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// How long a client that was handed everything may take; times in seconds.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name                       string
		kept                       int64
		keptSince, life, over, now int // the session ended at 8
		want                       bool
	}{
		{name: "it has everything, for less than 2 s", keptSince: 10, over: 5, now: 11, want: true},
		{name: "it has everything, for 2 s", keptSince: 10, life: 7, over: 5, now: 12, want: false},
		{name: "it has, and talks", keptSince: 10, life: 20, over: 5, now: 49, want: true},
		{name: "it has, and has stopped talking", keptSince: 10, life: 20, over: 5, now: 50, want: false},
		{name: "it has, and talks for 5 minutes", keptSince: 10, life: 304, over: 5, now: 305, want: false},
		{name: "it takes", kept: 1, keptSince: 10, over: 5, now: 10, want: true},
		{name: "nothing for less than 30 s", kept: 1, keptSince: 10, over: 5, now: 39, want: true},
		{name: "nothing for 30 s", kept: 1, keptSince: 10, over: 5, now: 40, want: false},
		{name: "less than 5 minutes in all", kept: 1, keptSince: 304, over: 5, now: 304, want: true},
		{name: "5 minutes in all", kept: 1, keptSince: 305, over: 5, now: 305, want: false},
		{name: "a probe on a live channel", kept: 1, keptSince: 307, now: 307, want: true},
		{name: "a probe for 5 minutes", kept: 1, keptSince: 308, now: 308, want: false},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := func(s int) int64 { return int64(s) * int64(time.Second) }
			s := &session{ch: &Channel{}, kept: c.kept, keptSince: at(c.keptSince), endedAt: at(8)}
			s.life.Store(at(c.life))
			s.ch.over.Store(at(c.over))
			if got := s.patience(at(c.now)); got != c.want {
				t.Errorf("patience: %v, wanted %v", got, c.want)
			}
		})
	}
}

// What the kernel holds for a receiver when its stream has ended is not destroyed
// by the connection's end, though the receiver talks meanwhile and is slower than
// the wait for its close.
func TestTheEndWaitsForWhatTheKernelHolds(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	rec := s.receive("cam", "key", wstest.ReceiveBuffer(16<<10), wstest.Patience(patience))
	rs := s.session(rec)
	const n, size = 40, 4 << 10 // the kernel's buffer takes it all
	for i := range n {
		pub.Send(wstest.Binary, numbered(i, size))
	}
	pub.CloseHandshake(1000)
	eventually(t, "everything was handed over", func() bool {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		return rs.halfClosed
	})
	start := rs.srv.now()
	eventually(t, "the wait for its close is over", func() bool {
		rec.SendText("h")
		return rs.srv.now()-start > int64(lingerTimeout+4*sweepEvery)
	})
	for i := range n {
		rec.WantPacket(numbered(i, size))
	}
	rec.WantClose(1000)
	rec.WantEOF()
}
