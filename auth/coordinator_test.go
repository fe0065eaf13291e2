package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
)

func TestAcceptAll(t *testing.T) {
	a := AcceptAll()
	g, err := a.Authorize(context.Background(), Request{Channel: "cam", Key: "any"})
	if err != nil || g.StreamID() != "" {
		t.Fatalf("Authorize: %q, %v", g.StreamID(), err)
	}
	revoked := revocations(g)
	g.End()
	g.End()
	wantNone(t, revoked)
	if err := a.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestAcceptAndDeny(t *testing.T) {
	r := newRig(t, quick())
	ch := make(chan answer, 1)
	go func() {
		g, err := r.Authorize(context.Background(), Request{"cam", testKey, netip.MustParseAddr("::ffff:192.0.2.7")})
		ch <- answer{g, err}
	}()
	m := r.fake.WantMessage(typePublishRequest)
	if m.Get("Stream-Channel") != "cam" || m.Get("Stream-Key") != testKey || m.Get("User-IP") != "192.0.2.7" {
		t.Errorf("the request is %q", m.Params)
	}
	r.fake.Send("publish-accept\r\nRequest-Id: " + m.Get("Request-ID") + " \r\nSTREAM-CHANNEL: cam\r\nstream-id: s1\r\n\r\nStream-ID: body")
	if a := wait(t, "the answer", ch); a.err != nil || a.grant.StreamID() != "s1" {
		t.Fatalf("Authorize: %v, %v; want s1", a.grant, a.err)
	}

	id, result := r.ask(context.Background(), "other")
	if id == m.Get("Request-ID") || len(id) < 20 {
		t.Errorf("Request-ID %q after %q", id, m.Get("Request-ID"))
	}
	r.fake.Deny(id, "other")
	r.wantError(wait(t, "the answer", result), ErrDenied)
}

func TestAnswerWithoutAChannelCounts(t *testing.T) {
	r := newRig(t, quick())
	id, result := r.ask(context.Background(), "cam")
	r.fake.Send("PUBLISH-ACCEPT\nRequest-ID: " + id)
	if a := wait(t, "the answer", result); a.err != nil || a.grant.StreamID() != "" {
		t.Fatalf("Authorize: %v, %v", a.grant, a.err)
	}
}

func TestAnswerForAnotherChannelIsIgnored(t *testing.T) {
	r := newRig(t, quick())
	id, result := r.ask(context.Background(), "cam")
	r.fake.Accept(id, "CAM", "s1")
	r.fake.Deny(id, "other")
	r.fake.Accept(id, "cam", "s2")
	if a := wait(t, "the answer", result); a.err != nil || a.grant.StreamID() != "s2" {
		t.Fatalf("Authorize: %v, %v; want s2", a.grant, a.err)
	}
	if n := r.book.count("level=WARN msg=\"ignored an answer for another channel\""); n != 2 {
		t.Errorf("%d warnings, want 2", n)
	}
	r.wantEnds()
}

func TestAnswersNobodyWaitsForAreIgnored(t *testing.T) {
	r := newRig(t, quick())
	id, result := r.ask(context.Background(), "cam")
	r.fake.Accept(id, "cam", "s1")
	g := wait(t, "the answer", result).grant
	revoked := revocations(g)
	r.fake.Accept(id, "cam", "s2") // a second answer
	r.fake.Deny(id, "cam")
	r.fake.Accept("never-issued", "cam", "s3")
	r.fake.Send("PUBLISH-ACCEPT\nStream-Channel: cam\nStream-ID: s4")
	r.fake.Deny("never-issued", "cam")
	r.wantEnds()
	wantNone(t, revoked)
	if g.StreamID() != "s1" {
		t.Errorf("the grant became %q", g.StreamID())
	}
	r.book.want(t, "level=DEBUG msg=\"ignored an answer to no request\"", 5)
}

func TestOtherMessagesAreIgnored(t *testing.T) {
	r := newRig(t, quick())
	r.fake.Send("")
	r.fake.Send("\n\n\n")
	r.fake.Send("HEARTBEAT")
	r.fake.Send("STREAM-AVAILABLE\nStream-Channel: cam")
	r.fake.Send("PUBLISH-REQUEST\nRequest-ID: 1")
	r.fake.Send("\xff\xfe\x00:\n:\n")
	r.fake.Send(strings.Repeat("x", maxMessage-1))
	r.fake.SendBinary("STREAM-KILL\nStream-Channel: cam")
	r.roundTrip()
	if n := r.book.count(logUp); n != 1 {
		t.Errorf("%d links, want 1", n)
	}
}

func TestErrorsAreLoggedOnOneLine(t *testing.T) {
	r := newRig(t, quick())
	r.fake.Send("ERROR\nError-Code: BAD\x1b[31m\nError-Message: it\rlevel=INFO \u2028msg=forged" + strings.Repeat("y", 2*maxLogged))
	r.book.want(t, "the coordinator reports an error", 1)
	text, _ := r.book.read()
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "reports an error") {
			if !strings.Contains(line, `code="BAD\x1b[31m"`) || !strings.Contains(line, `message="it\rlevel=INFO \u2028msg=forged`) || strings.ContainsAny(line, "\r\x1b") || len(line) > 2*maxLogged {
				t.Errorf("logged %q", line)
			}
		}
	}
}

