package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

const wrongKey = "Invalid streaming key"

func TestReceiverGetsTheCacheThenLivePackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(6)

	pub := s.publish("cam", "key")
	early := s.receive("cam", "key")
	sendAll(pub, ps[:3]...)
	early.WantPackets(ps[:3]...)

	late := s.receive("cam", "key")
	late.WantPackets(ps[:3]...)
	sendAll(pub, ps[3:]...)
	late.WantPackets(ps[3:]...)
	early.WantPackets(ps[3:]...)
	late.WantNothing(100 * time.Millisecond)

	pub.CloseHandshake(1000)
	for _, r := range []*wstest.Conn{early, late} {
		r.WantClose(1000)
		r.WantEOF()
	}
}

func TestReceiverWaitsForAPublisher(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.receive("cam", "key")
	other := s.receive("other", "key")
	r.WantNothing(200 * time.Millisecond)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("first"))
	r.WantPacket([]byte("first"))
	other.WantNothing(200 * time.Millisecond)
}

func TestPacketsOfEverySizeArriveByteForByte(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	sizes := []int{
		0, 1, 2, 3, 124, 125, 126, 127, 128, 1023, 4086, 4096, 16384, 32767,
		65525, 65526, 65527, 65534, 65535, 65536, 65537, 131072, 1 << 20, 1<<20 + 1, 0,
	}
	live := s.receive("cam", "key")
	pub := s.publish("cam", "key")
	for i, n := range sizes {
		pub.Send(wstest.Binary, payload(n, uint64(i)))
		live.WantPacket(payload(n, uint64(i)))
	}
	cached := s.receive("cam", "key")
	for i, n := range sizes {
		cached.WantPacket(payload(n, uint64(i)))
	}
}

// A case's name begins with the section of RFC 6455 that it is about.
func TestPublisherFramesInEveryShape(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := payload(3000, 1)
	var ping = wstest.Frame{Op: wstest.Ping, Payload: []byte("in between")}
	for _, c := range []struct {
		name   string
		frames []wstest.Frame
		want   [][]byte
	}{
		{"5.4 two fragments", wstest.Message(wstest.Binary, p, 2), [][]byte{p}},
		{"5.4 3000 fragments", wstest.Message(wstest.Binary, p, 3000), [][]byte{p}},
		{"5.4 empty fragments only", wstest.Message(wstest.Binary, nil, 3), [][]byte{{}}},
		{"5.4 an empty last fragment", []wstest.Frame{
			{Op: wstest.Binary, Payload: p, More: true},
			{Op: wstest.Continuation},
		}, [][]byte{p}},
		{"5.4 an empty first fragment", []wstest.Frame{
			{Op: wstest.Binary, More: true},
			{Op: wstest.Continuation, Payload: p},
		}, [][]byte{p}},
		{"5.4 a ping between fragments", []wstest.Frame{
			{Op: wstest.Binary, Payload: p[:1000], More: true},
			ping,
			{Op: wstest.Continuation, Payload: p[1000:]},
		}, [][]byte{p}},
		{"5.2 longer lengths than needed", []wstest.Frame{ // tolerated; ours are minimal
			{Op: wstest.Binary, Payload: p[:5], Form: 16},
			{Op: wstest.Binary, Payload: p[:200], Form: 64},
			{Op: wstest.Binary, Form: 64},
		}, [][]byte{p[:5], p[:200], {}}},
		{"5.3 mask 0", []wstest.Frame{{Op: wstest.Binary, Payload: p, ZeroMask: true}}, [][]byte{p}},
		{"5.6 text between packets", []wstest.Frame{
			{Op: wstest.Binary, Payload: p[:10]},
			{Op: wstest.Text, Payload: []byte("h")},
			{Op: wstest.Text, Payload: []byte("anything else")},
			{Op: wstest.Text, Payload: []byte("frag"), More: true},
			{Op: wstest.Continuation, Payload: []byte("mented")},
			{Op: wstest.Text},
			{Op: wstest.Binary, Payload: p[10:20]},
		}, [][]byte{p[:10], p[10:20]}},
	} {
		for _, chop := range []int{1 << 20, 7, 1} {
			b := wstest.Bytes(c.frames...)
			if chop == 1 && len(b) > 8000 {
				continue
			}
			name := fmt.Sprintf("%s, in writes of %d", c.name, chop)
			pub := s.publish("shapes", "key")
			r := s.receive("shapes", "key")
			pub.SendChopped(b, chop)
			for i, want := range c.want {
				if m := r.Next(); m.Op != wstest.Binary || !bytes.Equal(m.Payload, want) {
					t.Errorf("%s: packet %d: wanted %d bytes, got %v", name, i, len(want), m)
				}
			}
			pub.CloseHandshake(1000)
			r.WantClose(1000)
			r.WantEOF()
		}
	}
}

