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
	late   map[string]bool
}

func newCrowdScript(t *testing.T, limit int) *crowdScript {
	c := newCrowd(limit)
	return &crowdScript{
		t: t, c: &c, now: time.Unix(1e9, 0),
		guests: map[string]*guest{}, names: map[*guest]string{}, late: map[string]bool{},
	}
}

// play does one word of a script and returns what came of it:
//
//	+a1   a1 arrives; who is hung up because too many wait
//	next  who gets a place
//	!a1   a1 sends a request
//	.a1   a1 has its answer, and is kept
//	?a1   the next step is the server's, which is late; once more: it is a1's again
//	-a1   a1 leaves its place
//	out   who has to give up a place, and gives it up; or in how long somebody may have to
//	thin  who is hung up so that fewer wait
//	1s    time passes
func (s *crowdScript) play(word string) string {
	switch name := word[1:]; {
	case word == "next":
		s.now = s.now.Add(1) // nobody comes at the same moment as another one
		return s.names[s.c.next(s.now)]
	case word == "out":
		g, in := s.c.victim(s.now, func(g *guest) bool { return s.late[s.names[g]] })
		if g == nil {
			return in.Round(time.Millisecond).String()
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
		s.c.asked(s.guests[name], s.now)
	case word[0] == '.':
		s.c.answered(s.guests[name])
	case word[0] == '?':
		s.late[name] = !s.late[name]
	case word[0] == '-':
		s.c.leave(s.guests[name])
	default:
		d, err := time.ParseDuration(word)
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d + time.Microsecond)
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
		{"a newcomer comes before a crowd", 2, "+a1 next=a1 +a2 next=a2 +a3 +a4 +a5 +b1 -a1 next=b1 +b2 -a2 next=a3 -b1 next=b2 -a3 next=a4"},
		{"who has less than its share comes first", 4, "+a1 next=a1 +a2 next=a2 +a3 next=a3 +a4 next=a4 +a5 +a6 +b1 +c1 " +
			"-a1 next=b1 -a2 next=c1 -b1 next=a5"},
		{"and who has it goes on when nobody else waits", 2, "+a1 next=a1 +a2 next=a2 +a3 -a1 next=a3"},
		{"who has more than twice its share and is silent gives up the oldest place", 3, "+a1 next=a1 500ms +a2 next=a2 +a3 next=a3 +b1 next= " +
			"out=500ms 500ms out=a1 out=0s next=b1 +b2 next= out=0s"},
		{"more than its share", 4, fill("ab", 2) + "+c1 next= out=3s 2s out=1s 1s out=a1 out=0s next=c1 +c2 next= 10s out=0s"},
		{"who has the most comes first", 8, fill("a", 2) + "100ms " + fill("bc", 3) + "+d1 2900ms out=100ms 100ms out=b1 next=d1"},
		{"and of those who has been there longest", 6, fill("a", 2) + "1s " + fill("bc", 2) + "+d1 +d2 5s out=a1 next=d1 out=0s"},
		{"several newcomers", 4, fill("ab", 2) + "+c1 +d1 3s out=a1 next=c1 out=b1 next=d1 +e1 3s out=a2 next=e1"},
		{"nobody within its share", 6, fill("ab", 3) + "+a4 +b4 60s out=0s"},
		{"not for its own", 2, "+a1 next=a1 +a2 next=a2 +a3 60s out=0s"},
		{"who is asked for a page has the time once more", 2, "+a1 next=a1 2s +a2 next=a2 !a1 !a2 +b1 out=3s 2s !a2 out=1s 1s out=a1 next=b1 60s out=0s"},
		{"of silent ones and others whose time is over first", 3, fill("a", 3) + "!a1 +b1 1s out=a2 next=b1 +c1 out=2s 2s out=a3 next=c1"},
		{"not who is kept, who goes at once", 2, "+a1 next=a1 +a2 next=a2 !a1 .a1 !a2 .a2 +b1 3s out=3s -a1 next=b1"},
		{"not who has spoken to a server that is late", 3, fill("a", 3) + "?a1 +b1 1s out=a2 next=b1"},
		{"which begins its time anew", 2, fill("a", 2) + "?a1 ?a2 +b1 3s out=3s 3s out=3s"},
		{"nor who has not got its answer from it", 3, fill("a", 3) + "!a1 !a2 !a3 ?a1 +b1 3s out=a2 next=b1 +c1 out=a3 next=c1"},
		{"and has the time once more then", 2, fill("a", 2) + "!a1 ?a1 !a2 ?a2 +b1 3s out=3s ?a1 2s out=1s 1s out=a1 next=b1"},
		{"more sources than places: each for its time", 2, fill("ab", 1) + "1s +c1 +d1 out=2s 2s out=a1 next=c1 out=b1 next=d1 +e1 out=3s 3s out=c1 next=e1"},
		{"one place", 1, "+a1 next=a1 +b1 out=3s 3s out=a1 next=b1"},
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
			if s.c.waiting != 0 || len(s.c.turns) != 0 || len(s.c.lengths) != 0 {
				t.Errorf("%d wait in %d queues of lengths up to %d after the end", s.c.waiting, len(s.c.turns), len(s.c.lengths)-1)
			}
			holders := 0
			for p := range s.c.holders {
				holders += p.held
			}
			if holders != s.c.held {
				t.Errorf("%d places are taken, by those who have one %d", s.c.held, holders)
			}
		})
	}
}

// fill is n guests of each source who come and have a place each.
func fill(sources string, n int) string {
	var b strings.Builder
	for i := range n {
		for _, source := range sources {
			fmt.Fprintf(&b, "+%c%d next=%c%d ", source, i+1, source, i+1)
		}
	}
	return b.String()
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

// BenchmarkCrowd is a front door whose places are taken, and before which as many wait as
// may. An operation is a newcomer, of a source of its own, who hangs somebody up, and a
// place that is given up and taken by who is next.
//
//	sources=    to how many sources belong those who wait; 1 is the baseline
//	look-ns     how long it takes to find who has to give up a place
func BenchmarkCrowd(b *testing.B) {
	const limit = 1024
	for _, sources := range []int{1, 1000, roomFactor * limit / 2, roomFactor * limit} {
		b.Run(fmt.Sprintf("sources=%d", sources), func(b *testing.B) {
			c, now, names := newCrowd(limit), time.Unix(1e9, 0), 0
			source := func(n int) *source {
				return c.sourceOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 32))
			}
			newcomer := func() {
				names++
				c.arrive(&guest{from: source(1<<24 + names)})
			}
			var in []*guest
			for range limit {
				newcomer()
				in = append(in, c.next(now))
			}
			for n := range roomFactor * limit {
				c.arrive(&guest{from: source(n % sources)})
			}
			never := func(*guest) bool { return false }
			begin := time.Now()
			for range 100 {
				c.victim(now, never)
			}
			look := time.Since(begin) / 100
			for b.Loop() {
				newcomer()
				c.leave(in[0])
				in = append(in[1:], c.next(now))
			}
			b.ReportMetric(float64(look), "look-ns")
		})
	}
}