func TestNoAnswerInTime(t *testing.T) {
	lim := quick()
	lim.answer = 50 * time.Millisecond
	r := newRig(t, lim)
	id, result := r.ask(context.Background(), "cam")
	r.wantError(wait(t, "the time-out", result), ErrUnavailable)

	r.fake.Accept(id, "cam", "late")
	end := r.fake.WantMessage(typePublishEnd)
	if end.Get(paramChannel) != "cam" || end.Get(paramStreamID) != "late" {
		t.Errorf("the END is %q", end.Params)
	}
	r.fake.Accept(id, "cam", "later")                  // a second one
	lateID, late := r.ask(context.Background(), "cam") // a no that is late is no END
	r.wantError(wait(t, "the time-out", late), ErrUnavailable)
	r.fake.Deny(lateID, "cam")
	r.fake.Accept(lateID, "cam", "after the no")
	r.lim.answer = patience // read by callers of Authorize only, of which there is none
	r.wantEnds("cam/late")
}

func TestClientLeavesWhileWaiting(t *testing.T) {
	r := newRig(t, quick())
	ctx, leave := context.WithCancelCause(context.Background())
	id, result := r.ask(ctx, "cam")
	denied, result2 := r.ask(ctx, "denied")
	left := errors.New("the client left")
	leave(left)
	for _, ch := range []<-chan answer{result, result2} {
		a := wait(t, "the end of the wait", ch)
		r.wantError(a, ErrUnavailable)
		r.wantError(a, left)
	}
	r.fake.Deny(denied, "denied")
	r.fake.Accept(denied, "denied", "after the no")
	r.fake.Accept(id, "cam", "late")
	r.wantEnds("cam/late")

	before := len(r.fake.Messages())
	_, err := r.Authorize(ctx, from("cam"))
	r.wantError(answer{nil, err}, ErrUnavailable)
	r.roundTrip()
	if n := len(r.fake.Messages()); n != before+2 {
		t.Errorf("%d messages after a request of nobody, want 2", n-before)
	}
}

// The client leaves and the yes comes in the same moment: exactly one END,
// whoever has to send it.
func TestClientLeavesAsTheAnswerComes(t *testing.T) {
	r := newRig(t, quick())
	const rounds = 50
	var want []string
	for i := range rounds {
		ctx, leave := context.WithCancel(context.Background())
		stream := fmt.Sprint("s", i)
		id, result := r.ask(ctx, "cam")
		go leave()
		r.fake.Accept(id, "cam", stream)
		if a := wait(t, "the answer", result); a.grant != nil {
			a.grant.End()
		} else {
			r.wantError(a, ErrUnavailable)
		}
		want = append(want, "cam/"+stream)
		r.roundTrip()
	}
	r.wantEnds(want...)
}

// lateContext is done, but Done has not said so yet.
type lateContext struct {
	context.Context
	left chan struct{}
}

func (c lateContext) Err() error {
	select {
	case <-c.left:
		return context.Canceled
	default:
		return nil
	}
}