func TestWhatAReceiverSendsIsIgnored(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	r := s.receive("cam", "key")
	other := s.receive("cam", "key")
	r.Send(wstest.Binary, []byte("not a packet"))
	r.SendText("h")
	r.SendText("")
	r.SendFrames(wstest.Message(wstest.Binary, payload(100_000, 3), 10)...)
	r.SendText("sometext")
	r.Send(wstest.Binary, payload(3<<20, 4)) // more than a publisher may send
	r.Sync()
	pub := s.publish("cam", "key")
	r.Send(wstest.Binary, []byte("not a packet either"))
	r.Sync()
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	other.WantPacket([]byte("p"))
	other.WantNothing(100 * time.Millisecond)
	pub.WantNothing(0)
}

func TestPublisherGetsNoPackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	s.receive("cam", "key").WantPacket([]byte("p"))
	pub.WantNothing(200 * time.Millisecond)
}

func TestChannelsAndKeysAreCaseSensitiveAndSeparate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lower, upper := s.publish("cam", "key"), s.publish("CAM", "KEY")
	rl, ru := s.receive("cam", "key"), s.receive("CAM", "KEY")
	lower.Send(wstest.Binary, []byte("lower"))
	upper.Send(wstest.Binary, []byte("upper"))
	rl.WantPacket([]byte("lower"))
	ru.WantPacket([]byte("upper"))
	s.receive("cam", "Key").WantError(wrongKey, 1008)
	s.receive("Cam", "key").WantNothing(100 * time.Millisecond)
}

// Keys.

func TestWrongKeyOnALiveChannel(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("secret"))
	pub.Sync()
	for _, key := range []string{"k", "ke", "keyy", "KEY", "kez", "yek", "-"} {
		for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
			wstest.Dial(t, s.addr, "/cam/"+key+"/"+kind).WantError(wrongKey, 1008)
		}
	}
	// None of them may have turned the cache off, or hurt the publisher.
	s.receive("cam", "key").WantPacket([]byte("secret"))
	pub.Sync()
}

func TestMistake02EarlyReceiverIsCheckedWhenThePublisherComes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var wrong []*wstest.Conn
	for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
		wrong = append(wrong, wstest.Dial(t, s.addr, "/cam/wrong/"+kind))
	}
	right := s.receive("cam", "key")
	for _, r := range append(wrong, right) {
		r.Sync()
	}
	pub := s.publish("cam", "key")
	for _, r := range wrong {
		r.WantError(wrongKey, 1008)
	}
	pub.Send(wstest.Binary, []byte("p"))
	right.WantPacket([]byte("p"))
	// The early receive-clear-cache with the wrong key did not turn the cache off.
	s.receive("cam", "key").WantPacket([]byte("p"))
}

func TestEachPublisherBringsItsOwnKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 5 {
		key := fmt.Sprintf("key%d", i)
		before := s.receive("cam", key)
		before.Sync()
		pub := s.publish("cam", key)
		pub.Send(wstest.Binary, []byte(key))
		before.WantPacket([]byte(key))
		s.receive("cam", fmt.Sprintf("key%d", i-1)).WantError(wrongKey, 1008)
		s.receive("cam", key).WantPacket([]byte(key))
		pub.CloseHandshake(1000)
		before.WantClose(1000)
		before.WantEOF()
	}
}

