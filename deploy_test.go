package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

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
