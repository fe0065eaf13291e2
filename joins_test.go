package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// A thousand receivers join while packets are published as fast as the publisher can,
// then the publisher ends: each gets one run from its join point to the last packet,
// and 1000. The join point is the first packet as long as there is a cache, and later
// no packet that was sent behind the 101 precedes it.
//
// The publisher is let off for some packets by each who comes. What a thousand would
// get of a publisher that runs freely meanwhile are gigabytes; see the test below for one
// that does, and receivers that may be left behind.
func TestAThousandJoinAtFullRate(t *testing.T) {
	t.Parallel()
	heavy(t)
	receivers, dialling := 1000, 16
	if raceEnabled {
		receivers = 400
	}
	const burst, size = 2, 250
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=1")
	pub := s.publish("cam", "key")
	stream := make([][]byte, 0, burst*receivers)
	for i := range cap(stream) {
		stream = append(stream, numbered(i, size))
	}

	var sent, dialled atomic.Int64 // packets that were begun to be sent, receivers
	var noCache atomic.Bool
	ready := make(chan struct{}, receivers)
	errs := make(chan error, receivers)
	join := func(i int) {
		kind := "receive"
		if i == receivers/2 {
			noCache.Store(true)
			kind = "receive-clear-cache"
		}
		c, resp, err := wstest.Open(s.addr, "/cam/key/"+kind)
		latest := 0 // that it may start with
		if noCache.Load() {
			latest = int(sent.Load())
		}
		ready <- struct{}{}
		if c == nil {
			errs <- fmt.Errorf("cannot join: %v, %v", resp, err)
			return
		}
		go func() { errs <- wantStream(c, stream, latest) }()
	}
	for range dialling {
		go func() {
			for i := int(dialled.Add(1)); i <= receivers; i = int(dialled.Add(1)) {
				join(i)
			}
		}()
	}
	for range receivers {
		<-ready
		first := sent.Add(burst) - burst
		var b []byte
		for _, p := range stream[first : first+burst] {
			b = frame{Op: wstest.Binary, Payload: p}.AppendTo(b)
		}
		pub.SendRaw(b)
	}
	pub.CloseHandshake(1000)
	for range receivers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// Receivers join while a publisher sends as fast as it is read and waits for nobody, and
// when half of them are there it ends: each gets one run from its join point, to the last
// packet and 1000, or to where the ring has left it behind and 4008. Who comes behind the
// end gets the next stream, whole.
func TestReceiversJoinAPublisherThatWaitsForNobody(t *testing.T) {
	t.Parallel()
	heavy(t)
	receivers := 1000
	if raceEnabled {
		receivers = 100
	}
	const dialling, burst, size, next, nextPackets = 8, 16, 1000, 1 << 30, 20
	s := startServer(t, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=4", "MAX_MESSAGE_MB=1")
	pub := s.publish("cam", "key")

	var sent, in atomic.Int64 // packets that were begun to be sent, receivers
	var complete, left, cut, behind atomic.Int64
	dials := make(chan struct{}, dialling)
	join := func() error {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive")
		latest := int(sent.Load())
		in.Add(1)
		<-dials
		if c == nil {
			return fmt.Errorf("cannot join: %v, %v", resp, err)
		}
		defer c.Close()
		first, last, code, err := follow(c, nil)
		switch {
		case errors.Is(err, syscall.ECONNRESET) && first >= 0 && first <= latest:
			cut.Add(1) // it was left behind, and had no processor for the 5 s that its close frame is kept
		case err != nil:
			return err
		case code == 4008 && first <= latest:
			left.Add(1)
		case code == 1000 && first == next && last == next+nextPackets-1:
			behind.Add(1)
		case code == 1000 && first >= 0 && first <= latest && last == int(sent.Load())-1:
			complete.Add(1)
		default:
			return fmt.Errorf("packets %d to %d, then %d; %d were begun when it joined, %d in all", first, last, code, latest, sent.Load())
		}
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range receivers {
			dials <- struct{}{}
			wg.Go(func() {
				if err := join(); err != nil {
					t.Error(err)
				}
			})
		}
	})
	var b []byte
	for in.Load() < int64(receivers/2) {
		b = b[:0]
		for i := range burst {
			b = frame{Op: wstest.Binary, Payload: numbered(int(sent.Load())+i, size)}.AppendTo(b)
		}
		sent.Add(burst)
		pub.SendRaw(b)
	}
	pub.CloseHandshake(1000)
	eventually(t, "all are in", func() bool { return int(in.Load()) >= receivers })
	pub = s.dialSoon("/cam/key/publish")
	for i := range nextPackets {
		pub.Send(wstest.Binary, numbered(next+i, size))
	}
	pub.CloseHandshake(1000)
	wg.Wait()
	t.Logf("%d packets; %d receivers had all behind their join point, %d were too slow, %d of them cut off, %d came behind the end",
		sent.Load(), complete.Load(), left.Load()+cut.Load(), cut.Load(), behind.Load())
	if complete.Load()+left.Load() == 0 {
		t.Error("nobody had packets and was told the end of them")
	}
}

// wantStream reads a run of packets, which begins with packet `latest` or one before,
// to the last one, then 1000 and the end. It is quick: a thousand of these run at once.
// It closes the connection.
func wantStream(c *wstest.Conn, stream [][]byte, latest int) error {
	defer c.Close()
	nc, early := c.Raw()
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(early), nc))
	for next := -1; ; {
		head, err := r.Peek(4)
		if err != nil {
			return fmt.Errorf("after packet %d: %w", next-1, err)
		}
		op, n := head[0], int(head[1])
		switch {
		case op == 0x82 && n == 126:
			n = int(binary.BigEndian.Uint16(head[2:]))
			b, err := r.Peek(4 + n)
			if err != nil {
				return fmt.Errorf("after packet %d: %w", next-1, err)
			}
			if next < 0 {
				next, _ = wstest.Number(b[4:])
				if next > latest {
					return fmt.Errorf("wanted one of the packets up to %d first, got %d", latest, next)
				}
			}
			if next >= len(stream) || !bytes.Equal(b[4:], stream[next]) {
				return fmt.Errorf("wanted packet %d, got %x", next, b[:20])
			}
			next++
			_, _ = r.Discard(4 + n)
			_ = nc.SetReadDeadline(time.Now().Add(patience)) // for each: who comes first is here as long as it takes all to join
		case op == 0x81 || op == 0x89: // a heartbeat
			_, _ = r.Discard(2 + n)
		case op == 0x88 && binary.BigEndian.Uint16(head[2:]) == 1000:
			if next != len(stream) {
				return fmt.Errorf("wanted packet %d last, got packet %d", len(stream)-1, next-1)
			}
			_, _ = r.Discard(2 + n)
			_ = c.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("wanted the end after the close frame, got %v", err)
			}
			return nil
		default:
			return fmt.Errorf("after packet %d: a frame that begins with %x", next-1, head)
		}
	}
}

