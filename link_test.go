package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

func TestTheHeadersOfTheLink(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	h := c.Headers()
	for _, name := range []string{"X-Control-Auth-Token", "X-External-Ip", "X-Use-Ssl", "X-External-Ssl", "X-Custom-Ssl"} {
		if h.Get(name) != "" {
			t.Errorf("wanted no %s when it is not configured, got %q", name, h.Get(name))
		}
	}
	_, port, _ := net.SplitHostPort(s.addr)
	if h.Get("X-Custom-Port") != port {
		t.Errorf("wanted x-custom-port %s, got %q", port, h.Get("X-Custom-Port"))
	}
	if h.Get("X-Use-Ssl") != "" || h.Get("X-Ssl-Use") != "" {
		t.Errorf("wanted no x-ssl-use, got %v", h)
	}

	const secret = "ein Geheimnis"
	c, _ = startCoordinated(t, "CONTROL_SECRET="+secret, "EXTERNAL_IP=203.0.113.9", "EXTERNAL_PORT=8443", "EXTERNAL_SSL=YES")
	h = c.Headers()
	for name, want := range map[string]string{"X-External-Ip": "203.0.113.9", "X-Custom-Port": "8443", "X-Ssl-Use": "true"} {
		if h.Get(name) != want {
			t.Errorf("wanted %s %q, got %q", name, want, h.Get(name))
		}
	}
	wantToken(t, h.Get("X-Control-Auth-Token"), secret)

	// Without EXTERNAL_PORT, but with TLS outside, it is the TLS port.
	c, _ = startCoordinated(t, "EXTERNAL_SSL=YES", "SSL_PORT=8444")
	if got := c.Headers().Get("X-Custom-Port"); got != "8444" {
		t.Errorf("wanted x-custom-port 8444, got %q", got)
	}
	// A name is sent as it is, with a warning.
	c, s = startCoordinated(t, "EXTERNAL_IP=stream.example")
	if got := c.Headers().Get("X-External-Ip"); got != "stream.example" {
		t.Errorf("wanted x-external-ip stream.example, got %q", got)
	}
	s.wantLog("EXTERNAL_IP")
}

// wantToken checks a JWT by hand: RFC 7519 with HS256.
func wantToken(t *testing.T, token, secret string) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("wanted a JWT, got %q", token)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if got := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)); got != parts[2] {
		t.Errorf("wanted the signature %s, got %s", got, parts[2])
	}
	var header, claims map[string]any
	for i, v := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatalf("wanted JSON in part %d of %q: %v", i, token, err)
		}
	}
	if header["alg"] != "HS256" || claims["sub"] != "wss-control" {
		t.Errorf("wanted HS256 and sub wss-control, got %v %v", header, claims)
	}
	delete(header, "typ") // JWT, if it is there
	if len(header) != 1 || len(claims) != 1 {
		t.Errorf("wanted nothing else in the token, got %v %v", header, claims)
	}
}

func TestAPathInTheBaseURLIsReplaced(t *testing.T) {
	t.Parallel()
	c := authtest.New(t)
	s := startServer(t, "CONTROL_BASE_URL="+c.URL()+"/some/path/")
	c.WantLink() // the fake answers on the right path only
	s.wantLog("CONTROL_BASE_URL")
	c.DropLink()
	c.WantLink()
	if n := strings.Count(s.logs(), "/some/path"); n > 1 {
		t.Errorf("wanted the replaced path mentioned once, got %d times:\n%s", n, s.logs())
	}
}

func TestLostLink(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "GOP_CACHE_SIZE_MB=8")
	acceptAll(c)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	pub.Send(wstest.Binary, []byte("before"))
	r.WantPacket([]byte("before"))
	c.WantMessage("PUBLISH-REQUEST")

	c.Stop()
	// While it is down: new publishers get 503, running streams and receivers go on.
	eventually(t, "503 while the link is down", func() bool {
		resp := wstest.Handshake(t, s.addr, "/new/key/publish")
		return resp.Status == 503
	})
	if resp := s.refuses(503, "/new/key/publish"); resp.Header.Get("Retry-After") == "" {
		t.Errorf("wanted Retry-After with the 503, got %v", resp.Header)
	}
	pub.Send(wstest.Binary, []byte("meanwhile"))
	r.WantPacket([]byte("meanwhile"))
	late := s.receive("cam", "key")
	late.WantPackets([]byte("before"), []byte("meanwhile"))
	waiting := s.receive("new", "key")
	s.refuses(403, "/cam/key/publish")

	// When it is back, every earlier publisher is over.
	c.Restart()
	c.WantLink()
	for _, x := range []*wstest.Conn{r, late} {
		x.WantClose(1000)
		x.WantEOF()
	}
	pub.WantError("The coordinator was lost, publish again", 1013)
	pub.WantEOF()
	waiting.WantNothing(50 * time.Millisecond)
	again := s.dialSoon("/cam/key/publish")
	again.Send(wstest.Binary, []byte("again"))
	s.receive("cam", "key").WantPacket([]byte("again"))
}

func TestRequestOverALinkThatDies(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	a := ask(s, "/cam/key/publish")
	id := c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")
	start := time.Now()
	c.DropLink()
	a.want(t, 503)
	if d := a.at.Sub(start); d > 15*time.Second { // an answer is waited for 20 s
		t.Errorf("wanted 503 at once when the link is dead, got it after %v", d)
	}
	// An answer over the next link is to nobody.
	c.WantLink()
	wantLinkUp(s, 2)
	c.Accept(id, "cam", "late")
	b := ask(s, "/cam/key/publish")
	c.Accept(c.WantMessage("PUBLISH-REQUEST").Get("Request-ID"), "cam", "next")
	b.want(t, 101).Sync()
}

