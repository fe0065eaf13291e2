package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestKill(t *testing.T) {
	for name, c := range map[string]struct {
		kill string
		want string // the streams of cam that are revoked
	}{
		"star":       {"STREAM-KILL\nStream-Channel:cam\nStream-ID:*", "s1 s2"},
		"empty":      {"STREAM-KILL\nStream-Channel:cam\nStream-ID:", "s1 s2"},
		"missing":    {"stream-kill\r\nSTREAM-CHANNEL: cam\r\n", "s1 s2"},
		"its own":    {"STREAM-KILL\nStream-Channel:cam\nStream-ID:s2", "s2"},
		"another":    {"STREAM-KILL\nStream-Channel:cam\nStream-ID:s3", ""},
		"case":       {"STREAM-KILL\nStream-Channel:CAM\nStream-ID:*", ""},
		"no channel": {"STREAM-KILL\nStream-ID:*", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick())
			s1, s2, other := r.publish("cam", "s1"), r.publish("cam", "s2"), r.publish("other", "s1")
			told := make(chan string, 9)
			for _, g := range []*Grant{s1, s2} {
				g.OnRevoke(func(why Revocation) {
					if why != Killed {
						t.Errorf("revoked: %v, want killed", why)
					}
					told <- g.StreamID()
				})
			}
			spared := revocations(other)
			r.fake.Send(c.kill)
			r.fake.Send(c.kill) // at most once
			r.roundTrip()
			close(told)
			var ids []string
			for id := range told {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("revoked %q, want %q", got, c.want)
			}
			wantNone(t, spared)
		})
	}
}

// The kill comes right behind the yes, before the engine has the grant.
func TestKillBeforeTheGrantIsClaimed(t *testing.T) {
	r := newRig(t, quick())
	id, result := r.ask(context.Background(), "cam")
	r.fake.Accept(id, "cam", "s1")
	r.fake.Kill("cam", "")
	r.roundTrip()
	g := wait(t, "the answer", result).grant
	revoked := revocations(g)
	select {
	case why := <-revoked:
		if why != Killed {
			t.Errorf("revoked: %v, want killed", why)
		}
	default:
		t.Fatal("OnRevoke returned without a call")
	}
	g.End()
	r.wantEnds("cam/s1")
	wantNone(t, revoked)
}

func TestKillOfARequestThatWaitsHasNoEffect(t *testing.T) {
	r := newRig(t, quick())
	id, result := r.ask(context.Background(), "cam")
	r.fake.Kill("cam", "*")
	r.fake.Accept(id, "cam", "s1")
	a := wait(t, "the answer", result)
	if a.err != nil {
		t.Fatal(a.err)
	}
	wantNone(t, revocations(a.grant))
}

// The callback may use the grant and the coordinator: no lock is held.
func TestCallbackMayCallBack(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	done := make(chan error, 1)
	g.OnRevoke(func(Revocation) {
		g.End()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.Connected()
		_, err := r.Authorize(ctx, from("cam"))
		done <- err
	})
	r.fake.Kill("cam", "s1")
	r.wantError(answer{nil, wait(t, "the callback", done)}, ErrUnavailable)
	r.wantEnds("cam/s1")
}

func TestEndIsSentOnceAndEndsRevocations(t *testing.T) {
	r := newRig(t, quick())
	g, never := r.publish("cam", "s1"), r.publish("cam2", "s2")
	revoked := revocations(g)
	g.End()
	g.End()
	never.End()
	r.fake.Kill("cam", "*")
	r.fake.Kill("cam2", "*")
	r.wantEnds("cam/s1", "cam2/s2")
	wantNone(t, revoked)
	wantNone(t, revocations(never))
}

func TestRevokedThenEndedThenClaimed(t *testing.T) {
	r := newRig(t, quick())
	g := r.publish("cam", "s1")
	r.fake.Kill("cam", "s1")
	r.roundTrip()
	g.End()
	wantNone(t, revocations(g))
	r.wantEnds("cam/s1")
}

// What is asked after End returned reaches the coordinator after the END.
func TestEndComesBeforeTheSuccessorsRequest(t *testing.T) {
	r := newRig(t, quick())
	for i := range 20 {
		r.publish("cam", fmt.Sprint("s", i)).End()
	}
	id, result := r.ask(context.Background(), "cam")
	r.fake.Deny(id, "cam")
	wait(t, "the answer", result)
	want := []string{typePublishRequest, typePublishEnd}
	for i, m := range r.fake.Messages() {
		if m.Type != want[i%2] {
			t.Fatalf("message %d is %s, want %s", i, m.Type, want[i%2])
		}
	}
}

// Kill, OnRevoke and End at once: at most one call, exactly one END.
func TestKillAndEndRace(t *testing.T) {
	r := newRig(t, quick())
	var want []string
	for i := range 50 {
		stream := fmt.Sprint("s", i)
		want = append(want, "cam/"+stream)
		g := r.publish("cam", stream)
		calls := make(chan Revocation, 9)
		var both sync.WaitGroup
		both.Go(func() { g.OnRevoke(func(why Revocation) { calls <- why }) })
		both.Go(g.End)
		r.fake.Kill("cam", "*")
		both.Wait()
		r.roundTrip()
		if len(calls) > 1 {
			t.Fatalf("%d calls", len(calls))
		}
	}
	r.wantEnds(want...)
}

func TestRevocationWords(t *testing.T) {
	for r, want := range map[Revocation]string{0: "none", Killed: "killed", LinkReset: "link-reset"} {
		if r.String() != want {
			t.Errorf("%d is %q, want %q", r, r, want)
		}
	}
}
