package auth

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // the handshake of RFC 6455 names it
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"ws-stream-server/auth/authtest"
)

func TestHandshakeHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		config     Config
		clientPort int
		want       map[string]string
	}{
		"nothing":                  {Config{}, 80, map[string]string{}},
		"our port":                 {Config{}, 8080, map[string]string{"X-Custom-Port": "8080"}},
		"our TLS port":             {Config{ExternalSSL: true}, 443, map[string]string{"X-Custom-Port": "443", "X-Ssl-Use": "true"}},
		"external port wins":       {Config{ExternalPort: 9000}, 8080, map[string]string{"X-Custom-Port": "9000"}},
		"external port 80 is told": {Config{ExternalPort: 80}, 8080, map[string]string{"X-Custom-Port": "80"}},
		"external address":         {Config{ExternalIP: "2001:db8::1"}, 80, map[string]string{"X-External-Ip": "2001:db8::1"}},
		"external name, as it is":  {Config{ExternalIP: "Stream.example"}, 80, map[string]string{"X-External-Ip": "Stream.example"}},
		"secret":                   {Config{ControlSecret: testSecret}, 80, map[string]string{"X-Control-Auth-Token": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			fake := authtest.New(t)
			log, book := newLogger(t)
			c.config.ControlBaseURL = fake.URL()
			co, err := NewCoordinator(c.config, c.clientPort, log)
			if err != nil {
				t.Fatal(err)
			}
			co.Start()
			defer co.shut(t)
			fake.WantLink()
			got := make(map[string]string)
			for name := range fake.Headers() {
				if strings.HasPrefix(name, "X-") {
					got[name] = fake.Headers().Get(name)
				}
			}
			if token, ok := got["X-Control-Auth-Token"]; ok {
				wantToken(t, token)
				got["X-Control-Auth-Token"] = ""
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("headers %v, want %v", got, c.want)
			}
			if fake.Headers().Get("Sec-WebSocket-Extensions") != "" {
				t.Error("an extension was offered")
			}
			if isName := strings.Contains(c.config.ExternalIP, "example"); (book.count("EXTERNAL_IP is a name") == 1) != isName {
				t.Error("want one warning about a name, and only about a name")
			}
		})
	}
}

// wantToken checks the signature, and that sub is the only claim.
func wantToken(t *testing.T, token string) {
	t.Helper()
	parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return []byte(testSecret), nil },
		jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		t.Fatal(err)
	}
	if claims, err := json.Marshal(parsed.Claims); err != nil || string(claims) != `{"sub":"wss-control"}` {
		t.Errorf("claims %s, %v", claims, err)
	}
}

func TestPathIsReplaced(t *testing.T) {
	for path, logged := range map[string]int{"": 0, "/": 0, "/old%2Fpath/": 1, "//": 1} {
		fake := authtest.New(t)
		c, book := start(t, fake.URL()+path, quick())
		fake.WantLink() // it takes the right path only
		book.want(t, logUp, 1)
		if n := book.count("the path of CONTROL_BASE_URL is replaced"); n != logged {
			t.Errorf("%q: said %d times, want %d", path, n, logged)
		}
		c.shut(t)
	}
}

func TestNoCoordinatorWithoutAURL(t *testing.T) {
	if _, err := NewCoordinator(Config{}, 80, nil); err == nil {
		t.Error("want an error")
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{min: time.Second, max: 10 * time.Second}
	const s = time.Second
	want := []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s, 10 * s}
	for range 2 {
		for i, w := range want {
			if got := b.delay(0.5); got != w {
				t.Errorf("delay %d is %v, want %v", i, got, w)
			}
		}
		b.reset()
	}
	for random, want := range map[float64]time.Duration{0: 750 * time.Millisecond, 1: 1250 * time.Millisecond} {
		b.reset()
		if got := b.delay(random); got != want {
			t.Errorf("with jitter %v it is %v, want %v", random, got, want)
		}
	}
	if defaultLimits.retryMin != time.Second || defaultLimits.retryMax != 10*time.Second {
		t.Error("want 1 s to 10 s")
	}
}

// rawServer is a coordinator that misbehaves: f gets each connection.
type rawServer struct {
	url      string
	accepted chan time.Time
	stop     chan struct{} // closed when the test ends
}

