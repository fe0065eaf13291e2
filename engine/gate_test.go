package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// Whatever becomes of a connection, it has one place or none, and gives it back once.
func TestPlacesAtTheFrontDoor(t *testing.T) {
	const active, idle, hijacked, closed = http.StateActive, http.StateIdle, http.StateHijacked, http.StateClosed
	for _, c := range []struct {
		name   string
		limit  int
		events []any // http.ConnState; "asked": the coordinator is asked; "other": somebody else comes
		want   []int // places taken after each
		hungUp bool
	}{
		{"a receiver", 2, []any{active, hijacked}, []int{1, 0}, false},
		{"garbage", 2, []any{closed}, []int{0}, false},
		{"a page, and one more", 2, []any{active, idle, active, idle, closed}, []int{1, 1, 1, 1, 0}, false},
		{"a publisher", 2, []any{active, "asked", hijacked}, []int{1, 0, 0}, false},
		{"a publisher that leaves", 2, []any{active, "asked", closed}, []int{1, 0, 0}, false},
		{"a publisher that is refused and kept", 2, []any{active, "asked", idle, active, hijacked}, []int{1, 0, 1, 1, 0}, false},
		{"and asks once more", 2, []any{active, "asked", idle, active, "asked", idle, closed}, []int{1, 0, 1, 1, 0, 1, 0}, false},
		{"without a limit", 0, []any{active, "asked", idle, active, "asked", idle, closed}, []int{1, 0, 1, 1, 0, 1, 0}, false},
		{"a publisher that is refused when there is no place", 1, []any{active, "asked", "other", idle, closed}, []int{1, 0, 1, 1, 1}, true},
		{"a kept one, whose place is needed", 1, []any{active, idle, "other", active, idle, closed}, []int{1, 1, 1, 1, 1, 1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate(c.limit, slog.New(slog.DiscardHandler))
			d := newEntrance(nil, g)
			come := func() net.Conn {
				client, ours := net.Pipe()
				t.Cleanup(func() { _ = client.Close() })
				g.arrive(d, ours)
				return client
			}
			client := come()
			conn, err := d.Accept()
			if err != nil || g.size() != 1 {
				t.Fatalf("%v, and %d places are taken, wanted one", err, g.size())
			}
			ctx := withGuest(context.Background(), conn)
			for i, e := range c.events {
				switch e := e.(type) {
				case http.ConnState:
					g.track(conn, e)
				default:
					if e == "asked" {
						g.leave(ctx)
					} else {
						come()
					}
				}
				if n := g.size(); n != c.want[i] {
					t.Errorf("after %d events: %d places are taken, wanted %d", i+1, n, c.want[i])
				}
			}
			_ = client.SetReadDeadline(time.Now())
			if _, err := client.Read(make([]byte, 1)); (err == io.EOF) != c.hungUp {
				t.Errorf("%v, wanted it hung up: %v", err, c.hungUp)
			}
		})
	}
}

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
