// Package authtest has a coordinator for tests: it speaks the control protocol
// over a real socket and does what the test says. It shares no code with the
// package it tests, so that neither hides a fault of the other.
package authtest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const (
	patience    = time.Minute // how long a Want method, or what sends, waits before it fails the test
	heartbeat   = 20 * time.Second
	controlPath = "/ws/control/wss"
)

// Message is one that the server sent.
type Message struct {
	Type   string            // as it was sent
	Params map[string]string // by lower-case name
	Link   int               // the connection it came over: 1 is the first
}

// Get returns a parameter, empty when it is missing.
func (m Message) Get(name string) string { return m.Params[strings.ToLower(name)] }

// Coordinator is the fake. Any goroutine may call its methods, but the Want
// methods and those that send fail the test, so only the test's own may call
// those.
type Coordinator struct {
	// Static after construction.
	t    testing.TB
	addr string

	handlers sync.WaitGroup // one for each connection

	// Guarded by mu.
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when any of the following changes
	server   *http.Server  // nil: stopped
	conn     *websocket.Conn
	links    int // connections so far
	seen     int // of those WantLink has returned for
	header   http.Header
	messages []Message // all, in order
	wanted   []bool    // of messages: whether WantMessage has returned it
	decide   func(Message) (string, bool)
}

// New starts a coordinator on a free port of 127.0.0.1; it stops with the test.
// It answers nothing until told, or with Decide.
func New(t testing.TB) *Coordinator {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("the coordinator cannot listen: %v", err)
	}
	c := &Coordinator{t: t, addr: listener.Addr().String(), changed: make(chan struct{})}
	c.listen(listener)
	t.Cleanup(c.Stop)
	return c
}

// URL returns the value for CONTROL_BASE_URL.
func (c *Coordinator) URL() string { return "ws://" + c.addr }

// Headers returns those of the last handshake.
func (c *Coordinator) Headers() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header.Clone()
}

// Links returns how many connections there have been.
func (c *Coordinator) Links() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links
}

// Messages returns all messages so far, in order, over all links.
func (c *Coordinator) Messages() []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages)
}

// Take is Messages, and forgets them: for tests that run for hours.
func (c *Coordinator) Take() []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	messages := c.messages
	c.messages, c.wanted = nil, nil
	return messages
}

// Decide answers every PUBLISH-REQUEST from now on, in order, with what f
// returns; nil answers none. f runs on the connection's goroutine.
func (c *Coordinator) Decide(f func(request Message) (streamID string, accept bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decide = f
}

// WantLink waits until the server is connected over a link that WantLink has
// not returned for. The server may need another moment to serve publishers.
func (c *Coordinator) WantLink() {
	c.t.Helper()
	c.await("a control link", func() bool {
		if c.conn == nil || c.links == c.seen {
			return false
		}
		c.seen = c.links
		return true
	})
}

// WantMessage waits for the first message of a type that it has not returned
// yet; those of other types stay.
func (c *Coordinator) WantMessage(typ string) Message {
	c.t.Helper()
	var m Message
	c.await("a message "+typ, func() bool {
		for i := range c.messages {
			if !c.wanted[i] && c.messages[i].Type == typ {
				c.wanted[i] = true
				m = c.messages[i]
				return true
			}
		}
		return false
	})
	return m
}

// Accept answers a request with yes.
func (c *Coordinator) Accept(requestID, channel, streamID string) {
	c.t.Helper()
	c.Send(accept(requestID, channel, streamID))
}

// Deny answers a request with no.
func (c *Coordinator) Deny(requestID, channel string) {
	c.t.Helper()
	c.Send(deny(requestID, channel))
}

// Kill sends STREAM-KILL; "*" and "" mean whoever publishes.
func (c *Coordinator) Kill(channel, streamID string) {
	c.t.Helper()
	c.Send("STREAM-KILL\nStream-Channel:" + channel + "\nStream-ID:" + streamID + "\n")
}

// Send sends a TEXT frame as it is.
func (c *Coordinator) Send(raw string) { c.t.Helper(); c.send(websocket.MessageText, raw) }

// SendE is Send for any goroutine.
func (c *Coordinator) SendE(raw string) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errors.New("the coordinator has no link")
	}
	return write(conn, websocket.MessageText, raw)
}

