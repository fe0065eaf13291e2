package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

const adminToken = "T0ken-of-the-operator"

// operator asks the operator's listener, with the token and without. That has 5 s for a
// request's header: on a machine that has not that much for either side it asks again.
func (s *server) operator(method, path string, header ...string) (status int, body string) {
	s.t.Helper()
	asked := time.Now()
	status, body, err := s.tryOperator(method, path, header...)
	if method == http.MethodGet && errors.Is(err, io.EOF) && time.Since(asked) >= 5*time.Second {
		status, body, err = s.tryOperator(method, path, header...)
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, body
}

func (s *server) tryOperator(method, path string, header ...string) (status int, body string, err error) {
	r, err := http.NewRequest(method, "http://"+s.admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

var withToken = []string{"Authorization", "Bearer " + adminToken}

// metric is the value of a series in a scrape, -1 if it is not there.
func (s *server) metric(series string) float64 {
	s.t.Helper()
	_, scrape := s.operator("GET", "/metrics", withToken...)
	for line := range strings.Lines(scrape) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				s.t.Fatalf("%q: %v", line, err)
			}
			return v
		}
	}
	return -1
}

func (s *server) wantMetric(series string, want float64) {
	s.t.Helper()
	if got := s.metric(series); got != want {
		s.t.Errorf("%s: wanted %v, got %v", series, want, got)
	}
}

func TestAdminSettingsThatStopTheStart(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	taken := ln.Addr().String()
	port := freePort(t)
	for _, c := range []struct {
		code  int
		words string
		env   []string
	}{
		{2, "ADMIN_TOKEN", []string{"ADMIN_ADDRESS=0.0.0.0:9090"}},
		{2, "ADMIN_TOKEN", []string{"ADMIN_ADDRESS=:9090"}},
		{2, "ADMIN_TOKEN is too short: 16 characters", []string{"ADMIN_ADDRESS=127.0.0.1:9090", "ADMIN_TOKEN=S3cr3t"}},
		{2, "ADMIN_TOKEN is too short", []string{"ADMIN_TOKEN=S3cr3t"}},
		{2, "ADMIN_TOKEN is not allowed", []string{"ADMIN_TOKEN=S3cr3t of the operator"}},
		{2, "ADMIN_TOKEN", []string{"ADMIN_ADDRESS=127.0.0.1:9090 ADMIN_TOKEN=S3cr3t"}},
		{2, "ADMIN_ADDRESS=\"nonsense\" is not allowed", []string{"ADMIN_ADDRESS=nonsense", "ADMIN_TOKEN=" + adminToken}},
		{2, "has the port of HTTP_PORT", []string{"ADMIN_ADDRESS=127.0.0.2:" + port, "HTTP_PORT=" + port}},
		{1, "ADMIN_ADDRESS: listen tcp " + taken, []string{"ADMIN_ADDRESS=" + taken}},
	} {
		e := runServer(t, c.env...)
		if e.code != c.code || len(lines(e.out)) != 1 || !strings.Contains(e.out, c.words) || strings.Contains(e.out, "S3cr3t") || strings.Contains(e.out, adminToken) {
			t.Errorf("%q: wanted exit code %d and one line with %q, got %d:\n%s", c.env, c.code, c.words, e.code, tail(e.out))
		}
	}
}

// What clients do is in the metrics, and who has left, with the reason.
func TestMetricsOfRealSessions(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin)
	s.wantMetric("wsstream_ready", 1)
	s.wantMetric(`wsstream_sessions_ended_total{reason="wrong_key"}`, 0)
	pub := s.publish("cam", "key")
	rs := []*wstest.Conn{s.receive("cam", "key"), s.receive("cam", "key")}
	s.receive("nobody", "key").Sync()
	sendAll(pub, packets(10)...)
	for _, r := range rs {
		r.WantPackets(packets(10)...)
	}
	const perPacket = 2 + len("packet-00000") // with the header of its frame
	s.wantMetric(`wsstream_sessions{door="websocket",kind="publish"}`, 1)
	s.wantMetric(`wsstream_sessions{door="websocket",kind="receive"}`, 3)
	s.wantMetric("wsstream_receivers_waiting", 1)
	s.wantMetric(`wsstream_channels{state="live"}`, 1)
	s.wantMetric(`wsstream_channels{state="waiting"}`, 1)
	s.wantMetric("wsstream_received_packets_total", 10)
	s.wantMetric("wsstream_received_bytes_total", float64(10*perPacket))
	s.wantMetric("wsstream_sent_packets_total", 20)
	s.wantMetric("wsstream_sent_bytes_total", float64(20*perPacket))
	s.wantMetric("wsstream_receiver_lag_snapshot_seconds_count", 2)
	if cache, used := s.metric("wsstream_cache_bytes"), s.metric("wsstream_memory_used_bytes"); cache < 120 || used < cache {
		t.Errorf("wanted a cache, got %v bytes of %v in use", cache, used)
	}
	s.receive("cam", "other").WantError(wrongKey, 1008)
	pub.CloseHandshake(1000)
	for _, r := range rs {
		r.WantClose(1000)
		r.WantEOF()
	}
	eventually(t, "every end counts, by its reason", func() bool {
		return s.metric(`wsstream_sessions_ended_total{reason="client_closed"}`) == 1 && s.metric(`wsstream_sessions_ended_total{reason="stream_ended"}`) == 2 &&
			s.metric(`wsstream_sessions_ended_total{reason="wrong_key"}`) == 1
	})
	s.wantMetric("wsstream_sent_packets_total", 20)
	s.wantMetric(`wsstream_channels{state="live"}`, 0)
}

