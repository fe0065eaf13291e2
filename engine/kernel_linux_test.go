package engine

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

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

// What the kernel takes for a client that has vanished is not taken by the client.
func TestAVanishedClientTakesNothing(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	here, gone := s.receive("cam", "key"), s.receive("cam", "key")
	hs, gs := s.session(here), s.session(gone)
	pub.Send(wstest.Binary, numbered(0, 100))
	for _, c := range []*wstest.Conn{here, gone} {
		c.WantPacket(numbered(0, 100))
	}
	eventually(t, "it is acknowledged", func() bool { return inKernel(hs.conn)+inKernel(gs.conn) == 0 })
	gone.Vanish()
	hereBefore, _ := acknowledged(hs.conn)
	goneBefore, _ := acknowledged(gs.conn)
	for i := range 100 {
		before := gs.progress.Load()
		pub.Send(wstest.Binary, numbered(i, 100))
		here.WantPacket(numbered(i, 100))
		eventually(t, "the kernel took it", func() bool { return gs.progress.Load() > before })
	}
	eventually(t, "the one that is here has acknowledged all", func() bool {
		acked, held := acknowledged(hs.conn)
		return held == 0 && acked >= hereBefore+100*102 // and perhaps a heartbeat
	})
	if acked, held := acknowledged(gs.conn); acked != goneBefore || held < 100*102 {
		t.Errorf("one that has vanished has acknowledged %d bytes and lacks %d, wanted 0 and %d", acked-goneBefore, held, 100*102)
	}
}

// What becomes of the bytes in the kernel when a session is cut off.
func TestWhatACutLeavesInTheKernel(t *testing.T) {
	const n, size = 20, 4 << 10 // less than the kernel takes, more than the client's window
	for _, c := range []struct {
		name    string
		reason  reason
		full    bool // the socket: the close frame is not handed over
		reads   bool // the client, before the cut
		forgets bool
	}{
		{name: "too slow, told", reason: slowReceiver},
		{name: "too slow, in the middle of a packet", reason: slowReceiver, full: true, forgets: true},
		{name: "no sign of life, and it does not take what was sent", reason: noSignOfLife, forgets: true},
		{name: "no sign of life, but it has everything", reason: noSignOfLife, reads: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestServer(t)
			pub := s.publish("cam", "key")
			rec := s.receive("cam", "key", wstest.ReceiveBuffer(4096), wstest.Patience(patience), wstest.NoEcho())
			rs := s.session(rec)
			for i := range n {
				pub.Send(wstest.Binary, numbered(i, size))
			}
			pub.Sync()
			next := 0
			if c.full {
				s.stall(pub, rec)
			}
			for ; c.reads && next < n; next++ {
				rec.WantPacket(numbered(next, size))
			}
			if !c.full {
				eventually(t, "all packets are handed over", func() bool { return rs.ch.lowest() == n })
			}
			rs.end(c.reason)
			if !c.full {
				eventually(t, "the close frame is handed over, and the end behind it", func() bool {
					rs.mu.Lock()
					defer rs.mu.Unlock()
					return rs.halfClosed
				})
			}
			if c.reads {
				eventually(t, "it has everything", func() bool { return inKernel(rs.conn) == 0 })
			}
			rs.abort()
			eventually(t, "the session is closed", rs.gone.Load)
			if c.forgets {
				got, err := io.Copy(io.Discard, rec.TCP())
				if !errors.Is(err, syscall.ECONNRESET) || got >= n*size {
					t.Errorf("wanted a reset and not what the kernel held, got %d bytes and %v", got, err)
				}
				return
			}
			for ; next < n; next++ {
				rec.WantPacket(numbered(next, size))
			}
			rec.WantError(closings[c.reason].fault, int(closings[c.reason].code))
			if err := pendingError(t, rec); err != nil {
				t.Errorf("wanted an orderly end, got %v behind it", err)
			}
		})
	}
}

// pendingError is what has happened to a client's connection and no read has told.
func pendingError(t *testing.T, c *wstest.Conn) error {
	t.Helper()
	raw, err := c.TCP().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	errno := 0
	if e := raw.Control(func(fd uintptr) { errno, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}