// The end of a publisher.

func TestEveryEndOfAPublisherGivesReceiversEverythingAnd1000(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := [][]byte{payload(100_000, 1), {}, payload(1<<20, 2), []byte("last")}
	for _, c := range []struct {
		name string
		end  func(pub *wstest.Conn)
	}{
		{"close 1000", func(p *wstest.Conn) { p.CloseHandshake(1000) }},
		{"close 1001", func(p *wstest.Conn) { p.CloseHandshake(1001) }},
		{"close 4321", func(p *wstest.Conn) { p.CloseHandshake(4321) }},
		{"close without a code", func(p *wstest.Conn) { p.SendClose(0, ""); p.WantGone() }},
		{"end of TCP", func(p *wstest.Conn) { p.Close() }},
		{"half-close", func(p *wstest.Conn) { p.CloseWrite(); p.WantGone() }},
		{"reset", func(p *wstest.Conn) { p.Sync(); p.Reset() }},
		{"a reserved bit", func(p *wstest.Conn) {
			p.SendFrames(wstest.Frame{Op: wstest.Binary, RSV: 4})
			wantErrorClose(t, p, 1002)
		}},
		{"no mask", func(p *wstest.Conn) {
			p.SendFrames(wstest.Frame{Op: wstest.Binary, Unmasked: true})
			wantErrorClose(t, p, 1002)
		}},
		{"half a frame", func(p *wstest.Conn) {
			p.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: payload(5000, 1)})[:3000])
			p.Close()
		}},
		{"half a message", func(p *wstest.Conn) {
			p.SendFrames(wstest.Frame{Op: wstest.Binary, Payload: payload(5000, 1), More: true})
			p.Close()
		}},
		{"close inside a message", func(p *wstest.Conn) {
			p.SendFrames(wstest.Frame{Op: wstest.Binary, Payload: payload(5000, 1), More: true})
			p.CloseHandshake(1000)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs := []*wstest.Conn{s.receive("cam", "key"), s.receiveClear("cam", "key")}
			pub := s.dialSoon("/cam/key/publish")
			sendAll(pub, ps...)
			c.end(pub)
			for _, r := range rs {
				r.WantPackets(ps...)
				r.WantClose(1000)
				r.WantEOF()
			}
		})
	}
}

func TestPublisherThatSendsAndClosesLosesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 20 {
		channel := fmt.Sprintf("cam%d", i)
		r := s.receive(channel, "key")
		pub := s.publish(channel, "key")
		p := payload(1<<20, uint64(i))
		switch i % 3 {
		case 0:
			pub.Send(wstest.Binary, p)
		case 1: // many small ones
			var b []byte
			for j := 0; j < len(p); j += 1 << 10 {
				b = wstest.Frame{Op: wstest.Binary, Payload: p[j : j+1<<10]}.AppendTo(b)
			}
			pub.SendRaw(b)
		case 2:
			pub.SendFrames(wstest.Message(wstest.Binary, p, 33)...)
		}
		pub.Close()
		if i%3 == 1 {
			for j := 0; j < len(p); j += 1 << 10 {
				r.WantPacket(p[j : j+1<<10])
			}
		} else {
			r.WantPacket(p)
		}
		r.WantClose(1000)
		r.WantEOF()
	}
}

func TestChannelIsFreeAtOnceAndItsCacheEmpty(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 30 {
		pub := s.publish("cam", "key") // fails when it is not free at once
		r := s.receive("cam", "key")
		p := fmt.Appendf(nil, "round %d", i)
		pub.Send(wstest.Binary, p)
		r.WantPacket(p)
		if i%2 == 0 {
			pub.CloseHandshake(1000)
			r.WantClose(1000)
		} else {
			pub.Close()
			r.WantClose(1000) // by then the channel is free
		}
	}
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	r.WantNothing(100 * time.Millisecond)
	pub.Send(wstest.Binary, []byte("new"))
	r.WantPacket([]byte("new"))
}

