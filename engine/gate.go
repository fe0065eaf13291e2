package engine

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// gate bounds the connections that net/http has: those that are no sessions yet, in
// TLS's handshake or the request's, waiting for an answer, or kept for the next
// request. A connection has its place from its acceptance to the upgrade or its end;
// net/http tells of both by ConnState, each once.
//
// When all places are taken, nobody is refused: no connection is accepted meanwhile,
// and who comes waits in the kernel's queue. How long is bounded by what bounds the
// others: HANDSHAKE_TIMEOUT_SECONDS for TLS and for the header, each, and the time of
// the answer. Connections kept for their next request give their places up to those
// that wait: else a client could hold a place for ever.
type gate struct {
	limit int          // static; 0: none
	log   *slog.Logger // static

	// Guarded by mu.
	mu      sync.Mutex
	left    sync.Cond             // a place is free, or the gate is open
	held    map[net.Conn]struct{} // who has a place
	kept    map[net.Conn]struct{} // of those, who is between two requests
	waiting int                   // accept loops that wait for a place
	open    bool                  // the server goes away: nobody waits any more
	said    time.Time             // when the log was told last
}

// gateSilence is how long the log is spared a line about a full gate after the last one.
const gateSilence = time.Minute

func newGate(limit int, log *slog.Logger) *gate {
	g := &gate{limit: limit, log: log, held: map[net.Conn]struct{}{}, kept: map[net.Conn]struct{}{}}
	g.left.L = &g.mu
	return g
}

// track is what net/http calls when a connection's state changes: http.StateNew on
// the goroutine that accepts, before it accepts the next one.
func (g *gate) track(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		g.enter(c)
	case http.StateActive:
		g.serve(c)
	case http.StateIdle:
		g.keep(c)
	case http.StateHijacked, http.StateClosed:
		g.leave(c)
	}
}

// enter gives a connection a place; it waits until one is free.
func (g *gate) enter(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.limit > 0 && len(g.held) >= g.limit && !g.open {
		g.say()
		for k := range g.kept {
			delete(g.kept, k)
			hangUp(k)
			break
		}
		g.waiting++
		g.left.Wait()
		g.waiting--
	}
	g.held[c] = struct{}{}
}

// serve tells that a request has come.
func (g *gate) serve(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.kept, c)
}

// keep tells that a request is answered and the next one may come, if nobody waits
// for the place.
func (g *gate) keep(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting > 0 {
		hangUp(c)
		return
	}
	g.kept[c] = struct{}{}
}

// leave gives a connection's place back.
func (g *gate) leave(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.kept, c)
	delete(g.held, c)
	if g.waiting > 0 {
		g.left.Broadcast()
	}
}

// close lets everybody pass: the server goes away, and must not wait.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	g.left.Broadcast()
}

// say tells the log that newcomers wait, once in a while. The caller holds mu.
func (g *gate) say() {
	if now := time.Now(); now.Sub(g.said) >= gateSilence {
		g.said = now
		g.log.Warn("MAX_HANDSHAKES connections are in their handshakes: newcomers wait", "limit", g.limit)
	}
}

// hangUp ends a connection that net/http waits at; net/http finds out and closes it.
// TLS is not asked to say goodbye: that could block.
func hangUp(c net.Conn) {
	for {
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	_ = c.Close()
}
