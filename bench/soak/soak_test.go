//go:build soak && linux

package soak

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
)

var (
	seed       = flag.Uint64("seed", 0, "what everything is drawn from; 0: another one each time")
	long       = flag.Duration("for", time.Minute, "how long, all rounds together")
	publishers = flag.Int("publishers", 200, "how many publish at once, each on a channel of its own")
	receivers  = flag.Int("receivers", 2000, "how many receive at once")
)

const (
	// A round is a third of the whole, within these bounds.
	shortestRound, longestRound = 5 * time.Second, 5 * time.Minute

	// leftPatience is how long the last connection may take to be given back: the
	// sweep looks twice a second, and a client's end is waited for.
	leftPatience = 30 * time.Second

	// heapSlack is how much the live heap may differ from one round to the next:
	// what the runtime, net/http and the pools keep. 2000 leaked sessions are 1.6 MB.
	heapSlack = 1 << 20
)

// TestSoak is the soak: see the package comment.
func TestSoak(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 32)
	}
	p, n := fit(t, *publishers, *receivers)
	t.Logf("seed %d, for %v, %d publishers, %d receivers: go test -tags soak -run TestSoak ./bench/soak -seed %d -for %v -publishers %d -receivers %d",
		*seed, *long, p, n, *seed, *long, p, n)
	b, id := newBlock(*seed), wstest.NewIdentity(t, "soak")
	order := rand.New(rand.NewPCG(*seed, 2)).Perm(len(settings))
	each := min(max(*long/3, shortestRound), longestRound)

	// Whatever comes to be once in a process comes to be here.
	warm := func(t *testing.T) { soakRound(t, b, id, -1, settings[1], time.Second, 4, 20) }
	if !t.Run("warm-up", warm) {
		return
	}
	makeGoroutines(4 * (p + n))
	for number, end := 0, time.Now().Add(*long-each/2); number == 0 || time.Now().Before(end); number++ {
		before := takeStock()
		one := func(t *testing.T) { soakRound(t, b, id, number, settings[order[number%len(order)]], each, p, n) }
		if !t.Run(fmt.Sprintf("round-%d", number), one) {
			return
		}
		if wantStock(t, before); t.Failed() {
			return
		}
	}
}

// fit reduces the numbers to what the process may have open: two descriptors for a
// client, whose other end is here, and as many again of those that are about to go:
// 9,100 for 200 publishers and 2,000 receivers. With CI=true it fails instead.
func fit(t *testing.T, publishers, receivers int) (p, r int) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return publishers, receivers
	}
	p, r = publishers, receivers
	for p+r > 10 && descriptorsFor(p, r) > l.Cur {
		p, r = p*9/10, r*9/10
	}
	if p != publishers || r != receivers {
		say := t.Logf
		if os.Getenv("CI") == "true" {
			say = t.Fatalf
		}
		say("%d descriptors are allowed, %d publishers and %d receivers need %d", l.Cur, publishers, receivers, descriptorsFor(publishers, receivers))
	}
	return max(p, 1), max(r, 1)
}

func descriptorsFor(publishers, receivers int) uint64 { return uint64(4*(publishers+receivers) + 300) }

// makeGoroutines has so many at once: the runtime keeps what it needs for one for ever,
// 400 bytes or so.
func makeGoroutines(n int) {
	var wg sync.WaitGroup
	end := make(chan struct{})
	for range n {
		wg.Go(func() { <-end })
	}
	close(end)
	wg.Wait()
}

// soakRound is one server's life.
func soakRound(t *testing.T, b *block, id wstest.Identity, number int, set setting, each time.Duration, publishers, receivers int) {
	t.Helper()
	begin := time.Now()
	r := newRound(t, *seed, number, set, b, id, publishers)
	r.run(each, publishers, receivers)
	if len(r.failures) == 0 {
		r.wantNothingLeft()
	}
	if !set.shutdown {
		r.shutdown()
	}
	r.closeCoordinator(t)
	t.Logf("round %d: %v, %v, pace %.2f: %v", number, set, time.Since(begin).Round(time.Second/10), r.pace(), &r.stats)
	r.report(t)
}

// wantNothingLeft fails unless every counter is back at zero, and the coordinator was
// told of every end.
func (r *round) wantNothingLeft() {
	end := time.Now().Add(leftPatience)
	for r.srv.Census() != (engine.Census{}) && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
	if left := r.srv.Census(); left != (engine.Census{}) {
		r.fail(nil, fmt.Errorf("all clients are gone, and the server still has %+v", left))
	}
	if r.coordinator != nil {
		if err := r.coordinator.finish(); err != nil {
			r.fail(nil, err)
		}
	}
}

func (r *round) closeCoordinator(t *testing.T) {
	t.Helper()
	if r.coordinator == nil {
		return
	}
	if err := r.coordinator.auth.Close(t.Context()); err != nil {
		r.fail(nil, fmt.Errorf("cannot close the control link: %w", err))
	}
	r.coordinator.fake.Stop()
}

// report prints what has failed: the first failures, for others may follow from them.
func (r *round) report(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failures) == 0 {
		return
	}
	most := min(3, len(r.failures))
	t.Errorf("seed %d, round %d, %v\n%d failures, the first of them:\n\n%s\nserver: %+v\nlog:\n%s",
		r.seed, r.number, r.setting, len(r.failures), strings.Join(r.failures[:most], "\n"), r.srv.Census(), r.log)
}

// stock is what a process has.
type stock struct {
	goroutines, descriptors int
	heap                    int64
}

func takeStock() (s stock) {
	runtime.GC()
	runtime.GC() // the second one empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.goroutines, s.heap = runtime.NumGoroutine(), int64(m.HeapAlloc)
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.descriptors = len(fds)
	}
	return s
}

// wantStock fails unless everything is back where it began.
func wantStock(t *testing.T, before stock) {
	t.Helper()
	var now stock
	for end := time.Now().Add(leftPatience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		now = takeStock()
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors && now.heap-before.heap < heapSlack {
			t.Logf("goroutines %d, descriptors %d, live heap %d KiB, %+d since before the round", now.goroutines, now.descriptors, now.heap>>10, (now.heap-before.heap)>>10)
			return
		}
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("seed %d: before the round %+v, after it %+v\n%.20000s", *seed, before, now, stacks[:runtime.Stack(stacks, true)])
}
