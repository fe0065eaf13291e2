package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// numbered is a packet of n bytes that carries its number and a checkable rest.
func numbered(i, n int) []byte {
	b := make([]byte, max(n, 4))
	binary.BigEndian.PutUint32(b, uint32(i))
	for j := 4; j < len(b); j++ {
		b[j] = byte(i*31 + j*7)
	}
	return b
}

// checkNumbered returns the number of a packet made by numbered.
func checkNumbered(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("a packet of %d bytes", len(b))
	}
	i := int(binary.BigEndian.Uint32(b))
	for j := 4; j < len(b); j++ {
		if b[j] != byte(i*31+j*7) {
			return i, fmt.Errorf("packet %d differs at byte %d of %d", i, j, len(b))
		}
	}
	return i, nil
}

// follow reads numbered packets until the close frame. It returns the first and
// the last number, and the close code; an error for a gap, a repeat or a bad byte.
func follow(c *wstest.Conn, patience time.Duration, seen func(i int)) (first, last, code int, err error) {
	first, last = -1, -1
	for {
		m, err := c.NextWithin(patience)
		if err != nil {
			return first, last, 0, fmt.Errorf("after packet %d: %w", last, err)
		}
		switch m.Op {
		case wstest.Close:
			return first, last, m.Code(), nil
		case wstest.Text:
			continue
		}
		i, err := checkNumbered(m.Payload)
		if err != nil {
			return first, last, 0, err
		}
		if last >= 0 && i != last+1 {
			return first, last, 0, fmt.Errorf("wanted packet %d, got packet %d", last+1, i)
		}
		if first < 0 {
			first = i
		}
		last = i
		if seen != nil {
			seen(i)
		}
	}
}

func TestMistake03StalledReceiverFreezesNobody(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=4", "RECEIVER_LAG_MB=4", "MAX_MESSAGE_MB=1")
	const all, stalled, n, size = 150, 50, 60, 32 << 10
	var taking []*wstest.Conn
	for i := range all {
		if i%3 == 0 {
			s.receive("cam", "key", wstest.ReceiveBuffer(2048)).StopReading()
			continue
		}
		taking = append(taking, s.receive("cam", "key"))
	}
	pub := s.publish("cam", "key")
	arrived := make([]atomic.Int64, n)
	var worst atomic.Int64
	var sent [n]atomic.Int64
	var wg sync.WaitGroup
	for _, r := range taking {
		wg.Go(func() {
			first, last, code, err := follow(r, 20*time.Second, func(i int) {
				arrived[i].Add(1)
				if d := time.Now().UnixNano() - sent[i].Load(); d > worst.Load() {
					worst.Store(d)
				}
			})
			if err != nil || first != 0 || last != n-1 || code != 1000 {
				t.Errorf("a receiver that reads: wanted packets 0 to %d and 1000, got %d to %d and %d, %v", n-1, first, last, code, err)
			}
		})
	}
	for i := range n {
		sent[i].Store(time.Now().UnixNano())
		pub.Send(wstest.Binary, numbered(i, size))
		time.Sleep(25 * time.Millisecond)
	}
	pub.CloseHandshake(1000)
	wg.Wait()
	if got := arrived[n-1].Load(); got != all-stalled {
		t.Errorf("wanted the last packet at %d receivers, got %d", all-stalled, got)
	}
	t.Logf("worst latency with %d of %d receivers stalled: %v", stalled, all, time.Duration(worst.Load()).Round(time.Millisecond))
	if limit := 5 * time.Second; time.Duration(worst.Load()) > limit {
		t.Errorf("wanted each packet within %v, the worst took %v", limit, time.Duration(worst.Load()))
	}
}

func TestSlowReceiverGets4008AtAFrameBoundary(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=1", "MAX_MESSAGE_MB=1")
	for _, size := range []int{200, 30_000, 700_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := s.on(t)
			pub := s.publish("cam", "key")
			r := s.receive("cam", "key", wstest.ReceiveBuffer(256<<10))
			r.Sync()
			ok := s.receive("cam", "key")
			total := 6 << 20 / size // thrice what is kept: it is told long before the last one, and then has 5 s
			done := make(chan error, 1)
			got := make(chan int, total)
			go func() {
				first, last, code, err := follow(ok, 20*time.Second, func(i int) { got <- i })
				if err == nil && (first != 0 || last != total-1 || code != 1000) {
					err = fmt.Errorf("got packets %d to %d and %d", first, last, code)
				}
				done <- err
			}()
			var batch []byte
			for i := range total {
				batch = frame{Op: wstest.Binary, Payload: numbered(i, size)}.AppendTo(batch)
				if len(batch) < 100_000 && i < total-1 {
					continue
				}
				pub.SendRaw(batch)
				batch = batch[:0]
				for len(got) <= i { // keeps the other one within what is kept
					time.Sleep(time.Millisecond)
				}
			}
			// It reads now: a whole run of packets, then the reason, then the end. It has 5 s.
			first, last, code, err := follow(r, 10*time.Second, nil)
			if err != nil || first != 0 || code != 4008 {
				t.Fatalf("slow receiver: wanted packets from 0 and CLOSE 4008, got %d to %d and %d, %v", first, last, code, err)
			}
			r.WantEOF()
			t.Logf("got packets 0 to %d of %d, then 4008", last, total)
			pub.CloseHandshake(1000)
			if err := <-done; err != nil {
				t.Errorf("the other receiver: wanted packets 0 to %d and 1000, got %v", total-1, err)
			}
		})
	}
	s.signal(syscall.SIGTERM)
	s.wait(15 * time.Second)
	s.wantLog(`msg="sessions ended" client_closed=3 stream_ended=3 slow_receiver=3`)
}

