package engine

import (
	"slices"
	"testing"

	"ws-stream-server/engine/wstest"
)

// wantNoGoroutineEach connects n receivers and fails if goroutines grow with them. They
// and the others, that were there before, show life meanwhile: from this goroutine, so
// that the count is right.
func (s *testServer) wantNoGoroutineEach(n int, connect func() *wstest.Conn, others ...*wstest.Conn) []*wstest.Conn {
	s.t.Helper()
	before := goroutines("")
	all := slices.Clone(others)
	var life wstest.LifeSigns
	for range n {
		all = append(all, connect())
		life.From(all...)
	}
	eventually(s.t, "the handshakes' goroutines have ended", func() bool {
		life.From(all...)
		return goroutines("") <= before+4
	})
	return all[len(others):]
}

// An established connection has no goroutine, while it waits, and while it is
// served.
func TestNoGoroutinePerReceiver(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 500
	}
	s := newTestServer(t)
	waiting := s.wantNoGoroutineEach(n/2, func() *wstest.Conn { return s.receive("cam", "key") })
	pub := s.publish("cam", "key")
	live := s.wantNoGoroutineEach(n/2, func() *wstest.Conn { return s.receive("cam", "key") }, append(waiting, pub)...)
	before := goroutines("")
	for i := range 3 {
		pub.Send(wstest.Binary, numbered(i, 1000))
	}
	var life wstest.LifeSigns
	receivers := slices.Concat(waiting, live)
	everybody := append(receivers, pub)
	for _, c := range receivers {
		life.From(everybody...)
		for i := range 3 {
			c.WantPacket(numbered(i, 1000))
		}
	}
	if now := goroutines(""); now > before+4 {
		t.Errorf("%d goroutines while %d receivers are served, %d before", now, n, before)
	}
}

func TestNoGoroutinePerReceiverOverTLS(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 100
	}
	s := newTestServer(t, withTLS(t))
	pub := s.dialTLS("/cam/key/publish")
	live := s.wantNoGoroutineEach(n, func() *wstest.Conn { return s.dialTLS("/cam/key/receive") }, pub)
	pub.Send(wstest.Binary, numbered(0, 1000))
	for _, c := range live {
		c.WantPacket(numbered(0, 1000))
	}
	// A closed one takes nothing with it, and leaves nothing.
	before := goroutines("")
	for _, c := range live {
		c.Close()
	}
	pub.CloseHandshake(1000)
	s.wantNothingLeft()
	if now := goroutines(""); now > before+4 {
		t.Errorf("%d goroutines after all have left, %d before", now, before)
	}
}