func TestAnswerWinsAgainstAClientThatLeft(t *testing.T) {
	r := newRig(t, quick())
	ctx := lateContext{context.Background(), make(chan struct{})}
	id, result := r.ask(ctx, "cam")
	close(ctx.left)
	r.fake.Accept(id, "cam", "s1")
	r.wantError(wait(t, "the answer", result), ErrUnavailable)
	r.wantEnds("cam/s1")
}

func TestManyRequestsAtOnce(t *testing.T) {
	r := newRig(t, quick())
	r.fake.Decide(func(m authtest.Message) (string, bool) {
		return "of-" + m.Get(paramChannel), strings.HasSuffix(m.Get(paramChannel), "0")
	})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			channel := fmt.Sprint("cam", i)
			g, err := r.Authorize(context.Background(), from(channel))
			if i%10 != 0 {
				if !errors.Is(err, ErrDenied) {
					t.Errorf("%s: %v, want denied", channel, err)
				}
				return
			}
			if err != nil || g.StreamID() != "of-"+channel {
				t.Errorf("%s: %v, %v", channel, g, err)
				return
			}
			g.End()
		})
	}
	all.Wait()
	for range 20 {
		m := r.fake.WantMessage(typePublishEnd)
		if m.Get(paramStreamID) != "of-"+m.Get(paramChannel) {
			t.Errorf("the END is %q", m.Params)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.grants) != 0 || len(r.link.requests) != 0 || len(r.link.queue) != 0 {
		t.Errorf("left over: %d grants, %d requests, %d queued", len(r.grants), len(r.link.requests), len(r.link.queue))
	}
}

func TestValuesCannotForgeParameters(t *testing.T) {
	r := newRig(t, quick())
	go func() {
		_, _ = r.Authorize(context.Background(), Request{Channel: "cam\nStream-Key: " + testKey, Key: "x\r\n\r\ny"})
	}()
	m := r.fake.WantMessage(typePublishRequest)
	if m.Get(paramChannel) != "cam?Stream-Key: "+testKey || m.Get(paramKey) != "x????y" {
		t.Errorf("the request is %q", m.Params)
	}
	r.fake.Deny(m.Get(paramRequestID), "")
}

func TestUnansweredRequestsAreForgotten(t *testing.T) {
	r := newRig(t, quick())
	ctx, leave := context.WithCancel(context.Background())
	id, left := r.ask(ctx, "cam")
	waitingID, waiting := r.ask(context.Background(), "waits")
	leave()
	r.wantError(wait(t, "the end of the wait", left), ErrUnavailable)

	l := r.currentLink()
	r.forget(l, time.Now().Add(r.lim.forget-time.Minute))
	if r.unanswered(l) != 2 {
		t.Fatal("forgotten too soon")
	}
	r.forget(l, time.Now().Add(r.lim.forget))
	if r.unanswered(l) != 1 {
		t.Fatal("not forgotten, or the one that waits was too")
	}
	r.fake.Accept(id, "cam", "too late")
	r.wantEnds()
	r.fake.Accept(waitingID, "waits", "s1")
	if a := wait(t, "the answer", waiting); a.err != nil {
		t.Fatal(a.err)
	}
}

func TestForgettingGoesOnByItself(t *testing.T) {
	lim := quick()
	lim.heartbeat, lim.forget = 5*time.Millisecond, 0
	r := newRig(t, lim)
	ctx, leave := context.WithCancel(context.Background())
	_, left := r.ask(ctx, "cam")
	leave()
	wait(t, "the end of the wait", left)
	for l := r.currentLink(); r.unanswered(l) != 0; {
		r.fake.WantMessage(typeHeartbeat) // fails the test when they end
		if len(r.fake.Messages()) > 1000 {
			t.Fatal("never forgotten")
		}
	}
}

func TestUnansweredRequestsAreBounded(t *testing.T) {
	lim := quick()
	lim.unanswered = 1
	r := newRig(t, lim)
	id, result := r.ask(context.Background(), "cam")
	_, err := r.Authorize(context.Background(), from("other"))
	r.wantError(answer{nil, err}, errTooMany)
	r.wantError(answer{nil, err}, ErrUnavailable)
	r.fake.Deny(id, "cam")
	r.wantError(wait(t, "the answer", result), ErrDenied)
	r.roundTrip()
}

func (c *Coordinator) currentLink() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

func (r *rig) unanswered(l *link) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(l.requests)
}
