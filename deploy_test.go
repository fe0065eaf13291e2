package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"ws-stream-server/engine/wstest"
)

// scrape is what /metrics shows, by series.
type scrape struct {
	types  map[string]string              // by metric, as "# TYPE" says
	series map[string][]map[string]string // labels of each series, by name as it is queried
}

var (
	scrapeType   = regexp.MustCompile(`^# TYPE (\S+) (\S+)`)
	scrapeSeries = regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? \S+$`)
	scrapeLabel  = regexp.MustCompile(`([a-z_]\w*)="((?:[^"\\]|\\.)*)"`)
)

// readScrape takes Prometheus's text format apart.
func readScrape(t *testing.T, text string) scrape {
	t.Helper()
	s := scrape{map[string]string{}, map[string][]map[string]string{}}
	for _, line := range lines(text) {
		if m := scrapeType.FindStringSubmatch(line); m != nil {
			s.types[m[1]] = m[2]
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := scrapeSeries.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("a line of /metrics that is none: %q", line)
		}
		labels := map[string]string{}
		for _, l := range scrapeLabel.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		s.series[m[1]] = append(s.series[m[1]], labels)
	}
	return s
}

// realScrape is the scrape of a server that has served sessions of every kind.
func realScrape(t *testing.T) scrape {
	t.Helper()
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin)
	pub := s.publish("cam", "key")
	r, e := s.receive("cam", "key"), s.receiveClear("cam", "key")
	s.probe("nobody", "key").Sync()
	pub.Send(wstest.Binary, []byte("packet"))
	for _, c := range []*wstest.Conn{r, e} {
		c.WantPacket([]byte("packet"))
	}
	_, text := s.operator("GET", "/metrics")
	return readScrape(t, text)
}

// OPERATING.md's table has every metric of ours, with its type and its labels, and no
// other.
func TestOPERATINGMetricsTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	s := realScrape(t)
	ours := maps.Clone(s.types)
	maps.DeleteFunc(ours, func(name, _ string) bool { return !strings.HasPrefix(name, "wsstream_") })
	for _, row := range regexp.MustCompile("(?m)^\\| `(wsstream_\\w+)` \\| (\\w+) \\| (.*?) ?\\| .+ \\|$").FindAllStringSubmatch(string(text), -1) {
		name, typ := row[1], row[2]
		if s.types[name] != typ || ours[name] == "" {
			t.Errorf("OPERATING.md says that %s is a %s, it is %q (or is there twice)", name, typ, s.types[name])
			continue
		}
		delete(ours, name)
		var labels []string
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[3], -1) {
			labels = append(labels, l[1])
		}
		of := name
		if typ == "histogram" {
			of += "_count"
		}
		slices.Sort(labels)
		if got := slices.Sorted(maps.Keys(s.series[of][0])); !slices.Equal(got, labels) {
			t.Errorf("OPERATING.md says that %s has the labels %q, it has %q", name, labels, got)
		}
	}
	for name := range ours {
		t.Errorf("OPERATING.md does not have %s", name)
	}
}

// expression is a query of Prometheus, as far as it names series. It is not a parser of
// the language: it finds the names, and the labels that belong to them.
type expression struct {
	metrics  []string
	matchers []matcher
	grouped  []string // labels that it groups, or matches, by
}

type matcher struct{ metric, label, op, value string }

var (
	promWord   = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)
	promNumber = regexp.MustCompile(`^[0-9][0-9.]*(?:e[0-9]+)?`)
	promLabels = regexp.MustCompile(`^\s*\{([^}]*)\}`)
	promMatch  = regexp.MustCompile(`^\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*,?`)
	promRange  = regexp.MustCompile(`\[[^\]]*\]`)
	promList   = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
)

// readExpression takes an expression apart, and reports what it cannot understand.
func readExpression(t *testing.T, where, text string) (e expression) {
	t.Helper()
	rest := promRange.ReplaceAllString(text, "")
	rest = promList.ReplaceAllStringFunc(rest, func(list string) string {
		m := promList.FindStringSubmatch(list)
		for label := range strings.SplitSeq(m[2], ",") {
			if label = strings.TrimSpace(label); label != "" {
				e.grouped = append(e.grouped, label)
			}
		}
		return ""
	})
	for rest != "" {
		word := promWord.FindString(rest)
		if word == "" {
			rest = rest[max(1, len(promNumber.FindString(rest))):]
			continue
		}
		rest = rest[len(word):]
		switch {
		case strings.HasPrefix(strings.TrimSpace(rest), "("): // a function, or an aggregation
			continue
		case slices.Contains([]string{"and", "or", "unless", "offset", "bool", "sum", "min", "max", "avg", "count"}, word):
			continue
		}
		e.metrics = append(e.metrics, word)
		if m := promLabels.FindStringSubmatch(rest); m != nil {
			rest = rest[len(m[0]):]
			inside := m[1]
			for strings.TrimSpace(inside) != "" {
				l := promMatch.FindStringSubmatch(inside)
				if l == nil {
					t.Errorf("%s: cannot read the labels {%s}", where, m[1])
					break
				}
				inside = inside[len(l[0]):]
				e.matchers = append(e.matchers, matcher{word, l[1], l[2], l[3]})
			}
		}
	}
	if strings.Count(text, "(") != strings.Count(text, ")") || len(e.metrics) == 0 {
		t.Errorf("%s: is no expression: %s", where, text)
	}
	return e
}

