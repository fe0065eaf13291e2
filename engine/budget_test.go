package engine

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// To what size caches are cut so that together they fit: the largest first.
func TestFairCap(t *testing.T) {
	for _, c := range []struct {
		sizes []int64
		room  int64
		want  int64
	}{
		{sizes: nil, room: 0, want: math.MaxInt64},
		{sizes: []int64{5}, room: 5, want: math.MaxInt64},
		{sizes: []int64{5}, room: 4, want: 4},
		{sizes: []int64{5}, room: -1, want: 0},
		{sizes: []int64{10, 2, 3}, room: 15, want: math.MaxInt64},
		{sizes: []int64{10, 2, 3}, room: 14, want: 9},
		{sizes: []int64{10, 2, 3}, room: 8, want: 3},
		{sizes: []int64{10, 2, 3}, room: 7, want: 2},
		{sizes: []int64{8, 8, 8, 8}, room: 20, want: 5},
		{sizes: []int64{1, 100, 100}, room: 101, want: 50},
	} {
		got := fairCap(c.sizes, c.room)
		if got != c.want {
			t.Errorf("%v in %d: %d each, wanted %d", c.sizes, c.room, got, c.want)
		}
		sum := int64(0)
		for _, n := range c.sizes {
			sum += min(n, got)
		}
		if sum > max(c.room, 0) {
			t.Errorf("%v in %d: %d in all", c.sizes, c.room, sum)
		}
	}
}

// withBudget gives a server a budget in bytes. To be called before it has streams. It is
// the keeper that does it, who looks at any time.
func (s *testServer) withBudget(n int64) *testServer {
	s.askKeeper(func() { s.budget.size = n })
	return s
}

// askKeeper has the keeper do something before it looks next.
func (s *testServer) askKeeper(f func()) {
	done := make(chan struct{})
	s.budget.asked <- func() {
		f()
		close(done)
	}
	<-done
}

// awaitLook returns when the keeper has had a whole look.
func (s *testServer) awaitLook() {
	for range 2 { // it may have been at one
		s.askKeeper(func() {})
	}
}

// publishSoon is publish where others have published, and do not go on meanwhile: the
// keeper may have come too late to cut for that, and refuse newcomers for a moment.
func (s *testServer) publishSoon(channel, key string) *wstest.Conn {
	s.t.Helper()
	s.awaitLook()
	eventually(s.t, "publishers are let in", func() bool { return !s.budget.closed.Load() })
	return s.publish(channel, key)
}

// wantWithin waits until no more than the budget is used.
func (s *testServer) wantWithin() {
	s.t.Helper()
	eventually(s.t, "no more than the budget is used", func() bool { return s.budget.used.Load() <= s.budget.full() })
}

// fill publishes packets 0 to n-1 and waits until they are in the ring.
func (s *testServer) fill(c *wstest.Conn, n, size int) {
	s.t.Helper()
	for i := range n {
		c.Send(wstest.Binary, numbered(i, size))
	}
	c.Sync()
}

// Whether or not anything is published any more, the largest caches are cut, to one
// size; small ones stay, and who comes later gets the newest packets of all.
func TestTheLargestCachesAreCut(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 64 }).withBudget(8 * mib)
	small := s.publish("small", "key")
	s.fill(small, 64, 1<<10)
	sizes := []int{6, 6, 6, 6} // MiB
	for i, n := range sizes {
		s.fill(s.publishSoon(fmt.Sprint("large", i), "key"), n*mib/(16<<10), 16<<10)
	}
	s.wantWithin()
	s.awaitLook() // it goes on to less than that
	for i, n := range sizes {
		r := s.receive(fmt.Sprint("large", i), "key")
		first := number(r.Next().Payload)
		if first <= 0 {
			t.Fatalf("channel %d: a joiner begins at packet %d of a cache that was cut", i, first)
		}
		for j := first + 1; j < n*mib/(16<<10); j++ {
			r.WantPacket(numbered(j, 16<<10))
		}
	}
	r := s.receive("small", "key")
	for i := range 64 {
		r.WantPacket(numbered(i, 1<<10))
	}
}

