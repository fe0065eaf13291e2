package admin

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// wrongEvery is how often the log tells of wrong tokens: whoever tries many must not
// fill it.
const wrongEvery = time.Minute

// wrongTokens counts the requests with a token that is not ours. They are not slowed
// down: a token has 16 characters at least, and who waits for an answer keeps a place.
type wrongTokens struct {
	log *slog.Logger // static after construction

	total atomic.Int64

	// Guarded by mu.
	mu   sync.Mutex
	last time.Time // when the log was told; zero: never
	told int64     // total at that time
}

// note counts a request. Any goroutine.
func (w *wrongTokens) note(r *http.Request, now time.Time) {
	total := w.total.Add(1)
	w.mu.Lock()
	if !w.last.IsZero() && now.Sub(w.last) < wrongEvery {
		w.mu.Unlock()
		return
	}
	since := total - w.told
	w.last, w.told = now, max(w.told, total)
	w.mu.Unlock()
	w.log.Warn("somebody showed the operator's listener a wrong token", "address", r.RemoteAddr, "requests", since)
}
