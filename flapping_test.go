package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

// book is what the coordinator has heard of one channel, which one client asks for once.
type book struct {
	asked int // link of the PUBLISH-REQUEST
	ends  []int
}

// books reads the coordinator's messages.
func books(c *authtest.Coordinator) map[string]*book {
	all := map[string]*book{}
	for _, m := range c.Messages() {
		channel := m.Get("Stream-Channel")
		if all[channel] == nil {
			all[channel] = &book{}
		}
		switch m.Type {
		case "PUBLISH-REQUEST":
			all[channel].asked = m.Link
		case "PUBLISH-END":
			all[channel].ends = append(all[channel].ends, m.Link)
		}
	}
	return all
}

// kept is a publisher that the test leaves open.
type kept struct {
	channel string
	conn    *wstest.Conn
}

// comeAndGo publishes channels of its own until stop is closed, and returns the
// publishers that it left open.
func (s *server) comeAndGo(worker int, stop chan struct{}) (open []kept) {
	rng := rand.New(rand.NewPCG(uint64(worker), 3))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return open
		case <-time.After(time.Duration(rng.IntN(20)) * time.Millisecond):
		}
		channel := fmt.Sprintf("cam%d-%d", worker, i)
		c, resp, err := wstest.Open(s.addr, "/"+channel+"/key/publish",
			wstest.Pipelined(frame{Op: wstest.Binary, Payload: []byte(channel)}))
		switch {
		case err != nil || c == nil && resp.Status != 503:
			s.t.Errorf("%s: wanted 101 or 503, got %v, %v", channel, resp, err)
			return open
		case c == nil:
		case i%5 == 0:
			open = append(open, kept{channel, c})
		case i%5 == 1:
			_ = c.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
			_, _ = c.NextWithin(30 * time.Second)
			c.Close()
		case i%5 == 2:
			c.Close()
		default:
			c.Reset()
		}
	}
}

// The coordinator takes its time, talks nonsense, and the link is lost 100 ms after it
// came up, again and again, while publishers come and go. Each that was accepted runs, or was told; of each the coordinator heard the end
// once, over the link on which it said yes, or that link was lost.
func TestFlappingCoordinator(t *testing.T) {
	t.Parallel()
	const links, workers = 4, 6 // the server dials after 1 s, 2 s, 4 s
	c, s := startCoordinated(t, "LOG_REQUESTS=NO")
	c.Decide(func(m authtest.Message) (string, bool) {
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) // so that requests wait when the link is lost
		return "id-of-" + m.Get("Stream-Channel"), true
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []kept
	for i := range workers {
		wg.Go(func() {
			left := s.comeAndGo(i, stop)
			mu.Lock()
			defer mu.Unlock()
			open = append(open, left...)
		})
	}
	for i := range links - 1 {
		eventually(t, "publishers ask over the link", func() bool { return requests(c, i+1) > workers })
		for _, nonsense := range []string{"", "NONSENSE\n\n", "PUBLISH-DENY\nRequest-ID: nobody's", "STREAM-KILL\nStream-Channel: nobody\n"} {
			c.Send(nonsense)
		}
		time.Sleep(100 * time.Millisecond) // so long the link lasts
		c.DropLink()
		wantLinkUp(s, i+2)
	}
	eventually(t, "publishers ask over the last link", func() bool { return requests(c, links) > 3*workers })
	close(stop)
	wg.Wait()

	running, told := map[string]bool{}, 0
	for _, k := range open {
		k.conn.On(t)
		if books(c)[k.channel].asked == links {
			k.conn.Sync()
			running[k.channel] = true
			continue
		}
		k.conn.WantError("The coordinator was lost, publish again", 1013)
		k.conn.WantEOF()
		told++
	}
	eventually(t, "the coordinator has heard of every end", func() bool {
		for channel, b := range books(c) {
			if b.asked == links && !running[channel] && len(b.ends) == 0 {
				return false
			}
		}
		return true
	})
	for channel, b := range books(c) {
		if len(b.ends) > 1 || len(b.ends) == 1 && (b.ends[0] != b.asked || running[channel]) {
			t.Errorf("%s: asked for over link %d, its ends came over %v; it runs: %v", channel, b.asked, b.ends, running[channel])
		}
	}
	t.Logf("%d channels, %d run, %d were told", len(books(c)), len(running), told)
	if len(running) == 0 || told == 0 {
		t.Error("nothing was tried")
	}
}

// requests counts the requests over one link.
func requests(c *authtest.Coordinator, link int) (n int) {
	for _, m := range c.Messages() {
		if m.Type == "PUBLISH-REQUEST" && m.Link == link {
			n++
		}
	}
	return n
}

// The coordinator kills a publisher while it ends by itself, and once more when its
// successor runs: each has one PUBLISH-END, before the successor is asked for, and
// nobody else is killed.
func TestKillsOfStreamsThatAreEnding(t *testing.T) {
	t.Parallel()
	const rounds = 150
	c, s := startCoordinated(t, "LOG_REQUESTS=NO")
	ids := map[string]int{}
	c.Decide(func(m authtest.Message) (string, bool) { // on one goroutine
		channel := m.Get("Stream-Channel")
		ids[channel]++
		return fmt.Sprintf("%s-%d", channel, ids[channel]), true
	})
	bystander := s.publish("bystander", "key")
	watch := s.receive("bystander", "key")
	killed := 0
	for i := range rounds {
		if i%10 == 0 { // a sign of life: on a loaded machine all rounds take minutes
			bystander.Sync()
			watch.Sync()
		}
		pub := s.dialSoon("/cam/key/publish")
		c.Kill("cam", fmt.Sprintf("cam-%d", i)) // who was before it
		c.Kill("camera", "*")
		s.publish("behind", "key").CloseHandshake(1000) // the answer comes behind the kills
		c.WantMessage("PUBLISH-END")
		pub.Sync()

		id, start := fmt.Sprintf("cam-%d", i+1), make(chan struct{})
		var ends sync.WaitGroup
		ends.Go(func() {
			<-start
			switch i % 4 {
			case 0:
				_ = pub.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
			case 1:
				pub.Close()
			case 2:
				pub.Reset()
			case 3: // it is killed, and nothing else
			}
		})
		close(start)
		c.Kill("cam", id)
		ends.Wait()
		m, err := pub.NextE()
		if i%4 == 3 && (err != nil || m.String() != `TEXT "ERROR: Stream killed by the coordinator"`) {
			t.Errorf("round %d: wanted it killed, got %v, %v", i, m, err)
		}
		if err == nil && m.Op == wstest.Text {
			killed++
		}
		end := c.WantMessage("PUBLISH-END")
		if end.Get("Stream-Channel") != "cam" || end.Get("Stream-ID") != id {
			t.Fatalf("round %d: wanted PUBLISH-END of %s, got %v", i, id, end)
		}
	}
	bystander.Send(wstest.Binary, []byte("p"))
	watch.WantPacket([]byte("p"))
	var order []string
	for _, m := range c.Messages() {
		if m.Get("Stream-Channel") == "cam" {
			order = append(order, m.Type)
		}
	}
	want := strings.Repeat("PUBLISH-REQUEST PUBLISH-END ", rounds)
	if got := strings.Join(order, " ") + " "; got != want {
		t.Errorf("wanted %d requests, each followed by its end, got %s", rounds, got)
	}
	t.Logf("the kill came first %d times of %d", killed, rounds)
}
