package bench

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// BenchmarkIdle is receivers that wait for a publisher. An operation is 2000 of them
// that connect, one after the other; measuring them and their end are not timed.
//
//	tls=                whether they speak TLS
//	server=ours         the server, over WebSocket
//	server=goroutines   a goroutine and a queue for 256 packets for each, no handshake
//	                    but that of TLS
//	B/receiver          heap and stacks of the server for each of them, in bytes, after
//	                    garbage is collected; the kernel's memory does not count
//
// The clients are in the same process, and must not count: each does its handshake
// with connections of Go as usual, then only a file descriptor is kept of it, which
// holds the connection open (see park).
func BenchmarkIdle(b *testing.B) {
	id := newIdentity(b)
	for _, secure := range []*identity{nil, id} {
		for _, server := range []string{"ours", "goroutines"} {
			b.Run(fmt.Sprintf("tls=%s/server=%s", yesNo(secure != nil), server), func(b *testing.B) {
				var bytes float64
				b.StopTimer()
				for range b.N {
					bytes += idle(b, server, secure)
				}
				b.ReportMetric(bytes/float64(b.N), "B/receiver")
			})
		}
	}
}

// idle is one operation on a fresh server. It returns the bytes for each receiver.
// The timer is stopped, and runs while receivers connect.
func idle(b *testing.B, server string, id *identity) float64 {
	const receivers = 2000
	needConnections(b, receivers)
	s := &stage{tb: b}
	defer s.close()
	var receive func() (net.Conn, []byte, error)
	workers := 0 // goroutines that the server has for its receivers
	if server == "ours" {
		o := startOurs(b, s, id, 0)
		receive = func() (net.Conn, []byte, error) { return o.receive("bench") }
	} else {
		receive, workers = startGoroutines(b, s, id, 1<<10).receive, receivers
	}
	parked := make([]int, 0, receivers)
	s.later(func() {
		for _, fd := range parked {
			unpark(fd)
		}
	})
	goroutines, before := runtime.NumGoroutine(), memory()
	b.StartTimer()
	for range receivers {
		c, _, err := receive()
		if err != nil {
			b.Fatal(err)
		}
		fd, err := park(tcpOf(c))
		if err != nil {
			wstest.Skip(b, "%v", err)
		}
		parked = append(parked, fd)
	}
	b.StopTimer()
	// Until the last handshake's goroutine has ended.
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+workers; {
		if time.Now().After(deadline) {
			b.Fatalf("%d goroutines are left over", runtime.NumGoroutine()-goroutines-workers)
		}
		time.Sleep(time.Millisecond)
	}
	return (memory() - before) / receivers
}

// memory returns the bytes of heap and stacks in use, after garbage is collected.
func memory() float64 {
	runtime.GC()
	runtime.GC() // what the first one left in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) + float64(m.StackInuse)
}
