package engine

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// stall connects a receiver that takes nothing and publishes until its socket is
// full.
func (s *testServer) stall(pub *wstest.Conn, c interface{ TCP() *net.TCPConn }) *session {
	s.t.Helper()
	rs := s.session(c)
	for i := 0; rs.free(); i++ {
		if i == 100_000 {
			s.t.Fatal("the socket is never full")
		}
		pub.Send(wstest.Binary, numbered(i, 32<<10))
		pub.Sync()
		rs.awaitPass()
	}
	return rs
}

// awaitPass returns when the pass is over that is made just now, if there is one: the
// publisher's poller leaves the packets to it.
func (s *session) awaitPass() {
	if g := s.group.Load(); g != nil {
		g.passing.Lock()
		defer g.passing.Unlock()
	}
}

// A receiver that stopped reading costs its cursor and one piece, however much is
// published behind it; when it reads again it gets every packet.
func TestAStalledReceiverCostsOnePiece(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			s := newTestServer(t, withTLS(t), func(c *Config) { c.GOPCacheSizeMB, c.ReceiverLagMB = 64, 64 })
			pub := s.publish("cam", "key")
			dial, most := s.dial, int64(keptPiece)
			if secure {
				// Sealing adds 22 bytes to a record of 16 KiB (RFC 8446, 5.2), and TLS
				// may have bytes of its own to send.
				dial, most = s.dialTLS, sealedPiece+sealedPiece/maxRecord*22+512
			}
			rec := dial("/cam/key/receive", wstest.ReceiveBuffer(4096), wstest.Patience(patience))
			rs := s.stall(pub, rec)
			for i := range 100 { // 3 MB more
				pub.Send(wstest.Binary, numbered(1_000_000+i, 32<<10))
				if kept := rs.unsent.Load(); kept > most || kept <= 0 {
					t.Fatalf("%d bytes are kept for a stalled receiver, want 1 to %d", kept, most)
				}
			}
			pub.CloseHandshake(1000)

			next := 0
			for {
				m := rec.Next()
				if m.Op == wstest.Close {
					if m.Code() != 1000 {
						t.Fatalf("closed with %v", m)
					}
					break
				}
				i := number(m.Payload)
				if i == 1_000_000 && next < i {
					next = i
				}
				if i != next {
					t.Fatalf("got packet %d, wanted %d", i, next)
				}
				next++
			}
			if next != 1_000_100 {
				t.Errorf("the last packet was %d", next-1)
			}
		})
	}
}

// The kernel takes a packet in parts of any size, at the smallest bound as many as can
// be: every seam is right, for packets far larger than a socket's buffer and far
// smaller than a piece.
func TestPartialWritesLoseNothing(t *testing.T) {
	s := newTestServer(t, withTLS(t), func(c *Config) {
		c.GOPCacheSizeMB, c.ReceiverLagMB, c.MaxMessageMB, c.SendBufferKB = 64, 64, 64, 1
	})
	sizes := []int{5 << 20, 4, 70_000, 0, 4, 1 << 20, keptPiece, keptPiece - 4, directPiece, sealedPiece, sealedPiece + 1, 3 << 20}
	for range 500 {
		sizes = append(sizes, 4, 200, 1400)
	}
	for name, dial := range map[string]func(string, ...wstest.Option) *wstest.Conn{"plain": s.dial, "tls": s.dialTLS} {
		t.Run(name, func(t *testing.T) {
			pub := s.publish(name, "key")
			rec := dial("/"+name+"/key/receive", wstest.ReceiveBuffer(4096), wstest.Patience(patience))
			for i, n := range sizes {
				pub.Send(wstest.Binary, numbered(i, n))
			}
			pub.CloseHandshake(1000)
			late := dial("/"+name+"/key/receive", wstest.Patience(patience)) // waits: the name is free again
			for i, n := range sizes {
				m := rec.Next()
				if m.Op != wstest.Binary || len(m.Payload) != n || n >= 4 && number(m.Payload) != i {
					t.Fatalf("wanted packet %d of %d bytes, got %v", i, n, m)
				}
			}
			rec.WantClose(1000)
			late.Close()
		})
	}
}

