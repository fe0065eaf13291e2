package engine

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// A rate is that of the time since the last look, or of the one before if that was just
// now.
func TestRates(t *testing.T) {
	const sec = int64(time.Second)
	s := &session{began: 10 * sec}
	y := s.tallied()
	wants := func(what string, now int64, want float64) {
		t.Helper()
		y.mu.Lock()
		defer y.mu.Unlock()
		if got := y.rateAt(now, 10*sec); got != want {
			t.Errorf("%s: %v bytes a second, wanted %v", what, got, want)
		}
	}
	y.sum.bytes = 500
	wants("half a second after the beginning", 10*sec+sec/2, 0)
	wants("two seconds after it", 12*sec, 250)
	s.noteRate(12 * sec)
	y.sum.bytes = 9500
	wants("just after the first look", 12*sec+sec/2, 250)
	wants("three seconds after it", 15*sec, 3000)
	s.noteRate(15 * sec)
	wants("just after the second look", 15*sec+1, 3000)
	s.noteRate(20 * sec)
	wants("after five seconds of nothing", 20*sec, 0)
}

// How long ago a packet came is right where the milliseconds begin anew, after 49 days.
func TestSince(t *testing.T) {
	for _, c := range []struct {
		age, came uint32
		want      millis
	}{
		{0, 0, 0},
		{5, 2, 3},
		{2, math.MaxUint32 - 2, 5},
		{2, 3, 0}, // came while somebody looked
		{math.MaxUint32, 4, 0},
		{1000, 2000, 0},
		{0, 60_000, 0},
		{0, 60_001, math.MaxUint32 - 60_000},
		{math.MaxUint32 - 60_000, 0, math.MaxUint32 - 60_000},
	} {
		if got := since(c.age, c.came); got != c.want {
			t.Errorf("at %d, a packet of %d came %d ms ago, wanted %d", c.age, c.came, got, c.want)
		}
	}
}

// A lag over the moment when the milliseconds begin anew, and what is noted of a
// receiver that joined there, is what it is at any other.
func TestLagAfter49Days(t *testing.T) {
	srv := newServer(t, Config{ReceiverLagMB: 1, MaxMessageMB: 1})
	srv.drainers = []*drainer{newDrainer()}
	ch := &Channel{srv: srv, name: "cam"}
	ch.ring = ring.New(ring.Config{Lag: mib, Lowest: ch.lowest})
	s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
	s.ch = ch
	ch.admit(s, place{})
	g := (*ch.groups.Load())[0]
	g.pass(srv.now())                    // its socket is not free: it has a place, and gets nothing
	come := uint32(math.MaxUint32 - 999) // a second before they begin anew
	ch.ring.Reserve(10)
	ch.ring.Commit(come)
	ch.since = srv.now() - int64(1<<32+2000)*int64(time.Millisecond)
	g.passing.Lock()
	g.observe()
	g.passing.Unlock()
	if y := s.numbers(); y.lag < 3000 || y.lag.duration() > 3*time.Second+patience || y.lagBytes != 10 || y.lagPackets != 1 {
		t.Errorf("the lag is %d ms, %d bytes, %d packets; wanted 3 s, 10 bytes, 1 packet", y.lag, y.lagBytes, y.lagPackets)
	}
}

// The histogram has every receiver once, and the slowest are the slowest: as a naive
// count has it.
func TestTheHistogramAndTheSlowest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, slowest - 1, slowest, slowest + 1, 300} {
		o := newOverview()
		var worst []*session
		var lags []millis
		for range n {
			s := &session{}
			s.tallied().lag = millis(rnd.IntN(100_000) * rnd.IntN(4) / 3)
			if rnd.IntN(5) == 0 {
				s.tallied().lag = 1000 // a bound
			}
			lags = append(lags, s.tallied().lag)
			worst = o.addLag(s, worst)
		}
		sum := 0.0
		for _, l := range lags {
			sum += l.seconds()
		}
		if math.Abs(o.LagSeconds-sum) > 1e-6 {
			t.Errorf("%d receivers: %v s in all, wanted %v", n, o.LagSeconds, sum)
		}
		for _, b := range o.Lag {
			want := int64(0)
			for _, l := range lags {
				if l.seconds() <= b.LE {
					want++
				}
			}
			if b.Count != want {
				t.Errorf("%d receivers: %d have a lag of %v s at most, wanted %d", n, b.Count, b.LE, want)
			}
		}
		if last := o.Lag[len(o.Lag)-1]; last.Count != int64(n) || !math.IsInf(last.LE, 1) {
			t.Errorf("%d receivers: the last bucket is %+v", n, last)
		}
		lags = slices.DeleteFunc(lags, func(l millis) bool { return l == 0 })
		slices.Sort(lags)
		slices.Reverse(lags)
		lags = lags[:min(len(lags), slowest)]
		got := make([]millis, len(worst))
		for i, s := range worst {
			got[i] = s.tallied().lag
		}
		if !slices.Equal(got, lags) {
			t.Errorf("%d receivers: the slowest have %v, wanted %v", n, got, lags)
		}
	}
}