// added are the labels that Prometheus adds when it scrapes.
var added = []string{"instance", "job"}

// wantMeaning fails unless every name in the expression is in the scrape: metrics,
// labels, and what labels are compared with.
func (s scrape) wantMeaning(t *testing.T, where, text string) {
	t.Helper()
	e := readExpression(t, where, text)
	labels := map[string]bool{}
	for _, name := range e.metrics {
		if name == "up" { // Prometheus's own
			continue
		}
		if len(s.series[name]) == 0 {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		for _, of := range s.series[name] {
			for l := range of {
				labels[l] = true
			}
		}
	}
	for _, l := range e.grouped {
		if !labels[l] && !slices.Contains(added, l) {
			t.Errorf("%s: no metric in it has the label %s", where, l)
		}
	}
	for _, m := range e.matchers {
		if slices.Contains(added, m.label) {
			continue
		}
		for value := range strings.SplitSeq(m.value, "|") {
			if !slices.ContainsFunc(s.series[m.metric], func(of map[string]string) bool { return of[m.label] == value }) {
				t.Errorf("%s: there is no %s{%s=%q}", where, m.metric, m.label, value)
			}
		}
	}
}

// The rules are YAML, name real metrics, and tell whoever is woken what it is about.
func TestAlertRulesNameRealMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Alert, Expr, For    string
		Labels, Annotations map[string]string
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatalf("deploy/alerts.yml: %v", err)
	}
	s, seen := realScrape(t), map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			where := "deploy/alerts.yml, " + r.Alert
			if r.Alert == "" || seen[r.Alert] {
				t.Errorf("%s: has no name of its own", where)
			}
			seen[r.Alert] = true
			s.wantMeaning(t, where, r.Expr)
			if d, err := time.ParseDuration(r.For); r.For != "" && (err != nil || d <= 0) {
				t.Errorf("%s: lasts %q", where, r.For)
			}
			if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: wanted a severity, a summary and a description, got %v, %v", where, r.Labels, r.Annotations)
			}
		}
	}
	for _, name := range []string{"NotReady", "Memory", "SlowReceiversCut", "ReceiverLag", "PublishersLost", "Restarts"} {
		if !seen["StreamServer"+name] {
			t.Errorf("there is no rule StreamServer%s", name)
		}
	}
}

// The dashboard is JSON, its queries name real metrics, and its panels do not overlap.
func TestDashboardNamesRealMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		ID                       int
		Title, Type, Description string
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ RefID, Expr string }
	}
	var board struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Annotations   struct{ List []struct{ Name, Expr string } }
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatalf("deploy/grafana-dashboard.json: %v", err)
	}
	s, ids, cells, metrics := realScrape(t), map[int]bool{}, map[[2]int]string{}, ""
	check := func(where, expr string) {
		t.Helper()
		metrics += expr + "\n"
		for _, v := range []struct{ name, value string }{{`=~"$instance"`, `=~"host"`}, {"$__rate_interval", "1m"}, {"$__range", "1h"}} {
			expr = strings.ReplaceAll(expr, v.name, v.value)
		}
		if strings.Contains(expr, "$") {
			t.Errorf("%s: a variable that the dashboard does not have: %s", where, expr)
		}
		s.wantMeaning(t, where, expr)
	}
	for _, p := range board.Panels {
		where := "deploy/grafana-dashboard.json, " + p.Title
		if ids[p.ID] || p.Title == "" || p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("%s: wanted an id of its own, a title, a description and a query", where)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			check(where, q.Expr)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s: stands over %q, or beyond the edge", where, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, a := range board.Annotations.List {
		if a.Expr != "" {
			check("deploy/grafana-dashboard.json, "+a.Name, a.Expr)
		}
	}
	for _, v := range board.Templating.List {
		if m := regexp.MustCompile(`^label_values\((\w+), instance\)$`).FindStringSubmatch(v.Definition); v.Type == "query" && (m == nil || len(s.series[m[1]]) == 0) {
			t.Errorf("the variable %s is made of %q", v.Name, v.Definition)
		}
	}
	// Nothing that the server tells is missing on it.
	for name, typ := range s.types {
		if typ == "histogram" {
			name += "_bucket"
		}
		if strings.HasPrefix(name, "wsstream_") && !regexp.MustCompile(`\b`+name+`\b`).MatchString(metrics) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// The test of the files above sees what is wrong.
func TestExpressionsThatNameNothing(t *testing.T) {
	t.Parallel()
	e := readExpression(t, "here", `sum by (le, kind) (rate(a_total{x="1",y=~"2|3"}[5m])) > on (job) 0.1 * max(b) and up == 1e3`)
	if !slices.Equal(e.metrics, []string{"a_total", "b", "up"}) || !slices.Equal(e.grouped, []string{"le", "kind", "job"}) ||
		!slices.Equal(e.matchers, []matcher{{"a_total", "x", "=", "1"}, {"a_total", "y", "=~", "2|3"}}) {
		t.Errorf("read as %+v", e)
	}
}
