package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

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