// A receiver that waits costs no more than its session, which fits into 416 bytes (a size
// that Go's allocator has), also when somebody has looked at it; from its first byte on
// it has a tally, and its rate counts from there.
func TestWhoWaitsHasNoTally(t *testing.T) {
	if size := reflect.TypeFor[session]().Size(); size > 416 {
		t.Errorf("a session takes %d bytes", size)
	}
	s := newTestServer(t)
	waits := s.receive("cam", "key")
	ws := s.session(waits)
	s.survey.walk((*session).noteRate)
	if o := s.Overview(); o.Waiting != 1 || ws.tally.Load() != nil {
		t.Errorf("%d receivers wait, wanted 1; its tally is %v", o.Waiting, ws.tally.Load())
	}
	before := s.now()
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	waits.WantPacket(numbered(0, 1000))
	s.wantCarried(waits, 1, wireSize(1000))
	if n := ws.numbers(); n.first < before || n.lookAt < n.first {
		t.Errorf("it has its first byte at %d, its rate counts from %d; wanted no moment before %d", n.first, n.lookAt, before)
	}
}

// A session keeps nothing of the request's line but what it needs: that may be long.
func TestASessionDoesNotKeepTheRequestsLine(t *testing.T) {
	srv := newServer(t, Config{})
	path := "/cam/key/receive"
	line := path + "?" + strings.Repeat("x", 10_000)
	to, ok := parseTarget(line[:len(path)], 128)
	if !ok {
		t.Fatal("the path is not understood")
	}
	s := srv.newSession(to, netip.AddrPort{})
	if s.name != "cam" || s.key != "key" {
		t.Errorf("channel %q, key %q", s.name, s.key)
	}
	from := uintptr(unsafe.Pointer(unsafe.StringData(line)))
	for _, id := range []string{s.name, s.key} {
		if at := uintptr(unsafe.Pointer(unsafe.StringData(id))); at >= from && at < from+uintptr(len(line)) {
			t.Errorf("%q keeps the whole line", id)
		}
	}
}

// How long ago the packet came that a slow receiver has lost is known to the end, also
// when it had not begun that packet.
func TestLagOfAReceiverThatWasOverrun(t *testing.T) {
	srv := newServer(t, Config{ReceiverLagMB: 1, MaxMessageMB: 1})
	srv.drainers = []*drainer{newDrainer()}
	ch := &Channel{srv: srv, name: "cam"}
	ch.ring = ring.New(ring.Config{Lag: 64 << 10, Lowest: ch.lowest})
	s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
	s.ch = ch
	ch.admit(s, place{})
	g := (*ch.groups.Load())[0]
	g.pass(srv.now()) // its socket is not free: it has a place, and gets nothing
	ch.since = srv.now() - int64(5*time.Second)
	const packets, size = 10, 32 << 10
	for range packets {
		ch.ring.Reserve(size)
		ch.ring.Commit(1000)
	}
	g.pass(srv.now())
	g.passing.Lock()
	g.observe()
	g.passing.Unlock()
	srv.closing.remove(s)
	if y := s.numbers(); s.reason() != slowReceiver || y.lag < 4000 || y.lagPackets != packets || y.lagBytes != packets*size {
		t.Errorf("%v: the lag is %d ms, %d packets, %d bytes; wanted 4 s, %d, %d", s.reason(), y.lag, y.lagPackets, y.lagBytes, packets, packets*size)
	}
}

// adding is a task that adds another one.
type adding struct {
	d    *drainer
	next task
	ran  *int
}

func (a adding) run() {
	*a.ran++
	if a.next != nil {
		a.d.add(a.next)
	}
}

// A drainer that is stopped does what is queued, and what that adds.
func TestADrainerThatStopsIsDone(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	for range 20 {
		d, ran := newDrainer(), 0
		d.add(adding{d, adding{d, nil, &ran}, &ran})
		d.run(stop)
		if ran != 2 {
			t.Fatalf("%d of 2 tasks were run", ran)
		}
	}
}
