package ring

import (
	"bytes"
	"testing"
	"time"
)

// within fails unless f returns: nobody waits for the one who is suspended.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits for somebody who is suspended", what)
	}
}

// Readers go on while the writer is suspended in the middle of a packet, and see
// nothing of it.
func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	r := New(Config{Cache: 1 << 20, Lag: 1 << 20})
	put(r, numbered(0, 100))
	b := r.Reserve(100) // and now the writer sleeps
	within(t, "a reader", func() {
		x := nobody().join(r)
		if got := x.rest(); !bytes.Equal(got, numbered(0, 100)) {
			t.Errorf("got %d bytes", len(got))
		}
		if x.More() || x.Overrun() || x.MidPacket() || r.Ended() || r.CacheOff() || r.Head() != 1 || x.Seq() != 1 {
			t.Error("a packet that is not committed can be seen")
		}
		if _, ok := x.Arrived(); ok {
			t.Error("a packet that is not committed has arrived")
		}
	})
	copy(b, numbered(1, 100))
	r.Commit(5)
	x := nobody().join(r)
	if got := x.rest(); !bytes.Equal(got[100:], numbered(1, 100)) {
		t.Error("the packet is not what was written")
	}
}

// The writer goes on while a joiner is suspended in the middle of Join and a
// reader in the middle of a packet; both then get what they may.
func TestTheWriterDoesNotWaitForReaders(t *testing.T) {
	slow, late := nobody(), nobody()
	r := New(Config{Cache: 1000, Lag: 1 << 20, Lowest: func() uint64 { return slow.low }})
	put(r, numbered(0, 500))
	slow.join(r)
	slow.Take(100)

	inPin, goOn := make(chan struct{}), make(chan struct{})
	pins := 0
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		late.Cursor = r.Join(func(uint64) {
			if pins++; pins == 1 {
				close(inPin)
				<-goOn
			}
		})
	}()
	<-inPin
	within(t, "the writer", func() { overrunMore(r) })
	close(goOn)
	<-joined
	if pins < 2 {
		t.Error("the joiner took a place that was gone: it was pinned once")
	}
	if late.Overrun() || late.Seq() != r.tail.Load() {
		t.Errorf("the joiner is at %d, wanted %d", late.Seq(), r.tail.Load())
	}
	if !slow.Overrun() {
		t.Error("the slow reader is not overrun")
	}
	slow.Detach(r)
	if got := slow.TakeRest(1 << 20); !bytes.Equal(got, numbered(0, 500)[100:]) {
		t.Errorf("the slow reader got %d bytes", len(got))
	}
}

// A joiner whose join point moved between its look and its pin looks again: else
// it could be dropped between the two.
func TestJoinLooksAgainAfterThePin(t *testing.T) {
	old, late := nobody(), nobody()
	r := New(Config{Cache: 1000, Lag: 1 << 30, Lowest: old.lowest})
	put(r, numbered(0, 500))
	old.join(r) // so that packet 0 could still be found
	late.Cursor = r.Join(func(seq uint64) {
		if late.low = seq; seq == 0 {
			overrunMore(r)
		}
	})
	if late.low != r.tail.Load() || late.Seq() != late.low {
		t.Errorf("pinned at %d, cursor at %d, the cache starts at %d", late.low, late.Seq(), r.tail.Load())
	}
}
