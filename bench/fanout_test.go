package bench

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/frame"
)

// inFlight bounds how far the publisher is ahead of the slowest reader's share, in
// bytes of packets: below what any server here keeps, so that nobody is dropped.
const inFlight = 4 << 20

// A broadcaster is a server under test: it brings what is published to receivers.
type broadcaster interface {
	// receive returns a receiver's end of a connection that is live.
	receive(b *testing.B) net.Conn
	// publish sends one packet. Called by one goroutine.
	publish(b *testing.B, packet []byte)
}

// BenchmarkFanOut is one channel with one publisher and many receivers. An
// operation is one packet published and read by every receiver; the benchmark ends
// when the last receiver has the last packet.
//
//	server=ours        the server, over WebSocket
//	server=floor       one write(2) of the same bytes to each socket, in a loop: what
//	                   the kernel takes of a server that writes once per delivery
//	server=goroutines  a goroutine and a queue for each receiver
//	deliveries/s       packets read by receivers, all together
//	cpu-ns/delivery    user and system time of the process, load included
func BenchmarkFanOut(b *testing.B) {
	servers := []struct {
		name  string
		start func(*testing.B) broadcaster
	}{
		{"ours", func(b *testing.B) broadcaster { return startOurs(b) }}, {"floor", startFloor}, {"goroutines", startGoroutines},
	}
	for _, receivers := range []int{1, 100, 1000} {
		for _, size := range []int{200, 1 << 10, 16 << 10} {
			for _, server := range servers {
				b.Run(fmt.Sprintf("receivers=%d/size=%d/server=%s", receivers, size, server.name), func(b *testing.B) {
					fanOut(b, server.start(b), receivers, size)
				})
			}
		}
	}
}

func fanOut(b *testing.B, server broadcaster, receivers, size int) {
	wire := int64(frame.HeaderSize(size) + size) // of a packet, as a receiver gets it
	var read atomic.Int64                        // bytes, by all receivers
	var reading sync.WaitGroup
	for range receivers {
		c := server.receive(b)
		reading.Go(func() {
			defer func() { _ = c.Close() }()
			buf := make([]byte, 64<<10)
			for left := int64(b.N) * wire; left > 0; {
				_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
				n, err := c.Read(buf)
				left -= int64(n)
				read.Add(int64(n))
				if err != nil {
					b.Errorf("a receiver lacks %d bytes: %v", left, err)
					return
				}
			}
		})
	}
	packet := make([]byte, size)
	ahead := max(inFlight/wire, 1)
	b.SetBytes(int64(size) * int64(receivers))
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	for i := range int64(b.N) {
		for (i-ahead)*wire*int64(receivers) > read.Load() && !b.Failed() {
			time.Sleep(50 * time.Microsecond)
		}
		server.publish(b, packet)
	}
	reading.Wait()
	b.StopTimer()
	deliveries := float64(b.N) * float64(receivers)
	b.ReportMetric(deliveries/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(cpuTime()-cpu)/deliveries, "cpu-ns/delivery")
}

// sockets is the connections of a baseline.
type sockets struct {
	l net.Listener

	mu    sync.Mutex
	conns []net.Conn // the server's ends
	frame []byte     // owned by publish
}

func listen(b *testing.B) *sockets {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &sockets{l: l}
	b.Cleanup(func() {
		_ = l.Close()
		for _, c := range s.conns {
			_ = c.Close()
		}
	})
	return s
}

// pair returns both ends of a new connection.
func (s *sockets) pair(b *testing.B) (client, server net.Conn) {
	b.Helper()
	client, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if server, err = s.l.Accept(); err != nil {
		b.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, server)
	return client, server
}

// framed returns the packet as a receiver gets it, valid until the next call.
func (s *sockets) framed(packet []byte) []byte {
	n := frame.HeaderSize(len(packet))
	if len(s.frame) != n+len(packet) {
		s.frame = make([]byte, n+len(packet))
	}
	frame.PutHeader(s.frame, frame.Binary, len(packet))
	copy(s.frame[n:], packet)
	return s.frame
}

// floorServer writes to one socket after the other.
type floorServer struct{ *sockets }

func startFloor(b *testing.B) broadcaster { return floorServer{listen(b)} }

func (s floorServer) receive(b *testing.B) net.Conn {
	client, _ := s.pair(b)
	return client
}

func (s floorServer) publish(b *testing.B, packet []byte) {
	f := s.framed(packet)
	for _, c := range s.conns {
		if _, err := c.Write(f); err != nil {
			b.Fatal(err)
		}
	}
}

// goroutineServer has a goroutine and a queue for each receiver.
type goroutineServer struct {
	*sockets
	queues []chan []byte
}

func startGoroutines(b *testing.B) broadcaster {
	s := &goroutineServer{sockets: listen(b)}
	b.Cleanup(func() {
		for _, q := range s.queues {
			close(q)
		}
	})
	return s
}

func (s *goroutineServer) receive(b *testing.B) net.Conn {
	client, server := s.pair(b)
	queue := make(chan []byte, 256)
	s.queues = append(s.queues, queue)
	go func() {
		for f := range queue {
			if _, err := server.Write(f); err != nil && err != io.EOF {
				return
			}
		}
	}()
	return client
}

func (s *goroutineServer) publish(_ *testing.B, packet []byte) {
	f := append([]byte(nil), s.framed(packet)...) // the queues keep it
	for _, q := range s.queues {
		q <- f
	}
}
