package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// Once everybody has gone the totals are what was sent and received, to the byte, and
// nothing else is left.
func TestTotalsWhenEverybodyHasGone(t *testing.T) {
	s := newTestServer(t, withTLS(t), func(c *Config) { c.GOPCacheSizeMB = 16 })
	var want Totals
	for round := range 3 {
		pub := s.publish("cam", "key")
		waits, probe := s.receive("nobody", "key"), s.dial("/cam/key/probe")
		recs := []*wstest.Conn{s.receive("cam", "key"), s.dialTLS("/cam/key/receive"), s.receive("cam", "key")}
		var bytes int64
		for i := range 20 + round {
			pub.Send(wstest.Binary, numbered(i, i*i*100))
			bytes += wireSize(i * i * 100)
			for _, c := range recs {
				c.WantPacket(numbered(i, i*i*100))
			}
		}
		probe.WantPacket(numbered(0, 0))
		probe.WantClose(1000)
		n := int64(20 + round)
		want.ReceivedBytes += bytes
		want.ReceivedPackets += n
		want.SentBytes += 3*bytes + wireSize(0)
		want.SentPackets += 3*n + 1
		recs[2].Reset()
		pub.CloseHandshake(1000)
		for _, c := range recs[:2] {
			c.WantClose(1000)
		}
		waits.Close()
		s.wantNothingLeft()
		if got := s.Overview().Totals; got != want {
			t.Fatalf("round %d: %+v, wanted %+v", round, got, want)
		}
	}
}

// What a publisher has sent is noted before it can send more: of two who look at the same
// time the one that looked first does not note last, and nothing that was sent is
// forgotten, not at the end either.
func TestWhatIsSentIsNotedInOrder(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	pub.Sync()
	ps := s.session(pub)
	done := make(chan struct{})
	ps.tallied().mu.Lock()
	letGo := sync.OnceFunc(ps.tallied().mu.Unlock)
	defer letGo()
	go func() {
		defer close(done)
		ps.observePublished()
	}()
	eventually(t, "the publisher waits for who looks", func() bool {
		for range 50 { // at every look: it is held, and not just being taken
			if ps.in.mu.TryLock() {
				ps.in.mu.Unlock()
				return false
			}
			time.Sleep(time.Millisecond)
		}
		return true
	})
	letGo()
	<-done
	if got := ps.numbers().sum; got != (sum{wireSize(1000), 1}) {
		t.Errorf("%+v was noted", got)
	}
}

// A session is there until its group has let go of it, though its connection is closed
// before: only then it is known what it did. It counts once.
func TestASessionStaysUntilItsGroupLetsGo(t *testing.T) {
	s := newTestServer(t)
	pub, rec := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	rec.WantPacket(numbered(0, 1000))
	rs := s.session(rec)
	g := rs.group.Load()
	g.passing.Lock()
	rec.Reset()
	eventually(t, "its connection is closed", rs.released.Load)
	pub.Send(wstest.Binary, numbered(1, 1000)) // which it never gets
	pub.Sync()
	if s.roster.find(rs.id) == nil || s.Ends()["client_gone"] != 0 {
		t.Error("the session is gone before its group has let go of it")
	}
	g.passing.Unlock()
	eventually(t, "the session is gone", func() bool { return s.roster.find(rs.id) == nil })
	if n := s.Ends()["client_gone"]; n != 1 {
		t.Errorf("it counts %d times", n)
	}
	if y := rs.numbers(); y.sum != (sum{wireSize(1000), 1}) || y.lagBytes != wireSize(1000) || y.lagPackets != 1 {
		t.Errorf("at its end it had got %+v and had a lag of %d packets, %d bytes", y.sum, y.lagPackets, y.lagBytes)
	}
}

// A pass that does not come to an end holds nobody up who looks: what was noted before
// has to do. When it is over what is new is noted, once for all who have asked.
func TestLookingDoesNotWaitForALongPass(t *testing.T) {
	s := newTestServer(t)
	pub, rec := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	rec.WantPacket(numbered(0, 1000))
	s.wantCarried(rec, 1, wireSize(1000))
	g := s.session(rec).group.Load()
	s.survey.mu.Lock()
	s.survey.patience = time.Millisecond
	s.survey.mu.Unlock()
	g.passing.Lock()
	pub.Send(wstest.Binary, numbered(1, 1000))
	pub.Sync()
	for range 3 {
		s.wantCarried(rec, 1, wireSize(1000))
		s.wantCarried(pub, 2, 2*wireSize(1000))
	}
	if n := goroutines("observeLater"); n != 1 {
		t.Errorf("%d goroutines wait for the pass, wanted 1", n)
	}
	noted := g.noted
	g.passing.Unlock()
	rec.WantPacket(numbered(1, 1000))
	eventually(t, "it is noted when the pass is over", func() bool {
		select {
		case <-noted:
			return true
		default:
			return false
		}
	})
	eventually(t, "and what came since at the next look", func() bool { return s.info(rec).Packets == 2 })
}

// At the end of a receiver that was too slow its lag is what made it so.
func TestLagAtTheEndOfASlowReceiver(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB, c.ReceiverLagMB, c.MaxMessageMB = 1, 1, 1 })
	pub := s.publish("cam", "key")
	slow := s.receive("cam", "key", wstest.ReceiveBuffer(4096))
	ss := s.stall(pub, slow)
	from := s.now()
	eventually(t, "some time has passed", func() bool { return s.now()-from > int64(100*time.Millisecond) })
	for i := 0; ss.ending.Load() == 0; i++ {
		pub.Send(wstest.Binary, numbered(i, 32<<10))
		pub.Sync()
	}
	published := s.info(pub).Bytes
	slow.Close()
	eventually(t, "it is gone", func() bool { return s.roster.find(ss.id) == nil })
	y := ss.numbers()
	if least := published - int64(3<<20); y.lag < 99 || y.lagBytes < 1<<20 || y.lagBytes > published || y.sum.bytes+y.lagBytes < least {
		t.Errorf("it had got %d of %d bytes, and its lag was %d ms, %d bytes", y.sum.bytes, published, y.lag, y.lagBytes)
	}
}

