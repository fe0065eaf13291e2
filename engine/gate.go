package engine

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// gate bounds the connections that net/http has: those that are no sessions yet, in
// TLS's handshake or the request's, waiting for an answer, or kept for the next
// request. A connection has its place from the moment in which net/http gets it to the
// upgrade or its end; net/http tells of both by ConnState, each once. A publisher that
// waits for the coordinator gives its place up before (leave): it has those of its
// address and of MAX_CONNECTIONS, and a slow coordinator must hold up nobody else.
//
// When all places are taken, nobody is refused: connections are accepted and wait, and
// crowd says who is next. How long is bounded by what bounds the others:
// HANDSHAKE_TIMEOUT_SECONDS for the PROXY protocol's header, for TLS and for the
// request's header, each, and the time of the answer; where others have more than their
// share, by hogGrace and guestGrace, as far as it is not the server that is late. Connections kept for their next request give their
// places up to those that wait: else a client could hold a place for ever.
type gate struct {
	log *slog.Logger // static

	// Guarded by mu.
	mu      sync.Mutex
	crowd   crowd
	kept    map[*guest]struct{} // who has a place, and is between two requests
	timer   *time.Timer         // looks whether somebody has to give up a place; nil: none is set
	said    time.Time           // when the log was told last
	closing bool                // the server goes away: nobody waits any more
}

const (
	// gateSilence is how long the log is spared a line about a full gate after the last
	// one.
	gateSilence = time.Minute

	// keptTries is how many kept connections are looked at for one to hang up.
	keptTries = 8

	// lookEvery is how often a full gate looks whether somebody has to give up a place.
	lookEvery = 100 * time.Millisecond

	// mostAtOnce is how many places are given to others before the lock is let go of, and
	// lookAgain how long after that it goes on: to find each takes 0.2 ms where 1024
	// sources have places.
	mostAtOnce = 16
	lookAgain  = 10 * time.Millisecond
)

func newGate(limit int, log *slog.Logger) *gate {
	return &gate{
		log:   log,
		crowd: newCrowd(limit),
		kept:  map[*guest]struct{}{},
	}
}

// change makes a change and does what follows from it. f returns who is hung up by it.
// Nobody is hung up, and nothing logged, under mu.
func (g *gate) change(f func() []*guest) {
	g.mu.Lock()
	gone := f()
	more, full := g.settle(time.Now())
	g.mu.Unlock()
	for _, guests := range [][]*guest{gone, more} {
		for _, x := range guests {
			_ = x.Close() // net/http, if it has the connection, finds out
		}
	}
	if full {
		g.log.Warn("MAX_HANDSHAKES connections are in their handshakes: newcomers wait", "limit", g.crowd.limit)
	}
}

// settle gives free places to those who wait, and makes room for them where it may. It
// returns who is hung up for that, and whether the log is to be told that newcomers
// wait. The caller holds mu.
func (g *gate) settle(now time.Time) (gone []*guest, tell bool) {
	for n := 0; ; n++ {
		for x := g.crowd.next(now); x != nil; x = g.crowd.next(now) {
			x.placed = true
			x.by.ready = append(x.by.ready, x)
			x.by.came.Signal()
		}
		if g.crowd.waiting == 0 {
			return gone, tell
		}
		if now.Sub(g.said) >= gateSilence {
			g.said, tell = now, true
		}
		x := g.anyKept()
		if x == nil && g.timer == nil {
			in := lookAgain
			if n < mostAtOnce {
				x, in = g.crowd.victim(now, (*guest).late)
			}
			if in > 0 {
				g.timer = time.AfterFunc(min(in, lookEvery), g.look)
			}
		}
		if x == nil {
			return gone, tell
		}
		g.drop(x)
		gone = append(gone, x)
	}
}

// look is what the timer does.
func (g *gate) look() {
	g.change(func() []*guest {
		g.timer = nil
		return nil
	})
}

// anyKept returns somebody who is between two requests, if it may be one whose next
// request is not there yet; nil: there is nobody. The caller holds mu.
func (g *gate) anyKept() (x *guest) {
	tries := 0
	for x = range g.kept {
		if tries++; tries == keptTries || !x.late() {
			break
		}
	}
	return x
}

// drop takes a guest's place. The caller holds mu.
func (g *gate) drop(x *guest) {
	delete(g.kept, x)
	x.placed = false
	g.crowd.leave(x)
	x.from = nil // its connection may last long
}

