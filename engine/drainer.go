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

	// Owned by the goroutine: groups that were put off (also some that were woken
	// since: group.resting decides), and when it looks at them (Server.now).
	putOffs, due []*group
	alarm        *time.Timer
	alarmAt      int64
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

// run works until stop is closed: then all connections are, and what is still queued
// lets go of their sessions.
func (d *drainer) run(stop <-chan struct{}) {
	d.alarm = time.NewTimer(time.Hour)
	defer d.alarm.Stop()
	var batch []task
	for {
		select {
		case <-d.wakeup:
			batch = d.work(batch)
		case <-d.alarm.C:
			d.rouse()
		case <-stop:
			for range atTheStop {
				batch = d.work(batch)
			}
			return
		}
	}
}

// atTheStop is how often a drainer looks at its queue at the end: it finds passes, and
// then the farewells that follow from them.
const atTheStop = 2

// work does what is queued. It is given a list to use again, and returns one.
func (d *drainer) work(spare []task) []task {
	d.mu.Lock()
	batch := d.queue
	d.queue = spare[:0]
	d.mu.Unlock()
	for i, t := range batch {
		t.run()
		batch[i] = nil
	}
	return batch
}

// putOff has a group's turn come when it has rested. Called on the drainer.
func (d *drainer) putOff(g *group, now int64) {
	if len(d.putOffs) == 0 || g.restUntil < d.alarmAt {
		d.alarmAt = g.restUntil
		d.alarm.Reset(time.Duration(g.restUntil - now))
	}
	if !slices.Contains(d.putOffs, g) {
		d.putOffs = append(d.putOffs, g)
	}
}

// rouse gives the groups that were put off their turn. Called on the drainer.
func (d *drainer) rouse() {
	d.due, d.putOffs = d.putOffs, d.due[:0]
	for i, g := range d.due {
		if g.resting.Swap(false) {
			g.run() // it comes back if it is too early
		}
		d.due[i] = nil
	}
}
