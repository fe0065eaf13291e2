package bench

import (
	"math/bits"
	"sync/atomic"
)

// fine is how many buckets of a histogram there are for each doubling: a bucket is
// at most 1/16 of its values wide.
const fine = 16

// histogram counts durations in nanoseconds. Any goroutine may call its methods.
type histogram struct{ n [64 * fine]atomic.Int64 }

func (h *histogram) add(d int64) { h.n[bucketOf(d)].Add(1) }

func (h *histogram) reset() {
	for i := range h.n {
		h.n[i].Store(0)
	}
}

// quantile returns the middle of the bucket that the q-quantile is in, in
// nanoseconds; 0 if nothing was counted.
func (h *histogram) quantile(q float64) float64 {
	var all int64
	for i := range h.n {
		all += h.n[i].Load()
	}
	rest := int64(q * float64(all))
	for i := range h.n {
		n := h.n[i].Load()
		if rest < n {
			power, part := i/fine, i%fine
			return float64(uint64(1)<<power) * (1 + (float64(part)+0.5)/fine)
		}
		rest -= n
	}
	return 0
}

// bucketOf returns the bucket of a duration: its power of two, then the four bits
// behind the highest one.
func bucketOf(d int64) int {
	v := uint64(max(d, 1))
	power := bits.Len64(v) - 1
	return power*fine + int(v<<(63-power)>>59)&(fine-1)
}
