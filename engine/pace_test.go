package engine

import (
	"testing"
	"time"
)

// A group rests twice as long as its pass took, a millisecond at least, never longer
// than it may, and not after a short pass.
func TestHowLongAGroupRests(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct{ longest, took, want time.Duration }{
		{10 * ms, 0, 0}, {10 * ms, shortPass - 1, 0}, {10 * ms, shortPass, shortRest},
		{10 * ms, 3 * ms, 6 * ms}, {10 * ms, 5 * ms, 10 * ms}, {10 * ms, time.Hour, 10 * ms},
		{0, 3 * ms, 0}, {ms, 3 * ms, ms},
	} {
		p := pace{gap: 1}
		if got := time.Duration(p.rest(int64(c.took), int64(c.longest))); got != c.want {
			t.Errorf("a pass of %v, at most %v: rests %v, wanted %v", c.took, c.longest, got, c.want)
		}
	}
}

// Where packets come slowly nothing is put off, though two of them may come close
// together: what counts is how many came in a tenth of a second.
func TestAtLowRatesAGroupDoesNotRest(t *testing.T) {
	const pass, longest = int64(4 * time.Millisecond), int64(10 * time.Millisecond)
	for _, c := range []struct {
		what  string
		times int           // a second
		burst int           // packets each time, a millisecond apart
		rests bool          // in the second second
		pause time.Duration // before the packet that counts
		old   uint64        // packets before the group was made
	}{
		{"audio and video at 25 a second", 25, 2, false, 0, 0},
		{"a hundred a second", 100, 1, false, 0, 0},
		{"five hundred a second", 500, 1, true, 0, 0},
		{"a hundred times ten", 100, 10, true, 0, 0},
		{"fast, then a pause", 500, 1, false, time.Second, 0},
		{"a group that is made late", 25, 1, false, 0, 100_000},
	} {
		p := newPace(0, c.old)
		var now int64
		head := c.old
		for i := range 2 * c.times {
			now = int64(i) * int64(time.Second) / int64(c.times)
			for range c.burst {
				head++
				p.note(now, head)
				switch rests := p.rest(pass, longest) > 0; {
				case rests && now < int64(paceWindow):
					t.Errorf("%s: rests before it can know", c.what)
				case rests && !c.rests && c.pause == 0:
					t.Errorf("%s: rests after %v", c.what, time.Duration(now))
				}
				now += int64(time.Millisecond)
			}
		}
		p.note(now+int64(c.pause), head+1)
		if got := p.rest(pass, longest) > 0; got != c.rests {
			t.Errorf("%s: rests is %v, wanted %v", c.what, got, c.rests)
		}
	}
}

// polls has a poller told of events that come every so often and are handled in so
// much, for so long: all that have come at a time, and bringing them takes a
// microsecond each. It fails when the poller waits for what it has just waited for.
// It returns how many there were, how often the poller waited, and the most that it
// was told of at once.
func polls(t *testing.T, p *polling, now *int64, every, takes, long time.Duration) (events, waits, most int) {
	t.Helper()
	const waited = 2 * time.Millisecond
	next := *now // when the next event comes
	for end := *now + int64(long); *now < end; {
		idle := *now < next
		*now = max(*now, next) // asleep until then
		n := int((*now-next)/int64(every)) + 1
		next += int64(n) * int64(every)
		*now += int64(n) * int64(time.Microsecond)
		for range n {
			if p.waits(*now) {
				if !idle {
					t.Fatalf("waits before one of %d events that were there already", n)
				}
				waits++
				*now += int64(waited)
				p.waited(*now, waited)
				idle = false
			}
			*now += int64(takes)
			p.done = *now
		}
		events += n
		most = max(most, n)
	}
	return events, waits, most
}

// A poller waits where events come fast and it was idle just before, not for what has
// gathered meanwhile, and not while it goes from event to event. What it does with what
// it gathers makes events rarer, and does not end it.
func TestWhenAPollerWaits(t *testing.T) {
	const us = time.Microsecond
	now := int64(0)
	p := newPolling(0)
	never := func(what string, every, takes time.Duration) {
		t.Helper()
		if _, waits, _ := polls(t, &p, &now, every, takes, time.Second); waits != 0 {
			t.Errorf("%s: waits %d times", what, waits)
		}
	}
	never("a thousand events a second", 1000*us, 10*us)
	never("five thousand", 200*us, 10*us)
	never("busy all the time", 10*us, 10*us)
	events, waits, most := polls(t, &p, &now, 40*us, 10*us, time.Second)
	if waits < 200 || events < 40*waits || most < 50 {
		t.Errorf("25,000 events a second: waits %d times for %d events, %d at once at the most", waits, events, most)
	}
	if _, waits, _ := polls(t, &p, &now, 200*us, 10*us, time.Second); waits < 200 {
		t.Errorf("five thousand, after more: waits %d times only", waits)
	}
	polls(t, &p, &now, 1000*us, 10*us, 200*time.Millisecond) // the pace is known again
	never("slow again", 1000*us, 10*us)
}