// A publisher ends, in every way that there is, and the next one publishes at once,
// while receivers of the first still take their packets and others wait already: each
// gets one stream, whole, and no packet of another.
func TestAPublisherReplacedAtOnce(t *testing.T) {
	t.Parallel()
	heavy(t)
	const receivers, rounds, packets = 8, 200, 20
	s := startServer(t, "LOG_REQUESTS=NO")
	var wg sync.WaitGroup
	var inLast sync.WaitGroup // receivers that have a packet of the last stream
	inLast.Add(receivers)
	var taken atomic.Int64
	for range receivers {
		wg.Go(func() {
			arrived := sync.OnceFunc(inLast.Done)
			defer arrived()
			for last := -1; last < rounds-1; taken.Add(1) {
				c, resp, err := wstest.Open(s.addr, "/cam/key/receive")
				if c == nil {
					t.Errorf("cannot join: %v, %v", resp, err)
					return
				}
				which, err := wantOneStream(c, packets, func(which int) {
					if which == rounds-1 {
						arrived()
					}
				})
				c.Close()
				if err != nil || which <= last {
					t.Errorf("behind stream %d: got stream %d, %v", last, which, err)
					return
				}
				last = which
			}
		})
	}
	var longest time.Duration
	ended := time.Now()
	for round := range rounds {
		pub := s.publishAtOnce(round)
		longest = max(longest, time.Since(ended))
		for i := 1; i < packets; i++ {
			pub.Send(wstest.Binary, ofStream(round, i))
		}
		if round == rounds-1 {
			inLast.Wait()
		}
		ended = time.Now()
		switch round % 4 {
		case 0:
			pub.CloseHandshake(1000)
		case 1:
			pub.SendClose(1000, "")
		case 2:
			pub.Close()
		case 3:
			pub.Sync() // a reset destroys what was not read yet
			pub.Reset()
		}
	}
	wg.Wait()
	t.Logf("%d streams taken, one publisher %v at the longest after the other", taken.Load(), longest)
}

// publishAtOnce publishes as soon as the channel is free, the first packet with the
// handshake.
func (s *server) publishAtOnce(stream int) *wstest.Conn {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		c, resp, err := wstest.Open(s.addr, "/cam/key/publish",
			wstest.Pipelined(frame{Op: wstest.Binary, Payload: ofStream(stream, 0)}))
		if c != nil {
			return c.On(s.t)
		}
		if err != nil || resp.Status != 403 || time.Now().After(deadline) {
			s.t.Fatalf("publisher %d: wanted an upgrade once the channel is free, got %v, %v", stream, resp, err)
		}
	}
}

// ofStream is packet i of a stream.
func ofStream(stream, i int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(stream))
	return append(binary.BigEndian.AppendUint32(b, uint32(i)), payload(i*100, uint64(stream))...)
}

// wantOneStream reads packets 0 to n-1 of one stream, 1000 and the end, and returns
// which one it was; began is called once that is known.
func wantOneStream(c *wstest.Conn, n int, began func(stream int)) (stream int, err error) {
	stream = -1
	for i := 0; ; i++ {
		m, err := c.NextE()
		switch {
		case err != nil:
			return stream, fmt.Errorf("after packet %d: %w", i-1, err)
		case m.Op == wstest.Close:
			if i != n || m.Code() != 1000 {
				return stream, fmt.Errorf("wanted %d packets and 1000, got %d packets and %v", n, i, m)
			}
			if _, err := c.NextE(); !errors.Is(err, io.EOF) {
				return stream, fmt.Errorf("wanted the end, got %w", err)
			}
			return stream, nil
		case len(m.Payload) < 8:
			return stream, fmt.Errorf("after packet %d: %v", i-1, m)
		case stream < 0:
			stream = int(binary.BigEndian.Uint32(m.Payload))
			began(stream)
		}
		if !bytes.Equal(m.Payload, ofStream(stream, i)) {
			return stream, fmt.Errorf("wanted packet %d of stream %d, got %x", i, stream, m.Payload[:8])
		}
	}
}