// While a group's pass is suspended the publisher goes on, receivers of the group
// leave, others come, and the other groups are served.
func TestASuspendedPassHoldsUpNobody(t *testing.T) {
	procs(t, 2) // two drainers, so two groups
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 16 })
	pub := s.publish("cam", "key")
	ps := s.session(pub)
	var clients []*wstest.Conn
	for range groupShare + 4 {
		clients = append(clients, s.receive("cam", "key"))
	}
	groups := *ps.ch.groups.Load()
	if len(groups) != 2 {
		t.Fatalf("%d groups, wanted 2", len(groups))
	}
	slow := groups[0]
	slow.passing.Lock()
	held := true
	defer func() {
		if held {
			slow.passing.Unlock()
		}
	}()

	const n = 200
	for i := range n {
		pub.Send(wstest.Binary, numbered(i, 1000))
	}
	eventually(t, "everything is published", func() bool { return ps.ch.ring.Head() == n })
	slow.drainer.mu.Lock()
	queued := 0
	for _, task := range slow.drainer.queue {
		if task == slow {
			queued++
		}
	}
	slow.drainer.mu.Unlock()
	if queued > 1 {
		t.Errorf("a dirty group is queued %d times", queued)
	}
	var leaver *wstest.Conn
	for i, c := range clients {
		if s.session(c).group.Load() == slow {
			if leaver == nil {
				leaver = c
				clients[i] = nil
			}
			continue
		}
		for j := range n {
			c.WantPacket(numbered(j, 1000))
		}
	}
	gone := s.session(leaver)
	leaver.Close()
	eventually(t, "the one that leaves is closed", gone.gone.Load)
	joiner := s.receive("cam", "key")
	s.session(joiner)
	pub.Send(wstest.Binary, numbered(n, 1000))

	slow.passing.Unlock()
	held = false
	clients = append(clients, joiner)
	for _, c := range clients {
		if c == nil {
			continue
		}
		from := 0
		if c != joiner && s.session(c).group.Load() != slow {
			from = n
		}
		for j := from; j <= n; j++ {
			c.WantPacket(numbered(j, 1000))
		}
	}
}

// Who empties a socket while another one begins to write to it wakes the group all
// the same; news out of a Write itself wakes nobody.
func TestWhoSaysThatNothingIsUnsent(t *testing.T) {
	for _, c := range []struct {
		before, after uint32
		want          bool
		what          string
	}{
		{0, 0, true, "no Write is under way"},
		{1, 1, false, "out of a Write"},
		{1, 2, true, "the Write has ended between"},
		{2, 3, true, "another one has begun between"},
		{1, 3, true, "one has ended and another one begun between"},
		{math.MaxUint32, math.MaxUint32, false, "out of a Write, at the counter's end"},
		{math.MaxUint32, 0, true, "the Write has ended between, at the counter's end"},
	} {
		if got := byPoller(c.before, c.after); got != c.want {
			t.Errorf("%s: %v, wanted %v", c.what, got, c.want)
		}
	}
}

// A receiver that the ring leaves behind while a pass looks at it is ended, each
// time: never detached and forgotten. Its socket is never free here.
func TestWhoIsOverrunIsEnded(t *testing.T) {
	srv := newServer(t, Config{ReceiverLagMB: 1, MaxMessageMB: 1})
	srv.drainers = []*drainer{newDrainer()}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && !t.Failed(); {
		ch := &Channel{srv: srv, name: "cam", publisher: &session{}}
		ch.ring = ring.New(ring.Config{Lag: mib, Lowest: ch.lowest})
		var all []*session
		for range 500 {
			s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
			s.ch = ch
			all = append(all, s)
			ch.admit(s, place{})
		}
		g := (*ch.groups.Load())[0]
		var full atomic.Bool
		var passing sync.WaitGroup
		passing.Go(func() {
			for last := false; !last; {
				last = full.Load()
				g.passing.Lock()
				g.pass(srv.now())
				g.passing.Unlock()
			}
		})
		for range 500 {
			ch.ring.Reserve(32 << 10)
			ch.ring.Commit(0)
		}
		full.Store(true)
		passing.Wait()
		for i := range g.members {
			m := &g.members[i]
			if m.s.ending.Load() == 0 && !m.cur.More() {
				t.Errorf("receiver %d has nothing to read at %d of %d, and is not ended", i, m.cur.Seq(), ch.ring.Head())
			}
		}
		for _, s := range all {
			srv.closing.remove(s)
		}
	}
}

