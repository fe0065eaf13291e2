package bench

import (
	"fmt"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

const (
	// inFlight bounds how far the publisher is ahead of what receivers have read on
	// average, in bytes: below what any server here keeps, so that nobody is dropped.
	inFlight = 4 << 20

	// patience is how long the load waits for a packet, an answer or room to write
	// before the benchmark fails.
	patience = 30 * time.Second

	// readMemory is what the receivers' read buffers take all together, in bytes,
	// unless 64 KiB for each is less.
	readMemory = 64 << 20
)

// A stage is what a benchmark is set up on: servers and connections.
type stage struct {
	tb   testing.TB // outlives the rounds
	undo []func()
}

// later has f called when the stage is closed, the newest f first.
func (s *stage) later(f func()) { s.undo = append(s.undo, f) }

func (s *stage) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	s.undo = nil
}

// rounds runs a benchmark whose set-up is too dear to be repeated for every b.N that
// the testing package tries: setUp is called once for each line of the result. What
// round gets is in use until the last round is over; what b.Cleanup is given, is not.
func rounds[T any](b *testing.B, name string, setUp func(*testing.B, *stage) T, round func(*testing.B, T)) {
	s := &stage{tb: b}
	defer s.close()
	var (
		of    *testing.B // whose rounds the set-up is for
		procs int        // GOMAXPROCS of then: -cpu changes it
		set   T
	)
	b.Run(name, func(b *testing.B) {
		if of != b || procs != runtime.GOMAXPROCS(0) {
			s.close()
			of, procs = b, runtime.GOMAXPROCS(0)
			set = setUp(b, s)
		}
		round(b, set)
	})
}

// A broadcaster is a server under test: it brings what is published to receivers.
type broadcaster interface {
	// receive returns a receiver's end of a new connection, and the bytes that came
	// behind the answer to its handshake.
	receive() (net.Conn, []byte, error)
	// publish sends one packet to every receiver, with its sequence and, if timed,
	// the time. Called by one goroutine.
	publish(seq uint64, timed bool) error
}

// A load is receivers that read all that a broadcaster is given to publish.
type load struct {
	// Static before the first packet is published.
	server    broadcaster
	receivers int64
	size      int64 // bytes of a packet
	window    int64 // packets in flight
	conns     []net.Conn

	latency histogram // from publish to the packet's last byte, of timed packets
	reading sync.WaitGroup

	// Atomic.
	published atomic.Int64
	seen      atomic.Int64 // packets read or known to be lost, of all receivers
	lost      atomic.Int64
	goal      atomic.Int64 // of seen: who gets there tells wait
	closing   atomic.Bool

	reached chan struct{} // holds one token when goal was reached

	failing sync.Once
	err     error         // guarded by broken
	broken  chan struct{} // closed by fail
}

// newLoad connects receivers to a server that publishes packets of size bytes.
func newLoad(b *testing.B, s *stage, server broadcaster, receivers, size int) *load {
	b.Helper()
	needConnections(b, receivers)
	l := &load{
		server: server, receivers: int64(receivers), size: int64(size), window: max(inFlight/int64(size), 2),
		reached: make(chan struct{}, 1), broken: make(chan struct{}),
	}
	l.goal.Store(math.MaxInt64)
	stop := make(chan struct{})
	s.later(func() {
		close(stop)
		l.close()
	})
	buffer := min(64<<10, readMemory/receivers)
	for range receivers {
		c, early, err := server.receive()
		if err != nil {
			b.Fatal(err)
		}
		l.conns = append(l.conns, c)
		r := &receiver{conn: c, buf: make([]byte, max(buffer, len(early))), stream: stream{latency: &l.latency}}
		if _, bare := c.(*httpConn); bare {
			r.stream.bare = size
		}
		copy(r.buf, early)
		l.reading.Go(func() { l.read(r, len(early)) })
	}
	l.reading.Go(func() { l.watch(stop) })
	return l
}

