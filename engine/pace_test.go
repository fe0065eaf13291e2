package engine

import (
	"math"
	"testing"
	"time"
)

// A group rests twice as long as its pass took, never longer than it may, and not
// after a short pass.
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
	}{
		{"audio and video at 25 a second", 25, 2, false, 0},
		{"a hundred a second", 100, 1, false, 0},
		{"five hundred a second", 500, 1, true, 0},
		{"a hundred times ten", 100, 10, true, 0},
		{"fast, then a pause", 500, 1, false, time.Second},
	} {
		p := newPace(0)
		var now int64
		head := uint64(0)
		for i := range 2 * c.times {
			now = int64(i) * int64(time.Second) / int64(c.times)
			for range c.burst {
				head++
				p.note(now, head)
				if p.rest(pass, longest) > 0 && now < int64(paceWindow) {
					t.Errorf("%s: rests before it can know", c.what)
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

// A poller waits where events come fast and it was idle just before, not for one
// batch of events twice, and not while it is busy all the time.
func TestWhenAPollerGathers(t *testing.T) {
	const us, waited = int64(time.Microsecond), 2 * time.Millisecond
	// run has an event every so often, handled in so much, for so long, and counts.
	run := func(p *polling, now *int64, every, takes int64, long time.Duration) (events, waits int) {
		for end := *now + int64(long); *now < end; {
			events++
			if p.gathers(*now) {
				waits++
				*now += int64(waited)
				p.gathered(*now, waited)
			}
			*now += takes
			p.done = *now
			*now += max(every-takes, 1)
		}
		return events, waits
	}
	now := int64(0)
	p := &polling{gap: math.MaxInt64}
	if _, waits := run(p, &now, 1000*us, 10*us, time.Second); waits != 0 {
		t.Errorf("a thousand events a second: waits %d times", waits)
	}
	if _, waits := run(p, &now, 10*us, 10*us, time.Second); waits != 0 {
		t.Errorf("busy all the time: waits %d times", waits)
	}
	if events, waits := run(p, &now, 40*us, 10*us, time.Second); waits < 100 || events < 5*waits {
		t.Errorf("25,000 events a second: waits %d times for %d events", waits, events)
	}
	run(p, &now, 1000*us, 10*us, 200*time.Millisecond) // the pace is known again
	if _, waits := run(p, &now, 1000*us, 10*us, time.Second); waits != 0 {
		t.Errorf("slow again: waits %d times", waits)
	}
}
