package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ws-stream-server/auth"
	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// known is a server whose numbers a test decides.
type known struct {
	ready    error
	census   engine.Census
	limit    int64
	ends     map[string]int64
	overview engine.Overview
	sessions []engine.SessionInfo
	channels []engine.ChannelInfo
}

func (k *known) Ready() error                   { return k.ready }
func (k *known) Census() engine.Census          { return k.census }
func (k *known) MemoryLimit() int64             { return k.limit }
func (k *known) Ends() map[string]int64         { return k.ends }
func (k *known) Overview() engine.Overview      { return k.overview }
func (k *known) Sessions() []engine.SessionInfo { return slices.Clone(k.sessions) }
func (k *known) Channels() []engine.ChannelInfo { return k.channels }
func (k *known) EndSession(id uint64) bool      { return id == 7 }
func (k *known) EndChannel(name string) bool    { return name == "cam" }

// slowServer knows of three receivers, with lags of 0.2 s, 3 s and 2 minutes.
func slowServer() *known {
	o := engine.Overview{Publishers: 1, Receivers: 3, Waiting: 2, LagSeconds: 123.2}
	o.Totals = engine.Totals{ReceivedBytes: 1000, ReceivedPackets: 10, SentBytes: 2000, SentPackets: 20, Skips: 30}
	o.Lag = []engine.LagBucket{{LE: 0.1}, {LE: 0.25, Count: 1}, {LE: 5, Count: 2}, {LE: 60, Count: 2}, {LE: math.Inf(1), Count: 3}}
	o.Slowest = []engine.SessionInfo{{ID: 4, Channel: "cam", LagSeconds: 120}, {ID: 3, LagSeconds: 3}, {ID: 2, LagSeconds: 0.2}}
	o.Sessions = []engine.KindCount{{Kind: "publish", Door: "http", Count: 1}, {Kind: "receive", Door: "websocket", Count: 2}, {Kind: "probe", Door: "http"}}
	return &known{
		census: engine.Census{AtTheDoor: 5, Handshakes: 4, Sessions: 6, Closing: 1, Memory: 300}, limit: 1000,
		ends:     map[string]int64{"slow_receiver": 3, "shutdown": 0},
		overview: o,
		sessions: []engine.SessionInfo{{ID: 1, Channel: "cam"}, {ID: 2, Channel: "cam"}},
		channels: []engine.ChannelInfo{{Name: "cam", Live: true, CacheBytes: 250}, {Name: "dam", Waiting: 2}},
	}
}

// startServer starts a server of the engine, on a port of its own. Tests with one do not
// run in parallel: nbio has global variables.
func startServer(t *testing.T) (srv *engine.Server, addr string) {
	t.Helper()
	cfg := engine.Config{
		BindAddress: "127.0.0.1", IDMaxLength: 128, GOPCacheSizeMB: 1, MaxMessageMB: 1, ReceiverLagMB: 1, SendBufferKB: 256,
		MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10,
	}
	filter, err := netfilter.New(netfilter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		cfg.HTTPPort = wstest.FreePort(t)
		srv, err = engine.New(cfg, engine.Options{Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Filter: filter, Auth: auth.AcceptAll()})
		if err == nil {
			err = srv.Start()
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // clients may still be there
	})
	return srv, "127.0.0.1:" + strconv.Itoa(cfg.HTTPPort)
}

// listener is one that a test asks.
type listener struct {
	*Listener
	t    *testing.T
	addr string
	log  *strings.Builder // of what the listener logs, once it is closed
}

// listen starts a listener at address, which has port 0.
func listen(t *testing.T, address, token string, srv Server) *listener {
	t.Helper()
	var log strings.Builder
	a, err := Listen(Config{Address: address, Token: token}, Options{Version: "1.2.3", Log: slog.New(slog.NewTextHandler(&log, nil)), Server: srv})
	if err != nil {
		t.Fatal(err)
	}
	a.Serve()
	t.Cleanup(a.Close)
	return &listener{a, t, a.net.Addr().String(), &log}
}

// ask sends a request and returns the answer with its body read. A header is given by
// name and value; the Host too.
func (l *listener) ask(method, path string, header ...string) (*http.Response, string) {
	l.t.Helper()
	resp, body, err := l.tryAsk(method, path, header...)
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, body
}

func (l *listener) tryAsk(method, path string, header ...string) (*http.Response, string, error) {
	r, err := http.NewRequest(method, "http://"+l.addr+path, nil)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	client := http.Client{Timeout: wstest.Timeout, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// wants fails unless a request is answered with a status; it returns the answer.
func (l *listener) wants(status int, method, path string, header ...string) (*http.Response, string) {
	l.t.Helper()
	resp, body := l.ask(method, path, header...)
	if resp.StatusCode != status {
		l.t.Errorf("%s %s %q: wanted %d, got %d %s", method, path, header, status, resp.StatusCode, body)
	}
	return resp, body
}

// wantsError wants a refusal in the form of the API; it returns the words.
func (l *listener) wantsError(status int, method, path string, header ...string) string {
	l.t.Helper()
	resp, body := l.wants(status, method, path, header...)
	var e map[string]string
	if err := json.Unmarshal([]byte(body), &e); err != nil || len(e) != 1 || e["error"] == "" || resp.Header.Get("Content-Type") != "application/json" {
		l.t.Errorf(`%s %s: wanted {"error": …}, got %s, %v`, method, path, body, err)
	}
	return e["error"]
}

var errNotReady = errors.New("the server is on holiday")

const bearer = "Bearer " + aToken
