package admin

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
)

func TestMetricsOfAServerWithReceiversThatLag(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(&metrics{slowServer(), "1.2.3", new(wrongTokens)})
	want := `
# HELP wsstream_receiver_lag_snapshot_seconds How far behind those who are served are at the moment of the scrape. It is a snapshot: each receiver is in it once, and counts fall as well as rise; do not take its rate().
# TYPE wsstream_receiver_lag_snapshot_seconds histogram
wsstream_receiver_lag_snapshot_seconds_bucket{le="0.1"} 0
wsstream_receiver_lag_snapshot_seconds_bucket{le="0.25"} 1
wsstream_receiver_lag_snapshot_seconds_bucket{le="5"} 2
wsstream_receiver_lag_snapshot_seconds_bucket{le="60"} 2
wsstream_receiver_lag_snapshot_seconds_bucket{le="+Inf"} 3
wsstream_receiver_lag_snapshot_seconds_sum 123.2
wsstream_receiver_lag_snapshot_seconds_count 3
`
	for _, line := range []string{
		"ready gauge 1", "receivers_waiting gauge 2", "sessions_closing gauge 1", "handshakes gauge 4", "door_connections gauge 5",
		"received_bytes_total counter 1000", "received_packets_total counter 10", "sent_bytes_total counter 2000", "sent_packets_total counter 20", "receiver_skips_total counter 30",
		"memory_used_bytes gauge 300", "memory_limit_bytes gauge 1000", "cache_bytes gauge 250", "receiver_lag_worst_seconds gauge 120", "admin_wrong_tokens_total counter 0",
		`sessions_ended_total counter {reason="slow_receiver"} 3 {reason="shutdown"} 0`,
		`channels gauge {state="live"} 1 {state="waiting"} 1`,
		`sessions gauge {door="http",kind="publish"} 1 {door="websocket",kind="receive"} 2 {door="http",kind="probe"} 0`,
	} {
		f := strings.Fields(line)
		name := "wsstream_" + f[0]
		want += "# HELP " + name + " " + helpOf(t, name) + "\n# TYPE " + name + " " + f[1] + "\n"
		labels := ""
		for _, word := range f[2:] {
			if strings.HasPrefix(word, "{") {
				labels = word
				continue
			}
			want += name + labels + " " + word + "\n"
		}
	}
	names := slices.DeleteFunc(slices.Collect(maps.Keys(typesIn(want))), func(name string) bool { return name == "" })
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if all, err := r.Gather(); err != nil || len(all) != len(names)+1 { // build_info has Go's version
		t.Errorf("wanted %d metrics, got %d, %v", len(names)+1, len(all), err)
	}
}

// helpOf is the help of one of our metrics.
func helpOf(t *testing.T, name string) string {
	t.Helper()
	c := make(chan *prometheus.Desc, 100)
	(&metrics{}).Describe(c)
	close(c)
	for d := range c {
		if m := regexp.MustCompile(`fqName: "(\w+)", help: "((?:[^"\\]|\\.)*)"`).FindStringSubmatch(d.String()); m != nil && m[1] == name {
			return m[2]
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

// typesIn is the types of the metrics in a scrape, by name.
func typesIn(scrape string) map[string]string {
	types := map[string]string{}
	for _, m := range typeLine.FindAllStringSubmatch(scrape, -1) {
		types[m[1]] = m[2]
	}
	return types
}

func TestNoLimitIsInfinite(t *testing.T) {
	t.Parallel()
	srv := slowServer()
	srv.limit = math.MaxInt64
	l := listen(t, "127.0.0.1:0", "", srv)
	if _, body := l.wants(200, "GET", "/metrics"); !strings.Contains(body, "\nwsstream_memory_limit_bytes +Inf\n") {
		t.Error("wanted no limit to be +Inf")
	}
	if _, body := l.wants(200, "GET", "/api/v1/server"); !strings.Contains(body, `"limit_bytes":null`) {
		t.Errorf("wanted no limit to be null, got %s", body)
	}
}

// Names, units and types are as Prometheus's guide wants them.
func TestMetricNamesAreWellFormed(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(registry(Options{Server: slowServer(), Log: slog.New(slog.DiscardHandler)}, new(wrongTokens)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "wsstream_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// The series of a scrape are the same whoever is connected: nothing grows with channels,
// addresses or sessions.
func TestSeriesDoNotGrowWithClients(t *testing.T) {
	srv, addr := startServer(t)
	l := listen(t, "127.0.0.1:0", "", srv)
	before := series(l)
	for i := range 20 {
		wstest.Dial(t, addr, fmt.Sprintf("/cam%d/key%d/publish", i, i)).Sync()
		wstest.Dial(t, addr, fmt.Sprintf("/cam%d/key%d/receive", i, i)).Sync()
		wstest.Dial(t, addr, fmt.Sprintf("/dam%d/key%d/probe", i, i)).Sync()
	}
	after := series(l)
	if !slices.Equal(before, after) {
		t.Errorf("wanted the same series with clients as without, got\n%q\n%q", before, after)
	}
	if _, body := l.ask("GET", "/metrics"); !strings.Contains(body, `wsstream_sessions{door="websocket",kind="publish"} 20`) || strings.Contains(body, "127.0.0.1") {
		t.Errorf("wanted 20 publishers, and no addresses, got\n%s", body)
	}
}

// series is the names and labels of our series in a scrape.
func series(l *listener) (names []string) {
	l.t.Helper()
	_, body := l.wants(200, "GET", "/metrics")
	for line := range strings.Lines(body) {
		if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "wsstream_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Every reason for an end is there from the start, at zero, under the word of the log.
func TestEveryReasonIsRegistered(t *testing.T) {
	srv, _ := startServer(t)
	l := listen(t, "127.0.0.1:0", "", srv)
	_, body := l.wants(200, "GET", "/metrics")
	ends := srv.Ends()
	if len(ends) < 16 {
		t.Errorf("the engine has %d reasons", len(ends))
	}
	for reason := range ends {
		if !strings.Contains(body, fmt.Sprintf("\nwsstream_sessions_ended_total{reason=%q} 0\n", reason)) {
			t.Errorf("wanted the reason %s at zero", reason)
		}
	}
}

// What the listener asks for is what the engine has.
var _ Server = (*engine.Server)(nil)