// arrive takes a connection that was just accepted.
func (g *gate) arrive(e *entrance, c net.Conn) {
	inline(c)
	name := sourceName(c.RemoteAddr())
	g.change(func() []*guest {
		x := &guest{Conn: c, by: e}
		if g.closing {
			return []*guest{x}
		}
		x.from = g.crowd.sourceOf(name)
		if out := g.crowd.arrive(x); out != nil {
			return []*guest{out}
		}
		return nil
	})
}

// track is what net/http calls when a connection's state changes. Who has no place any
// more was hung up, or has given it up.
func (g *gate) track(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		return // has its place already
	}
	x := guestOf(c)
	if state == http.StateActive && !x.heard {
		x.heard = true
	}
	g.change(func() []*guest {
		switch {
		case !x.placed && state == http.StateIdle:
			return g.returned(x)
		case !x.placed:
		case state == http.StateActive:
			delete(g.kept, x)
			g.crowd.asked(x, time.Now())
		case state == http.StateIdle:
			g.crowd.answered(x)
			g.kept[x] = struct{}{}
		default: // hijacked, closed
			g.drop(x)
		}
		return nil
	})
}

// stepped tells that the server has come to a step that a guest has waited for: the
// guest's time begins anew.
func (g *gate) stepped(x *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if x.placed && x.in != nil {
		x.since = time.Now()
		x.in.MoveToBack(x.at)
	}
}

// returned takes back a connection that has given its place up, was refused, and could
// be kept for its next request: it is, if there is a place. It returns who is hung up.
// The caller holds mu.
func (g *gate) returned(x *guest) []*guest {
	if g.closing || g.crowd.full() {
		return []*guest{x}
	}
	x.from = g.crowd.sourceOf(sourceName(x.RemoteAddr()))
	g.crowd.take(x, time.Now())
	x.placed, g.kept[x] = true, struct{}{}
	return nil
}

// guestKey is where a request's context has its *guest.
type guestKey struct{}

// withGuest is part of net/http's ConnContext.
func withGuest(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, guestOf(c))
}

// leave gives up the place of a request's connection, if it has one.
func (g *gate) leave(ctx context.Context) {
	x, ok := ctx.Value(guestKey{}).(*guest)
	if !ok {
		return
	}
	g.change(func() []*guest {
		if x.placed {
			g.drop(x)
		}
		return nil
	})
}

// relievedKept is how many connections that are kept are hung up at once for want of
// descriptors: a newcomer needs its own and the spare one.
const relievedKept = 2

// relieve hangs up those who can be spared when descriptors are used up: connections
// that are kept for their next request, else some of those that wait.
func (g *gate) relieve() {
	g.change(func() (gone []*guest) {
		for range relievedKept {
			x := g.anyKept()
			if x == nil {
				break
			}
			g.drop(x)
			gone = append(gone, x)
		}
		if gone == nil {
			gone = g.crowd.thin()
		}
		return gone
	})
}

// size returns how many places are taken.
func (g *gate) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.crowd.held
}

// crowded reports whether newcomers wait for a place. Any goroutine.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.crowd.waiting > 0
}

// close has nobody wait any more: the server goes away.
func (g *gate) close() {
	g.change(func() []*guest {
		g.closing = true
		if g.timer != nil {
			g.timer.Stop()
		}
		return g.crowd.clear()
	})
}

// entrance is a listener behind the gate: Accept gives the connections that have a place.
type entrance struct {
	net.Listener // static
	gate         *gate

	// Guarded by gate.mu.
	ready  []*guest  // have a place; oldest first
	came   sync.Cond // there is somebody ready, or it is closed
	closed bool
}

func newEntrance(l net.Listener, g *gate) *entrance {
	e := &entrance{Listener: l, gate: g}
	e.came.L = &g.mu
	return e
}

// run accepts whoever comes, until the listener is closed.
func (e *entrance) run() {
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			_ = e.Close()
			return
		}
		e.gate.arrive(e, c)
	}
}

func (e *entrance) Accept() (net.Conn, error) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	for len(e.ready) == 0 && !e.closed {
		e.came.Wait()
	}
	if e.closed {
		return nil, net.ErrClosed
	}
	x := e.ready[0]
	e.ready[0] = nil
	e.ready = e.ready[1:]
	return x, nil
}

// Close ends Accept, and hangs up whoever is not accepted yet. All entrances are closed at
// the same time: nobody waits any more at any of them.
func (e *entrance) Close() error {
	err := e.Listener.Close()
	e.gate.close()
	e.gate.change(func() (gone []*guest) {
		e.closed = true
		for _, x := range e.ready {
			if x.placed {
				e.gate.drop(x)
				gone = append(gone, x)
			}
		}
		e.ready = nil
		e.came.Broadcast()
		return gone
	})
	return err
}
