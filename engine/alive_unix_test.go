//go:build !windows

package engine

import (
	"strings"
	"testing"
	"time"
)

// Whatever is stuck is named, and forgiven when it goes on.
func TestAServerThatHangs(t *testing.T) {
	s := newTestServer(t)
	s.receive("cam", "key").Sync()
	for _, c := range []struct {
		who   string
		stick func(until func()) // has it stuck in until
	}{
		{"poller 0", func(until func()) {
			w := s.handover.wakers[0]
			w.mu.Lock()
			w.asked = append(w.asked, until)
			w.mu.Unlock()
			w.wake()
		}},
		{"drainer 0", func(until func()) { s.drainers[0].add(turn(until)) }},
		{"the sweep", func(until func()) { s.sweepAsked <- until }},
		{"the keeper of memory", func(until func()) { s.budget.asked <- until }},
		{"what follows a connection's end", func(until func()) { s.engine.Async(until) }},
		{"the registries", func(until func()) {
			go func() {
				s.registry.mu.Lock()
				defer s.registry.mu.Unlock()
				until()
			}()
		}},
	} {
		stuck, free := make(chan struct{}), make(chan struct{})
		c.stick(func() {
			close(stuck)
			<-free
		})
		<-stuck
		if err := s.alive(100 * time.Millisecond); err == nil || !strings.HasPrefix(err.Error(), "no turn in time: ") || !strings.Contains(err.Error(), c.who) {
			t.Errorf("%s hangs: %v", c.who, err)
		}
		close(free)
		if err := s.alive(patience); err != nil {
			t.Errorf("%s goes on: %v", c.who, err)
		}
	}
}