// A receiver that stops reading is named, with how many seconds it is behind.
func TestWhoIsSlowAndByHowMuch(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin)
	pub := s.publish("cam", "key")
	slowOne := s.receive("cam", "key", wstest.ReceiveBuffer(2048))
	slowOne.StopReading()
	fast := s.receive("cam", "key")
	for i := range 60 {
		pub.Send(wstest.Binary, payload(100_000, uint64(i)))
		fast.WantPacket(payload(100_000, uint64(i)))
	}
	var seen struct {
		LagSeconds struct{ Buckets []struct{ LE, Count float64 } } `json:"lag_seconds"`
		Slowest    []struct {
			Channel, Address string
			LagSeconds       float64 `json:"lag_seconds"`
			LagBytes         int     `json:"lag_bytes"`
		}
	}
	eventually(t, "the slow receiver is a quarter of a second behind", func() bool {
		_, body := s.operator("GET", "/api/v1/server")
		if err := json.Unmarshal([]byte(body), &seen); err != nil {
			t.Fatal(err)
		}
		return len(seen.Slowest) > 0 && seen.Slowest[0].LagSeconds > 0.25
	})
	if w := seen.Slowest[0]; w.Channel != "cam" || w.Address != slowOne.LocalAddr().String() || w.LagBytes < 1_000_000 {
		t.Errorf("wanted the receiver that does not read, got %+v", w)
	}
	if b := seen.LagSeconds.Buckets[1]; b.LE != 0.25 || b.Count > 1 {
		t.Errorf("wanted one receiver at most with so little lag, got %+v", seen.LagSeconds.Buckets)
	}
	if worst := s.metric("wsstream_receiver_lag_worst_seconds"); worst <= 0.25 {
		t.Errorf("wanted the worst lag in the metrics, got %v", worst)
	}
}