// A newest packet stays, however large: then the others are cut further, and nobody
// is ended while that helps.
func TestCachesAreCutBelowALargePacket(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 64 }).withBudget(16 * mib)
	s.fill(s.publish("big", "key"), 1, 8*mib)
	begun := s.publishSoon("begun", "key")
	begun.SendFrames(wstest.Frame{Op: wstest.Binary, More: true, Payload: make([]byte, 10)})
	for i := range 4 {
		s.fill(s.publishSoon(fmt.Sprint("cam", i), "key"), 2*mib/(16<<10), 16<<10)
	}
	s.wantWithin()
	begun.SendFrames(wstest.Frame{Op: wstest.Continuation, Payload: []byte("end")})
	if m := s.receive("begun", "key").Next(); len(m.Payload) != 13 {
		t.Errorf("a packet of %d bytes, wanted 13", len(m.Payload))
	}
	s.receive("big", "key").WantPacket(numbered(0, 8*mib))
}

// Slow receivers that lose their next packet in the middle of one before it keep
// that for a while: it counts once, however many they are and however often they are
// looked at, and nobody is ended for it.
func TestBegunPacketsCountOnce(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 }).withBudget(24 * mib)
	slow := s.publish("slow", "key")
	all := s.stallInPackets(slow, "slow", 4, 3)
	for i := range 12 {
		slow.Send(wstest.Binary, numbered(4+i, mib))
	}
	slow.Sync()
	other := s.publishSoon("other", "key")
	for i := range 32 * mib / (64 << 10) {
		other.Send(wstest.Binary, numbered(i, 64<<10))
		if i%16 == 0 {
			other.Sync()
			s.wantWithin()
			slow.Sync()
			for _, ch := range s.registry.live() {
				ch.wakeNow() // they are looked at
			}
			if used, pinned := s.budget.used.Load(), s.budget.pinned.Load(); pinned > 5*mib || used < 0 {
				t.Fatalf("%d MiB are counted, %d for packets that were begun", used/mib, pinned/mib)
			}
		}
	}
	if s.budget.closed.Load() {
		t.Error("new publishers are refused")
	}
	other.Sync()
	slow.Sync()
	for _, r := range all {
		r.Close()
	}
	eventually(t, "nothing is pinned", func() bool { return s.budget.pinned.Load() == 0 })
}

// The rests of such packets take a quarter of the memory: who needs more is cut off at once,
// in the middle of its packet, and nobody else has to give anything for it.
func TestBegunPacketsTakeAQuarter(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 }).withBudget(24 * mib)
	other := s.publish("other", "key")
	kept := s.receive("other", "key", wstest.ReceiveBuffer(4<<10)) // what it has not taken is kept for it
	kept.StopReading()
	s.fill(other, 4*mib/(64<<10)-1, 64<<10)
	slow := s.publish("slow", "key")
	all := s.stallInPackets(slow, "slow", 12, 1)
	var sessions []*session
	for _, r := range all {
		sessions = append(sessions, s.session(r))
	}
	for i := range 24 {
		slow.Send(wstest.Binary, numbered(12+i, mib))
		slow.Sync()
		// One may just be looked at.
		if pinned := s.budget.pinned.Load(); pinned > 8*mib {
			t.Fatalf("%d MiB are kept for packets that were begun", pinned/mib)
		}
	}
	cut := 0
	for i, r := range all {
		eventually(t, "it is a slow receiver", func() bool { return sessions[i].reason() == slowReceiver })
		next := i
		r.ResumeReading()
		for {
			m, err := r.NextE()
			if err != nil {
				cut++
				break
			}
			if m.Op == wstest.Close {
				if m.Code() != 4008 {
					t.Errorf("receiver %d was closed with %d", i, m.Code())
				}
				break
			}
			if m.Op == wstest.Binary && number(m.Payload) != next {
				t.Errorf("receiver %d got packet %d, wanted %d", i, number(m.Payload), next)
			}
			if m.Op == wstest.Binary {
				next++
			}
		}
		if next > i+1 {
			t.Errorf("receiver %d got packets to %d, and was in the middle of %d", i, next-1, i)
		}
	}
	if cut < len(all)-6 {
		t.Errorf("%d of %d were cut off, and 6 MiB are room for 6", cut, len(all))
	}
	kept.ResumeReading()
	for i := range 4*mib/(64<<10) - 1 {
		kept.WantPacket(numbered(i, 64<<10))
	}
	if s.budget.closed.Load() {
		t.Error("new publishers are refused")
	}
	other.Sync()
	slow.Sync()
	eventually(t, "nothing is pinned", func() bool { return s.budget.pinned.Load() == 0 })
}

