package auth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

const controlPath = "/ws/control/wss"

// maxMessage is the largest message taken from the coordinator, in bytes. Its
// messages have a few hundred; a larger one costs the link.
const maxMessage = 1 << 20

// handshakeHeader returns what the coordinator is told about us.
func handshakeHeader(c Config, clientPort int) (http.Header, error) {
	h := make(http.Header)
	if c.ControlSecret != "" {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "wss-control"}).
			SignedString([]byte(c.ControlSecret))
		if err != nil {
			return nil, fmt.Errorf("cannot sign the control token: %w", err)
		}
		h.Set("x-control-auth-token", token)
	}
	if c.ExternalIP != "" {
		h.Set("x-external-ip", c.ExternalIP)
	}
	port := c.ExternalPort
	if port == 0 && clientPort != 80 { // the coordinator assumes 80
		port = clientPort
	}
	if port != 0 {
		h.Set("x-custom-port", strconv.Itoa(port))
	}
	if c.ExternalSSL {
		h.Set("x-ssl-use", "true")
	}
	return h, nil
}

// newDialClient returns the client for handshakes: HTTP/1.1 only, no redirects,
// certificates checked against the system's roots.
func newDialClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			Protocols:         protocols,
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial opens a connection to the coordinator. Called by run only.
func (c *Coordinator) dial() (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(c.dialCtx, c.lim.dial)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{
		HTTPClient:      c.client,
		HTTPHeader:      c.header,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// run keeps the link up until Close. It owns the delays and what was logged.
func (c *Coordinator) run() {
	defer close(c.done)
	retry := backoff{min: c.lim.retryMin, max: c.lim.retryMax}
	complained := false // one warning for each time without a link
	for {
		conn, err := c.dial()
		switch {
		case err == nil:
			complained = false
			up := time.Now()
			c.serve(conn)
			if time.Since(up) >= c.lim.stable {
				retry.reset()
			}
		case c.dialCtx.Err() != nil:
		case complained:
			c.log.Debug("the control link cannot be opened", "url", c.url, "error", err)
		default:
			complained = true
			c.log.Warn("the control link cannot be opened, trying again", "url", c.url, "error", err)
		}
		select {
		case <-c.dialCtx.Done():
			return
		case <-time.After(retry.delay(rand.Float64())):
		}
	}
}

// backoff gives the delays between dials: min, doubling to max, each with jitter.
type backoff struct {
	min, max time.Duration
	last     time.Duration // without jitter; zero: none yet
}

func (b *backoff) reset() { b.last = 0 }

// delay returns the next delay: three to five quarters of it, as random (0 to 1) says.
func (b *backoff) delay(random float64) time.Duration {
	b.last = min(max(2*b.last, b.min), b.max)
	return time.Duration(float64(b.last) * (0.75 + random/2))
}
