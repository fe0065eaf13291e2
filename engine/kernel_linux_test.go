package engine

import (
	"testing"

	"ws-stream-server/engine/wstest"
)

// segment is what TCP puts together for one send, in bytes: a write that finds room
// may fill one more.
const segment = 64 << 10

// What the kernel holds for a receiver that stopped reading is what SEND_BUFFER_KB
// says, and a segment more, however much is published.
func TestTheKernelHoldsLittleForAStalledReceiver(t *testing.T) {
	for _, kb := range []int{64, 256} {
		s := newTestServer(t, withTLS(t), func(c *Config) { c.SendBufferKB = kb })
		pub := s.publish("cam", "key")
		var stalled []*session
		for range 50 {
			stalled = append(stalled,
				s.session(s.receive("cam", "key", wstest.ReceiveBuffer(4096))),
				s.session(s.dialTLS("/cam/key/receive", wstest.ReceiveBuffer(4096))))
		}
		for i := range 6 * mib / (32 << 10) { // alone the kernel would take megabytes
			pub.Send(wstest.Binary, numbered(i, 32<<10))
		}
		pub.Sync()
		var all int64
		for _, r := range stalled {
			eventually(t, "the socket is full", func() bool { return !r.free() })
			held := inKernel(r.conn)
			if most := int64(kb<<10 + segment); held > most || held == 0 {
				t.Fatalf("SEND_BUFFER_KB=%d: the kernel holds %d bytes for a stalled receiver (tls=%v), wanted 1 to %d", kb, held, r.tls != nil, most)
			}
			all += held
		}
		t.Logf("SEND_BUFFER_KB=%d: the kernel holds %d bytes for each", kb, all/int64(len(stalled)))
	}
}
