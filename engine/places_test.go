package engine

import (
	"sync"
	"sync/atomic"
	"testing"
)

// However many goroutines race, there are never more in than there are places, and
// every one of them can be taken again.
func TestPlaces(t *testing.T) {
	const limit, racers, rounds = 3, 8, 20_000
	p := &places{limit: limit}
	var in, most, refused atomic.Int64
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			for range rounds {
				if !p.take() {
					refused.Add(1)
					continue
				}
				n := in.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				in.Add(-1)
				p.release()
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > limit {
		t.Errorf("%d had a place at a time, the limit is %d", m, limit)
	}
	if n := p.taken.Load(); n != 0 {
		t.Errorf("%d places are taken, and nobody has one", n)
	}
	for i := range limit {
		if !p.take() {
			t.Errorf("place %d of %d cannot be taken", i, limit)
		}
	}
	if p.take() {
		t.Error("one place too many")
	}
	t.Logf("at most %d at a time, %d refused", most.Load(), refused.Load())
	free := &places{}
	for range 1000 {
		if !free.take() {
			t.Fatal("refused without a limit")
		}
	}
}