// Somebody ended by the operator is told so: 4002.
func TestTheOperatorEndsASession(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "ADMIN_TOKEN="+adminToken)
	pub := s.publish("cam", "key")
	goes, stays := s.receive("cam", "key"), s.receive("cam", "key")
	pub.Sync()
	_, body := s.operator("GET", "/api/v1/sessions?channel=cam")
	m := regexp.MustCompile(`"id":(\d+),[^{}]*"address":"` + goes.LocalAddr().String() + `"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("the session of %v is not in %s", goes.LocalAddr(), body)
	}
	for _, header := range [][]string{nil, {"Authorization", "Bearer " + adminToken + "x"}} {
		if status, body := s.operator("DELETE", "/api/v1/sessions/"+m[1], header...); status != 401 {
			t.Errorf("%q: wanted 401, got %d %s", header, status, body)
		}
	}
	for _, foreign := range [][]string{{"Host", "evil.example:9090"}, {"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		if status, body := s.operator("DELETE", "/api/v1/sessions/"+m[1], append(foreign, withToken...)...); status != 403 {
			t.Errorf("%q: wanted 403, got %d %s", foreign, status, body)
		}
	}
	goes.Sync()
	if status, body := s.operator("DELETE", "/api/v1/sessions/"+m[1], withToken...); status != 204 {
		t.Errorf("wanted 204, got %d %s", status, body)
	}
	goes.WantError("Ended by the operator", 4002)
	if status, body := s.operator("DELETE", "/api/v1/channels/cam", withToken...); status != 204 {
		t.Errorf("wanted 204, got %d %s", status, body)
	}
	pub.WantError("Ended by the operator", 4002)
	stays.WantClose(1000)
	s.publish("cam", "other").Sync() // nobody is locked out
	s.wantLog("the operator ends a session", "the operator ends a channel", "channel=cam")
}

// The operator's listener knows of a shutdown from its first moment to the last session.
func TestReadyzDuringAShutdown(t *testing.T) {
	t.Parallel()
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "SHUTDOWN_SECONDS=300") // as long as the receiver is there
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	r.Sync()
	if status, body := s.operator("GET", "/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("wanted 200, got %d %q", status, body)
	}
	s.signal(syscall.SIGTERM)
	s.wantNoNewcomers()
	if status, body := s.operator("GET", "/readyz"); status != 503 || body != "not ready: the server is shutting down\n" {
		t.Errorf("wanted 503, got %d %q", status, body)
	}
	if status, body := s.operator("GET", "/healthz"); status != 200 {
		t.Errorf("wanted 200, got %d %q", status, body)
	}
	s.wantMetric("wsstream_ready", 0)
	r.Close()
	pub.WantClose(1001)
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
	if status, _, err := s.tryOperator("GET", "/readyz"); err == nil {
		t.Errorf("the server has ended, and answers with %d", status)
	}
}

func TestReadyzWithoutTheCoordinator(t *testing.T) {
	t.Parallel()
	c := authtest.New(t)
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "CONTROL_BASE_URL="+c.URL())
	eventually(t, "ready with the coordinator", func() bool {
		status, _ := s.operator("GET", "/readyz")
		return status == 200
	})
	c.Stop()
	eventually(t, "not ready without it", func() bool {
		status, body := s.operator("GET", "/readyz")
		return status == 503 && body == "not ready: there is no link to the coordinator\n"
	})
}

// Neither a key nor a secret nor the token can be read at the operator's listener, nor in
// the log of those who ask there.
func TestKeysAndTokenAreNowhereAtTheOperators(t *testing.T) {
	t.Parallel()
	c := authtest.New(t)
	acceptAll(c)
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "ADMIN_TOKEN="+adminToken, "LOG_DEBUG=YES", "CONTROL_BASE_URL="+c.URL(), "CONTROL_SECRET="+hiddenSecret)
	wantLinkUp(s, 1)
	pub := s.publish("cam", sealedKey)
	r := s.receive("cam", sealedKey)
	pub.Send(wstest.Binary, []byte("packet"))
	r.WantPacket([]byte("packet"))
	s.receive("nobody", sealedKey).Sync()
	var said strings.Builder
	ask := func(method, path string, header ...string) {
		t.Helper()
		_, body := s.operator(method, path, header...)
		if z, err := gzip.NewReader(strings.NewReader(body)); err == nil { // a profile
			b, err := io.ReadAll(z)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			body = string(b)
		}
		if len(body) == 0 && method == "GET" && !strings.Contains(path, "trace") {
			t.Errorf("%s is empty", path)
		}
		fmt.Fprintln(&said, method, path, body)
	}
	for _, path := range []string{
		"/metrics", "/readyz", "/api/v1/server", "/api/v1/channels", "/api/v1/channels/cam", "/api/v1/sessions", "/debug/pprof/", "/debug/pprof/cmdline",
		"/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/goroutine", "/debug/pprof/heap", "/debug/pprof/heap?debug=1",
		"/debug/pprof/allocs", "/debug/pprof/block?debug=1", "/debug/pprof/mutex?debug=1", "/debug/pprof/threadcreate?debug=1", "/debug/pprof/trace?seconds=0.1",
		"/debug/pprof/symbol",
	} {
		ask("GET", path, withToken...)
	}
	// Whoever gets something wrong is not told it again.
	secret := "secret-" + sealedKey
	ask("GET", "/"+secret)
	ask("GET", "/api/v1/channels/"+secret)
	ask("DELETE", "/api/v1/sessions/"+secret, withToken...)
	ask("DELETE", "/api/v1/channels/"+secret, withToken...)
	ask("DELETE", "/api/v1/channels/cam", "Authorization", "Bearer "+adminToken+secret)
	ask("GET", "/metrics?key="+secret, "Host", secret+".example")
	ask("GET", "/metrics", "Origin", "http://"+secret)
	ask("POST", "/metrics?"+secret)
	text := strings.ReplaceAll(said.String(), "/"+secret, "")
	text = strings.ReplaceAll(text, "="+secret, "")
	text = strings.ReplaceAll(text, "?"+secret, "") // what was asked for
	for name, text := range map[string]string{"an answer": text, "the log": s.finalLog()} {
		for _, word := range []string{sealedKey, adminToken, hiddenSecret} {
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%q stands in %s: %.300s", word, name, text[max(0, i-100):])
			}
		}
	}
	if !bytes.Contains([]byte(text), []byte(`"channel":"cam"`)) {
		t.Error("the answers say nothing of the sessions")
	}
}

// Without ADMIN_ADDRESS nothing of it is served, nor with it on the public listener.
func TestThePublicListenerHasNothingOfTheOperators(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"ADMIN_ADDRESS=" + anyAdmin, "ADMIN_TOKEN=" + adminToken}} {
		s := startServer(t, env...)
		for _, path := range []string{"/metrics", "/readyz", "/api/v1/server", "/api/v1/sessions", "/debug/pprof/", "/debug/pprof/heap"} {
			if status, body, _ := s.get(path); status != 404 {
				t.Errorf("%s: wanted 404, got %d %.100s", path, status, body)
			}
		}
	}
}
