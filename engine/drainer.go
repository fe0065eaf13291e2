package engine

import "sync"

// task is work for a drainer: a group that is dirty, or a session without one.
type task interface{ run() }

// drainer is a goroutine that serves groups, one after the other.
type drainer struct {
	wakeup chan struct{} // holds one token while the queue may have work

	mu    sync.Mutex
	queue []task
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
	var batch []task
	for {
		select {
		case <-d.wakeup:
		case <-stop:
			return
		}
		d.mu.Lock()
		batch, d.queue = d.queue, batch[:0]
		d.mu.Unlock()
		for i, t := range batch {
			t.run()
			batch[i] = nil
		}
	}
}
