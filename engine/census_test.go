package engine

import (
	"testing"

	"ws-stream-server/engine/wstest"
)

// The census sees each thing that is under way, and nothing once it is over.
func TestCensus(t *testing.T) {
	s := newTestServer(t)
	early, pub := s.receive("other", "key"), s.publish("cam", "key")
	rec := s.receive("cam", "key", wstest.NoEcho(), wstest.ReceiveBuffer(16<<10), wstest.Patience(patience))
	pub.Send(wstest.Binary, numbered(0, 10))
	rec.WantPacket(numbered(0, 10))
	counted := func(want Census) func() bool {
		return func() bool {
			c := s.Census()
			want.Memory = c.Memory
			return c == want && (c.Memory > 0) == (c.Streams > 0)
		}
	}
	eventually(t, "three clients on two channels are counted", counted(Census{Sessions: 3, Channels: 2, Streams: 1, Places: 3, Addressed: 3}))

	const n, size = 40, 4 << 10 // more than the receiver's buffer takes: who has not read all is waited for
	for i := range n {
		pub.Send(wstest.Binary, numbered(i+1, size))
	}
	pub.CloseHandshake(1000)
	eventually(t, "the receiver of the stream that has ended is closing", counted(Census{Sessions: 2, Closing: 1, Channels: 1, Places: 2, Addressed: 2}))
	for i := range n {
		rec.WantPacket(numbered(i+1, size))
	}
	rec.WantClose(1000)
	rec.Close()
	early.Close()
	s.wantNothingLeft()
}
