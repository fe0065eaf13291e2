package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// longest text from the coordinator that is logged, in bytes.
const maxLogged = 512

var (
	errSilent    = errors.New("the coordinator was silent for too long")
	errNotTaken  = errors.New("the coordinator did not take a message in time")
	errNoGoodbye = errors.New("the coordinator did not answer the close frame")
)

// link is one connection to the coordinator.
type link struct {
	// Static after construction.
	conn *websocket.Conn
	ctx  context.Context         // ends with the link; its cause is the first reason
	kill context.CancelCauseFunc // any goroutine; closes the connection
	wake chan struct{}           // capacity 1; a value means that the writer should look at the queue

	// Guarded by Coordinator.mu.
	down     bool                // nothing is queued any more
	queue    []string            // in the order of the wire; one END or request each, so no more than grants and requests
	requests map[string]*request // without an answer, by Request-ID
}

// enqueue gives a message to the writer, after all that were given before. The
// caller holds Coordinator.mu.
func (l *link) enqueue(text string) {
	if l.down {
		return
	}
	l.queue = append(l.queue, text)
	l.wakeWriter()
}

func (l *link) wakeWriter() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// giveUpWaiting settles all requests with err. They stay known: a yes can still
// come. The caller holds Coordinator.mu.
func (l *link) giveUpWaiting(err error) {
	for _, r := range l.requests {
		r.abandon(err)
	}
}

// serve runs a link until it is dead. Called by run only.
func (c *Coordinator) serve(conn *websocket.Conn) {
	defer func() { _ = conn.CloseNow() }() // closed already, or nothing to save
	l := &link{
		conn:     conn,
		wake:     make(chan struct{}, 1),
		requests: make(map[string]*request),
	}
	l.ctx, l.kill = context.WithCancelCause(c.linkCtx)
	defer l.kill(nil)
	if !c.linkUp(l) {
		return
	}
	c.log.Info("the control link is up", "url", c.url)
	var writer sync.WaitGroup
	writer.Go(func() { c.write(l) })
	c.read(l)
	closed := c.linkDown(l)
	writer.Wait()
	if closed {
		c.log.Info("the control link is closed", "url", c.url)
		return
	}
	c.log.Warn("the control link is lost, dialling again", "url", c.url, "error", context.Cause(l.ctx))
}

// linkUp puts the link in use, after it has revoked what earlier links granted.
// It returns false when the coordinator was closed meanwhile.
func (c *Coordinator) linkUp(l *link) bool {
	c.mu.Lock()
	var calls []func()
	for g := range c.grants {
		if f := g.revoke(LinkReset); f != nil {
			calls = append(calls, f)
		}
	}
	c.mu.Unlock()
	for _, f := range calls {
		f()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.link = l
	return true
}

// linkDown takes the link out of use. Its grants stay. It returns whether the
// end was wanted.
func (c *Coordinator) linkDown(l *link) (closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = nil
	l.down = true
	l.giveUpWaiting(errLinkLost)
	l.queue, l.requests = nil, nil
	return c.closed
}

// read handles what the coordinator sends until the link is dead.
func (c *Coordinator) read(l *link) {
	silence := time.AfterFunc(c.lim.silence, func() { l.kill(errSilent) })
	defer silence.Stop()
	for {
		kind, data, err := l.conn.Read(l.ctx)
		if err != nil {
			l.kill(fmt.Errorf("cannot read from the coordinator: %w", err))
			return
		}
		silence.Reset(c.lim.silence)
		if kind != websocket.MessageText {
			c.log.Debug("ignored a binary frame of the coordinator", "bytes", len(data))
			continue
		}
		c.handle(l, parseMessage(string(data)))
	}
}

// write sends heartbeats and the queue until the link is dead or, after Close,
// the queue is empty.
func (c *Coordinator) write(l *link) {
	beat := time.NewTicker(c.lim.heartbeat)
	defer beat.Stop()
	for {
		var text string
		select {
		case <-l.ctx.Done():
			return
		case now := <-beat.C:
			c.forget(l, now)
			text = formatMessage(typeHeartbeat)
		case <-l.wake:
			var last bool
			if text, last = c.dequeue(l); last {
				c.sayGoodbye(l)
				return
			}
		}
		if text == "" {
			continue
		}
		if err := c.send(l, text); err != nil {
			l.kill(err)
			return
		}
	}
}

// dequeue returns the next message, empty when there is none; last when there
// will be none.
func (c *Coordinator) dequeue(l *link) (text string, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(l.queue) == 0 {
		return "", c.closed
	}
	text = l.queue[0]
	l.queue[0] = "" // it may hold a key
	l.queue = l.queue[1:]
	l.wakeWriter()
	return text, false
}

func (c *Coordinator) send(l *link, text string) error {
	slow := time.AfterFunc(c.lim.write, func() { l.kill(errNotTaken) })
	defer slow.Stop()
	if err := l.conn.Write(l.ctx, websocket.MessageText, []byte(text)); err != nil {
		return fmt.Errorf("cannot write to the coordinator: %w", err)
	}
	return nil
}

// sayGoodbye closes the link in order, while read still reads.
func (c *Coordinator) sayGoodbye(l *link) {
	impatience := time.AfterFunc(c.lim.closing, func() { l.kill(errNoGoodbye) })
	defer impatience.Stop()
	_ = l.conn.Close(websocket.StatusGoingAway, "") // whatever it says, the connection is closed
}

// forget drops requests that were abandoned long ago: a yes for them would be
// ignored. It also keeps what the coordinator never answers from piling up.
func (c *Coordinator) forget(l *link, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range l.requests {
		if !r.abandoned.IsZero() && now.Sub(r.abandoned) >= c.lim.forget {
			delete(l.requests, id)
		}
	}
}
