package admin

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/page"
	"ws-stream-server/engine/wstest"
)

func TestEveryRouteAsksForWhatItMust(t *testing.T) {
	t.Parallel()
	local, open := listen(t, "127.0.0.1:0", aToken, slowServer()), listen(t, "0.0.0.0:0", aToken, slowServer())
	bare := listen(t, "127.0.0.1:0", "", slowServer())
	_, port, _ := net.SplitHostPort(open.addr)
	open.addr = net.JoinHostPort("127.0.0.1", port)
	for _, c := range []struct {
		method, path      string
		right             int // with the token
		local, open, bare int // without: on a loopback address, elsewhere, and where there is none
	}{
		{"GET", "/healthz", 200, 200, 200, 200},
		{"GET", "/readyz", 200, 200, 200, 200},
		{"HEAD", "/readyz", 200, 200, 200, 200},
		{"GET", "/", 200, 200, 200, 200},
		{"GET", "/client/main.js", 200, 200, 200, 200},
		{"GET", "/metrics", 200, 200, 401, 200},
		{"GET", "/api/v1/server", 200, 200, 401, 200},
		{"GET", "/api/v1/channels", 200, 200, 401, 200},
		{"GET", "/api/v1/channels/cam", 200, 200, 401, 200},
		{"GET", "/api/v1/channels/nobody", 404, 404, 401, 404},
		{"GET", "/api/v1/sessions", 200, 200, 401, 200},
		{"GET", "/api/v1/openapi.json", 200, 200, 401, 200},
		{"DELETE", "/api/v1/sessions/7", 204, 401, 401, 403},
		{"DELETE", "/api/v1/sessions/8", 404, 401, 401, 403},
		{"DELETE", "/api/v1/sessions/nonsense", 404, 401, 401, 403},
		{"DELETE", "/api/v1/sessions/-7", 404, 401, 401, 403},
		{"DELETE", "/api/v1/channels/cam", 204, 401, 401, 403},
		{"DELETE", "/api/v1/channels/nobody", 404, 401, 401, 403},
		{"GET", "/debug/pprof/", 200, 401, 401, 403},
		{"GET", "/debug/pprof/heap", 200, 401, 401, 403},
		{"GET", "/debug/pprof/goroutine?debug=2", 200, 401, 401, 403},
		{"GET", "/debug/pprof/cmdline", 200, 401, 401, 403},
		{"GET", "/debug/pprof/symbol", 200, 401, 401, 403},
		{"POST", "/debug/pprof/symbol", 200, 401, 401, 403},
		{"GET", "/debug/pprof/nothing", 404, 401, 401, 403},
		{"GET", "/nothing", 404, 404, 404, 404},
		{"GET", "/api/", 404, 404, 404, 404},
		{"GET", "/api/v1/channels/a/b", 404, 404, 404, 404},
		{"GET", "/client/main.js%00", 404, 404, 404, 404},
		{"POST", "/metrics", 405, 405, 405, 405},
		{"PUT", "/", 405, 405, 405, 405},
		{"GET", "/api/v1/sessions/7", 405, 405, 405, 405},
		{"OPTIONS", "/api/v1/server", 405, 405, 405, 405},
		{"DELETE", "/api/v1/server", 405, 405, 405, 405},
		{"POST", "/debug/pprof/heap", 405, 405, 405, 405},
	} {
		local.wants(c.right, c.method, c.path, "Authorization", bearer)
		open.wants(c.right, c.method, c.path, "Authorization", bearer)
		for l, status := range map[*listener]int{local: c.local, open: c.open, bare: c.bare} {
			resp, _ := l.wants(status, c.method, c.path)
			if status >= 400 && c.method != "HEAD" {
				l.wantsError(status, c.method, c.path)
			}
			if got := resp.Header.Get("WWW-Authenticate"); (status == 401) != strings.HasPrefix(got, "Bearer ") {
				t.Errorf("%s %s, %d: WWW-Authenticate is %q", c.method, c.path, status, got)
			}
			if allow := resp.Header.Get("Allow"); (status == 405) != (allow != "") || strings.Contains(allow, c.method) {
				t.Errorf("%s %s, %d: Allow is %q", c.method, c.path, status, allow)
			}
		}
		local.wants(403, c.method, c.path, "Authorization", bearer, "Host", "evil.example")
		local.wants(403, c.method, c.path, "Authorization", bearer, "Origin", "http://evil.example")
		local.wants(403, c.method, c.path, "Authorization", bearer, "Sec-Fetch-Site", "cross-site")
		open.wants(403, c.method, c.path, "Authorization", bearer, "Host", "evil.example")
	}
}