// One channel's receivers are spread evenly over all drainers.
func TestReceiversAreSpreadOverTheDrainers(t *testing.T) {
	for _, n := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("drainers=%d", n), func(t *testing.T) {
			procs(t, n)
			s := newTestServer(t)
			pub := s.publish("cam", "key")
			ps := s.session(pub)
			count := 2 * n * groupShare
			clients := make([]*wstest.Conn, count)
			for i := range clients {
				clients[i] = s.receive("cam", "key")
			}
			groups := *ps.ch.groups.Load()
			drainers := map[*drainer]bool{}
			low, high := int32(math.MaxInt32), int32(0)
			for _, g := range groups {
				drainers[g.drainer] = true
				low, high = min(low, g.size.Load()), max(high, g.size.Load())
			}
			if len(groups) != n || len(drainers) != n || high-low > groupShare {
				t.Errorf("%d receivers are in %d groups of %d to %d, on %d drainers", count, len(groups), low, high, len(drainers))
			}
			pub.Send(wstest.Binary, numbered(0, 100))
			for _, c := range clients {
				c.WantPacket(numbered(0, 100))
			}
		})
	}
}

// What a receiver holds back leaves the ring's pin, whoever else stays.
func TestTheLowestSequenceRisesWithTheSlowest(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB, c.ReceiverLagMB = 1, 64 })
	pub := s.publish("cam", "key")
	ps := s.session(pub)
	rec := s.receive("cam", "key", wstest.ReceiveBuffer(4096))
	s.stall(pub, rec)
	low := ps.ch.lowest()
	for i := range 100 {
		pub.Send(wstest.Binary, numbered(i, 32<<10))
	}
	pub.Sync()
	if now := ps.ch.lowest(); now != low {
		t.Errorf("the lowest sequence wanted went from %d to %d, past a receiver that takes nothing", low, now)
	}
	rec.Close()
	eventually(t, "nobody wants anything", func() bool { return ps.ch.lowest() == math.MaxUint64 })
}

// Pings that come while somebody else writes are answered one by one, in order;
// of a flood of them the newest is, and little is kept.
func TestPingsThatComeWhileSomebodyWrites(t *testing.T) {
	for _, n := range []int{10, 1000} {
		t.Run(fmt.Sprintf("pings=%d", n), func(t *testing.T) {
			s := newTestServer(t)
			rec := s.receive("cam", "key", wstest.Patience(patience))
			rs := s.session(rec)
			payload := func(i int) string { return fmt.Sprintf("%0100d", i) }
			func() {
				rs.mu.Lock()
				defer rs.mu.Unlock()
				for i := range n {
					rec.Send(wstest.Ping, []byte(payload(i)))
				}
				eventually(t, "the last ping was read", func() bool {
					b := rs.pongs.Load()
					return b != nil && strings.HasSuffix(string(*b), payload(n-1))
				})
				if kept := len(*rs.pongs.Load()); kept > maxPongs+127 {
					t.Errorf("%d bytes of answers are kept", kept)
				}
			}()
			rs.flushPending()
			last := -1
			for last < n-1 {
				m, err := rec.NextFrame(patience)
				if err != nil {
					t.Fatal(err)
				}
				var i int
				if _, err := fmt.Sscanf(string(m.Payload), "%d", &i); err != nil || m.Op != wstest.Pong || i <= last {
					t.Fatalf("got %v after the answer to ping %d", m, last)
				}
				if n == 10 && i != last+1 {
					t.Errorf("ping %d was not answered", last+1)
				}
				last = i
			}
		})
	}
}

// A length in a header is not memory: 50 publishers that declare 64 MiB each and send a
// few bytes cost less than one of those messages.
func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	const n, declared = 50, 64 * mib
	s := newTestServer(t, func(c *Config) { c.MaxMessageMB, c.ReceiverLagMB = 64, 64 })
	pubs, sessions := make([]*wstest.Conn, n), make([]*session, n)
	for i := range pubs {
		pubs[i] = s.publish(fmt.Sprint("cam", i), "key")
		sessions[i] = s.session(pubs[i])
	}
	allocated := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.TotalAlloc)
	}
	before := allocated()
	for _, pub := range pubs {
		pub.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("few"), Declare: declared}))
	}
	for i, rs := range sessions {
		eventually(t, fmt.Sprintf("the beginning of message %d is there", i), func() bool { return rs.in.size.Load() > 0 })
	}
	// A buffer of the pool may have had a larger message before, of maxPooled at most.
	if grown := allocated() - before; grown >= declared {
		t.Errorf("%d declared messages of %d MiB: %d MiB were allocated", n, declared/mib, grown/mib)
	}
	if used := s.budget.used.Load(); used >= declared {
		t.Errorf("%d declared messages of %d MiB: %d MiB are counted", n, declared/mib, used/mib)
	}
}
