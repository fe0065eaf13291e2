package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// A third of the receivers reads nothing. Packet after packet is published once all the
// others have the one before; and those that stalled all the while have lost nothing.
func TestMistake03StalledReceiverFreezesNobody(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=4", "RECEIVER_LAG_MB=4", "MAX_MESSAGE_MB=1")
	const all, stalled, n, size = 150, 50, 60, 32 << 10
	var taking, stalling []*wstest.Conn
	var life wstest.LifeSigns // of those that are not read
	for i := range all {
		life.From(slices.Concat(taking, stalling)...)
		if i%3 != 0 {
			taking = append(taking, s.receive("cam", "key"))
			continue
		}
		buffer := 2048
		if len(stalling) < 5 {
			buffer = 256 << 10 // fast enough to be read later
		}
		stalling = append(stalling, s.receive("cam", "key", wstest.ReceiveBuffer(buffer)))
	}
	pub := s.publish("cam", "key")
	var arrived [n]atomic.Int64
	everywhere := make(chan int, n)
	var wg sync.WaitGroup
	whole := func(what string, r *wstest.Conn, seen func(int)) {
		wg.Go(func() {
			first, last, code, err := follow(r, seen)
			if err != nil || first != 0 || last != n-1 || code != 1000 {
				t.Errorf("a receiver that %s: wanted packets 0 to %d and 1000, got %d to %d and %d, %v", what, n-1, first, last, code, err)
			}
		})
	}
	for _, r := range taking {
		whole("reads", r, func(i int) {
			if arrived[i].Add(1) == all-stalled {
				everywhere <- i
			}
		})
	}
	var worst time.Duration
	for i := range n {
		life.From(stalling...)
		start := time.Now()
		pub.Send(wstest.Binary, numbered(i, size))
		select {
		case <-everywhere:
			worst = max(worst, time.Since(start))
		case <-time.After(patience):
			t.Fatalf("packet %d is at %d receivers after %v, wanted it at %d", i, arrived[i].Load(), patience, all-stalled)
		}
	}
	t.Logf("worst latency with %d of %d receivers stalled: %v", stalled, all, worst.Round(time.Millisecond))
	for _, r := range stalling[:5] { // nobody was waited for, nobody was given up
		whole("has stalled", r, nil)
	}
	pub.CloseHandshake(1000)
	wg.Wait()
}

func TestSlowReceiverGets4008AtAFrameBoundary(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := startSmall(t)
	for _, size := range []int{200, 30_000, 700_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := s.on(t)
			pub := s.publish("cam", "key")
			r := s.receive("cam", "key", wstest.ReceiveBuffer(256<<10))
			r.Sync()
			ok := s.receive("cam", "key")
			total, kept, late := 12<<20/size, 2<<20/size, 4<<20/size
			var earliest time.Time // that it can have been told
			done, slow := make(chan error, 1), make(chan error, 1)
			got := make(chan int, total)
			go func() {
				first, last, code, err := follow(ok, func(i int) { got <- i })
				if err == nil && (first != 0 || last != total-1 || code != 1000) {
					err = fmt.Errorf("got packets %d to %d and %d", first, last, code)
				}
				done <- err
			}()
			tooSlow := func() { // it reads: a whole run of packets, then the reason
				first, last, code, err := follow(r, nil)
				switch {
				case isReset(err) && time.Since(earliest) >= 5*time.Second:
					t.Log("the machine is so busy that it was cut off before it read") // PROTO.md, 1.6
					err = nil
				case err == nil && (first != 0 || code != 4008):
					err = fmt.Errorf("got packets %d to %d and %d", first, last, code)
				case err == nil:
					_, err = r.NextE()
					if errors.Is(err, io.EOF) {
						err = nil
					}
				}
				slow <- err
			}
			var batch []byte
			begun := false
			for i := range total {
				batch = frame{Op: wstest.Binary, Payload: numbered(i, size)}.AppendTo(batch)
				if len(batch) < 100_000 && i < total-1 {
					continue
				}
				if i >= kept && earliest.IsZero() {
					earliest = time.Now()
				}
				pub.SendRaw(batch)
				batch = batch[:0]
				for len(got) <= i { // keeps the other one within what is kept
					select {
					case err := <-done:
						t.Fatalf("the other receiver: %v", err)
					case <-time.After(time.Millisecond):
					}
				}
				if i >= late && !begun { // twice what is kept is published: it is told, and then has 5 s
					begun = true
					go tooSlow()
				}
			}
			if err := <-slow; err != nil {
				t.Fatalf("slow receiver: wanted packets from 0, CLOSE 4008 and the end, got %v", err)
			}
			pub.CloseHandshake(1000)
			if err := <-done; err != nil {
				t.Errorf("the other receiver: wanted packets 0 to %d and 1000, got %v", total-1, err)
			}
		})
	}
	s.signal(syscall.SIGTERM)
	s.wait()
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
	go func() { _, _, _, _ = follow(watch, nil) }()
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ { // they fall behind, and their slots come back although they never read
		pub.Send(wstest.Binary, numbered(i, 100_000))
		c, _, _ := wstest.Open(s.addr, "/other/key/receive", wstest.From("127.0.10.1"))
		if c != nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("wanted the slots of receivers that are too slow back within %v", patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	eventually(t, "both slots are free", func() bool {
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
			r.WantPacket(numbered(0, 200_000)) // more are on their way
			r.SendRaw(c.send)
			first, last, code, err := follow(r, nil)
			if err != nil || first != 1 || code != c.code {
				t.Fatalf("wanted packets from 1 and CLOSE %d, got %d to %d and %d, %v", c.code, first, last, code, err)
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