// SendBinary sends a BINARY frame as it is.
func (c *Coordinator) SendBinary(raw string) { c.t.Helper(); c.send(websocket.MessageBinary, raw) }

// DropLink cuts the connection without a close frame.
func (c *Coordinator) DropLink() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		_ = conn.CloseNow()
	}
}

// Stop cuts the connection and closes the port.
func (c *Coordinator) Stop() {
	c.mu.Lock()
	server := c.server
	c.server = nil
	c.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close()
	c.DropLink()
	c.handlers.Wait()
}

// Restart listens again on the same port after Stop. Somebody else may have been given
// that meanwhile, as the port of a connection that goes out: it is waited for.
func (c *Coordinator) Restart() {
	c.t.Helper()
	listener, err := net.Listen("tcp", c.addr)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		listener, err = net.Listen("tcp", c.addr)
	}
	if err != nil {
		c.t.Fatalf("the coordinator cannot listen again: %v", err)
	}
	c.listen(listener)
}

func (c *Coordinator) listen(listener net.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	server := &http.Server{Handler: http.HandlerFunc(c.serve), ReadHeaderTimeout: patience}
	c.server = server
	c.handlers.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.t.Errorf("the coordinator cannot serve: %v", err)
		}
	})
}

// await waits until ready, which runs with mu held, returns true.
func (c *Coordinator) await(what string, ready func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		ok, changed := ready(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			c.t.Fatalf("the coordinator waited in vain for %s; it got %v", what, c.Messages())
		}
	}
}

// announce wakes await. The caller holds mu.
func (c *Coordinator) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Coordinator) send(kind websocket.MessageType, raw string) {
	c.t.Helper()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		c.t.Fatalf("the coordinator has no link to send %q over", raw)
	}
	if err := write(conn, kind, raw); err != nil {
		c.t.Fatalf("the coordinator cannot send %q: %v", raw, err)
	}
}

func write(conn *websocket.Conn, kind websocket.MessageType, raw string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return conn.Write(ctx, kind, []byte(raw))
}

// serve is one connection of the server under test.
func (c *Coordinator) serve(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI != controlPath {
		http.NotFound(w, r)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	c.mu.Lock()
	if c.server == nil {
		c.mu.Unlock()
		return
	}
	c.handlers.Add(1)
	defer c.handlers.Done()
	c.conn, c.header = conn, r.Header.Clone()
	c.links++
	link := c.links
	c.announce()
	c.mu.Unlock()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.handlers.Go(func() { beat(ctx, conn) })
	c.read(conn, link)
	c.mu.Lock()
	if c.conn == conn {
		c.conn = nil
		c.announce()
	}
	c.mu.Unlock()
}

func beat(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if write(conn, websocket.MessageText, "HEARTBEAT\n") != nil {
				return
			}
		}
	}
}

func (c *Coordinator) read(conn *websocket.Conn, link int) {
	for {
		_, data, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		m := parse(string(data))
		m.Link = link
		c.mu.Lock()
		c.messages = append(c.messages, m)
		c.wanted = append(c.wanted, false)
		decide := c.decide
		c.announce()
		c.mu.Unlock()
		if m.Type != "PUBLISH-REQUEST" || decide == nil {
			continue
		}
		answer := deny(m.Get("Request-ID"), m.Get("Stream-Channel"))
		if streamID, ok := decide(m); ok {
			answer = accept(m.Get("Request-ID"), m.Get("Stream-Channel"), streamID)
		}
		if write(conn, websocket.MessageText, answer) != nil {
			return
		}
	}
}

// parse is strict: what the server sends must be plain.
func parse(text string) Message {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	m := Message{Type: lines[0], Params: make(map[string]string)}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		m.Params[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return m
}

func accept(requestID, channel, streamID string) string {
	return "PUBLISH-ACCEPT\nRequest-ID:" + requestID + "\nStream-Channel:" + channel + "\nStream-ID:" + streamID + "\n"
}

func deny(requestID, channel string) string {
	return "PUBLISH-DENY\nRequest-ID:" + requestID + "\nStream-Channel:" + channel + "\n"
}