// stallInPackets publishes numbered packets of 1 MiB, which is more than the sockets hold, to
// a channel without a cache, and returns its receivers, each of which has stopped in the
// middle of its first packet: so many in each.
func (s *testServer) stallInPackets(pub *wstest.Conn, channel string, packets, each int) (all []*wstest.Conn) {
	s.t.Helper()
	for p := range packets {
		for range each {
			r := s.receive(channel, "key", wstest.ReceiveBuffer(4<<10))
			r.StopReading()
			all = append(all, r)
		}
		pub.Send(wstest.Binary, numbered(p, mib))
		for _, r := range all[p*each:] {
			rs := s.session(r)
			eventually(s.t, "it is in the middle of a packet, and its socket is full", func() bool {
				rs.mu.Lock()
				defer rs.mu.Unlock()
				return rs.mid && !rs.free()
			})
		}
	}
	return all
}

// Publishers that were refused because caches were cut too late are let in when that is
// done, though the caches stay as full as they may be.
func TestARefusalLastsNoLongerThanTheShortage(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 64 }).withBudget(4 * mib)
	s.fill(s.publish("cam", "key"), 3*mib/(16<<10), 16<<10)
	s.budget.closed.Store(true)
	eventually(t, "publishers are let in", func() bool { return !s.budget.closed.Load() })
	if used := s.budget.used.Load(); used < s.budget.roomy() {
		t.Errorf("%d bytes are used, wanted a full cache", used)
	}
}

// When streams have ended caches grow again.
func TestCachesGrowAgain(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 64 }).withBudget(4 * mib)
	var all []*wstest.Conn
	for i := range 4 {
		c := s.publishSoon(fmt.Sprint("cam", i), "key")
		s.fill(c, 2*mib/(16<<10), 16<<10)
		all = append(all, c)
	}
	s.wantWithin()
	for _, c := range all {
		c.CloseHandshake(1000)
	}
	eventually(t, "caches may grow again", func() bool { return s.budget.most.Load() == math.MaxInt64 })
	c := s.publishSoon("again", "key")
	s.fill(c, 2*mib/(16<<10), 16<<10)
	r := s.receive("again", "key")
	for i := range 2 * mib / (16 << 10) {
		r.WantPacket(numbered(i, 16<<10))
	}
}

// A stream that has ended and is still being read goes before any cache of a live
// one; its receiver is told that it was too slow.
func TestEndedStreamsGoFirst(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 64 }).withBudget(24 * mib)
	ended := s.publish("ended", "key")
	slow := s.receive("ended", "key", wstest.ReceiveBuffer(4<<10))
	ss := s.session(slow)
	const size = 64 << 10
	s.fill(ended, 16*mib/size, size)
	ended.CloseHandshake(1000)
	told := make(chan error, 1)
	go func() { told <- toldTooSlow(slow, ss) }()
	live := s.publishSoon("live", "key")
	for i := range 8 * mib / size {
		live.Send(wstest.Binary, numbered(i, size))
		live.Sync()
		s.wantWithin() // the keeper has had its turn
	}
	r := s.receive("live", "key")
	for i := range 8 * mib / size {
		r.WantPacket(numbered(i, size))
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
}

// toldTooSlow reads nothing until the session is ended, then packets from the first one
// on, and wants 4008 behind them. Who does not come to that in closeTimeout is cut.
func toldTooSlow(slow *wstest.Conn, ss *session) error {
	ended := func() bool { // and endedAt is set
		ss.srv.closing.mu.Lock()
		defer ss.srv.closing.mu.Unlock()
		_, closing := ss.srv.closing.at[ss]
		return closing || ss.gone.Load()
	}
	for end := time.Now().Add(patience); !ended(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("the slow receiver is not ended")
		}
	}
	if r := ss.reason(); r != slowReceiver {
		return fmt.Errorf("the slow receiver is ended for reason %v", r)
	}
	for i := 0; ; i++ {
		m, err := slow.NextE()
		switch {
		case err != nil && ss.srv.now()-ss.endedAt >= int64(closeTimeout):
			return nil
		case err != nil:
			return fmt.Errorf("the slow receiver: %w", err)
		case m.Op == wstest.Close && m.Code() != 4008:
			return fmt.Errorf("the slow receiver was closed with %d, wanted 4008", m.Code())
		case m.Op == wstest.Close:
			return nil
		case m.Op == wstest.Binary && number(m.Payload) != i: // TEXT is ERROR: …
			return fmt.Errorf("the slow receiver got a packet that is not packet %d", i)
		}
	}
}