// Whatever is added to the routes needs the token where it must.
func TestNoRouteIsForgotten(t *testing.T) {
	t.Parallel()
	local, others := listen(t, "127.0.0.1:0", aToken, slowServer()), listen(t, "0.0.0.0:0", aToken, slowServer())
	_, port, _ := net.SplitHostPort(others.addr)
	others.addr = net.JoinHostPort("127.0.0.1", port)
	for _, r := range local.routes() {
		path := strings.NewReplacer("{id}", "7", "{channel}", "cam").Replace(r.pattern)
		if r.method != "GET" || strings.HasPrefix(path, "/debug/") {
			local.wants(401, r.method, path)
		}
		if path != "/" && path != "/healthz" && path != "/readyz" {
			others.wants(401, r.method, path)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0", aToken, slowServer())
	for _, path := range []string{"/", "/client/main.js", "/metrics", "/healthz", "/api/v1/server", "/nothing", "/debug/pprof/"} {
		resp, _ := l.ask("GET", path)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
			"Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-",
		} {
			if got := resp.Header.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: wanted %s to have %q, got %q", path, name, want, got)
			}
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: pages of other origins may read it", path)
		}
	}
	resp, body := l.ask("GET", "/")
	want, _, _ := page.OperatorsFile("/")
	if body != string(want) || resp.Header.Get("Content-Security-Policy") != page.ContentSecurityPolicy() {
		t.Errorf("wanted the page with its policy, got %d bytes with %q", len(body), resp.Header.Get("Content-Security-Policy"))
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	srv := slowServer()
	l := listen(t, "127.0.0.1:0", "", srv)
	if _, body := l.wants(200, "GET", "/readyz"); body != "ready\n" {
		t.Errorf("wanted ready, got %q", body)
	}
	srv.ready = errNotReady
	if _, body := l.wants(503, "GET", "/readyz"); body != "not ready: "+errNotReady.Error()+"\n" {
		t.Errorf("wanted why, got %q", body)
	}
	if _, body := l.wants(200, "GET", "/healthz"); body != "ok\n" {
		t.Errorf("wanted ok, got %q", body)
	}
	if _, body := l.wants(200, "GET", "/metrics"); !strings.Contains(body, "\nwsstream_ready 0\n") {
		t.Error("wanted wsstream_ready 0")
	}
}

// A name that is said to be this machine, and is not, opens nothing.
func TestWithoutATokenTheListenerIsOnLoopback(t *testing.T) {
	t.Parallel()
	a, err := Listen(Config{Address: "0.0.0.0:0"}, Options{Log: slog.New(slog.DiscardHandler), Server: slowServer()})
	if err == nil || !strings.Contains(err.Error(), "ADMIN_ADDRESS") {
		a.Close()
		t.Errorf("wanted a refusal, got %v", err)
	}
}

func TestNoAddressNoListener(t *testing.T) {
	t.Parallel()
	a, err := Listen(Config{Token: aToken}, Options{})
	if a != nil || err != nil {
		t.Errorf("wanted no listener, got %v, %v", a, err)
	}
	a.Serve()
	a.Close()
}

func TestLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0", "", slowServer())
	// The connection may end before all of the header is sent, and the answer be lost.
	resp, body, err := l.tryAsk("GET", "/healthz", "X-Large", strings.Repeat("x", 3*maxHeader))
	if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("wanted it refused, got %d %s", resp.StatusCode, body)
	}
}

// Strangers keep no place of an address that others reach.
func TestStrangersKeepNoConnection(t *testing.T) {
	t.Parallel()
	l := listen(t, "0.0.0.0:0", aToken, slowServer())
	_, port, _ := net.SplitHostPort(l.addr)
	for _, c := range []struct {
		header string
		kept   bool
	}{{"", false}, {"Authorization: Bearer wrong\r\n", false}, {"Authorization: " + bearer + "\r\n", true}} {
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = fmt.Fprintf(nc, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", c.header)
		b := make([]byte, 4096)
		_ = nc.SetReadDeadline(time.Now().Add(wstest.Timeout))
		n, _ := nc.Read(b)
		if got := !strings.Contains(string(b[:n]), "Connection: close"); got != c.kept || n == 0 {
			t.Errorf("%q: wanted the connection kept: %v, got\n%s", c.header, c.kept, b[:n])
		}
	}
}

// The end does not wait for a profile.
func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0", aToken, slowServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = l.tryAsk("GET", "/debug/pprof/profile?seconds=3600", "Authorization", bearer)
	}()
	deadline := time.Now().Add(wstest.Timeout)
	for {
		_, stacks := l.ask("GET", "/debug/pprof/goroutine?debug=2", "Authorization", bearer)
		if strings.Contains(stacks, "net/http/pprof.Profile(") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the profile does not begin")
		}
	}
	start := time.Now()
	l.Close()
	if d := time.Since(start); d > wstest.Timeout {
		t.Errorf("the end took %v", d)
	}
	select {
	case <-done:
	case <-time.After(wstest.Timeout):
		t.Error("the profile goes on")
	}
}

// Whoever changes something stands in the log; the token does not.
func TestChangesAreLogged(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0", aToken, slowServer())
	l.wants(204, "DELETE", "/api/v1/sessions/7", "Authorization", bearer)
	l.wants(204, "DELETE", "/api/v1/channels/cam", "Authorization", bearer)
	l.wants(404, "DELETE", "/api/v1/channels/other", "Authorization", bearer)
	l.wants(401, "DELETE", "/api/v1/channels/cam", "Authorization", bearer+"x")
	l.Close()
	log := l.log.String()
	if strings.Count(log, "the operator ends") != 2 || !strings.Contains(log, " id=7 by=127.0.0.1:") || !strings.Contains(log, " channel=cam by=127.0.0.1:") || strings.Contains(log, aToken) {
		t.Errorf("wanted a line for each change, and no token, got\n%s", log)
	}
}