func TestServerStartsWithoutItsCoordinator(t *testing.T) {
	t.Parallel()
	c := authtest.New(t)
	c.Stop()
	s := startServer(t, "CONTROL_BASE_URL="+c.URL())
	s.refuses(503, "/cam/key/publish")
	s.receive("cam", "key").Sync() // who wants to wait may
	c.Restart()
	acceptAll(c)
	c.WantLink()
	s.dialSoon("/cam/key/publish").Sync()
}

func TestCoordinatorThatDoesNotAnswerIn20Seconds(t *testing.T) {
	t.Parallel()
	slow(t)
	c, s := startCoordinated(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=40")
	start := time.Now()
	var waiting []*asked
	for i := range 10 {
		waiting = append(waiting, ask(s, fmt.Sprintf("/cam%d/key/publish", i)))
	}
	var ids []authtest.Message
	came := map[string]time.Time{} // when the request for a channel was here
	for range waiting {
		m := c.WantMessage("PUBLISH-REQUEST")
		ids = append(ids, m)
		came[m.Get("Stream-Channel")] = time.Now()
	}
	// Nobody else waits with them.
	quick := ask(s, "/quick/key/publish")
	c.Accept(c.WantMessage("PUBLISH-REQUEST").Get("Request-ID"), "quick", "q")
	quick.want(t, 101).Sync()
	s.receive("quick", "key").Sync()
	for i, a := range waiting {
		if len(a.answer) > 0 {
			t.Errorf("others were held up until request %d had its answer", i)
		}
	}
	for i, a := range waiting {
		resp := <-a.answer
		if a.err != nil || resp.Status != 503 || resp.Header.Get("Retry-After") == "" {
			t.Fatalf("request %d: wanted 503 with Retry-After, got %v, %v", i, resp, a.err)
		}
		least, most := a.at.Sub(came[fmt.Sprint("cam", i)]), a.at.Sub(start) // the server began to wait in between
		if most < 18*time.Second || least > 30*time.Second {
			t.Errorf("request %d: wanted 503 after 20 s, got it after %v to %v", i, least, most)
		}
	}
	// The answers come now.
	for i, m := range ids {
		c.Accept(m.Get("Request-ID"), m.Get("Stream-Channel"), fmt.Sprintf("late-%d", i))
		end := c.WantMessage("PUBLISH-END")
		if end.Get("Stream-ID") != fmt.Sprintf("late-%d", i) || end.Get("Stream-Channel") != m.Get("Stream-Channel") {
			t.Errorf("wanted PUBLISH-END of late-%d, got %v", i, end)
		}
	}
	wantSlotsFree(t, s, 39) // `quick` may hold one still
}

// wantSlotsFree fails unless n more receivers can connect.
func wantSlotsFree(t *testing.T, s *server, n int) {
	t.Helper()
	for range n - 2 {
		s.dialSoon("/free/key/receive")
	}
}

func TestHeartbeatsOfTheLink(t *testing.T) {
	t.Parallel()
	slow(t)
	c, _ := startCoordinated(t)
	start := time.Now()
	for count(c, "HEARTBEAT") < 2 && time.Since(start) < 70*time.Second {
		time.Sleep(200 * time.Millisecond)
	}
	if n := count(c, "HEARTBEAT"); n < 2 || c.Links() != 1 {
		t.Errorf("wanted 2 heartbeats within 70 s over one link, got %d over %d", n, c.Links())
	}
}

func TestReconnectionsComeSlower(t *testing.T) {
	t.Parallel()
	slow(t)
	var mu sync.Mutex
	var times []time.Time
	url, _ := rawCoordinator(t, func(nc net.Conn) {
		mu.Lock()
		times = append(times, time.Now())
		mu.Unlock()
		_ = nc.Close()
	})
	startServer(t, "CONTROL_BASE_URL="+url)
	time.Sleep(40 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	// 1, 2, 4, 8, 10, 10: about 6 or 7 in 40 s; jitter may move each.
	if len(times) < 4 || len(times) > 12 {
		t.Errorf("wanted 4 to 12 dials in 40 s, got %d", len(times))
	}
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d > 16*time.Second || d < 300*time.Millisecond {
			t.Errorf("dial %d came %v after the one before it", i, d)
		}
	}
}

func TestSilentCoordinatorIsDeadAfterAMinute(t *testing.T) {
	t.Parallel()
	slow(t)
	var linked atomic.Int64
	url, dials := rawCoordinator(t, func(nc net.Conn) {
		if acceptUpgrade(nc) == nil {
			linked.Add(1)
		}
		_, _ = io.Copy(io.Discard, nc) // reads, says nothing, not even pongs
	})
	s := startServer(t, "CONTROL_BASE_URL="+url)
	start := time.Now()
	for dials() < 2 && time.Since(start) < 80*time.Second {
		time.Sleep(200 * time.Millisecond)
	}
	if d := time.Since(start); dials() < 2 || d < silence-5*time.Second {
		t.Errorf("wanted a silent link given up after 60 s, got %d dials after %v", dials(), d)
	}
	s.receive("cam", "key").Sync()
}