func TestSuccessorWhileAReceiverStillTakesTheOldStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 64
	old := s.receive("cam", "key", wstest.ReceiveBuffer(256<<10))
	pub := s.publish("cam", "key")
	old.StopReading()
	for i := range n {
		pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
	}
	pub.CloseHandshake(1000)

	next := s.publish("cam", "otherkey")
	r := s.receive("cam", "otherkey")
	next.Send(wstest.Binary, []byte("new"))
	r.WantPacket([]byte("new"))

	old.ResumeReading()
	for i := range n {
		old.WantPacket(payload(256<<10, uint64(i)))
	}
	old.WantClose(1000)
	old.WantEOF()
	r.WantNothing(50 * time.Millisecond)
}

func TestReceiverThatComesAfterTheEndWaits(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("old"))
	pub.CloseHandshake(1000)
	r, p := s.receive("cam", "key2"), s.probe("cam", "key2")
	r.WantNothing(100 * time.Millisecond)
	pub = s.publish("cam", "key2")
	pub.Send(wstest.Binary, []byte("new"))
	r.WantPacket([]byte("new"))
	p.WantPacket([]byte("new"))
}

func TestPublisherWithoutPackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	rs := []*wstest.Conn{s.receive("cam", "key"), s.receiveClear("cam", "key"), s.probe("cam", "key")}
	for _, r := range rs {
		r.Sync()
	}
	pub := s.publish("cam", "key")
	rs = append(rs, s.receive("cam", "key"), s.probe("cam", "key"))
	for _, r := range rs {
		r.Sync()
	}
	pub.CloseHandshake(1000)
	for _, r := range rs {
		r.WantClose(1000)
		r.WantEOF()
	}
}

// Two publishers.

func TestSecondPublisherIsRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	for _, key := range []string{"key", "other"} {
		s.refuses(403, "/cam/"+key+"/publish")
	}
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
}

func TestMistake06OfRacingPublishersExactlyOneWins(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const rounds, racers = 15, 12
	for round := range rounds {
		channel := fmt.Sprintf("race%d", round)
		r := s.receive(channel, "key")
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex
			won    []*wstest.Conn
			status = map[int]int{}
			start  = make(chan struct{})
		)
		for range racers {
			wg.Go(func() {
				<-start
				c, resp, err := wstest.Open(s.addr, "/"+channel+"/key/publish",
					wstest.Pipelined(wstest.Frame{Op: wstest.Binary, Payload: []byte("winner")}))
				mu.Lock()
				defer mu.Unlock()
				if c != nil {
					won = append(won, c)
				}
				if err != nil {
					status[-1]++
				} else {
					status[resp.Status]++
				}
			})
		}
		close(start)
		wg.Wait()
		for _, c := range won {
			c.On(t)
		}
		if status[101] != 1 || status[403] != racers-1 {
			t.Fatalf("round %d: wanted 1 upgrade and %d times 403, got %v", round, racers-1, status)
		}
		r.WantPacket([]byte("winner"))
		r.WantNothing(20 * time.Millisecond)
		won[0].CloseHandshake(1000)
		r.WantClose(1000)
		s.publish(channel, "key").CloseHandshake(1000) // no loser holds it
	}
}

// The cache.

func TestMistake01CacheSizeIsHonoured(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key")
	const n, size = 40, 64 << 10
	for i := range n {
		pub.Send(wstest.Binary, payload(size, uint64(i)))
	}
	pub.Sync()
	r := s.receive("cam", "key")
	pub.Send(wstest.Binary, []byte("end"))
	var got [][]byte
	for {
		m := r.Next()
		if string(m.Payload) == "end" {
			break
		}
		got = append(got, m.Payload)
	}
	// 15 × (65536+10+64) fit in 1 MiB, 16 do not.
	if len(got) != 15 {
		t.Fatalf("wanted the newest 15 packets of %d bytes from a cache of 1 MiB, got %d", size, len(got))
	}
	for i, p := range got {
		if !bytes.Equal(p, payload(size, uint64(n-len(got)+i))) {
			t.Fatalf("cached packet %d is not packet %d of the publisher", i, n-len(got)+i)
		}
	}
}

