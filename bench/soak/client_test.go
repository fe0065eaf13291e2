//go:build soak && linux

package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"ws-stream-server/engine/wstest"
)

// perAddress is how many clients share an address, and placesPerAddress what the
// server allows it: some that have left may not be gone yet.
const (
	perAddress       = 16
	placesPerAddress = 64
)

// client is one of the soak's clients: a receiver, a publisher or a hostile one, in
// life after life.
type client struct {
	// Static after construction.
	round  *round
	number int
	what   string
	addr   string // its own

	rng *rand.Rand // owned by the client's goroutine

	mu      sync.Mutex
	journal [32]event // guarded by mu
	written int       // guarded by mu
	peer    *peer     // guarded by mu: to be poked at the round's end; nil: none

	refusals int // owned by the goroutine: 429s in a row
}

// event is a line of a client's transcript.
type event struct {
	at   int64 // model.now
	what string
	args [3]any
}

// note writes a line of the transcript. Any goroutine.
func (c *client) note(what string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := event{at: c.round.model.now(), what: what}
	copy(e.args[:], args)
	c.journal[c.written%len(c.journal)] = e
	c.written++
}

// transcript returns the last lines. Any goroutine.
func (c *client) transcript() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d, from %s:\n", c.what, c.number, c.addr)
	for i := max(0, c.written-len(c.journal)); i < c.written; i++ {
		e := c.journal[i%len(c.journal)]
		n := strings.Count(e.what, "%") - 2*strings.Count(e.what, "%%")
		fmt.Fprintf(&b, "    %9.3f s  %s\n", float64(e.at)/1e9, fmt.Sprintf(e.what, e.args[:n]...))
	}
	return b.String()
}

// chance is true once in n times.
func (c *client) chance(n int) bool { return c.rng.IntN(n) == 0 }

// between returns a duration from low to high milliseconds.
func (c *client) between(low, high int) time.Duration {
	return time.Duration(low+c.rng.IntN(high-low+1)) * time.Millisecond
}

// rest waits so long, more when the machine is slow, and returns false at the
// round's end.
func (c *client) rest(d time.Duration) bool {
	return c.round.sleep(time.Duration(float64(d) * c.round.pace()))
}

// live runs life after life until the round ends or a life says that it is over.
func (c *client) live(life func() error) {
	for c.round.going() {
		if err := life(); err != nil {
			c.round.fail(c, err)
			return
		}
	}
}

// setPeer tells who is to be poked.
func (c *client) setPeer(p *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer = p
}

func (c *client) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peer != nil {
		c.peer.poke()
	}
}

// open makes the handshake. Few are under way at once, so that none waits for long.
func (c *client) open(path string, secure bool, opts ...wstest.Option) (*wstest.Conn, *wstest.Response, error) {
	c.round.doors <- struct{}{}
	defer func() { <-c.round.doors }()
	addr, opts := c.way(secure, opts)
	c.note("opens %s, TLS %v", path, secure)
	conn, resp, err := wstest.Open(addr, path, opts...)
	switch {
	case err != nil:
		c.note("no answer: %v", err)
	default:
		c.note("answer %d", resp.Status)
	}
	return conn, resp, err
}

// ask sends a request of plain HTTP, and does not wait for the answer.
func (c *client) ask(method, path string, secure bool, opts ...wstest.Option) (*wstest.HTTP, error) {
	c.round.doors <- struct{}{}
	defer func() { <-c.round.doors }()
	addr, opts := c.way(secure, opts)
	c.note(method+" %s, TLS %v", path, secure)
	return wstest.AskE(method, addr, path, opts...)
}

// way returns where the client connects to, and how.
func (c *client) way(secure bool, opts []wstest.Option) (string, []wstest.Option) {
	opts = append(opts, wstest.From(c.addr), wstest.Patience(handshakePatience))
	if !secure {
		return c.round.addr, opts
	}
	trust := c.round.trust
	if c.chance(3) {
		trust = trust.Clone()
		trust.MaxVersion = tls.VersionTLS12
	}
	return c.round.tlsAddr, append(opts, wstest.TLS(trust))
}

// after has f called in so long, on another goroutine, and returns what calls it off
// and waits for it.
func after(d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	t := time.AfterFunc(d, func() {
		defer wg.Done()
		if ctx.Err() == nil {
			f()
		}
	})
	return func() {
		cancel()
		if t.Stop() {
			wg.Done()
		}
		wg.Wait()
	}
}

// nuisance is what a client may send beside: it is read and ignored.
func (c *client) nuisance(op byte) []byte {
	text := wstest.Frame{Op: wstest.Text, Payload: []byte("h")}
	switch c.rng.IntN(4) {
	case 0:
		return wstest.Bytes(text)
	case 1:
		return wstest.Bytes(wstest.Frame{Op: op, Payload: make([]byte, c.rng.IntN(3000))})
	case 2:
		m := wstest.Message(op, make([]byte, c.rng.IntN(300)), 1+c.rng.IntN(9))
		return wstest.Bytes(append(m, text)...)
	default:
		return wstest.Bytes(wstest.Frame{Op: wstest.Text, Payload: []byte("ERROR: \u00e9 %s\r\n")}, wstest.Frame{Op: wstest.Pong, Payload: []byte("nobody asked")})
	}
}