func TestReceiverWithinTheLagIsKept(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=16", "MAX_MESSAGE_MB=1")
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key", wstest.ReceiveBuffer(256<<10))
	r.StopReading()
	const size, n = 100 << 10, 150 // 15 MiB
	for i := range n {
		pub.Send(wstest.Binary, numbered(i, size))
	}
	pub.Sync()
	r.ResumeReading()
	for i := range n {
		r.WantPacket(numbered(i, size))
	}
	pub.Send(wstest.Binary, numbered(n, 10))
	r.WantPacket(numbered(n, 10))
}

func TestSlowReceiversSlotAndMemoryComeBack(t *testing.T) {
	t.Parallel()
	heavy(t)
	requireLoopbackRange(t)
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=1", "MAX_MESSAGE_MB=1", "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", "MAX_IP_CONCURRENT_CONNECTIONS=2")
	pub := s.publish("cam", "key")
	watch := s.receive("cam", "key")
	for range 2 {
		s.receive("cam", "key", wstest.From("127.0.10.1"), wstest.ReceiveBuffer(2048)).StopReading()
	}
	s.refuses(429, "/cam/key/receive", wstest.From("127.0.10.1"))
	go func() { _, _, _, _ = follow(watch, 30*time.Second, nil) }()
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ { // they fall behind, and their slots come back although they never read
		pub.Send(wstest.Binary, numbered(i, 100_000))
		c, _, _ := wstest.Open(s.addr, "/other/key/receive", wstest.From("127.0.10.1"))
		if c != nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("wanted the slots of receivers that are too slow back within 30 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	eventually(t, 15*time.Second, "both slots are free", func() bool {
		a, _, _ := wstest.Open(s.addr, "/other/key/receive", wstest.From("127.0.10.1"))
		b, _, _ := wstest.Open(s.addr, "/other/key/receive", wstest.From("127.0.10.1"))
		for _, c := range []*wstest.Conn{a, b} {
			if c != nil {
				c.Close()
			}
		}
		return a != nil && b != nil
	})
}

func TestMemoryIsBoundedWhateverReceiversDo(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "GOP_CACHE_SIZE_MB=8", "RECEIVER_LAG_MB=8", "MAX_MESSAGE_MB=4", "LOG_REQUESTS=NO")
	pub := s.publish("cam", "key")
	for range 60 {
		s.receive("cam", "key", wstest.ReceiveBuffer(2048)).StopReading()
	}
	watch := s.receive("cam", "key")
	// Receivers that send, and receivers that send endless messages.
	talker := s.receive("cam", "key")
	talker.SendRaw(wstest.Bytes(frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 1 << 40}))
	before := s.memory()
	var wg sync.WaitGroup
	wg.Go(func() {
		junk := make([]byte, 1<<20)
		for range 200 {
			if talker.SendRawE(junk) != nil {
				return
			}
		}
	})
	var peak int64
	for i := range 300 {
		pub.Send(wstest.Binary, payload(1<<20, uint64(i)))
		watch.WantPacket(payload(1<<20, uint64(i)))
		peak = max(peak, s.memory())
	}
	wg.Wait()
	limit := int64(120 << 20)
	if raceEnabled {
		limit *= 4
	}
	t.Logf("memory: %d MiB before, peak %d MiB after 300 MiB", before>>20, peak>>20)
	if peak-before > limit {
		t.Errorf("wanted at most %d MiB more with cache and lag of 16 MiB together, got %d MiB", limit>>20, (peak-before)>>20)
	}
}

