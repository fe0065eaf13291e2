package admin

import (
	"log/slog"
	"math"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ws-stream-server/engine"
)

// metrics is everything of ours that Prometheus is shown. It is collected when it is
// asked for. No label has a value that a client can choose: neither channels nor
// addresses.
type metrics struct {
	server  Server
	version string
	wrong   *wrongTokens
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wsstream_"+name, help, labels, nil)
}

var (
	buildInfo = desc("build_info", "Always 1; version says which server this is, goversion what it was built with.", "version", "goversion")
	ready     = desc("ready", "1 while new clients should be sent here, else 0: as /readyz says.")

	sessionsNow = desc("sessions", "Stream connections now, by kind and door.", "kind", "door")
	waiting     = desc("receivers_waiting", "Receivers now that wait: for a publisher, or for a key frame.")
	closing     = desc("sessions_closing", "Of the sessions, those that are being ended.")
	channels    = desc("channels", "Channels now: live, or waiting for a publisher.", "state")
	handshakes  = desc("handshakes", "Handshakes now that are not answered yet.")
	atTheDoor   = desc("door_connections", "Connections now that are no stream connections yet: in a handshake, or asking for pages. MAX_HANDSHAKES bounds them.")

	ended           = desc("sessions_ended_total", "Sessions that have ended, by reason.", "reason")
	receivedBytes   = desc("received_bytes_total", "Bytes of packets from publishers.")
	receivedPackets = desc("received_packets_total", "Packets from publishers.")
	sentBytes       = desc("sent_bytes_total", "Bytes of packets to receivers.")
	sentPackets     = desc("sent_packets_total", "Packets to receivers.")
	skips           = desc("receiver_skips_total", "How often a slow receiver has jumped ahead to a key frame (SLOW_RECEIVER=skip).")

	memoryUsed  = desc("memory_used_bytes", "What caches, messages and unsent bytes of all channels take together.")
	memoryLimit = desc("memory_limit_bytes", "What caches, messages and unsent bytes may take together: four fifths of MEMORY_LIMIT_MB.")
	cacheBytes  = desc("cache_bytes", "Caches of all live channels now: what receivers that come are given.")

	lagNow           = desc("receiver_lag_snapshot_seconds", "How far behind those who are served are at the moment of the scrape. It is a snapshot: each receiver is in it once, and counts fall as well as rise; do not take its rate().")
	wrongTokensTotal = desc("admin_wrong_tokens_total", "Requests to the operator's listener with a token that is not ADMIN_TOKEN.")

	lagWorst = desc("receiver_lag_worst_seconds", "How far behind the worst receiver is now.")
)

// Describe names everything that Collect brings.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, ready, sessionsNow, waiting, closing, channels, handshakes, atTheDoor, ended, receivedBytes, receivedPackets,
		sentBytes, sentPackets, skips, memoryUsed, memoryLimit, cacheBytes, lagNow, lagWorst, wrongTokensTotal,
	} {
		c <- d
	}
}

// Collect asks the server. Any goroutine.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(buildInfo, 1, m.version, runtime.Version())
	gauge(ready, truth(m.server.Ready() == nil))
	for reason, n := range m.server.Ends() {
		counter(ended, n, reason)
	}
	census := m.server.Census()
	gauge(handshakes, float64(census.Handshakes))
	gauge(atTheDoor, float64(census.AtTheDoor))
	gauge(closing, float64(census.Closing))
	gauge(memoryUsed, float64(census.Memory))
	limit := float64(m.server.MemoryLimit())
	if limit == math.MaxInt64 {
		limit = math.Inf(1)
	}
	gauge(memoryLimit, limit)
	counter(wrongTokensTotal, m.wrong.total.Load())
	m.collectChannels(gauge)
	o := m.server.Overview()
	for _, k := range o.Sessions { // every kind and door, also at 0
		gauge(sessionsNow, float64(k.Count), k.Kind, k.Door)
	}
	counter(receivedBytes, o.Totals.ReceivedBytes)
	counter(receivedPackets, o.Totals.ReceivedPackets)
	counter(sentBytes, o.Totals.SentBytes)
	counter(sentPackets, o.Totals.SentPackets)
	counter(skips, o.Totals.Skips)
	gauge(waiting, float64(o.Waiting))
	worst := 0.0
	if len(o.Slowest) > 0 {
		worst = o.Slowest[0].LagSeconds
	}
	gauge(lagWorst, worst)
	c <- histogram(o)
}

// histogram is the lags of the receivers now.
func histogram(o engine.Overview) prometheus.Metric {
	count, buckets := uint64(0), map[float64]uint64{}
	for _, b := range o.Lag {
		count = uint64(b.Count) // the last bucket has all
		if !math.IsInf(b.LE, 1) {
			buckets[b.LE] = count
		}
	}
	return prometheus.MustNewConstHistogram(lagNow, count, o.LagSeconds, buckets)
}

type gauges func(d *prometheus.Desc, v float64, labels ...string)

func (m *metrics) collectChannels(gauge gauges) {
	live, waits, cached := 0, 0, int64(0)
	for _, ch := range m.server.Channels() {
		if !ch.Live {
			waits++
			continue
		}
		live++
		cached += ch.CacheBytes
	}
	gauge(channels, float64(live), "live")
	gauge(channels, float64(waits), "waiting")
	gauge(cacheBytes, float64(cached))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// registry is what /metrics shows: ours, Go's and the process's.
func registry(o Options, wrong *wrongTokens) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(&metrics{o.Server, o.Version, wrong}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// metricsHandler answers a scrape.
func (a *Listener) metricsHandler() http.HandlerFunc {
	o := a.options
	return promhttp.HandlerFor(registry(o, a.wrong), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(o.Log.Handler(), slog.LevelError),
		MaxRequestsInFlight: 4,
	}).ServeHTTP
}
