package engine

import (
	"maps"
	"slices"
	"sync"
)

// registry finds channels by name. Its lock comes before a channel's.
type registry struct {
	srv *Server // static

	mu       sync.Mutex
	channels map[string]*Channel // waiting or live; one whose publisher has ended is not here
}

// join adds a receiver to its channel. A channel that nobody has named yet comes
// to be. It returns notEnded, or why the receiver has to go. Any goroutine.
func (r *registry) join(s *session) reason {
	ch := r.lock(s.name)
	defer ch.mu.Unlock()
	s.ch = ch
	return ch.join(s)
}

// claim makes a session the publisher of its channel, false if it has one. Of two
// that race exactly one gets true. Any goroutine.
func (r *registry) claim(s *session) bool {
	ch := r.lock(s.name)
	defer ch.mu.Unlock()
	if ch.publisher != nil {
		return false
	}
	s.ch = ch
	ch.publisher = s
	return true
}

// busy reports whether a channel has a publisher. Any goroutine.
func (r *registry) busy(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[name]
	if ch == nil {
		return false
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.publisher != nil
}

// contentType returns the Content-Type that a receiver would be told now, "" while that
// is not known, false if its key is wrong. Any goroutine.
func (r *registry) contentType(name, key string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[name]
	if ch == nil {
		return "", true
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ring == nil {
		return "", true
	}
	return ch.index.contentType(ch.ContentType()), sameKey(key, ch.publisher.key)
}

// lock returns the channel of that name with its lock held.
func (r *registry) lock(name string) *Channel {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.channels[name]
	if ch == nil {
		ch = &Channel{srv: r.srv, name: name}
		r.channels[name] = ch
	}
	ch.mu.Lock()
	return ch
}

// update runs f with the channel's lock held and forgets the channel if f says so.
func (r *registry) update(ch *Channel, f func() (forget bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if f() && r.channels[ch.name] == ch {
		delete(r.channels, ch.name)
	}
}

// live returns the channels that have a publisher whose stream has begun. Any
// goroutine.
func (r *registry) live() (list []*Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ch := range r.channels {
		ch.mu.Lock()
		if ch.ring != nil {
			list = append(list, ch)
		}
		ch.mu.Unlock()
	}
	return list
}

// all returns the channels that are waiting or live. Any goroutine.
func (r *registry) all() []*Channel {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.channels))
}

// find returns the channel of that name, nil if nobody waits or publishes there. Any
// goroutine.
func (r *registry) find(name string) *Channel {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.channels[name]
}

// size returns how many channels are waiting or live. Any goroutine.
func (r *registry) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.channels)
}
