package main

import (
	"fmt"
	"sync"
	"testing"

	"ws-stream-server/engine/wstest"
)

// wantPlaces fails unless exactly n more stream connections can be open, or can soon.
func wantPlaces(t *testing.T, s *server, n int) {
	t.Helper()
	s = s.on(t)
	var cs []*wstest.Conn
	for i := range n {
		kind := []string{"receive", "publish", "probe", "receive-clear-cache"}[i%4]
		cs = append(cs, s.dialSoon(fmt.Sprintf("/places-%d/key/%s", i, kind), wstest.From(fmt.Sprintf("127.0.6.%d", i+1))))
	}
	for _, kind := range []string{"receive", "publish", "probe"} {
		if resp := s.refuses(503, "/places/key/"+kind); resp.Header.Get("Retry-After") == "" {
			t.Errorf("wanted Retry-After with the 503, got %v", resp.Header)
		}
	}
	for _, c := range cs {
		c.CloseHandshake(1000)
	}
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	for _, limit := range []int{1, 2, 7} {
		s := startServer(t, fmt.Sprint("MAX_CONNECTIONS=", limit))
		wantPlaces(t, s, limit)
		wantPlaces(t, s, limit)
	}
	s := startServer(t, "MAX_CONNECTIONS=0")
	for range 50 {
		s.receive("cam", "key")
	}
}

func TestPlacesComeBackOnEveryKindOfEnd(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "MAX_CONNECTIONS=4", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1", "GOP_CACHE_SIZE_MB=0")
	live := s.publish("live", "key")
	live.Sync()
	before := s.descriptors()
	for _, c := range everyKindOfEnd(t, s, live) {
		t.Run(c.name, func(t *testing.T) {
			live.Sync() // a sign of life: all of them may take longer than a minute
			for range 2 {
				c.do(wstest.From("127.0.0.1"))
			}
			wantPlaces(t, s, 3) // live has the fourth
		})
	}
	eventually(t, "every descriptor is given back", func() bool { return s.descriptors() <= before })
}

func TestRacingHandshakesDoNotPassMaxConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, "MAX_CONNECTIONS=8")
	for range 5 {
		var (
			mu     sync.Mutex
			wg     sync.WaitGroup
			in     []*wstest.Conn
			status = map[int]int{}
			start  = make(chan struct{})
		)
		for i := range 40 {
			wg.Go(func() {
				<-start
				c, resp, err := wstest.Open(s.addr, fmt.Sprintf("/cam%d/key/%s", i, []string{"receive", "publish"}[i%2]))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				status[resp.Status]++
				if c != nil {
					in = append(in, c.On(t))
				}
			})
		}
		close(start)
		wg.Wait()
		if status[101] != 8 || status[503] != 32 {
			t.Fatalf("wanted 8 upgrades and 32 times 503, got %v", status)
		}
		for _, c := range in {
			c.CloseHandshake(1000)
		}
	}
}

// Who finds no place is not asked about, and a publisher that waits for its answer
// has one.
func TestTheCoordinatorIsNotAskedBeyondMaxConnections(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "MAX_CONNECTIONS=1")
	waiting := ask(s, "/cam/key/publish")
	m := c.WantMessage("PUBLISH-REQUEST")
	s.refuses(503, "/other/key/publish")
	s.refuses(503, "/other/key/receive")
	c.Deny(m.Get("Request-ID"), "cam")
	waiting.want(t, 403)
	acceptAll(c)
	s.publish("cam", "key").Sync()
	if n := count(c, "PUBLISH-REQUEST"); n != 2 {
		t.Errorf("wanted nothing asked about a publisher without a place, got %d requests", n)
	}
}
