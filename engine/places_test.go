package engine

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"ws-stream-server/auth"
)

// However many goroutines race, there are never more in than there are places, and
// every one of them can be taken again.
func TestPlaces(t *testing.T) {
	const limit, racers, rounds = 3, 8, 20_000
	p := &places{limit: limit}
	var in, most, refused atomic.Int64
	var wg sync.WaitGroup
	for range racers {
		wg.Go(func() {
			for range rounds {
				if !p.take() {
					refused.Add(1)
					continue
				}
				n := in.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				in.Add(-1)
				p.release()
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > limit {
		t.Errorf("%d had a place at a time, the limit is %d", m, limit)
	}
	if n := p.taken.Load(); n != 0 {
		t.Errorf("%d places are taken, and nobody has one", n)
	}
	for i := range limit {
		if !p.take() {
			t.Errorf("place %d of %d cannot be taken", i, limit)
		}
	}
	if p.take() {
		t.Error("one place too many")
	}
	t.Logf("at most %d at a time, %d refused", most.Load(), refused.Load())
	free := &places{}
	for range 1000 {
		if !free.take() {
			t.Fatal("refused without a limit")
		}
	}
}

// panicking is an authorizer with a fault.
type panicking struct{ auth.Authorizer }

func (panicking) Authorize(context.Context, auth.Request) (*auth.Grant, error) { panic("a fault") }

// A fault while a publisher is asked about costs no place.
func TestAPanicWhileAuthorizingGivesThePlacesBack(t *testing.T) {
	s := newTestServer(t)
	s.auth = panicking{s.auth}
	r := httptest.NewRequest(http.MethodGet, "/cam/key/publish", nil)
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.RemoteAddr = "127.0.0.9:1234"
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the authorizer was not asked")
			}
		}()
		s.front.ServeHTTP(httptest.NewRecorder(), r)
	}()
	if n, all := s.filter.Open(), s.places.taken.Load(); n != 0 || all != 0 {
		t.Errorf("%d places of addresses and %d of all are taken, wanted none", n, all)
	}
}