func TestMistake14TinyPacketsDoNotOutgrowTheCache(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	for _, size := range []int{0, 1, 30} {
		channel := fmt.Sprintf("size%d", size)
		pub := s.publish(channel, "key")
		const n = 40_000
		var b []byte
		for range n {
			b = wstest.Frame{Op: wstest.Binary, Payload: make([]byte, size)}.AppendTo(b)
		}
		pub.SendRaw(b)
		pub.Sync()
		r := s.receive(channel, "key")
		pub.Send(wstest.Binary, []byte("the end"))
		got := 0
		for string(r.Next().Payload) != "the end" {
			got++
		}
		most, least := (1<<20)/(size+2+64), (1<<20)/(size+2+400)
		if got > most || got < least {
			t.Errorf("%d-byte packets: wanted %d to %d in a cache of 1 MiB, got %d", size, least, most, got)
		}
		pub.CloseHandshake(1000)
	}
}

func TestCacheOfMixedSizesStaysInItsBudget(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=2", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key")
	size := func(i int) int { return i * 7919 % 200_000 }
	const n = 60
	for i := range n {
		pub.Send(wstest.Binary, binary.BigEndian.AppendUint32(payload(size(i), uint64(i)), uint32(i)))
	}
	pub.Sync()
	r := s.receive("cam", "key")
	pub.Send(wstest.Binary, []byte("end"))
	total, next := 0, -1
	for {
		p := r.Next().Payload
		if string(p) == "end" {
			break
		}
		i := int(binary.BigEndian.Uint32(p[len(p)-4:]))
		if next >= 0 && i != next || !bytes.Equal(p[:len(p)-4], payload(size(i), uint64(i))) {
			t.Fatalf("wanted packet %d next, whole, got packet %d of %d bytes", next, i, len(p))
		}
		next = i + 1
		total += len(p) + 4 + 64
	}
	if next != n {
		t.Fatalf("wanted the newest packet %d last, got %d", n-1, next-1)
	}
	if total > 2<<20 || total < 2<<20-250_000 {
		t.Fatalf("wanted a cache of up to 2 MiB, as full as whole packets allow, got %d bytes", total)
	}
}

func TestCacheOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=0")
	waiting := s.receive("cam", "key")
	waiting.Sync()
	pub := s.publish("cam", "key")
	ps := packets(4)
	sendAll(pub, ps[:2]...)
	waiting.WantPackets(ps[:2]...)
	late := s.receive("cam", "key")
	probe := s.probe("cam", "key")
	encoder := s.receiveClear("cam", "key")
	for _, r := range []*wstest.Conn{late, probe, encoder} {
		r.Sync()
	}
	sendAll(pub, ps[2:]...)
	late.WantPackets(ps[2:]...)
	encoder.WantPackets(ps[2:]...)
	waiting.WantPackets(ps[2:]...)
	probe.WantPacket(ps[2])
	probe.WantClose(1000)
	pub.CloseHandshake(1000)
	late.WantClose(1000)
}

func TestEarlyReceiverOfALongStreamIsNotBoundToTheCache(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	for i := range 200 {
		pub.Send(wstest.Binary, payload(50_000, uint64(i)))
		r.WantPacket(payload(50_000, uint64(i)))
	}
}

// receive-clear-cache, in every order.

func TestClearCacheAfterPackets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(5)
	pub := s.publish("cam", "key")
	sendAll(pub, ps[:2]...)
	before := s.receive("cam", "key")
	before.WantPackets(ps[:2]...)

	encoder := s.receiveClear("cam", "key")
	encoder.WantPackets(ps[:2]...)

	after, second := s.receive("cam", "key"), s.receiveClear("cam", "key")
	after.Sync()
	second.Sync()
	sendAll(pub, ps[2])
	for _, r := range []*wstest.Conn{before, encoder, after, second} {
		r.WantPacket(ps[2])
	}
	// It stays off: also what came after is not cached, and after the encoder left.
	encoder.CloseHandshake(1000)
	later := s.receive("cam", "key")
	later.Sync()
	sendAll(pub, ps[3])
	later.WantPacket(ps[3])

	// Until this publisher ends.
	pub.CloseHandshake(1000)
	pub = s.publish("cam", "key")
	sendAll(pub, ps...)
	pub.Sync()
	s.receive("cam", "key").WantPackets(ps...)
	s.receive("cam", "key").WantPackets(ps...)
}

