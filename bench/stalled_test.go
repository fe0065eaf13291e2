package bench

import (
	"fmt"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// BenchmarkStalled is a channel with 50 receivers that read, beside some that never
// do. An operation is 50 packets of 128 KiB, published at 25 packets/s; the cache is
// 16 MiB, which is what a receiver that stalls is behind from its beginning.
//
//	stalled=          receivers that never read; 0 is the baseline
//	p50-ms, p99-ms    the others' latency, from publish to the last byte read
//	cpu-ns/delivery   user and system time of the process, load included, for each
//	                  packet that another one reads
//	kernel-B/stalled  what the kernel holds for each that never reads, at the end
//	lost              packets that another one lacks
//
// There is no ns/op: how long an operation takes is given. After ten operations
// those that stall are 64 MiB behind the cache, and the server closes them.
func BenchmarkStalled(b *testing.B) {
	const live, cacheMB, size, packets, every = 50, 16, 128 << 10, 50, 40 * time.Millisecond
	for _, stalled := range []int{0, 50, 2000} {
		name := fmt.Sprintf("live=%d/stalled=%d", live, stalled)
		rounds(b, name, func(b *testing.B, s *stage) *load {
			needConnections(b, live+stalled)
			c := startChannel(b, s, nil, cacheMB, size)
			l := newLoad(b, s, c, live, size)
			l.must(b, l.burst(cacheMB*mib/size+16)) // the cache is full
			for range stalled {
				// A small window: the kernel takes little of the 16 MiB.
				w, _, err := wstest.Open(c.addr, "/bench/key/receive", wstest.ReceiveBuffer(64<<10))
				if err != nil {
					b.Fatal(err)
				}
				s.later(w.Reset)
			}
			return l
		}, func(b *testing.B, l *load) {
			l.latency.reset()
			cpu := cpuTime()
			b.ResetTimer()
			err := l.paced(b.N*packets, every)
			b.StopTimer()
			cpu = cpuTime() - cpu
			l.must(b, err)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(cpu)/(float64(b.N)*packets*live), "cpu-ns/delivery")
			l.reportLatency(b)
			if held, ok := sendQueues(l.server.(oneChannel).addr); ok && stalled > 0 {
				b.ReportMetric(float64(held)/float64(stalled), "kernel-B/stalled")
			}
		})
	}
}
