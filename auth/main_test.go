package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"ws-stream-server/auth/authtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience   = time.Minute // a test fails when what it waits for takes longer
	testKey    = "key-that-nobody-may-read"
	testSecret = "secret-that-nobody-may-read"

	logUp     = "the control link is up"
	logLost   = "the control link is lost"
	logClosed = "the control link is closed"
	logCannot = "the control link cannot be opened"
)

// quick are limits for tests: redialling soon, and nothing else in a hurry.
func quick() limits {
	l := defaultLimits
	l.retryMin, l.retryMax = 5*time.Millisecond, 20*time.Millisecond
	return l
}

// logbook is what was logged, as the text handler writes it.
type logbook struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	close(b.changed)
	b.changed = make(chan struct{})
	return len(p), nil
}

func (b *logbook) read() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String(), b.changed
}

func (b *logbook) count(what string) int {
	text, _ := b.read()
	return strings.Count(text, what)
}

// want waits until what was logged n times.
func (b *logbook) want(t *testing.T, what string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, changed := b.read()
		if strings.Count(text, what) >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %q to be logged %d times; log:\n%s", what, n, text)
		}
	}
}

// newLogger's book must not contain a secret when the test ends.
func newLogger(t *testing.T) (*slog.Logger, *logbook) {
	b := &logbook{changed: make(chan struct{})}
	t.Cleanup(func() {
		if text, _ := b.read(); strings.Contains(text, testKey) || strings.Contains(text, testSecret) {
			t.Errorf("a secret was logged:\n%s", text)
		}
	})
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

// start runs a Coordinator that dials url; it is closed with the test.
func start(t *testing.T, url string, lim limits) (*Coordinator, *logbook) {
	t.Helper()
	log, book := newLogger(t)
	c, err := NewCoordinator(Config{ControlBaseURL: url, ControlSecret: testSecret}, 80, log)
	if err != nil {
		t.Fatal(err)
	}
	c.lim = lim
	t.Cleanup(func() { c.shut(t) })
	c.Start()
	return c, book
}

// shut closes the coordinator, the hard way if it must, and waits for its goroutine.
func (c *Coordinator) shut(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if started {
		wait(t, "the goroutine that serves the link", c.done)
	}
}

func wait[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// rig is a Coordinator whose link to a fake one is up.
type rig struct {
	*testing.T
	*Coordinator
	fake *authtest.Coordinator
	book *logbook
}

func newRig(t *testing.T, lim limits) *rig {
	t.Helper()
	fake := authtest.New(t)
	c, book := start(t, fake.URL(), lim)
	book.want(t, logUp, 1)
	fake.WantLink()
	return &rig{t, c, fake, book}
}

type answer struct {
	grant *Grant
	err   error
}

func from(channel string) Request {
	return Request{Channel: channel, Key: testKey, Addr: netip.MustParseAddr("192.0.2.7")}
}

// ask calls Authorize in the background and returns the Request-ID that the
// fake got.
func (r *rig) ask(ctx context.Context, channel string) (id string, result <-chan answer) {
	r.Helper()
	ch := make(chan answer, 1)
	go func() {
		g, err := r.Authorize(ctx, from(channel))
		ch <- answer{g, err}
	}()
	m := r.fake.WantMessage(typePublishRequest)
	if m.Get(paramChannel) != channel {
		r.Fatalf("the request is for %q, want %q", m.Get(paramChannel), channel)
	}
	return m.Get(paramRequestID), ch
}

// publish returns an accepted grant.
func (r *rig) publish(channel, streamID string) *Grant {
	r.Helper()
	id, result := r.ask(context.Background(), channel)
	r.fake.Accept(id, channel, streamID)
	a := wait(r.T, "the answer", result)
	if a.err != nil {
		r.Fatalf("Authorize: %v", a.err)
	}
	return a.grant
}

// roundTrip returns when the server has handled all that the fake sent before,
// and the fake has what the server had to say about it: hence twice.
func (r *rig) roundTrip() {
	r.Helper()
	for range 2 {
		id, result := r.ask(context.Background(), "round-trip")
		r.fake.Deny(id, "round-trip")
		r.wantError(wait(r.T, "the answer", result), ErrDenied)
	}
}

func (r *rig) wantError(a answer, want error) {
	r.Helper()
	if a.grant != nil || !errors.Is(a.err, want) {
		r.Fatalf("Authorize: %v, %v; want no grant, %v", a.grant, a.err, want)
	}
	if errors.Is(a.err, ErrDenied) == errors.Is(a.err, ErrUnavailable) {
		r.Fatalf("the error %q must be one of denied and unavailable", a.err)
	}
	if strings.Contains(a.err.Error(), testKey) {
		r.Fatalf("the error %q contains the key", a.err)
	}
}

// wantEnds checks what PUBLISH-ENDs came so far, as "channel/stream".
func (r *rig) wantEnds(want ...string) {
	r.Helper()
	r.roundTrip()
	var got []string
	for _, m := range r.fake.Messages() {
		if m.Type == typePublishEnd {
			got = append(got, m.Get(paramChannel)+"/"+m.Get(paramStreamID))
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		r.Fatalf("PUBLISH-END for %v, want %v", got, want)
	}
}

// revocations returns what OnRevoke tells.
func revocations(g *Grant) <-chan Revocation {
	ch := make(chan Revocation, 9)
	g.OnRevoke(func(why Revocation) { ch <- why })
	return ch
}

func wantNone(t *testing.T, ch <-chan Revocation) {
	t.Helper()
	select {
	case why := <-ch:
		t.Fatalf("revoked (%v), want not", why)
	default:
	}
}

// reconnect drops the link and waits for the next.
func (r *rig) reconnect() {
	r.Helper()
	ups := r.book.count(logUp)
	r.fake.DropLink()
	r.book.want(r.T, logUp, ups+1)
	r.fake.WantLink()
}