func TestClearCacheBeforeThePublisher(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(4)
	encoder := s.receiveClear("cam", "key")
	plain := s.receive("cam", "key")
	encoder.Sync()
	plain.Sync()
	pub := s.publish("cam", "key")
	sendAll(pub, ps[:2]...)
	encoder.WantPackets(ps[:2]...)
	plain.WantPackets(ps[:2]...)
	late := s.receive("cam", "key")
	late.Sync()
	sendAll(pub, ps[2:]...)
	late.WantPackets(ps[2:]...)
	encoder.WantPackets(ps[2:]...)
	plain.WantPackets(ps[2:]...)
}

func TestClearCacheBetweenPublisherAndFirstPacket(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(4)
	pub := s.publish("cam", "key")
	encoder := s.receiveClear("cam", "key")
	encoder.Sync()
	sendAll(pub, ps[:2]...)
	encoder.WantPackets(ps[:2]...)
	late := s.receive("cam", "key")
	late.Sync()
	sendAll(pub, ps[2:]...)
	encoder.WantPackets(ps[2:]...)
	late.WantPackets(ps[2:]...)
}

func TestClearCacheThatLeftBeforeThePublisherHasNoEffect(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	encoder := s.receiveClear("cam", "key")
	encoder.Sync()
	encoder.CloseHandshake(1000)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	pub.Sync()
	s.receive("cam", "key").WantPacket([]byte("p"))
}

func TestClearCacheOfASlowEncoderKeepsWhatItStillNeeds(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=16", "RECEIVER_LAG_MB=16", "MAX_MESSAGE_MB=1")
	pub := s.publish("cam", "key")
	const size, cached, live = 256 << 10, 40, 40
	for i := range cached {
		pub.Send(wstest.Binary, payload(size, uint64(i)))
	}
	pub.Sync()
	encoder := s.receiveClear("cam", "key", wstest.ReceiveBuffer(256<<10))
	encoder.StopReading()
	late := s.receive("cam", "key")
	late.Sync()
	for i := range live {
		pub.Send(wstest.Binary, payload(size, uint64(cached+i)))
		late.WantPacket(payload(size, uint64(cached+i)))
	}
	encoder.ResumeReading()
	for i := range cached + live {
		encoder.WantPacket(payload(size, uint64(i)))
	}
}

// probe.

func TestProbeGetsTheOldestPacketOnly(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ps := packets(3)
	early := s.probe("cam", "key")
	early.Sync()
	pub := s.publish("cam", "key")
	live := s.probe("cam", "key")
	live.Sync()
	sendAll(pub, ps...)
	for _, p := range []*wstest.Conn{early, live, s.probe("cam", "key"), s.probe("cam", "key")} {
		p.WantPacket(ps[0])
		p.WantClose(1000)
		p.WantEOF()
	}
	s.receive("cam", "key").WantPackets(ps...) // a probe takes nothing away

	encoder := s.receiveClear("cam", "key")
	encoder.WantPackets(ps...)
	waits := s.probe("cam", "key")
	waits.WantNothing(100 * time.Millisecond)
	pub.Send(wstest.Binary, []byte("next"))
	waits.WantPacket([]byte("next"))
	waits.WantClose(1000)
	waits.WantEOF()
}

func TestProbeGetsAnEmptyPacketAndALargeOne(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, n := range []int{0, 5 << 20} {
		pub := s.publish("cam", "key")
		pub.Send(wstest.Binary, payload(n, 1))
		pub.Send(wstest.Binary, []byte("second"))
		p := s.probe("cam", "key")
		p.WantPacket(payload(n, 1))
		p.WantClose(1000)
		p.WantEOF()
		pub.CloseHandshake(1000)
	}
}

