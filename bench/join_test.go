package bench

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

const mib = 1 << 20

// BenchmarkJoin is a live channel with 64 MiB in its cache that receivers join, while
// 20 live ones go on. An operation is 60 packets, published at 20 packets/s;
// meanwhile each joiner connects, reads until it is live, leaves and joins again.
//
//	joiners=         how many join at a time; 0 is the baseline
//	p50-ms, p99-ms   the live receivers' latency, from publish to the last byte read
//	ms/join          from the dial until a joiner has the packet that was the newest
//	                 when it dialed, on average
//	MiB/join         what it has read by then, in packets of 64 KiB, on average
//	lost             packets that a live receiver lacks
//
// There is no ns/op: how long an operation takes is given.
func BenchmarkJoin(b *testing.B) {
	const live, cacheMB, size, packets, every = 20, 64, 64 << 10, 60, 50 * time.Millisecond
	for _, joiners := range []int{0, 1, 4} {
		name := fmt.Sprintf("joiners=%d", joiners)
		rounds(b, name, func(b *testing.B, s *stage) *crowd {
			c := startChannel(b, s, nil, cacheMB, size)
			l := newLoad(b, s, c, live, size)
			l.must(b, l.burst(cacheMB*mib/size+16)) // the cache is full
			return &crowd{load: l, ours: c.ours}
		}, func(b *testing.B, c *crowd) {
			c.latency.reset()
			c.join(joiners)
			b.ResetTimer()
			err := c.paced(b.N*packets, every)
			b.StopTimer()
			c.must(b, c.leave(err))
			b.ReportMetric(0, "ns/op")
			c.reportLatency(b)
			if c.joins > 0 {
				b.ReportMetric(float64(c.took.Milliseconds())/float64(c.joins), "ms/join")
				b.ReportMetric(float64(c.bytes)/mib/float64(c.joins), "MiB/join")
			}
		})
	}
}

// crowd is live receivers, and joiners that come and go.
type crowd struct {
	*load
	ours *ours

	stop    chan struct{} // closed when no joiner shall come any more
	joining sync.WaitGroup

	// Guarded by mu, of this round.
	mu    sync.Mutex
	joins int
	took  time.Duration // all joins together
	bytes int64         // all joins together
}

// join lets joiners come and go until leave.
func (c *crowd) join(joiners int) {
	c.stop = make(chan struct{})
	c.joins, c.took, c.bytes = 0, 0, 0
	for range joiners {
		c.joining.Go(func() {
			for {
				start := time.Now()
				bytes, err := c.joinOnce()
				if err != nil {
					c.fail(fmt.Errorf("cannot join: %w", err))
					return
				}
				c.mu.Lock()
				c.joins++
				c.took += time.Since(start)
				c.bytes += bytes
				c.mu.Unlock()
				select {
				case <-c.stop:
					return
				default:
				}
			}
		})
	}
}

// leave waits until the joiners have finished, and returns the first error.
func (c *crowd) leave(err error) error {
	close(c.stop)
	c.joining.Wait()
	select {
	case <-c.broken:
		return c.err
	default:
		return err
	}
}

// joinOnce connects a receiver and reads until it is live. It returns the bytes read.
func (c *crowd) joinOnce() (bytes int64, err error) {
	live := uint64(c.published.Load())
	conn, early, err := c.ours.receive("bench")
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	st := stream{late: true}
	buf := make([]byte, 64<<10)
	for n := copy(buf, early); ; {
		bytes += int64(n)
		if err := st.feed(buf[:n]); err != nil {
			return bytes, err
		}
		if _, lost := st.take(); lost > 0 {
			return bytes, fmt.Errorf("%d packets are lost before packet %d", lost, st.next)
		}
		if st.next >= live && !st.late {
			return bytes, nil
		}
		if n, err = conn.Read(buf); err != nil {
			return bytes, fmt.Errorf("waiting for packet %d, live at %d: %w", st.next, live, err)
		}
	}
}
