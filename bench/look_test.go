package bench

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine"
)

// BenchmarkLook is FanOut's largest channel while somebody asks the server what it does,
// as a scrape of its metrics does: an operation is one packet published and read by every
// receiver.
//
//	looks=none      nobody asks
//	looks=1s        every second, as no scrape is likely to be more often
//	looks=1ms       as often as it can be answered, to see what it costs at all
//
// Beside what FanOut reports, its latency too with somebody who looks:
//
//	ms/look         how long one took, passes that it waited for included
//	ns/receiver     processor time of one for each receiver, with nothing under way
func BenchmarkLook(b *testing.B) {
	const receivers, size = 5000, 1 << 10
	for _, every := range []time.Duration{0, time.Second, time.Millisecond} {
		name := "looks=none"
		if every > 0 {
			name = "looks=" + every.String()
		}
		rounds(b, name, func(b *testing.B, s *stage) *looked {
			under := startChannel(b, s, nil, 0, size)
			l := &looked{load: newLoad(b, s, under, receivers, size), srv: under.srv}
			l.must(b, l.burst(4))
			const times = 100
			cpu := cpuTime()
			for range times {
				l.srv.Overview()
			}
			l.idle = (cpuTime() - cpu) / times / receivers
			if every > 0 {
				l.keepLooking(s, every)
			}
			l.must(b, l.paced(pace(receivers, size)))
			return l
		}, func(b *testing.B, l *looked) {
			l.fullSpeed(b)
			if n := l.looks.Load(); n > 0 {
				b.ReportMetric(float64(l.took.Load())/1e6/float64(n), "ms/look")
			}
			b.ReportMetric(float64(l.idle.Nanoseconds()), "ns/receiver")
		})
	}
}

// looked is a load whose server is asked what it does.
type looked struct {
	*load
	srv  *engine.Server
	idle time.Duration // of one look, for each receiver, with nothing under way

	// Atomic.
	looks atomic.Int64
	took  atomic.Int64 // nanoseconds, all looks together
}

// keepLooking looks every so often until the stage is closed.
func (l *looked) keepLooking(s *stage, every time.Duration) {
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				begin := time.Now()
				l.srv.Overview()
				l.took.Add(int64(time.Since(begin)))
				l.looks.Add(1)
			}
		}
	})
	s.later(func() {
		close(stop)
		looking.Wait()
	})
}