// Messages that are being put together count, and the largest one's publisher is
// ended when there is nothing else to give up.
func TestTheLargestMessageGoesLast(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 }).withBudget(8 * mib)
	begin := func(channel string, n int) *wstest.Conn {
		c := s.publish(channel, "key")
		c.SendFrames(wstest.Frame{Op: wstest.Binary, More: true, Payload: make([]byte, n)})
		return c
	}
	var others []*wstest.Conn
	for i := range 2 {
		c := begin(fmt.Sprint("cam", i), mib)
		c.Sync()
		others = append(others, c)
	}
	large := s.publish("large", "key")
	_ = large.SendRawE(wstest.Bytes(wstest.Frame{Op: wstest.Binary, More: true, Payload: make([]byte, 6*mib)})) // it may have been ended
	large.WantError("The server is short of memory, publish again", 1013)
	s.wantWithin()
	for i, c := range others {
		c.SendFrames(wstest.Frame{Op: wstest.Continuation, Payload: []byte("end")})
		if m := s.receive(fmt.Sprint("cam", i), "key").Next(); len(m.Payload) != mib+3 {
			t.Errorf("a packet of %d bytes, wanted %d", len(m.Payload), mib+3)
		}
	}
}

// Where no message is large and nothing else is left to give up, who has most goes, one
// after the other until it is enough: publishers that have been let in cannot together take
// more than there is, be their packets complete or not.
func TestWhoHasMostGoesWhenNoMessageIsLarge(t *testing.T) {
	for _, more := range []bool{false, true} {
		s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 }).withBudget(8 * mib)
		small := s.publish("small", "key")
		s.fill(small, 1, 1000)
		pubs := make([]*wstest.Conn, 16)
		for i := range pubs {
			pubs[i] = s.publish(fmt.Sprint("cam", i), "key")
		}
		for i, c := range pubs {
			f := wstest.Frame{Op: wstest.Binary, More: more, Payload: numbered(i, 900<<10)}
			_ = c.SendRawE(f.AppendTo(nil)) // it may have been ended
		}
		left := 0
		for i, c := range pubs {
			switch code, err := c.SyncE(); {
			case err != nil || code != 0 && code != 1013:
				t.Errorf("publisher %d: wanted a pong or CLOSE 1013, got CLOSE %d, %v", i, code, err)
			case code == 0:
				left++ // it may be ended later
			}
		}
		eventually(t, "no more than the budget is used", func() bool { return s.budget.used.Load() <= s.budget.size })
		if live := len(s.registry.live()); live > 10 || live < 4 || left < live-1 {
			t.Errorf("%d publishers go on, %d of them said so", live, left)
		}
		small.Sync()
		s.receive("small", "key").WantPacket(numbered(0, 1000))
	}
}

