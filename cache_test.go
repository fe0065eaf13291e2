package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

func TestMistake01CacheSizeIsHonoured(t *testing.T) {
	t.Parallel()
	s := startSmall(t)
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
	s := startSmall(t)
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
	s := startSmall(t)
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
	s := startSmall(t)
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
