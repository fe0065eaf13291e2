package bench

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine"
	"ws-stream-server/engine/frame"
)

// BenchmarkDrain is one channel whose receivers are written to by one drainer or by
// several. The server and its receivers are real, the kernel is not: each write
// costs a fixed time. An operation is one packet written to every receiver.
//
//	drainers=4      GOMAXPROCS, and so the number of drainers
//	cost=work       a write is some 8 µs of work, as one to loopback is: scales with
//	                the cores there are
//	cost=wait       a write waits for a millisecond and keeps no core busy: scales with
//	                the drainers, as work does where there is a core for each
//	ns/op           from the packet's publishing until the last receiver was written to
//	writes/s        by all drainers
func BenchmarkDrain(b *testing.B) {
	for _, cost := range []struct {
		name      string
		receivers int
		write     func()
	}{
		{"work", 256, work()},
		{"wait", 128, func() { time.Sleep(time.Millisecond) }},
	} {
		for _, drainers := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("cost=%s/drainers=%d", cost.name, drainers), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(drainers))
				drain(b, cost.receivers, cost.write)
			})
		}
	}
}

// work returns a function that takes some 8 µs where nothing else runs.
func work() func() {
	spin := func(n int) (x uint64) {
		for x = 1; n > 0; n-- {
			x = x*6364136223846793005 + 1442695040888963407
		}
		return x
	}
	const probe = 1 << 20
	var kept atomic.Uint64 // or the compiler would leave the loop out
	begin := time.Now()
	kept.Store(spin(probe))
	n := int(probe * (8 * time.Microsecond) / max(time.Since(begin), 1))
	return func() { kept.Store(spin(n)) }
}

func drain(b *testing.B, receivers int, write func()) {
	const size = 1 << 10
	round := int64(receivers) * int64(frame.HeaderSize(size)+size) // bytes of an operation
	var written atomic.Int64
	done := make(chan struct{}, 1)
	s := &stage{tb: b}
	defer s.close()
	o := startOurs(b, s, nil, 0, func(c *engine.Config, o *engine.Options) {
		c.GatherMS = 0
		o.Sink = func(packet []byte) {
			write()
			if written.Add(int64(len(packet)))%round == 0 {
				done <- struct{}{}
			}
		}
	})
	pub := o.publisher(b, s, "bench", size)
	for range receivers {
		c, _, err := o.receive("bench")
		if err != nil {
			b.Fatal(err)
		}
		s.later(func() { hangUp(c) })
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for seq := uint64(0); b.Loop(); seq++ {
		if err := pub.publish(seq, false); err != nil {
			b.Fatal(err)
		}
		deadline.Reset(patience)
		select {
		case <-done:
		case <-deadline.C:
			b.Fatalf("%d of %d bytes were written", written.Load()%round, round)
		}
	}
	b.ReportMetric(float64(b.N)*float64(receivers)/b.Elapsed().Seconds(), "writes/s")
}
