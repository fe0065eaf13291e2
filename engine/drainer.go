package engine

import (
	"slices"
	"sync"
	"time"
)

// task is work for a drainer: a group that is dirty, or a session without one.
type task interface{ run() }

// drainer is a goroutine that serves groups, one after the other.
type drainer struct {
	wakeup chan struct{} // holds one token while the queue may have work

	mu    sync.Mutex
	queue []task

	// Owned by the goroutine: groups whose turn comes later, and when it looks at
	// them again (Server.now).
	resting, roused []*group
	alarm           *time.Timer
	at              int64
}

func newDrainer() *drainer { return &drainer{wakeup: make(chan struct{}, 1)} }

// add queues a task. Any goroutine.
func (d *drainer) add(t task) {
	d.mu.Lock()
	d.queue = append(d.queue, t)
	first := len(d.queue) == 1
	d.mu.Unlock()
	if first {
		select {
		case d.wakeup <- struct{}{}:
		default:
		}
	}
}

// run works until stop is closed.
func (d *drainer) run(stop <-chan struct{}) {
	d.alarm = time.NewTimer(time.Hour)
	defer d.alarm.Stop()
	var batch []task
	for {
		select {
		case <-d.wakeup:
			d.mu.Lock()
			batch, d.queue = d.queue, batch[:0]
			d.mu.Unlock()
			for i, t := range batch {
				t.run()
				batch[i] = nil
			}
		case <-d.alarm.C:
			d.rouse()
		case <-stop:
			return
		}
	}
}

// rest puts a group off until it has rested. Called on the drainer.
func (d *drainer) rest(g *group, now int64) {
	if len(d.resting) == 0 || g.rested < d.at {
		d.at = g.rested
		d.alarm.Reset(time.Duration(g.rested - now))
	}
	if !slices.Contains(d.resting, g) {
		d.resting = append(d.resting, g)
	}
}

// rouse gives the groups that have rested their turn. Called on the drainer.
func (d *drainer) rouse() {
	d.roused, d.resting = d.resting, d.roused[:0]
	for i, g := range d.roused {
		if g.resting.Swap(false) {
			g.run() // it comes back if it is too early
		}
		d.roused[i] = nil
	}
}