func newRawServer(t *testing.T, f func(s *rawServer, conn net.Conn)) *rawServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{"ws://" + listener.Addr().String(), make(chan time.Time, 1000), make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted <- time.Now()
			all.Go(func() {
				f(s, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(s.stop)
		all.Wait()
	})
	return s
}

// hang accepts and says nothing.
func hang(t *testing.T) *rawServer {
	return newRawServer(t, func(s *rawServer, _ net.Conn) { <-s.stop })
}

// neverRead does the handshake and then reads nothing.
func neverRead(t *testing.T) *rawServer {
	return newRawServer(t, func(s *rawServer, conn net.Conn) {
		if shake(conn, "") == nil {
			<-s.stop
		}
	})
}

// shake answers the handshake, with more behind it.
func shake(conn net.Conn, more string) error {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n"+more)
	return err
}

// fill queues more than the sockets hold.
func (s *rawServer) fill(c *Coordinator) {
	ctx, leave := context.WithCancel(context.Background())
	leave()
	big := Request{Channel: "cam", Key: strings.Repeat("k", 1<<20)}
	for range 32 {
		if req, err := c.ask(big); err == nil {
			c.abandon(req, ctx.Err())
		}
	}
}

func TestHangingHandshakeHoldsUpNobody(t *testing.T) {
	lim := quick()
	lim.dial = 50 * time.Millisecond
	server := hang(t)
	c, book := start(t, server.url, lim)
	wait(t, "the dial", server.accepted)
	if _, err := c.Authorize(context.Background(), from("cam")); !errors.Is(err, errNoLink) {
		t.Errorf("Authorize: %v", err)
	}
	wait(t, "the dial after the time-out", server.accepted)
	book.want(t, logCannot, 2)
}

func TestBadHandshakes(t *testing.T) {
	for name, reply := range map[string]string{
		"garbage":   "\x00\x01\x02\x03\r\n\r\n",
		"forbidden": "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		"not 101":   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"wrong key": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
		"endless":   "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<16),
		"nothing":   "",
	} {
		t.Run(name, func(t *testing.T) {
			lim := quick()
			lim.dial = 500 * time.Millisecond
			server := newRawServer(t, func(_ *rawServer, conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, reply)
				}
			})
			c, book := start(t, server.url, lim)
			book.want(t, logCannot, 2)
			if c.Connected() || book.count(logUp) != 0 {
				t.Error("connected")
			}
			if text, _ := book.read(); strings.ContainsRune(text, 0) {
				t.Errorf("raw control characters in the log: %q", text)
			}
		})
	}
}

// The token must not go where a redirect points.
func TestRedirectsAreNotFollowed(t *testing.T) {
	fake := authtest.New(t)
	server := httptest.NewServer(http.RedirectHandler(strings.Replace(fake.URL(), "ws", "http", 1)+controlPath, http.StatusTemporaryRedirect))
	defer server.Close()
	_, book := start(t, strings.Replace(server.URL, "http", "ws", 1), quick())
	book.want(t, logCannot, 2)
	if fake.Links() != 0 {
		t.Error("followed the redirect")
	}
}

// A coordinator that drops at once is dialled ever more slowly.
func TestDropsAtOnce(t *testing.T) {
	lim := quick()
	lim.retryMin, lim.retryMax = 20*time.Millisecond, 80*time.Millisecond
	server := newRawServer(t, func(_ *rawServer, conn net.Conn) { _ = shake(conn, "") })
	_, book := start(t, server.url, lim)
	at := wait(t, "the first dial", server.accepted)
	for i, delay := range []time.Duration{lim.retryMin, 2 * lim.retryMin, lim.retryMax, lim.retryMax} {
		next := wait(t, "a dial", server.accepted)
		// The clock of the delay starts when the drop is noticed, after this one.
		if got, least := next.Sub(at), delay*3/4; got < least {
			t.Errorf("dial %d came after %v, want %v at least", i+2, got, least)
		}
		at = next
	}
	book.want(t, logUp, 4)
}

// Only a link that held for a while makes the next delay short again.
func TestStableLinkResetsTheDelay(t *testing.T) {
	lim := quick()
	lim.retryMin, lim.retryMax = 2*time.Millisecond, time.Hour
	lim.stable = 0
	server := newRawServer(t, func(_ *rawServer, conn net.Conn) { _ = shake(conn, "") })
	start(t, server.url, lim)
	for range 18 { // without a reset the last delay is above 98 s: longer than it is waited for
		wait(t, "a dial", server.accepted)
	}
}

func TestGarbageAfterTheHandshake(t *testing.T) {
	server := newRawServer(t, func(s *rawServer, conn net.Conn) {
		if shake(conn, "\xff\xff\xff\xff garbage") == nil {
			<-s.stop
		}
	})
	_, book := start(t, server.url, quick())
	book.want(t, logLost, 2)
}

// A coordinator that does not read is dead after limits.write; meanwhile nobody waits for it.
func TestCoordinatorThatNeverReads(t *testing.T) {
	lim := quick()
	lim.write = 100 * time.Millisecond
	server := neverRead(t)
	c, book := start(t, server.url, lim)
	book.want(t, logUp, 1)
	g := &Grant{channel: "cam", streamID: "s", coord: c, link: c.currentLink()}
	result := make(chan error, 1)
	go func() {
		_, err := c.Authorize(context.Background(), from("cam"))
		result <- err
	}()
	server.fill(c)
	g.End()
	if err := wait(t, "the answer", result); !errors.Is(err, ErrUnavailable) || errors.Is(err, errNoAnswer) {
		t.Errorf("Authorize: %v", err)
	}
	book.want(t, logLost, 1)
	book.want(t, errNotTaken.Error(), 1)
	book.want(t, logUp, 2)
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			_, _, _ = conn.Read(context.Background())
			_ = conn.CloseNow()
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	url := strings.Replace(server.URL, "https", "wss", 1)

	strange, book := start(t, url, quick())
	book.want(t, logCannot, 2)
	book.want(t, "certificate", 1)
	if strange.Connected() {
		t.Error("connected to a server with an unknown certificate")
	}

	logger, book := newLogger(t)
	c, err := NewCoordinator(Config{ControlBaseURL: url}, 80, logger)
	if err != nil {
		t.Fatal(err)
	}
	c.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	c.Start()
	defer c.shut(t)
	book.want(t, logUp, 1)
}