func TestProbeAfterEvictionGetsTheOldestThatIsLeft(t *testing.T) {
	t.Parallel()
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1")
	pub := s.publish("cam", "key")
	for i := range 40 {
		pub.Send(wstest.Binary, payload(64<<10, uint64(i)))
	}
	pub.Sync()
	s.probe("cam", "key").WantPacket(payload(64<<10, 25))
}

// The HLS encoder's way: probe, then receive-clear-cache, both before the first packet.
func TestEncoderGetsEveryPacketFromTheFirst(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	probe := s.probe("cam", "key")
	probe.Sync()
	ps := packets(300)
	sendAll(pub, ps[:100]...)
	probe.WantPacket(ps[0])
	probe.WantClose(1000)
	encoder := s.receiveClear("cam", "key")
	sendAll(pub, ps[100:200]...)
	encoder.WantPackets(ps[:200]...)
	encoder.SendText("h")
	sendAll(pub, ps[200:]...)
	encoder.WantPackets(ps[200:]...)
	pub.CloseHandshake(1000)
	encoder.WantClose(1000)
	encoder.WantEOF()
}

// The seam between cache and live.

func TestMistake04JoinersDuringTheStreamMissAndRepeatNothing(t *testing.T) {
	t.Parallel()
	heavy(t)
	for _, c := range []struct {
		name, kind string
		env        []string
		fromFirst  bool
	}{
		{"cache", "receive", nil, true},
		{"no cache", "receive", []string{"GOP_CACHE_SIZE_MB=0"}, false},
		{"clear", "receive-clear-cache", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, c.env...)
			const total, joiners = 4000, 40
			pub := s.publish("cam", "key")
			watch := s.receive("cam", "key")
			watch.Sync()
			var wg, joined sync.WaitGroup
			errs := make(chan error, joiners)
			join := func() {
				conn, resp, err := wstest.Open(s.addr, "/cam/key/"+c.kind)
				joined.Done()
				if conn == nil {
					errs <- fmt.Errorf("cannot join: %v, %v", resp, err)
					return
				}
				defer conn.Close()
				errs <- wantRun(conn, total, c.fromFirst)
			}
			b := payload(700, 9)
			for i := range total {
				binary.BigEndian.PutUint32(b, uint32(i))
				pub.Send(wstest.Binary, b[:4+i%690])
				if i%(total/joiners) == 50 {
					joined.Add(1)
					wg.Go(join)
				}
				if i == total-20 {
					joined.Wait() // the last packets come when everybody is there
				}
				if i%8 == 0 { // keeps the load even: it goes at the speed of one receiver
					for j := max(0, i-7); j <= i; j++ {
						if _, err := watch.NextE(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			pub.CloseHandshake(1000)
			wg.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// wantRun reads numbered packets to the close: one run without gap or repeat, from
// 0 when fromFirst, to total-1.
func wantRun(c *wstest.Conn, total int, fromFirst bool) error {
	next := -1
	if fromFirst {
		next = 0
	}
	for {
		m, err := c.NextWithin(60 * time.Second)
		if err != nil {
			return fmt.Errorf("after packet %d of %d: %w", next-1, total, err)
		}
		if m.Op == wstest.Close {
			if m.Code() != 1000 {
				return fmt.Errorf("after packet %d of %d: %v", next-1, total, m)
			}
			break
		}
		i := int(binary.BigEndian.Uint32(m.Payload))
		if next >= 0 && i != next {
			return fmt.Errorf("wanted packet %d, got packet %d", next, i)
		}
		next = i + 1
	}
	if next != total && next != -1 {
		return fmt.Errorf("wanted packet %d last, got %d", total-1, next-1)
	}
	if _, err := c.NextE(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wanted the end after the close, got %v", err)
	}
	return nil
}

// Limits on messages.

func TestMistake07MessageSizeIsLimited(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=4")
	most := payload(1<<20, 1)
	tooMuch := payload(1<<20+1, 2)
	huge := wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 1 << 62})
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"one frame", wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: tooMuch})},
		{"fragments", wstest.Bytes(wstest.Message(wstest.Binary, tooMuch, 5)...)},
		{"one byte beyond, in a last fragment", wstest.Bytes(
			wstest.Frame{Op: wstest.Binary, Payload: most, More: true},
			wstest.Frame{Op: wstest.Continuation, Payload: []byte("x")})},
		{"only declared", huge},
	} {
		t.Run(c.name, func(t *testing.T) {
			pub := s.publish("cam", "key")
			r := s.receive("cam", "key")
			pub.Send(wstest.Binary, most)
			r.WantPacket(most)
			pub.SendFrames(wstest.Message(wstest.Binary, most, 7)...)
			r.WantPacket(most)
			if err := pub.SendRawE(c.send); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			var m wstest.Msg
			for m = pub.Next(); m.Op == wstest.Text; m = pub.Next() {
				if !bytes.HasPrefix(m.Payload, []byte("ERROR: ")) {
					t.Fatalf("wanted an error and CLOSE 1009, got %v", m)
				}
			}
			if m.Op != wstest.Close || m.Code() != 1009 {
				t.Fatalf("wanted CLOSE 1009, got %v", m)
			}
			r.WantClose(1000)
			r.WantEOF()
		})
	}
}

