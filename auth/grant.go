package auth

// Revocation says why the coordinator took a grant back.
type Revocation uint8

const (
	// Killed: the coordinator sent STREAM-KILL.
	Killed Revocation = iota + 1
	// LinkReset: the link was lost and is back, and the coordinator believes
	// the publishers of the earlier link gone.
	LinkReset
)

// String returns the word for logs.
func (r Revocation) String() string {
	switch r {
	case Killed:
		return "killed"
	case LinkReset:
		return "link-reset"
	default:
		return "none"
	}
}

// Grant is one accepted publishing session. Any goroutine may call its methods.
// The zero Grant is that of a stand-alone server: never revoked, told to nobody.
type Grant struct {
	// Static after construction.
	channel  string
	streamID string
	coord    *Coordinator // nil: stand-alone
	link     *link        // the link it was accepted on, the only one it may be ended on

	// Guarded by coord.mu.
	revoked  Revocation       // 0: not revoked
	ended    bool             // nothing is sent any more, nor called from now on
	onRevoke func(Revocation) // nil: not set yet, or already handed out to be called
}

// StreamID returns the coordinator's name for the session; empty when stand-alone.
func (g *Grant) StreamID() string { return g.streamID }

// OnRevoke sets what to call, at most once, when the coordinator takes the grant
// back. If it already did, f is called before OnRevoke returns; otherwise on the
// goroutine that serves the link, so f must not block. A grant that has ended is
// not taken back any more, but a call that End crossed may still arrive. To be
// called once.
func (g *Grant) OnRevoke(f func(Revocation)) {
	if g.coord == nil {
		return
	}
	g.coord.mu.Lock()
	why := g.revoked
	if g.ended {
		why = 0
	} else if why == 0 {
		g.onRevoke = f
	}
	g.coord.mu.Unlock()
	if why != 0 {
		f(why)
	}
}

// End tells the coordinator that the session is over, for whatever reason. The
// message is queued when End returns, so a request for the same channel made
// after that reaches the coordinator later; End never waits for the network.
// A second call does nothing. On a link that is lost nothing is sent.
func (g *Grant) End() {
	if g.coord == nil {
		return
	}
	g.coord.mu.Lock()
	defer g.coord.mu.Unlock()
	if g.ended {
		return
	}
	g.ended = true
	delete(g.coord.grants, g)
	g.link.enqueue(publishEnd(g.channel, g.streamID))
}

// revoke marks a grant that is in coord.grants as taken back. It returns what the
// caller must call once it has released coord.mu, or nil. The caller holds coord.mu.
func (g *Grant) revoke(why Revocation) func() {
	delete(g.coord.grants, g)
	g.revoked = why
	f := g.onRevoke
	g.onRevoke = nil
	if f == nil {
		return nil // OnRevoke calls it
	}
	return func() { f(why) }
}
