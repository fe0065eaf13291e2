package engine

import (
	"net/netip"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// restFor is a task that has a group rest from now on.
type restFor struct {
	g    *group
	long time.Duration
	done chan struct{}
}

func (r restFor) run() {
	r.g.restUntil = r.g.ch.srv.now() + int64(r.long)
	close(r.done)
}

// putToRest returns when the group rests, and a new packet will not wake it.
func putToRest(g *group, long time.Duration) {
	r := restFor{g, long, make(chan struct{})}
	g.drainer.add(r)
	<-r.done
}

// A packet that comes while the group rests is written when the rest is over. What
// is more than a packet ends the rest: a joiner, enough for a good write, and the
// publisher's end.
func TestARestPutsOffPacketsOnly(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	var clients []*wstest.Conn
	for range inPlace + 1 { // more than the poller serves itself
		clients = append(clients, s.receive("cam", "key"))
	}
	g := (*s.session(pub).ch.groups.Load())[0]
	for _, c := range clients {
		s.session(c)
		c.Sync()
	}
	next := 0
	send := func() []byte {
		p := numbered(next, 1000)
		next++
		pub.Send(wstest.Binary, p)
		return p
	}
	everyoneGets := func(p []byte) {
		t.Helper()
		for _, c := range clients {
			c.WantPacket(p)
		}
	}

	putToRest(g, 30*time.Millisecond)
	everyoneGets(send())

	putToRest(g, time.Hour)
	p := send()
	eventually(t, "the group rests", g.resting.Load)
	joiner := s.receive("cam", "key")
	everyoneGets(p)
	for i := range next {
		joiner.WantPacket(numbered(i, 1000))
	}
	clients = append(clients, joiner)

	putToRest(g, time.Hour)
	first := next
	for gathered := 0; gathered < goodWrite; gathered += 1000 {
		send()
	}
	for i := first; i < next; i++ {
		everyoneGets(numbered(i, 1000))
	}

	putToRest(g, time.Hour)
	p = send()
	eventually(t, "the group rests", g.resting.Load)
	pub.SendClose(1000, "")
	everyoneGets(p)
	for _, c := range clients {
		c.WantClose(1000)
	}
}

// A pass that brings a packet to every receiver allocates nothing, down to the write,
// however many there are: less than once a packet.
func TestADeliveryAllocatesNothing(t *testing.T) {
	srv := newServer(t, Config{ReceiverLagMB: 1, MaxMessageMB: 1})
	srv.drainers = []*drainer{newDrainer()}
	var got int
	srv.sink = func(b []byte) { got += len(b) }
	ch := &Channel{srv: srv, name: "cam"}
	ch.ring = ring.New(ring.Config{Lag: mib, Lowest: ch.lowest})
	const receivers, size, runs = 100, 10, 1000
	ch.ring.Reserve(size)
	ch.ring.Commit(0) // before there is a group
	for range receivers {
		s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
		s.ch = ch
		s.unsent.Store(0) // as after the hand-over
		ch.admit(s, place{})
	}
	g := (*ch.groups.Load())[0]
	if g.pace.head != ch.ring.Head() {
		t.Errorf("a group made at packet %d counts from %d", ch.ring.Head(), g.pace.head)
	}
	deliver := func() {
		ch.ring.Reserve(size)
		ch.ring.Commit(0)
		g.wake(0, size)
		g.run()
	}
	deliver() // places are taken
	<-g.drainer.wakeup
	g.drainer.queue = make([]task, 0, runs+10)
	if n := testing.AllocsPerRun(runs, deliver); n != 0 {
		t.Errorf("%v allocations for a packet to %d receivers", n, receivers)
	}
	if want := (runs + 2) * receivers * size; got != want {
		t.Errorf("%d bytes were delivered, wanted %d", got, want)
	}
}