func TestDefaultMessageLimitIs64MiB(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 64 << 20}))
	pub.WantNothing(200 * time.Millisecond)
	pub2 := s.publish("cam2", "key")
	pub2.SendRaw(wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), Declare: 64<<20 + 1}))
	m := pub2.Next()
	if m.Op == wstest.Text {
		m = pub2.Next()
	}
	if m.Op != wstest.Close || m.Code() != 1009 {
		t.Fatalf("wanted CLOSE 1009, got %v", m)
	}
}

// Errors.

func TestErrorsAreTextThenClose(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "wrong")
	m := r.Next()
	if m.Op != wstest.Text || string(m.Payload) != "ERROR: "+wrongKey {
		t.Fatalf("wanted the error first, got %v", m)
	}
	r.WantClose(1008)
	r.WantEOF()
	pub.Sync()
}

// Pages.

func TestPages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	status, body, header := s.get("/")
	if status != 200 || !bytes.Contains([]byte(header.Get("Content-Type")), []byte("text/html")) || len(body) < 500 {
		t.Errorf("GET /: wanted a page, got %d, %s, %d bytes", status, header.Get("Content-Type"), len(body))
	}
	if status, _, _ := s.get("/healthz"); status != 200 {
		t.Errorf("GET /healthz: wanted 200, got %d", status)
	}
	for _, path := range []string{"/nothing", "/healthz/", "/healthz/x", "/a/b", "/a/b/c/d", "/favicon.txt", "/.env", "/%2e%2e/etc/passwd"} {
		if status, body, _ := s.get(path); status != 404 {
			t.Errorf("GET %s: wanted 404, got %d %q", path, status, body)
		}
	}
	if status, _, _ := s.get("/healthz?x=y"); status != 200 {
		t.Errorf("GET /healthz?x=y: wanted 200, got %d", status)
	}
	if status, _, _ := s.get("/?x=y"); status != 200 {
		t.Errorf("GET /?x=y: wanted 200, got %d", status)
	}
}

func TestTestClientCanBeDisabled(t *testing.T) {
	t.Parallel()
	s := startServer(t, "DISABLE_TEST_CLIENT=YES")
	status, body, header := s.get("/")
	if status != 200 || !bytes.Contains([]byte(body), []byte("ws-stream-server")) || len(body) > 200 {
		t.Errorf("GET /: wanted the name and version, got %d %q", status, body)
	}
	if !bytes.HasPrefix([]byte(header.Get("Content-Type")), []byte("text/plain")) {
		t.Errorf("GET /: wanted text, got %q", header.Get("Content-Type"))
	}
	if status, _, _ := s.get("/healthz"); status != 200 {
		t.Errorf("GET /healthz: wanted 200, got %d", status)
	}
}
