package engine

import (
	"strings"
	"testing"
	"time"
)

// The sweep's decisions, with times in seconds; 0 is "never" for ended and progress.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name                             string
		kind                             kind
		grouped                          bool
		life, progress, took, ended, now int
		want                             reason
	}{
		{name: "silent for less than a minute", kind: receive, life: 10, now: 69, want: notEnded},
		{name: "silent for a minute", kind: receive, life: 10, now: 70, want: noSignOfLife},
		{name: "a publisher too", kind: publish, life: 10, now: 70, want: noSignOfLife},
		{name: "taking is life", kind: receive, grouped: true, life: 10, took: 60, now: 119, want: notEnded},
		{name: "until it takes nothing for a minute", kind: receive, grouped: true, life: 10, took: 60, now: 120, want: noSignOfLife},
		{name: "what only the kernel takes is none", kind: receive, grouped: true, life: 10, progress: 69, now: 70, want: noSignOfLife},
		{name: "talking is life, taking or not", kind: receive, grouped: true, life: 500, took: 1, now: 559, want: notEnded},

		{name: "after the end", kind: receive, grouped: true, life: 500, progress: 480, ended: 500, now: 529, want: notEnded},
		{name: "30 s without progress after the end", kind: receive, grouped: true, life: 530, progress: 480, ended: 500, now: 530, want: slowReceiver},
		{name: "progress after the end", kind: receive, grouped: true, life: 530, progress: 525, ended: 500, now: 554, want: notEnded},
		{name: "30 s without progress later", kind: receive, grouped: true, life: 555, progress: 525, ended: 500, now: 555, want: slowReceiver},
		{name: "crawling for less than 5 minutes", kind: receive, grouped: true, life: 799, progress: 799, ended: 500, now: 799, want: notEnded},
		{name: "crawling for 5 minutes", kind: receive, grouped: true, life: 800, progress: 800, ended: 500, now: 800, want: slowReceiver},
		{name: "a probe and an encoder as well", kind: probe, grouped: true, life: 530, ended: 500, now: 530, want: slowReceiver},
		{name: "one that has everything is closing by itself", kind: receive, life: 530, ended: 500, now: 540, want: notEnded},
		{name: "a publisher that ends", kind: publish, life: 530, ended: 500, now: 540, want: notEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := func(s int) int64 { return int64(s) * int64(time.Second) }
			s := &session{kind: c.kind, srv: &Server{}, ch: &Channel{}, took: at(c.took)}
			s.life.Store(at(c.life))
			s.progress.Store(at(c.progress))
			s.ch.over.Store(at(c.ended))
			if c.grouped {
				s.group.Store(&group{})
			}
			if got := s.verdict(at(c.now)); got != c.want {
				t.Errorf("the verdict is %v, wanted %v", got, c.want)
			}
		})
	}
}

// What the sweep makes of the kernel's numbers, look by look; times in seconds.
func TestNoteTaken(t *testing.T) {
	type look struct {
		now, progress int
		acked         uint64
		held          int64
		took          int
		unsent        int64
	}
	const overHTTP = "over HTTP, "
	for name, looks := range map[string][]look{
		overHTTP + "idle: it lives until the kernel says otherwise": {
			{now: 30, progress: 1, acked: 500, took: 30}, {now: 95, progress: 1, acked: 500, took: 95},
		},
		overHTTP + "vanished, and written to": {
			{now: 30, progress: 1, acked: 500, took: 30}, {now: 35, progress: 35, acked: 500, held: 90, took: 30}, {now: 95, progress: 36, acked: 500, held: 900, took: 30},
		},
		overHTTP + "its socket is full": {
			{now: 30, progress: 1, took: 30}, {now: 35, progress: 1, unsent: 90, took: 1},
		},
		"it has everything: the last packet's time counts": {{now: 30, progress: 28, acked: 500, took: 28}},
		"idle, but for acknowledged heartbeats":            {{now: 30, acked: 500}, {now: 35, acked: 505}, {now: 40, acked: 510}},
		"something is always under way": {
			{now: 30, progress: 30, acked: 500, held: 90}, {now: 35, progress: 35, acked: 700, held: 90, took: 35}, {now: 40, progress: 40, acked: 900, held: 90, took: 40},
		},
		"it crawls": {
			{now: 30, progress: 1, acked: 500, held: 9000}, {now: 35, progress: 1, acked: 501, held: 8999, took: 35}, {now: 40, progress: 35, acked: 501, held: 8999, took: 35},
		},
		"vanished, and written to": {
			{now: 30, progress: 30, acked: 500, held: 90}, {now: 35, progress: 35, acked: 500, held: 900}, {now: 40, progress: 40, acked: 500, held: 9000},
		},
		"vanished between two looks": {
			{now: 30, progress: 29, acked: 500, took: 29}, {now: 35, progress: 35, acked: 600, held: 90, took: 35}, {now: 40, progress: 40, acked: 600, held: 90, took: 35},
		},
		"acknowledgements are not told: what is held sinks, rises and sinks": {
			{now: 30, progress: 1, held: 9000}, {now: 35, progress: 1, held: 8999, took: 35}, {now: 40, progress: 40, held: 9500, took: 35}, {now: 45, progress: 40, held: 9400, took: 45},
		},
		"not told, and the kernel takes what nbio had": {
			{now: 30, progress: 30, held: 9000, unsent: 500}, {now: 35, progress: 35, held: 9500}, {now: 40, progress: 35, held: 9400, took: 40},
		},
		"not told, vanished, and written to": {
			{now: 30, progress: 30, held: 90}, {now: 35, progress: 35, held: 900}, {now: 40, progress: 40, held: 9000}, {now: 45, progress: 45, held: 9000},
		},
		"told now and then": {
			{now: 30, progress: 1, acked: 500, held: 9000}, {now: 35, progress: 1, held: 8000, took: 35}, {now: 40, progress: 1, acked: 2500, held: 8000, took: 35}, {now: 45, progress: 1, acked: 2600, held: 8000, took: 45},
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := func(s int) int64 { return int64(s) * int64(time.Second) }
			s := &session{kind: receive}
			if strings.HasPrefix(name, overHTTP) {
				s.door = httpDoor
			}
			for _, l := range looks {
				s.progress.Store(at(l.progress))
				s.unsent.Store(l.unsent)
				s.noteTaken(at(l.now), l.acked, l.held)
				if s.took != at(l.took) {
					t.Errorf("at %d s it was last known to take something at %v, wanted %d s", l.now, time.Duration(s.took), l.took)
				}
			}
		})
	}
}

// A receiver that is always behind lives as long as it takes something, also where the
// system does not tell what it has acknowledged.
func TestBehindWithoutNewsOfAcknowledgements(t *testing.T) {
	s := &session{kind: receive, srv: &Server{}, ch: &Channel{}}
	now, held := int64(0), int64(100*mib)
	for range 5 * int(lifeTimeout/(rosterShards*sweepEvery)) {
		now += int64(rosterShards * sweepEvery)
		held -= mib
		s.noteTaken(now, 0, held)
		if r := s.verdict(now); r != notEnded {
			t.Fatalf("it is cut after %v for %v", time.Duration(now), r)
		}
	}
	for now-s.took < int64(lifeTimeout) {
		now += int64(rosterShards * sweepEvery)
		s.noteTaken(now, 0, held)
	}
	if r := s.verdict(now); r != noSignOfLife {
		t.Errorf("it takes nothing for a minute: the verdict is %v", r)
	}
}
