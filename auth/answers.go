package auth

import "strings"

// handle does what one message of the coordinator asks for. Called by the
// link's reader only; it never blocks.
func (c *Coordinator) handle(l *link, m message) {
	switch m.typ {
	case typeHeartbeat:
	case typeError:
		c.log.Warn("the coordinator reports an error",
			"code", shorten(m.get(paramErrorCode)), "message", shorten(m.get(paramErrorMessage)))
	case typePublishAccept:
		c.handleAnswer(l, m, true)
	case typePublishDeny:
		c.handleAnswer(l, m, false)
	case typeStreamKill:
		c.handleKill(m)
	default:
		c.log.Debug("ignored a message of the coordinator", "type", shorten(m.typ))
	}
}

// verdict is what became of an answer.
type verdict uint8

const (
	settled      verdict = iota // somebody waited for it, or a no came too late to matter
	givenBack                   // a yes that came too late
	nobodyAsked                 // unknown or answered before
	otherChannel                // the request was for another one
)

func (c *Coordinator) handleAnswer(l *link, m message, accepted bool) {
	verdict, channel := c.applyAnswer(l, m, accepted)
	log := c.log.With("type", m.typ, "request", shorten(m.get(paramRequestID)))
	switch verdict {
	case settled:
	case givenBack:
		log.Debug("gave back a grant that came too late", "channel", channel)
	case nobodyAsked:
		log.Debug("ignored an answer to no request")
	case otherChannel:
		log.Warn("ignored an answer for another channel", "channel", channel, "answered", shorten(m.get(paramChannel)))
	}
}

// applyAnswer settles a request and returns the channel it asked for. A yes for
// one that nobody waits for any more is given back, for the coordinator now
// believes the channel taken.
func (c *Coordinator) applyAnswer(l *link, m message, accepted bool) (v verdict, channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	req := l.requests[m.get(paramRequestID)]
	if req == nil {
		return nobodyAsked, ""
	}
	if answered := m.get(paramChannel); answered != "" && answered != req.channel {
		return otherChannel, req.channel
	}
	delete(l.requests, req.id)
	if !accepted {
		req.settle(nil, ErrDenied)
		return settled, req.channel
	}
	streamID := m.get(paramStreamID)
	if !req.abandoned.IsZero() {
		l.enqueue(publishEnd(req.channel, streamID))
		return givenBack, req.channel
	}
	g := &Grant{channel: req.channel, streamID: streamID, coord: c, link: l}
	c.grants[g] = struct{}{}
	req.settle(g, nil)
	return settled, req.channel
}

// handleKill revokes the grants that a STREAM-KILL means, also those that
// Authorize has not returned yet.
func (c *Coordinator) handleKill(m message) {
	channel, streamID := m.get(paramChannel), m.get(paramStreamID)
	whoever := streamID == "" || streamID == "*"
	c.mu.Lock()
	var calls []func()
	for g := range c.grants {
		if g.channel != channel || !whoever && g.streamID != streamID {
			continue
		}
		if f := g.revoke(Killed); f != nil {
			calls = append(calls, f)
		}
	}
	c.mu.Unlock()
	c.log.Debug("the coordinator kills a channel's publisher", "channel", shorten(channel), "stream", shorten(streamID))
	for _, f := range calls {
		f()
	}
}

// shorten bounds a text of the coordinator for the log, which escapes control
// characters itself.
func shorten(s string) string {
	if len(s) <= maxLogged {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogged], "") + "..."
}
