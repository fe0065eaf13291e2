package engine

import "sync/atomic"

// places counts the stream connections of all addresses together: each has a place
// from its acceptance to its end. Any goroutine.
type places struct {
	limit int64 // static; 0: none
	taken atomic.Int64
}

// take takes a place. False: all are taken, and nothing was.
func (p *places) take() bool {
	for {
		n := p.taken.Load()
		if p.limit > 0 && n >= p.limit {
			return false
		}
		if p.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a place back.
func (p *places) release() { p.taken.Add(-1) }