// A publisher that was ended for its memory, and whose receiver reads nothing, does not keep
// that memory, so that others would have to be ended after it: the receiver is a slow one.
func TestStalledReceiversOfWhoWasEndedKeepNothing(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 }).withBudget(16 * mib)
	honest := s.publish("honest", "key")
	s.fill(honest, 2, 100<<10)
	const n = 50
	var pubs, stalled [n]*wstest.Conn
	var sessions [n]*session
	for i := range n {
		pubs[i] = s.publish(fmt.Sprint("cam", i), "key")
		stalled[i] = s.receive(fmt.Sprint("cam", i), "key", wstest.ReceiveBuffer(4<<10))
		sessions[i] = s.session(stalled[i])
	}
	var told [n]int // close codes
	for i, c := range pubs {
		_ = c.SendE(wstest.Binary, numbered(0, 400<<10)) // it may have been ended
		told[i], _ = c.SyncE()                           // whole before the next begins: of who is ended before that nothing is kept
	}
	eventually(t, "no more than the budget is used", func() bool {
		return s.budget.needed() <= s.budget.size && len(s.registry.live()) < 1+n
	})
	for i := range 20 { // many looks of the keeper later
		honest.Send(wstest.Binary, numbered(i, 1000))
		honest.Sync()
		s.budget.asked <- func() {}
	}
	var slow []int
	eventually(t, "who keeps what is needed is a slow receiver", func() bool {
		slow = slow[:0]
		for i, rs := range sessions {
			if rs.reason() == slowReceiver {
				slow = append(slow, i)
			}
		}
		return len(slow) > 0
	})
	cut := 0
	for _, i := range slow {
		var err error
		if told[i] == 0 {
			told[i], err = pubs[i].SyncE()
		}
		if told[i] != 1013 {
			t.Errorf("publisher %d: wanted CLOSE 1013, got CLOSE %d, %v", i, told[i], err)
		}
		err = toldTooSlow(stalled[i], sessions[i])
		if errors.Is(err, syscall.ECONNRESET) {
			cut++ // at once; how many may be is looked at below
			err = nil
		}
		if err != nil {
			t.Errorf("channel %d: %v", i, err)
		}
		rs := sessions[i]
		if took := time.Duration(rs.endedAt - rs.ch.over.Load()); took >= endedStall {
			t.Errorf("channel %d: its receiver had %v after the end, as one that is in nobody's way", i, took)
		}
	}
	// What is kept for such receivers has a quarter of the memory: ten of these packets. Who
	// comes beyond that is cut off, with those that are looked at in the same moment.
	const fit = 4 * mib / (404 << 10)
	all := 0
	for _, rs := range sessions {
		if rs.reason() == slowReceiver {
			all++
		}
	}
	if most := all - max(fit-len(s.drainers), 0); cut > 0 && (all <= fit || cut > most) {
		t.Errorf("%d of %d slow receivers were cut off at once, and there is room for %d", cut, all, fit)
	}
}

// What others than publishers hold ends none of them.
func TestNoPublisherIsEndedForWhatOthersHold(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 }).withBudget(16 * mib)
	var pubs []*wstest.Conn
	for i := range 4 {
		c := s.publish(fmt.Sprint("cam", i), "key")
		s.fill(c, 8, 256<<10)
		pubs = append(pubs, c)
	}
	s.budget.add(16 * mib) // stands for unsent bytes
	for range 3 {
		s.budget.asked <- func() {} // the keeper has looked
	}
	for _, c := range pubs {
		c.Sync()
	}
	s.budget.add(-16 * mib)
}

// New publishers are refused, before anybody is asked about them, while there is
// nothing left to give up; receivers are not.
func TestNoPublisherWithoutMemory(t *testing.T) {
	s := newTestServer(t).withBudget(8 * mib)
	live := s.publish("live", "key")
	s.fill(live, 4, 1000)
	s.budget.add(8 * mib) // stands for what nobody can give up
	eventually(t, "new publishers are refused", s.budget.closed.Load)
	if r := wstest.Refused(t, 503, s.addr, "/late/key/publish"); !strings.Contains(r.String(), "short of memory") {
		t.Errorf("the refusal does not say why: %v", r)
	}
	wstest.Refused(t, 403, s.addr, "/live/key/publish") // taken, memory or not
	r := s.receive("live", "key")
	r.Next()
	live.Send(wstest.Binary, numbered(4, 1000))
	live.Sync()
	s.budget.add(-8 * mib)
	eventually(t, "new publishers are let in", func() bool { return !s.budget.closed.Load() })
	s.publish("late", "key")
}

// What nbio keeps for full sockets counts, and is forgotten with the connection,
// however that ends.
func TestUnsentBytesCount(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	pub := s.publish("cam", "key")
	const n = 8
	var slow []*wstest.Conn
	for range n {
		c := s.receive("cam", "key", wstest.ReceiveBuffer(4<<10))
		c.StopReading()
		slow = append(slow, c)
	}
	s.fill(pub, 8, 256<<10) // more than a socket takes
	for _, c := range slow {
		rs := s.session(c)
		eventually(t, "the socket is full", func() bool { return !rs.free() })
	}
	counted := func() int64 {
		var rings int64
		for _, ch := range s.registry.live() {
			rings += ch.ring.Size()
		}
		return s.budget.used.Load() - rings
	}
	eventually(t, "what sockets did not take is counted", func() bool {
		got := counted()
		return got >= n && got <= n*keptPiece
	})
	for i, c := range slow {
		if i%2 == 0 {
			c.Reset()
		} else {
			c.Close()
		}
	}
	eventually(t, "it is forgotten", func() bool { return counted() == 0 })
}