func TestAMessageOfManyTinyFragmentsIsCheap(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key", wstest.Patience(60*time.Second))
	r := s.receive("cam", "key", wstest.Patience(60*time.Second))
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
	for i := range 30 {
		idle = append(idle, s.receive(fmt.Sprint("idle", i), "key"))
	}
	for _, r := range stay {
		wg.Go(func() {
			if _, _, code, err := follow(r, 30*time.Second, nil); err != nil || code != 1000 {
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
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	workers.Wait()
	pub.CloseHandshake(1000)
	wg.Wait()
	for _, c := range idle {
		c.Sync() // nobody of the living was closed in place of a dead one
	}
	t.Logf("%d connections came and went during %d packets", churned.Load(), sent)
	for _, c := range idle {
		c.Close()
	}
	base := 40
	eventually(t, 15*time.Second, "every socket is given back", func() bool { return s.descriptors() < base })
}

func TestMistake09OneChannelWithManyReceivers(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO")
	const receivers, n, size = 300, 150, 2000
	var rs []*wstest.Conn
	for range receivers {
		rs = append(rs, s.receive("cam", "key", wstest.Patience(60*time.Second)))
	}
	pub := s.publish("cam", "key", wstest.Patience(60*time.Second))
	cpu, start := s.processorTime(), time.Now()
	var wg sync.WaitGroup
	for _, r := range rs {
		wg.Go(func() {
			if first, last, code, err := follow(r, 60*time.Second, nil); err != nil || first != 0 || last != n-1 || code != 1000 {
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

// One publisher that sends as fast as it can holds up nobody else.
func TestAFastPublisherDoesNotStarveOthers(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=8", "RECEIVER_LAG_MB=8", "MAX_MESSAGE_MB=8")
	stop := make(chan struct{})
	var wg sync.WaitGroup
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
			}
		})
	}
	var quiet []*wstest.Conn
	for i := range 8 { // on every poller there are some
		quiet = append(quiet, s.receive(fmt.Sprint("quiet", i), "key"))
	}
	var took []time.Duration
	for range 15 {
		for _, c := range quiet {
			start := time.Now()
			c.Send(wstest.Ping, []byte("x"))
			c.WantPong([]byte("x"))
			took = append(took, time.Since(start))
		}
	}
	close(stop)
	wg.Wait()
	slices.Sort(took)
	t.Logf("pong beside two fast publishers: p50 %v, worst %v", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 500*time.Millisecond || took[len(took)-1] > 3*time.Second {
		t.Errorf("wanted pongs in time beside a fast publisher, got p50 %v, worst %v", took[len(took)/2], took[len(took)-1])
	}
}

func TestResetsInTheMiddleOfADelivery(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=4")
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
	eventually(t, 15*time.Second, "every socket is given back", func() bool { return s.descriptors() < 30 })
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

// A packet that comes while the server writes a pong, a heartbeat or another packet
// to the receiver arrives all the same: nothing has to follow it.
func TestAPacketRightBehindAPongArrives(t *testing.T) {
	t.Parallel()
	s := startServer(t, "LOG_REQUESTS=NO")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	for end, i := time.Now().Add(5*time.Second), 0; time.Now().Before(end); i++ {
		r.Send(wstest.Ping, []byte("x"))
		r.WantPong([]byte("x"))
		pub.Send(wstest.Binary, numbered(i, 10))
		r.WantPacket(numbered(i, 10))
	}
	for i := range 200 { // and so does the end of the stream
		channel := fmt.Sprint("cam", i)
		pub, r := s.publish(channel, "key"), s.receive(channel, "key")
		r.Send(wstest.Ping, []byte("x"))
		r.WantPong([]byte("x"))
		pub.SendFrames(frame{Op: wstest.Binary, Payload: numbered(i, 10)}, frame{Op: wstest.Close})
		r.WantPacket(numbered(i, 10))
		r.WantClose(1000)
		r.WantEOF()
	}
}

// A receiver that is behind and leaves, or errs, gets the rest of the packet that
// was begun, then its answer.
func TestEndsOfAReceiverThatIsBehind(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	for i := range 60 {
		pub.Send(wstest.Binary, numbered(i, 200_000))
	}
	pub.Sync()
	for _, c := range []struct {
		name string
		send []byte
		code int
	}{
		{"close", wstest.Bytes(frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "enough")}), 1000},
		{"broken frame", wstest.Bytes(frame{Op: 7}), 1002},
		{"text that is not UTF-8", wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("\xff")}), 1007},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.on(t).receive("cam", "key", wstest.ReceiveBuffer(256<<10))
			time.Sleep(100 * time.Millisecond) // the socket fills up
			r.SendRaw(c.send)
			first, last, code, err := follow(r, 10*time.Second, nil)
			if err != nil || first != 0 || code != c.code {
				t.Fatalf("wanted packets from 0 and CLOSE %d, got %d to %d and %d, %v", c.code, first, last, code, err)
			}
			r.WantEOF()
			if last == 59 {
				t.Error("wanted the answer before the last packet: the client has left")
			}
		})
	}
}

func TestPacketsLargerThanTheCache(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=4", "RECEIVER_LAG_MB=12")
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	for i := range 6 {
		big, small := payload(4<<20, uint64(i)), payload(1000, uint64(i))
		pub.Send(wstest.Binary, big)
		r.WantPacket(big)
		pub.Send(wstest.Binary, small)
		r.WantPacket(small)
	}
	// What a joiner gets is a run of whole packets up to the newest.
	late := s.receive("cam", "key")
	late.WantPacket(payload(1000, 5))
	pub.Send(wstest.Binary, []byte("end"))
	late.WantPacket([]byte("end"))
}
