package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
)

func TestAuthorizeWithoutALinkFailsAtOnce(t *testing.T) {
	fake := authtest.New(t)
	fake.Stop()
	c, book := start(t, fake.URL(), quick())
	book.want(t, logCannot, 3)
	if c.Connected() {
		t.Error("connected to nothing")
	}
	r := &rig{t, c, fake, book}
	_, err := c.Authorize(context.Background(), from("cam"))
	r.wantError(answer{nil, err}, errNoLink)
	if n := book.count("level=WARN msg=\"" + logCannot); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}

	fake.Restart()
	book.want(t, logUp, 1)
	fake.WantLink()
	if !c.Connected() {
		t.Error("not connected")
	}
	r.publish("cam", "s1")
}

func TestAuthorizeBeforeStartAndStartTwice(t *testing.T) {
	fake := authtest.New(t)
	log, book := newLogger(t)
	c, err := NewCoordinator(Config{ControlBaseURL: fake.URL()}, 80, log)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t, c, fake, book}
	_, err = c.Authorize(context.Background(), from("cam"))
	r.wantError(answer{nil, err}, errNoLink)
	c.Start()
	c.Start()
	defer c.shut(t)
	book.want(t, logUp, 1)
	r.roundTrip()
	if fake.Links() != 1 {
		t.Errorf("%d links, want 1", fake.Links())
	}
}

func TestLostLink(t *testing.T) {
	lim := quick()
	lim.retryMin, lim.retryMax = 100*time.Millisecond, 100*time.Millisecond
	r := newRig(t, lim)
	g := r.publish("cam", "s1")
	revoked := revocations(g)
	id, result := r.ask(context.Background(), "waits")
	r.fake.Stop()
	r.wantError(wait(t, "the lost link", result), errLinkLost) // not after 20 s
	r.book.want(t, logLost, 1)
	if r.Connected() {
		t.Error("still connected")
	}
	wantNone(t, revoked) // running streams go on
	_, err := r.Authorize(context.Background(), from("cam"))
	r.wantError(answer{nil, err}, errNoLink)

	r.fake.Restart()
	if why := wait(t, "the revocation", revoked); why != LinkReset {
		t.Errorf("revoked: %v, want link-reset", why)
	}
	r.book.want(t, logUp, 2)
	r.fake.WantLink()
	r.fake.Accept(id, "waits", "of the dead link")
	g.End()
	r.wantEnds() // the coordinator has forgotten them
	r.publish("cam", "s2").End()
	r.wantEnds("cam/s2")
	if ups, losts := r.book.count(logUp), r.book.count(logLost); ups != 2 || losts != 1 {
		t.Errorf("logged %d ups and %d losses, want 2 and 1", ups, losts)
	}
	wantNone(t, revoked)
}

func TestGrantEndedWhileTheLinkIsDown(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	revoked := revocations(g)
	r.fake.Stop()
	r.book.want(t, logLost, 1)
	g.End()
	r.fake.Restart()
	r.book.want(t, logUp, 2)
	r.fake.WantLink()
	r.wantEnds()
	wantNone(t, revoked)
}

// Earlier publishers are told before anybody can ask again.
func TestLinkResetComesBeforeNewRequests(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	errs := make(chan error, 1)
	g.OnRevoke(func(Revocation) {
		_, err := r.Authorize(context.Background(), from("cam"))
		errs <- err
	})
	r.reconnect()
	r.wantError(answer{nil, wait(t, "the callback", errs)}, errNoLink)
}

// The yes came, the link was replaced, and only then the engine says what to call.
func TestGrantOfAnEarlierLinkIsRevokedWhenClaimed(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	killed := r.publish("killed", "s2")
	toldKilled := revocations(killed)
	r.fake.Kill("killed", "*")
	r.roundTrip()
	r.reconnect()
	revoked := revocations(g)
	select {
	case why := <-revoked:
		if why != LinkReset {
			t.Errorf("revoked: %v, want link-reset", why)
		}
	default:
		t.Fatal("OnRevoke returned without a call")
	}
	if why := wait(t, "the kill", toldKilled); why != Killed {
		t.Errorf("revoked: %v, want killed", why)
	}
	wantNone(t, toldKilled) // a second time
	g.End()
	killed.End()
	r.fake.Kill("cam", "*")
	r.wantEnds()
}

func TestAnswersOfANewLinkDoNotMatchOldRequests(t *testing.T) {
	r := newRig(t, quick())
	ctx, leave := context.WithCancel(context.Background())
	id, result := r.ask(ctx, "cam")
	leave()
	wait(t, "the end of the wait", result)
	r.reconnect()
	r.fake.Accept(id, "cam", "s1")
	r.wantEnds()
}

func TestManyReconnections(t *testing.T) {
	r := newRig(t, quick())
	for i := range 10 {
		g := r.publish("cam", fmt.Sprint("s", i))
		revoked := revocations(g)
		r.reconnect()
		if why := wait(t, "the revocation", revoked); why != LinkReset {
			t.Errorf("revoked: %v, want link-reset", why)
		}
		g.End()
	}
	r.wantEnds()
}

func TestHeartbeats(t *testing.T) {
	lim := quick()
	lim.heartbeat = 10 * time.Millisecond
	r := newRig(t, lim)
	for range 3 {
		if m := r.fake.WantMessage(typeHeartbeat); len(m.Params) != 0 {
			t.Errorf("the heartbeat has %q", m.Params)
		}
	}
	r.roundTrip()
	if d := defaultLimits; d.heartbeat < 20*time.Second || d.heartbeat > 30*time.Second || d.silence != 60*time.Second || d.answer != 20*time.Second {
		t.Errorf("the protocol's numbers are %+v", d)
	}
}

func TestSilentCoordinatorIsDead(t *testing.T) {
	lim := quick()
	lim.silence = 50 * time.Millisecond
	fake := authtest.New(t)
	_, book := start(t, fake.URL(), lim)
	fake.WantLink()
	fake.WantLink() // dialled again
	book.want(t, errSilent.Error(), 1)
}

// Any message is life, also one that is ignored.
func TestTalkingCoordinatorLives(t *testing.T) {
	lim := quick()
	lim.silence = 5 * time.Second
	r := newRig(t, lim)
	talk := time.NewTicker(lim.silence / 20) // far more often than it has to, for a machine that stands still
	defer talk.Stop()
	for i := range 30 { // half as long again as silence may last
		wait(t, "the ticker", talk.C)
		if i%2 == 0 {
			r.fake.SendBinary("x")
		} else {
			r.fake.Send("NOISE")
		}
	}
	r.roundTrip()
	if n := r.fake.Links(); n != 1 {
		t.Errorf("%d links after 7.5 s of talk, want 1", n)
	}
}

func TestTooLargeMessageCostsTheLink(t *testing.T) {
	r := newRig(t, quick())
	r.fake.Send(strings.Repeat("x", maxMessage+1))
	r.book.want(t, logLost, 1)
	r.book.want(t, logUp, 2)
}
