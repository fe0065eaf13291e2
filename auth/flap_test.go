package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
)

// publishAgainAndAgain asks for channels of its own until stop is closed; every third
// grant is kept until it is revoked. It counts grants and revocations.
func (r *rig) publishAgainAndAgain(worker int, stop <-chan struct{}, granted, revoked *atomic.Int64) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		channel := fmt.Sprintf("cam%d-%d", worker, i)
		g, err := r.Authorize(context.Background(), from(channel))
		if err != nil {
			if !errors.Is(err, ErrUnavailable) {
				r.Errorf("%s: %v", channel, err)
			}
			time.Sleep(time.Millisecond) // its pause between two tries
			continue
		}
		granted.Add(1)
		told := make(chan struct{}, 9)
		g.OnRevoke(func(Revocation) {
			revoked.Add(1)
			if told <- struct{}{}; len(told) > 1 {
				r.Errorf("%s: revoked %d times", channel, len(told))
			}
		})
		if i%3 == 0 {
			select {
			case <-told:
				told <- struct{}{}
			case <-stop:
			}
		}
		g.End()
		g.End()
	}
}

// The link is lost every few messages while publishers come and go: a grant is revoked
// once at the most, every yes has one PUBLISH-END over its own link unless that was
// lost, and nothing is left at the end.
func TestGrantsOverAFlappingLink(t *testing.T) {
	r := newRig(t, quick())
	r.fake.Decide(func(m authtest.Message) (string, bool) {
		return "id-of-" + m.Get(paramChannel), m.Get(paramChannel) != "round-trip"
	})
	const losses, workers = 30, 6
	stop := make(chan struct{})
	var granted, revoked atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { r.publishAgainAndAgain(w, stop, &granted, &revoked) })
	}
	await := func(want int64) {
		for end := time.Now().Add(patience); granted.Load() < want; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatalf("%d granted, want %d", granted.Load(), want)
			}
		}
	}
	await(workers)
	for range losses {
		before := granted.Load()
		r.reconnect()
		await(before + workers) // each worker gets one at least
	}
	close(stop)
	wg.Wait()
	_, err := r.Authorize(context.Background(), from("round-trip")) // behind all ENDs
	r.wantError(answer{nil, err}, ErrDenied)
	r.mu.Lock()
	if n := len(r.grants); n != 0 {
		t.Errorf("%d grants are left", n)
	}
	r.mu.Unlock()

	asked, ends := map[string]int{}, map[string]int{}
	for _, m := range r.fake.Messages() {
		channel := m.Get(paramChannel)
		switch m.Type {
		case typePublishRequest:
			asked[channel] = m.Link
		case typePublishEnd:
			if ends[channel]++; m.Link != asked[channel] || ends[channel] > 1 {
				t.Errorf("%s: asked for over link %d, end number %d came over link %d", channel, asked[channel], ends[channel], m.Link)
			}
		}
	}
	for channel, link := range asked {
		if link == losses+1 && ends[channel] != 1 && channel != "round-trip" {
			t.Errorf("%s: %d ends over a link that was not lost", channel, ends[channel])
		}
	}
	t.Logf("%d granted, %d revoked", granted.Load(), revoked.Load())
	if revoked.Load() == 0 {
		t.Error("nothing was tried")
	}
}
