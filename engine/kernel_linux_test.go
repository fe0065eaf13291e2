package engine

import (
	"errors"
	"fmt"
	"io"
	"sync"
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

// What a publisher has sent and its system has handed over is published, also when a
// reset follows, and the server writes to it before it has read all.
func TestAWriteAfterAResetLosesNothing(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			s := newTestServer(t, withTLS(t))
			dial := s.dial
			if secure {
				dial = s.dialTLS
			}
			rec := s.receive("cam", "key")
			pub := dial("/cam/key/publish")
			ps := s.session(pub)
			pub.Sync()
			ps.in.mu.Lock() // the poller is to be behind
			goOn := sync.OnceFunc(ps.in.mu.Unlock)
			defer goOn()
			const n, size = 20, 2000
			delivered := func() bool { return unacknowledged(t, pub) == 0 }
			pub.Send(wstest.Binary, numbered(0, size))
			eventually(t, "the first packet is here", delivered)
			eventually(t, "the poller has read it, and waits", func() bool { return unread(ps.conn) == 0 })
			for i := 1; i < n; i++ {
				pub.Send(wstest.Binary, numbered(i, size))
			}
			eventually(t, "its system has handed everything over", delivered)
			pub.Reset()
			eventually(t, "the reset is here", func() bool { return leftUnread(ps.conn) })
			ps.raise(sendBeat)
			closed, _ := ps.conn.IsClosed()
			goOn()
			if closed {
				t.Error("the connection is closed before it is read")
			}
			for i := range n {
				rec.WantPacket(numbered(i, size))
			}
			rec.WantClose(1000)
		})
	}
}

// unacknowledged is how many bytes a client's system holds for the server.
func unacknowledged(t *testing.T, c *wstest.Conn) (n int) {
	t.Helper()
	raw, err := c.TCP().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return n
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
