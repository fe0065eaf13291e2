package bench

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkFanOut is one channel with one publisher and many receivers. An
// operation is one packet published and read by every receiver; the clock stops when
// the last receiver has the last packet.
//
//	receivers=          connections that read
//	size=               bytes of a packet
//	tls=                whether receivers speak TLS; the publisher never does
//	server=ours         the server, over WebSocket
//	server=ours-http    the server, receivers over HTTP/1.1; the client takes the chunks apart
//	server=floor        one write(2) of the same bytes to each socket, in a loop: what
//	                    the kernel takes of a server that writes once per delivery
//	server=goroutines   a goroutine and a queue for each receiver
//
// The floor and the goroutines have no publisher's socket: their packets begin in the
// process.
//
// Packets are published as fast as they go, 4 MiB ahead of the receivers:
//
//	MB/s                bytes of packets read by receivers, all together
//	deliveries/s        packets read by receivers, all together
//	cpu-ns/delivery     user and system time of the process, load included
//	lost                packets that a receiver lacks
//	B/op, allocs/op     of the process, load included
//
// And before that one by one, at a rate that all the servers can keep (see pace):
//
//	p50-ms, p99-ms      from publish to the last byte read, over all deliveries
func BenchmarkFanOut(b *testing.B) {
	id := newIdentity(b)
	for _, receivers := range []int{1, 10, 100, 1000, 5000} {
		for _, size := range []int{200, 1 << 10, 16 << 10, 512 << 10} {
			if receivers*size > 100<<20 {
				continue // more than a small machine lets its sockets hold
			}
			for _, server := range []string{"ours", "floor", "goroutines"} {
				fanOut(b, server, receivers, size, nil)
			}
		}
	}
	fanOut(b, "ours-http", 100, 16<<10, nil)
	for _, receivers := range []int{100, 1000} {
		for _, size := range []int{1 << 10, 16 << 10} {
			for _, server := range []string{"ours", "goroutines"} {
				fanOut(b, server, receivers, size, id)
			}
		}
	}
}

// fanOut is one line of the result. Receivers speak TLS if id is not nil.
func fanOut(b *testing.B, server string, receivers, size int, id *identity) {
	name := fmt.Sprintf("receivers=%d/size=%d/tls=%s/server=%s", receivers, size, yesNo(id != nil), server)
	rounds(b, name, func(b *testing.B, s *stage) *load {
		var under broadcaster
		switch server {
		case "ours":
			under = startChannel(b, s, id, 0, size)
		case "ours-http":
			under = &httpChannel{oneChannel: startChannel(b, s, nil, 0, size)}
		case "floor":
			under = startFloor(b, s, id, size)
		default:
			under = startGoroutines(b, s, id, size)
		}
		l := newLoad(b, s, under, receivers, size)
		l.warmUp(b)
		return l
	}, func(b *testing.B, l *load) { l.fullSpeed(b) })
}

// warmUp has every receiver read a few packets, then measures the latency at a rate
// that all the servers can keep.
func (l *load) warmUp(b *testing.B) {
	b.Helper()
	l.must(b, l.burst(4))
	l.must(b, l.paced(pace(l.receivers, l.size)))
}

// pace returns how many packets are timed, and how far apart: 0.3 seconds' worth, 5
// at least; at most 40,000 deliveries, 400 MB and 1000 packets a second. The floor
// manages twice as much on two slow cores.
func pace(receivers, size int64) (n int, every time.Duration) {
	every = max(time.Millisecond,
		time.Duration(receivers)*25*time.Microsecond,
		time.Duration(receivers*size)*time.Second/400e6)
	return max(5, int(300*time.Millisecond/every)), every
}

// fullSpeed is a round: b.N operations as fast as they go.
func (l *load) fullSpeed(b *testing.B) {
	b.Helper()
	b.SetBytes(l.size * l.receivers)
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	err := l.burst(b.N)
	b.StopTimer()
	cpu = cpuTime() - cpu
	l.must(b, err)
	deliveries := float64(b.N) * float64(l.receivers)
	b.ReportMetric(deliveries/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(cpu)/deliveries, "cpu-ns/delivery")
	l.reportLatency(b)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