// needConnections skips a benchmark that needs more of them than the process may
// have.
func needConnections(b *testing.B, n int) {
	b.Helper()
	// Both ends are here, and some that have ended are not closed yet.
	if need := 2*n + 500; need > descriptors() {
		wstest.Skip(b, "needs %d file descriptors, the limit is %d", need, descriptors())
	}
}

// close ends the receivers and waits for their goroutines.
func (l *load) close() {
	l.closing.Store(true)
	for _, c := range l.conns {
		hangUp(c)
	}
	l.reading.Wait()
}

// watch fails a load of which nothing arrives though something is under way.
func (l *load) watch(stop <-chan struct{}) {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		seen := l.seen.Load()
		all := l.published.Load() * l.receivers
		switch {
		case seen == all:
			last = -1
			continue
		case seen == last:
			l.fail(fmt.Errorf("nothing was read for %v, %d packets are missing", patience, all-seen))
			for _, c := range l.conns { // who writes to one gets an error
				hangUp(c)
			}
			return
		}
		last = seen
	}
}

// fail keeps the first error and lets wait return. Any goroutine.
func (l *load) fail(err error) {
	l.failing.Do(func() {
		l.err = err
		close(l.broken)
	})
}

// count adds what a receiver has read or lost. Any goroutine.
func (l *load) count(packets, lost int64) {
	if lost > 0 {
		l.lost.Add(lost)
	}
	n := l.seen.Add(packets + lost)
	if goal := l.goal.Load(); n >= goal && l.goal.CompareAndSwap(goal, math.MaxInt64) {
		select {
		case l.reached <- struct{}{}:
		default:
		}
	}
}

// wait returns when so many packets have been seen, or with the load's error.
func (l *load) wait(seen int64) error {
	for l.seen.Load() < seen {
		l.goal.Store(seen)
		if l.seen.Load() >= seen { // before count saw the goal
			break
		}
		select {
		case <-l.reached:
		case <-l.broken:
			return l.err
		}
	}
	return nil
}

// publish sends one packet. It returns the load's error.
func (l *load) publish(timed bool) error {
	seq := l.published.Add(1) - 1
	if err := l.server.publish(uint64(seq), timed); err != nil {
		l.fail(fmt.Errorf("cannot publish packet %d: %w", seq, err))
		return l.err
	}
	return nil
}

// burst publishes n packets as fast as they go, and returns when every receiver has
// the last one.
func (l *load) burst(n int) error {
	for range n {
		if behind := l.published.Load() - l.window; behind*l.receivers > l.seen.Load() {
			// For an eighth of the window: not a wake-up for each packet.
			if err := l.wait((behind + l.window/8) * l.receivers); err != nil {
				return err
			}
		}
		if err := l.publish(false); err != nil {
			return err
		}
	}
	return l.wait(l.published.Load() * l.receivers)
}

// paced publishes n timed packets at a fixed rate, and returns when every receiver
// has the last one.
func (l *load) paced(n int, every time.Duration) error {
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		if err := l.publish(true); err != nil {
			return err
		}
	}
	return l.wait(l.published.Load() * l.receivers)
}

// must ends the benchmark unless all went well so far.
func (l *load) must(b *testing.B, err error) {
	b.Helper()
	all := l.published.Load() * l.receivers
	lost := all - (l.seen.Load() - l.lost.Load())
	if err != nil {
		b.Fatalf("%v; receivers lack %d packets of %d", err, lost, all)
	}
	b.ReportMetric(float64(lost), "lost")
	if lost > 0 {
		b.Errorf("receivers lack %d packets of %d", lost, all)
	}
}

// reportLatency adds the latency of the timed packets so far.
func (l *load) reportLatency(b *testing.B) {
	b.ReportMetric(l.latency.quantile(0.5)/1e6, "p50-ms")
	b.ReportMetric(l.latency.quantile(0.99)/1e6, "p99-ms")
}
