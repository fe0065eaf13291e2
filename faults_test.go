package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

func TestAMessageOfManyTinyFragmentsIsCheap(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	p := payload(1<<18, 1)
	pub.SendRaw(wstest.Bytes(wstest.Message(wstest.Binary, p, len(p))...))
	r.WantPacket(p)
	// Empty fragments without end are no message, and no memory.
	before := s.memory()
	pub.SendFrames(frame{Op: wstest.Binary, More: true})
	b := wstest.Bytes(slices.Repeat([]frame{{Op: wstest.Continuation, More: true}}, 100_000)...)
	for range 5 {
		pub.SendRaw(b)
	}
	pub.Sync() // all of it is read
	if grown := s.memory() - before; grown > 100<<20 {
		t.Errorf("wanted empty fragments to cost nothing, got %d MiB", grown>>20)
	}
	s.receive("x", "y").Sync()
}

func TestMistake10ChurnKillsNobody(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=8", "MAX_MESSAGE_MB=1")
	before := s.descriptors()
	pub := s.publish("cam", "key")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	// Those that stay, on the busy channel and on an idle one.
	const staying = 20
	var stay []*wstest.Conn
	for range staying {
		stay = append(stay, s.receive("cam", "key"))
	}
	var idle []*wstest.Conn
	var life wstest.LifeSigns // of all that nobody reads yet
	for i := range 30 {
		idle = append(idle, s.receive(fmt.Sprint("idle", i), "key"))
		life.From(slices.Concat(stay, idle, []*wstest.Conn{pub})...)
	}
	for _, r := range stay {
		wg.Go(func() {
			if _, _, code, err := follow(r, nil); err != nil || code != 1000 {
				t.Errorf("a receiver that stayed: wanted every packet and 1000, got %d, %v", code, err)
			}
		})
	}
	// Those that come and go.
	var churned atomic.Int64
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			for {
				select {
				case <-stop:
					return
				default:
				}
				kind := []string{"receive", "receive-clear-cache", "probe", "publish"}[rng.IntN(4)]
				channel := []string{"cam", "cam2", "cam3"}[rng.IntN(3)]
				c, _, _ := wstest.Open(s.addr, "/"+channel+"/key/"+kind)
				if c == nil {
					continue
				}
				churned.Add(1)
				if rng.IntN(2) == 0 {
					_ = c.SendE(wstest.Binary, make([]byte, rng.IntN(3000)))
					_, _ = c.NextWithin(time.Duration(rng.IntN(5)) * time.Millisecond)
				}
				switch rng.IntN(4) {
				case 0, 1:
					c.Reset()
				case 2:
					c.Close()
				case 3:
					_ = c.SendRawE(wstest.Bytes(frame{Op: wstest.Binary, Payload: make([]byte, 500)})[:100])
					c.Reset() // in the middle of a frame
				}
			}
		})
	}
	sent := 0
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); sent++ {
		pub.Send(wstest.Binary, numbered(sent, 100+sent*97%4000))
		life.From(idle...)
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	workers.Wait()
	life.From(idle...)
	pub.CloseHandshake(1000)
	wg.Wait()
	for _, c := range idle {
		life.From(idle...)
		c.Sync() // nobody of the living was closed in place of a dead one
	}
	t.Logf("%d connections came and went during %d packets", churned.Load(), sent)
	for _, c := range idle {
		c.Close()
	}
	eventually(t, "every socket is given back", func() bool { return s.descriptors() <= before })
}

func TestMistake09OneChannelWithManyReceivers(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO")
	const receivers, n, size = 300, 150, 2000
	var rs []*wstest.Conn
	var life wstest.LifeSigns
	for range receivers {
		rs = append(rs, s.receive("cam", "key"))
		life.From(rs...)
	}
	pub := s.publish("cam", "key")
	cpu, start := s.processorTime(), time.Now()
	var wg sync.WaitGroup
	for _, r := range rs {
		wg.Go(func() {
			if first, last, code, err := follow(r, nil); err != nil || first != 0 || last != n-1 || code != 1000 {
				t.Errorf("wanted packets 0 to %d and 1000, got %d to %d and %d, %v", n-1, first, last, code, err)
			}
		})
	}
	for i := range n {
		pub.Send(wstest.Binary, numbered(i, size))
	}
	pub.CloseHandshake(1000)
	wg.Wait()
	d := time.Since(start)
	t.Logf("%d deliveries in %v, %.1f cores used by the server", receivers*n, d.Round(time.Millisecond), (s.processorTime()-cpu).Seconds()/d.Seconds())
}