// Who is cut off at the end of a shutdown counts, and is in the totals, too.
func TestWhoIsCutOffCounts(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.ReceiverLagMB = 64 })
	pub := s.publish("cam", "key")
	var slow []*wstest.Conn
	for range 3 {
		slow = append(slow, s.receive("cam", "key", wstest.ReceiveBuffer(4096)))
	}
	for _, c := range slow {
		s.stall(pub, c)
	}
	published := s.info(pub).Bytes
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.hasten(ctx)
	n := int64(0)
	for _, count := range s.Ends() {
		n += count
	}
	if total := s.roster.totals(); n != 4 || total.ReceivedBytes != published {
		t.Errorf("%d sessions count, %d bytes are received; wanted 4, %d", n, total.ReceivedBytes, published)
	}
}

// Looking all the time harms nobody, whatever comes and goes meanwhile: no total ever
// falls, the histogram has every receiver, and in the end all is counted.
func TestLookingWhileEverybodyComesAndGoes(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.ReceiverLagMB, c.MaxMessageMB = 1, 1 })
	const channels, each = 4, 5
	receivers := 1000
	if testing.Short() {
		receivers = 200
	}
	var published, packets, ended atomic.Int64
	stop := make(chan struct{})
	var looking, publishing, coming sync.WaitGroup
	looking.Go(func() { s.keepLooking(stop) })
	quit := make(chan struct{})
	payload := make([]byte, 6000)
	for c := range channels {
		publishing.Go(func() {
			for { // one publisher after the other
				pub, _, err := wstest.Open(s.addr, fmt.Sprintf("/cam%d/key/publish", c))
				if err != nil || pub == nil {
					t.Error("a publisher is not let in: ", err)
					return
				}
				for range 50 {
					n := 100 + rand.IntN(5000)
					if pub.SendE(wstest.Binary, payload[:n]) != nil {
						t.Error("cannot publish")
					}
					published.Add(wireSize(n))
					packets.Add(1)
				}
				_ = pub.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
				for m := (wstest.Msg{}); err == nil && m.Op != wstest.Close; m, err = pub.NextE() {
					continue
				}
				pub.Close()
				ended.Add(1)
				select {
				case <-quit:
					return
				default:
				}
			}
		})
	}
	var left atomic.Int64
	left.Store(int64(receivers))
	for w := range channels * each {
		coming.Go(func() {
			for left.Add(-1) >= 0 {
				rec, _, err := wstest.Open(s.addr, fmt.Sprintf("/cam%d/key/receive", w%channels))
				if err != nil || rec == nil {
					t.Error("a receiver is not let in: ", err)
					return
				}
				for range rand.IntN(20) {
					if m, err := rec.NextE(); err != nil || m.Op == wstest.Close {
						break
					}
				}
				if rand.IntN(2) == 0 {
					rec.Reset()
				} else {
					rec.Close()
				}
			}
		})
	}
	coming.Wait()
	close(quit)
	publishing.Wait()
	close(stop)
	looking.Wait()
	s.wantNothingLeft()
	got := s.Overview()
	if got.Totals.ReceivedBytes != published.Load() || got.Totals.ReceivedPackets != packets.Load() {
		t.Errorf("%+v, wanted %d packets, %d bytes received", got.Totals, packets.Load(), published.Load())
	}
	if got.Totals.SentPackets == 0 || ended.Load() < channels {
		t.Errorf("%d packets were sent, %d publishers have ended", got.Totals.SentPackets, ended.Load())
	}
	sum := int64(0)
	for _, n := range s.Ends() {
		sum += n
	}
	if want := ended.Load() + int64(receivers); sum != want {
		t.Errorf("%d sessions have ended, wanted %d", sum, want)
	}
}

// keepLooking looks at everything until stop is closed.
func (s *testServer) keepLooking(stop <-chan struct{}) {
	var before Totals
	for {
		select {
		case <-stop:
			return
		default:
		}
		o := s.Overview()
		if last := o.Lag[len(o.Lag)-1].Count; last != int64(o.Receivers) {
			s.t.Errorf("%d receivers are in the histogram of %d", last, o.Receivers)
		}
		now := o.Totals
		if now.ReceivedBytes < before.ReceivedBytes || now.ReceivedPackets < before.ReceivedPackets ||
			now.SentBytes < before.SentBytes || now.SentPackets < before.SentPackets {
			s.t.Errorf("the totals fall from %+v to %+v", before, now)
		}
		before = now
		for _, i := range s.Sessions() {
			if i.Bytes < 0 || i.LagBytes < 0 || i.LagSeconds < 0 || i.BytesPerSecond < 0 || i.LagBytes > 0 != (i.LagPackets > 0) {
				s.t.Errorf("%+v", i)
			}
		}
		for _, c := range s.Channels() {
			if c.CacheBytes < 0 || c.CacheSeconds < 0 || c.Live != (c.Publisher != nil) || !c.Live && c.Waiting == 0 {
				s.t.Errorf("%+v", c)
			}
		}
	}
}
