package engine

import (
	"fmt"
	"testing"
	"time"
)

// HANDSHAKE_TIMEOUT_SECONDS is what net/http gives a header, and TLS, which has the
// least of all times there are; it takes nothing from the coordinator's 20 s.
func TestTimesOfAHandshake(t *testing.T) {
	for _, seconds := range []int{1, 10, 300} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			s := newTestServer(t, func(c *Config) { c.HandshakeTimeoutSeconds = seconds })
			h, want := s.front.http, time.Duration(seconds)*time.Second
			if h.ReadHeaderTimeout != want {
				t.Errorf("a header has %v, wanted %v", h.ReadHeaderTimeout, want)
			}
			if least := min(h.ReadHeaderTimeout, h.ReadTimeout, h.WriteTimeout); least != want {
				t.Errorf("TLS has %v, wanted %v", least, want)
			}
			const answer = 25 * time.Second
			if h.ReadTimeout < want+answer || h.WriteTimeout < answer {
				t.Errorf("the answer has %v and %v, wanted %v after a slow header", h.ReadTimeout-want, h.WriteTimeout, answer)
			}
		})
	}
}
