package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

var (
	errNoLink   = fmt.Errorf("%w: there is no link to it", ErrUnavailable)
	errLinkLost = fmt.Errorf("%w: the link was lost before it answered", ErrUnavailable)
	errNoAnswer = fmt.Errorf("%w: it did not answer in time", ErrUnavailable)
	errTooMany  = fmt.Errorf("%w: too many requests without an answer", ErrUnavailable)
	errClosed   = fmt.Errorf("%w: this server is shutting down", ErrUnavailable)
)

// limits are the numbers of the protocol; tests shorten them.
type limits struct {
	dial       time.Duration // handshake of the link, from name look-up to the 101
	answer     time.Duration // how long a request waits
	heartbeat  time.Duration // between two HEARTBEATs of ours
	silence    time.Duration // without any message the coordinator is dead
	write      time.Duration // for the coordinator to take one message
	closing    time.Duration // for the coordinator to answer our close frame
	retryMin   time.Duration // first delay before dialling again
	retryMax   time.Duration // longest delay
	stable     time.Duration // a link that held so long makes the next delay retryMin
	forget     time.Duration // how long a yes for a client that left is still given back
	unanswered int           // requests of one link that have no answer yet, whether or not somebody waits
}

var defaultLimits = limits{
	dial:       10 * time.Second,
	answer:     20 * time.Second,
	heartbeat:  20 * time.Second,
	silence:    60 * time.Second,
	write:      10 * time.Second,
	closing:    2 * time.Second,
	retryMin:   time.Second,
	retryMax:   10 * time.Second,
	stable:     5 * time.Second,
	forget:     5 * time.Minute,
	unanswered: 1 << 16,
}

// Coordinator is the Authorizer that asks a coordinator. Any goroutine may call
// its methods.
type Coordinator struct {
	// Static after construction.
	url    string // without user name, password and query, so it may be logged
	header http.Header
	client *http.Client
	lim    limits
	log    *slog.Logger

	// Ends the dialling and the waiting between dials; the link in use lives on to
	// send what is queued.
	dialCtx     context.Context
	stopDialing context.CancelFunc
	// Ends the link in use as well.
	linkCtx   context.Context
	stopLinks context.CancelCauseFunc
	done      chan struct{} // closed when run has returned

	// Guarded by mu.
	mu      sync.Mutex
	started bool
	closed  bool
	link    *link               // nil: down
	grants  map[*Grant]struct{} // neither ended nor revoked; of the link in use, or of the last one when down
}

var _ Authorizer = (*Coordinator)(nil)

// request is one PUBLISH-REQUEST without an answer; it stays in its link's map
// when nobody waits any more, so that a late yes can be given back.
type request struct {
	// Static after construction.
	id      string
	channel string
	settled chan struct{} // closed when grant or err is set

	// Guarded by Coordinator.mu until settled is closed, then read only.
	grant *Grant
	err   error

	// Guarded by Coordinator.mu.
	abandoned time.Time // when the caller stopped waiting; zero while it waits
}

// NewCoordinator prepares the link; Start opens it. clientPort is the port of
// ours that clients reach: the TLS listener's with EXTERNAL_SSL, else the plain
// one's. Without CONTROL_BASE_URL it fails; log must not be nil.
func NewCoordinator(c Config, clientPort int, log *slog.Logger) (*Coordinator, error) {
	if c.ControlBaseURL == "" {
		return nil, errors.New("CONTROL_BASE_URL is not set")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	u, err := parseBaseURL(c.ControlBaseURL)
	if err != nil {
		return nil, fmt.Errorf("cannot read CONTROL_BASE_URL: %w", err)
	}
	header, err := handshakeHeader(c, clientPort)
	if err != nil {
		return nil, err
	}
	if u.EscapedPath() != "" && u.EscapedPath() != "/" {
		log.Info("the path of CONTROL_BASE_URL is replaced", "path", u.Path, "by", controlPath)
	}
	if c.ExternalIP != "" && !isIP(c.ExternalIP) {
		log.Warn("EXTERNAL_IP is a name, but the coordinator takes addresses only", "name", c.ExternalIP)
	}
	u.Path, u.RawPath = controlPath, ""
	co := &Coordinator{
		url:    u.String(),
		header: header,
		client: newDialClient(),
		lim:    defaultLimits,
		log:    log,
		done:   make(chan struct{}),
		grants: make(map[*Grant]struct{}),
	}
	co.linkCtx, co.stopLinks = context.WithCancelCause(context.Background())
	co.dialCtx, co.stopDialing = context.WithCancel(co.linkCtx)
	return co, nil
}

// Start begins dialling in the background and returns at once. A second call,
// and one after Close, does nothing.
func (c *Coordinator) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.closed {
		return
	}
	c.started = true
	go c.run()
}

// Connected implements Authorizer.
func (c *Coordinator) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link != nil
}

// Authorize implements Authorizer. While the link is down it fails at once.
func (c *Coordinator) Authorize(ctx context.Context, r Request) (*Grant, error) {
	if ctx.Err() != nil {
		return nil, clientLeft(ctx)
	}
	req, err := c.ask(r)
	if err != nil {
		return nil, err
	}
	timeout := time.NewTimer(c.lim.answer)
	defer timeout.Stop()
	select {
	case <-req.settled:
	case <-ctx.Done():
		c.abandon(req, clientLeft(ctx))
	case <-timeout.C:
		c.abandon(req, errNoAnswer)
	}
	if req.grant != nil && ctx.Err() != nil { // both at once
		req.grant.End()
		return nil, clientLeft(ctx)
	}
	return req.grant, req.err
}

func clientLeft(ctx context.Context) error {
	return fmt.Errorf("%w: nobody waits for its answer any more: %w", ErrUnavailable, context.Cause(ctx))
}

// ask queues a request.
func (c *Coordinator) ask(r Request) (*request, error) {
	req := &request{id: rand.Text(), channel: r.Channel, settled: make(chan struct{})}
	text := publishRequest(req.id, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch l := c.link; {
	case c.closed:
		return nil, errClosed
	case l == nil:
		return nil, errNoLink
	case len(l.requests) >= c.lim.unanswered:
		return nil, errTooMany
	default:
		l.requests[req.id] = req
		l.enqueue(text)
		return req, nil
	}
}

// settle ends the wait of the caller of Authorize, unless it has ended. The
// caller holds c.mu.
func (r *request) settle(g *Grant, err error) {
	if r.grant != nil || r.err != nil {
		return
	}
	r.grant, r.err = g, err
	close(r.settled)
}

// abandon settles the request with err unless it is settled. One without an
// answer stays known until that comes, the link dies, or limits.forget has
// passed. The caller holds c.mu.
func (r *request) abandon(err error) {
	r.settle(nil, err)
	r.abandoned = time.Now()
}

func (c *Coordinator) abandon(r *request, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.abandon(err)
}

// Close implements Authorizer. It may be called before Start and more than once.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	started := c.started
	if c.link != nil {
		c.link.giveUpWaiting(errClosed)
		c.link.wakeWriter() // it sends what is queued, then closes
	}
	c.mu.Unlock()
	c.stopDialing()
	if started {
		select {
		case <-c.done:
		case <-ctx.Done():
			c.stopLinks(context.Cause(ctx))
			return fmt.Errorf("cannot close the control link in time: %w", context.Cause(ctx))
		}
	}
	c.stopLinks(errClosed)
	return nil
}
