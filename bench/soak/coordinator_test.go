//go:build soak && linux

package soak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/auth/authtest"
)

// coordinator accepts and denies publishers, kills them, loses its link, and checks
// that each one it accepted is told to have ended, once. nil: there is none.
type coordinator struct {
	// Static after construction.
	fake  *authtest.Coordinator
	auth  *auth.Coordinator
	round *round
	rng   *rand.Rand // owned by run

	down atomic.Bool // the link is lost, or may be

	mu       sync.Mutex
	accepted map[int]map[string]string // guarded by mu: by link and Stream-ID, the channel
	last     map[string]string         // guarded by mu: by channel, the last Stream-ID
	next     int                       // guarded by mu
}

// decide answers a request.
func (c *coordinator) decide(m authtest.Message) (streamID string, accept bool) {
	if strings.HasPrefix(m.Get("Stream-Key"), "denied-") {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	streamID = fmt.Sprintf("stream-%d", c.next)
	if c.accepted[m.Link] == nil {
		c.accepted[m.Link] = map[string]string{}
	}
	c.accepted[m.Link][streamID] = m.Get("Stream-Channel")
	c.last[m.Get("Stream-Channel")] = streamID
	return streamID, true
}

// begin is told of every session, before its handshake.
func (c *coordinator) begin(s *session) {
	if c != nil && (c.down.Load() || s.ch.killed.Load()) {
		s.cutShort.Store(true)
	}
}

// run makes trouble until the round ends.
func (c *coordinator) run() error {
	drop := time.Now().Add(time.Duration(3+c.rng.IntN(10)) * time.Second)
	for c.round.sleep(100 * time.Millisecond) {
		if err := c.check(); err != nil {
			return err
		}
		if c.rng.IntN(4) == 0 {
			c.kill(c.round.pick(c.rng))
		}
		if time.Now().After(drop) {
			if err := c.drop(); err != nil {
				return err
			}
			drop = time.Now().Add(time.Duration(6+c.rng.IntN(10)) * time.Second)
		}
	}
	return nil
}

// kill ends whoever publishes on a channel, or a publisher that is not there.
func (c *coordinator) kill(ch *channel) {
	id := "nobody"
	c.mu.Lock()
	switch c.rng.IntN(4) {
	case 0:
		id = "*"
	case 1:
		id = ""
	case 2:
		id = c.last[ch.name]
	}
	c.mu.Unlock()
	mark := func(s *session) {
		if s.ch == ch && id != "nobody" {
			s.cutShort.Store(true)
		}
	}
	if id != "nobody" {
		ch.killed.Store(true) // for who begins between the mark and the message
		defer ch.killed.Store(false)
	}
	c.round.model.live(mark)
	_ = c.fake.SendE("STREAM-KILL\nStream-Channel: " + ch.name + "\nStream-ID: " + id + "\n")
	c.round.model.live(mark)
}

// drop loses the link and waits for the next one.
func (c *coordinator) drop() error {
	mark := func(s *session) { s.cutShort.Store(true) }
	links := c.fake.Links()
	c.down.Store(true)
	c.round.model.live(mark)
	c.fake.DropLink()
	c.round.stats.drops.Add(1)
	for end := time.Now().Add(endPatience); c.fake.Links() == links || !c.auth.Connected(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return wrongf("the control link does not come back")
		}
	}
	c.round.model.live(mark)
	c.down.Store(false)
	return nil
}

// check takes what the server has said. An END is for a publisher that was accepted,
// over the same link, and comes once.
func (c *coordinator) check() error {
	for _, m := range c.fake.Take() {
		if m.Type != "PUBLISH-END" {
			continue
		}
		id, name := m.Get("Stream-ID"), m.Get("Stream-Channel")
		c.mu.Lock()
		was, found := c.accepted[m.Link][id]
		delete(c.accepted[m.Link], id)
		c.mu.Unlock()
		if !found || was != name {
			return wrongf("PUBLISH-END for %s on channel %s over link %d: never accepted, or ended before", id, name, m.Link)
		}
	}
	return nil
}

// unended returns the publishers that were accepted over the link in use and not told
// to have ended.
func (c *coordinator) unended() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, name := range c.accepted[c.fake.Links()] {
		ids = append(ids, id+" on "+name)
	}
	return ids
}

// finish checks that every publisher that was accepted has ended.
func (c *coordinator) finish() error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := c.check(); err != nil {
			return err
		}
		ids := c.unended()
		if len(ids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return wrongf("%d publishers were accepted, and no PUBLISH-END came for them: %.200q", len(ids), ids)
		}
	}
}