// One publisher that sends as fast as it can holds up nobody else: little of what it sends
// passes before somebody else has an answer.
func TestAFastPublisherDoesNotStarveOthers(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=8", "RECEIVER_LAG_MB=8", "MAX_MESSAGE_MB=8")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent atomic.Int64 // bytes
	for i := range 2 {
		fast := s.publish(fmt.Sprint("fast", i), "key")
		b := wstest.Bytes(frame{Op: wstest.Binary, Payload: payload(60_000, 1)})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := fast.SendRawE(b); err != nil {
					t.Errorf("fast publisher: %v", err)
					return
				}
				sent.Add(int64(len(b)))
			}
		})
	}
	var quiet []*wstest.Conn
	for i := range 8 { // on every poller there are some
		quiet = append(quiet, s.receive(fmt.Sprint("quiet", i), "key"))
	}
	var passed []int64 // bytes of the fast ones from a ping to its pong
	start := time.Now()
	for range 15 {
		for _, c := range quiet {
			before := sent.Load()
			c.Send(wstest.Ping, []byte("x"))
			c.WantPong([]byte("x"))
			passed = append(passed, sent.Load()-before)
		}
	}
	each := time.Since(start) / time.Duration(len(passed))
	close(stop)
	wg.Wait()
	slices.Sort(passed)
	p50, worst := passed[len(passed)/2], passed[len(passed)-1]
	t.Logf("a pong beside two fast publishers after %v on average; p50 %d KiB of theirs, worst %d KiB", each, p50>>10, worst>>10)
	if p50 > 64<<20 || worst > 512<<20 {
		t.Errorf("wanted pongs in turn with fast publishers, got p50 %d and worst %d bytes of theirs before one", p50, worst)
	}
}

func TestResetsInTheMiddleOfADelivery(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=4")
	before := s.descriptors()
	pub := s.publish("cam", "key")
	stay := s.receive("cam", "key")
	for i := range 60 {
		a := s.receive("cam", "key", wstest.ReceiveBuffer(2048))
		b := s.receive("cam", "key", wstest.ReceiveBuffer(2048))
		pub.Send(wstest.Binary, payload(400_000, uint64(i)))
		stay.WantPacket(payload(400_000, uint64(i)))
		a.Reset() // with most of a packet unread
		b.Close()
	}
	pub.CloseHandshake(1000)
	stay.WantClose(1000)
	stay.WantEOF()
	eventually(t, "every socket is given back", func() bool { return s.descriptors() <= before })
}

// A flood of pings from a client that does not read its pongs costs no memory.
func TestPingFloodWithoutReading(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO")
	before := s.memory()
	b := wstest.Bytes(slices.Repeat([]frame{{Op: wstest.Ping, Payload: payload(125, 1)}}, 4000)...)
	for i := range 4 {
		c := s.receive(fmt.Sprint("cam", i), "key", wstest.ReceiveBuffer(2048), wstest.Patience(2*time.Second))
		c.StopReading()
		for range 60 { // 30 MB of pings
			if c.SendRawE(b) != nil {
				break
			}
		}
	}
	s.receive("x", "y").Sync()
	limit := int64(60 << 20)
	if raceEnabled {
		limit *= 3
	}
	if grown := s.memory() - before; grown > limit {
		t.Errorf("wanted pongs that are not read to cost little, got %d MiB", grown>>20)
	}
}

func TestManyIdleConnectionsAreCheap(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO")
	for range 50 {
		s.receive("cam", "key")
	}
	before := s.memory()
	const n = 1500
	for range n {
		s.receive("cam", "key")
	}
	perConn := (s.memory() - before) / n
	t.Logf("%d bytes of memory for each idle receiver", perConn)
	limit := int64(12 << 10)
	if raceEnabled {
		limit *= 5
	}
	if perConn > limit {
		t.Errorf("wanted at most %d bytes for an idle receiver, got %d", limit, perConn)
	}
}
