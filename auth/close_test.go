package auth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
)

func TestCloseSendsWhatIsQueued(t *testing.T) {
	r := newRig(t, quick())
	var want []string
	var grants []*Grant
	for i := range 100 {
		channel := fmt.Sprint("cam", i)
		grants = append(grants, r.publish(channel, "s"))
		want = append(want, channel)
	}
	_, waits := r.ask(context.Background(), "waits")
	for _, g := range grants {
		g.End()
	}
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.wantError(wait(t, "the answer", waits), errClosed)
	for _, channel := range want {
		if m := r.fake.WantMessage(typePublishEnd); m.Get(paramChannel) != channel {
			t.Fatalf("END of %q, want %q", m.Get(paramChannel), channel)
		}
	}
	_, err := r.Authorize(context.Background(), from("cam"))
	r.wantError(answer{nil, err}, errClosed)
	if r.Connected() || r.book.count(logClosed) != 1 || r.book.count(logLost) != 0 {
		t.Errorf("connected: %v, closed %d, lost %d", r.Connected(), r.book.count(logClosed), r.book.count(logLost))
	}
	if err := r.Close(context.Background()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	r.Start() // does nothing
}

func TestCloseBeforeStart(t *testing.T) {
	fake := authtest.New(t)
	log, book := newLogger(t)
	c, err := NewCoordinator(Config{ControlBaseURL: fake.URL()}, 80, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.Start()
	r := &rig{t, c, fake, book}
	_, err = c.Authorize(context.Background(), from("cam"))
	r.wantError(answer{nil, err}, errClosed)
	if fake.Links() != 0 {
		t.Error("a closed coordinator dialled")
	}
}

func TestCloseWithoutALink(t *testing.T) {
	fake := authtest.New(t)
	fake.Stop()
	lim := quick()
	lim.retryMin, lim.retryMax = time.Hour, time.Hour
	c, book := start(t, fake.URL(), lim)
	book.want(t, logCannot, 1)
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestCloseDuringTheHandshake(t *testing.T) {
	server := hang(t)
	c, _ := start(t, server.url, quick())
	wait(t, "the dial", server.accepted)
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Close comes between the handshake and the first use of the link.
func TestCloseWhileTheLinkComesUp(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	closed := make(chan error, 1)
	g.OnRevoke(func(Revocation) {
		go func() { closed <- r.Close(context.Background()) }()
		<-r.dialCtx.Done() // Close has begun
	})
	r.fake.DropLink()
	if err := wait(t, "the end of Close", closed); err != nil {
		t.Fatal(err)
	}
	if n := r.book.count(logUp); n != 1 || r.Connected() {
		t.Errorf("connected: %v, %d times", r.Connected(), n)
	}
}

// A coordinator that takes nothing any more costs Close no more than its context.
func TestCloseIsBounded(t *testing.T) {
	server, lim := neverRead(t), quick()
	lim.write, lim.silence = time.Hour, time.Hour // the link is not given up before
	c, book := start(t, server.url, lim)
	book.want(t, logUp, 1)
	server.fill(c)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Close: %v, want the deadline", err)
	}
	wait(t, "the goroutine that serves the link", c.done)
}

// One that only does not answer the close frame costs limits.closing.
func TestCloseWithoutAnAnswer(t *testing.T) {
	lim := quick()
	lim.closing = 20 * time.Millisecond
	server := neverRead(t)
	c, book := start(t, server.url, lim)
	book.want(t, logUp, 1)
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
