package engine

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// crowdScript plays a crowd: a guest is named by its source's letter and a number.
type crowdScript struct {
	t      *testing.T
	c      *crowd
	now    time.Time
	guests map[string]*guest
	names  map[*guest]string
}

func newCrowdScript(t *testing.T, limit int) *crowdScript {
	return &crowdScript{
		t: t, c: &crowd{limit: limit, sources: map[netip.Prefix]*source{}}, now: time.Unix(1e9, 0),
		guests: map[string]*guest{}, names: map[*guest]string{},
	}
}

// play does one word of a script and returns what came of it:
//
//	+a1   a1 arrives; who is hung up because too many wait
//	next  who gets a place
//	!a1   a1 sends a request
//	-a1   a1 leaves its place
//	out   who has to give up a place, and gives it up; or in how long somebody may have to
//	thin  who is hung up so that fewer wait
//	1s    time passes
func (s *crowdScript) play(word string) string {
	switch name := word[1:]; {
	case word == "next":
		return s.names[s.c.next(s.now)]
	case word == "out":
		g, in := s.c.victim(s.now)
		if g == nil {
			return in.String()
		}
		s.c.leave(g)
		return s.names[g]
	case word == "thin":
		var gone []string
		for _, g := range s.c.thin() {
			gone = append(gone, s.names[g])
		}
		return strings.Join(gone, ",")
	case word[0] == '+':
		addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, name[0])}
		g := &guest{from: s.c.sourceOf(sourceName(addr))}
		s.guests[name], s.names[g] = g, name
		return s.names[s.c.arrive(g)]
	case word[0] == '!':
		s.c.asked(s.guests[name])
	case word[0] == '-':
		s.c.leave(s.guests[name])
	default:
		d, err := time.ParseDuration(word)
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	}
	return ""
}

func TestWhoIsNextAtTheFrontDoor(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  int
		script string // words, with =answer where there is one
	}{
		{"as they come while there are places", 2, "next= +a1 next=a1 +a2 next=a2 +a3 next= -a1 next=a3 next="},
		{"no limit", 0, "+a1 next=a1 +a2 next=a2 +b1 next=b1 out=0s -a1 -a2 -b1"},
		{"sources take turns", 4, "+a1 +b1 +c1 +d1 next=a1 next=b1 next=c1 next=d1 " +
			"+a2 +a3 +a4 +b2 +c2 -d1 next=a2 -a1 next=b2 -b1 next=c2 -c1 next=a3"},
		{"a newcomer comes before a crowd", 2, "+a1 next=a1 +a2 next=a2 +a3 +a4 +a5 +b1 -a1 next=a3 +b2 -a2 next=b1 -a3 next=a4"},
		{"who has more than half lets others go first", 4, "+a1 next=a1 +a2 next=a2 +a3 next=a3 +a4 next=a4 +a5 +a6 +b1 +c1 " +
			"-a1 next=b1 -a2 next=c1 -b1 next=a5"},
		{"and goes on when nobody else waits", 2, "+a1 next=a1 +a2 next=a2 +a3 -a1 next=a3"},
		{"who has more than half and is silent gives up the oldest place", 3, "+a1 next=a1 500ms +a2 next=a2 +a3 next=a3 +b1 next= " +
			"out=500ms 500ms out=a1 out=0s next=b1 +b2 next= out=500ms 500ms out=a2 next=b2"},
		{"not for its own", 2, "+a1 next=a1 +a2 next=a2 +a3 2s out=0s"},
		{"not who has sent a request", 2, "+a1 next=a1 +a2 next=a2 +b1 !a1 2s out=a2 next=b1 +c1 out=0s"},
		{"not who has half", 4, "+a1 next=a1 +a2 next=a2 +b1 next=b1 +b2 next=b2 +c1 2s out=0s -b1 next=c1"},
		{"one place", 1, "+a1 next=a1 +b1 out=1s 1s out=a1 next=b1"},
		{"too many wait: the newest of the longest queue goes", 1, "+a1 next=a1 " + arrivals("a", 2, 16) + "+b1=a17 +b2=a16"},
		{"too many wait: the newcomer, where queues are as long", 1, "+a1 next=a1 " + arrivals("bcdefghijklmnopq", 1, 1) + "+r1=r1 +b2=b2"},
		{"fewer may wait: the newer halves of the queues go", 1, "thin= +a1 next=a1 thin= +a2 +a3 +b1 +a4 +a5 +b2 +b3 +c1 thin=a4,a5,b3 thin=a3,b2 thin=c1 thin=b1 thin=a2 thin="},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newCrowdScript(t, c.limit)
			for i, step := range strings.Fields(c.script) {
				word, want, _ := strings.Cut(step, "=")
				if got := s.play(word); got != want {
					t.Fatalf("word %d, %s: got %q, wanted %q", i+1, word, got, want)
				}
			}
			s.c.clear()
			for _, g := range s.c.sources {
				if g.held == 0 {
					t.Errorf("a source is left that has nothing here")
				}
			}
			if s.c.waiting != 0 || len(s.c.turns) != 0 {
				t.Errorf("%d wait in %d queues after the end", s.c.waiting, len(s.c.turns))
			}
		})
	}
}

// arrivals is n guests of each source from a number on, who only wait.
func arrivals(sources string, first, n int) string {
	var b strings.Builder
	for _, source := range sources {
		for i := range n {
			fmt.Fprintf(&b, "+%c%d ", source, first+i)
		}
	}
	return b.String()
}

// An address is a source, IPv4-mapped or not; in IPv6 a /64 is.
func TestSourcesOfConnections(t *testing.T) {
	for _, c := range []struct{ ip, want string }{
		{"192.0.2.7", "192.0.2.7/32"}, {"::ffff:192.0.2.7", "192.0.2.7/32"}, {"::1", "::/64"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
	} {
		if got := sourceName(&net.TCPAddr{IP: net.ParseIP(c.ip), Port: 7, Zone: ""}).String(); got != c.want {
			t.Errorf("%s belongs to %s, wanted %s", c.ip, got, c.want)
		}
	}
	if got := sourceName(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}).String(); got != "fe80::/64" {
		t.Errorf("a zone makes it %s", got)
	}
	if got := sourceName(&net.UnixAddr{}); got.IsValid() {
		t.Errorf("no address belongs to %s", got)
	}
}
