package engine

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lesismal/nbio"
	"github.com/valyala/bytebufferpool"

	"ws-stream-server/auth"
	"ws-stream-server/engine/frame"
	"ws-stream-server/ring"
)

// session is the server's side of one connection after the hand-over. Bytes enter
// in inbound.go and leave in outbound.go.
//
// Its life: made by the handshake's goroutine, joined to its channel, handed over
// to a poller, ended for a reason, closed. end may come from any goroutine at any
// of these moments; closed runs once, when the connection is gone.
type session struct {
	// What a pass looks at comes first: with a thousand receivers each cache line
	// of it is fetched anew each time.

	// Guarded by mu, the write lock: exactly one goroutine at a time writes.
	mu         sync.Mutex
	mid        bool // a packet was begun and not finished: no control frame may follow
	closeSent  bool // the close frame was handed over: nothing follows
	halfClosed bool // the sending side is shut down
	torn       bool // a control frame is being written, or a fault came in between: nothing may follow

	// Static after construction.
	kind   kind
	door   doorway
	noText bool // the client takes every message for media: it is sent no TEXT

	// Set before the session is in the roster, then static.
	secure bool // it speaks TLS

	// Static after construction.
	srv *Server

	// Atomic. skipped is set by a pass that found the socket taken: whoever frees it
	// wakes the group. unsent is what nbio was given and the kernel has not taken; the
	// socket is free at 0. It is 1 from the start to the hand-over. writing counts
	// the beginnings and the ends of nbio's Write: odd while one is under way. Only
	// the write lock's holder raises it.
	skipped atomic.Bool
	writing atomic.Uint32
	unsent  atomic.Int64

	// Atomic: what waits to be written at the next frame boundary (send* bits).
	pending atomic.Uint32

	// Atomic, any goroutine.
	ending atomic.Uint32 // reason in the low half, close code in the high one
	gone   atomic.Bool   // closed has run
	broken atomic.Bool   // a fault ends it: see fault.go

	// Set before the poller knows the connection, then static.
	conn *nbio.Conn
	tls  *tlsLink // nil: plain

	// Atomic, Server.now: the last packet bytes that the kernel took, the last byte
	// received.
	progress, life atomic.Int64

	// Static after construction.
	id    uint64 // never used again by this process
	name  string // of the channel
	key   string
	addr  netip.AddrPort
	began int64 // Server.now

	// Set before the poller knows the connection, then static.
	early *early // owned by the poller from the hand-over on
	ch    *Channel
	grant *auth.Grant // publishers only
	ring  *ring.Ring  // publishers only; nil: it was ended before its start
	http  *httpSide   // static after construction; nil: the door is WebSocket's

	// Owned by the roster and guarded by its shard's lock; place is -1 before.
	shard, place int32

	// Guarded by Channel.mu: the place in Channel.waiting, -1 when not there.
	waiting int32

	// Owned by the sweep.
	beats     uint8 // looks since the last heartbeat
	postponed uint8 // looks for which that was put off

	// Static after construction.
	start start // where a receiver begins

	// Set by the end, before the session is in the closing list, then static.
	endedAt int64 // Server.now

	// Owned by the sweep: what the client had acknowledged when it was last looked at,
	// in bytes, 0 if that is not known, what nbio and the kernel held for it then, and
	// when it was last known to take packets (Server.now). Once it is closing: what it
	// has not taken, in bytes, and since when it is that much.
	acked           uint64
	held            int64
	took            int64
	kept, keptSince int64

	// Guarded by in.mu: what the client sends.
	in inbound

	// Atomic: the answers to pings, frames that belong to whoever swaps them out.
	pongs atomic.Pointer[[]byte]

	// Atomic, any goroutine.
	group      atomic.Pointer[group] // nil: not (or no longer) drained
	queued     atomic.Bool           // in a drainer's queue by itself
	handed     atomic.Bool           // the poller knows the connection
	clientDone atomic.Bool           // the client's close frame came
	slotFreed  atomic.Bool
	released   atomic.Bool // closed has given everything back
	farewelled atomic.Bool // farewell has run

	// Atomic, any goroutine: what it has done; nil: nothing yet, see tallied.
	tally atomic.Pointer[tally]
}

// inbound is what a session has received and not used up.
type inbound struct {
	mu    sync.Mutex // held by the poller for one event, by who ends the channel, by closed
	dec   frame.Decoder
	msg   *bytebufferpool.ByteBuffer // a message that is being put together
	size  atomic.Int64               // what msg takes, in bytes; stored under mu, read by any goroutine
	phase phase                      // of what is published
	deaf  bool                       // the session ends, or a violation was found: the rest is discarded
}

// phase is how far a publisher has come.
type phase uint8

const (
	phaseBeginning phase = iota // nothing was published yet but, perhaps, empty packets
	phaseRunning
	phaseOver // nothing is published any more
)

// newSession makes a session. What t says is a part of the request's line, which may be
// long and is not kept.
func (srv *Server) newSession(t target, addr netip.AddrPort) *session {
	name, key := strings.Clone(t.channel), strings.Clone(t.key)
	s := &session{srv: srv, id: srv.ids.Add(1), name: name, key: key, addr: addr, kind: t.kind, began: srv.now(), waiting: -1, place: -1}
	if t.kind == publish {
		s.in.dec.MaxMessage = int64(srv.cfg.MaxMessageMB) * mib
	}
	s.unsent.Store(1)
	s.life.Store(s.began)
	return s
}

// reason returns why the session ends, notEnded while it does not.
func (s *session) reason() reason { return reason(s.ending.Load() & 0xffff) }

// end ends the session: the close frame goes out at the next frame boundary, a
// publisher's channel becomes free. The first reason stays. Any goroutine that
// does not hold in.mu or the channel's lock; it never blocks on a socket.
func (s *session) end(r reason) { s.endWith(r, closings[r].code) }

func (s *session) endWith(r reason, code uint16) {
	if !s.ending.CompareAndSwap(0, uint32(r)|uint32(code)<<16) {
		return
	}
	s.endedAt = s.srv.now()
	wait := closeTimeout
	if s.mustCut(r) {
		wait = 0 // there is nothing to say
	}
	s.srv.closing.add(s, s.endedAt+int64(wait))
	if s.kind == publish {
		s.ch.end(s)
	}
	s.raise(sendClose)
	s.wakeOwner()
}

// handedOver tells that the poller knows the connection: it may be written to
// from now on. Called on the poller, once.
func (s *session) handedOver() {
	s.handed.Store(true)
	if s.unsent.Add(-1) < 0 { // closed has been faster, and has taken this one along
		s.unsent.Add(1)
		s.srv.budget.add(1)
	}
	s.flushPending()
	s.wakeOwner()
}

// wakeOwner has whoever serves the session look at it. Any goroutine, also under
// nbio's lock: it only marks and wakes.
func (s *session) wakeOwner() {
	if g := s.group.Load(); g != nil {
		g.wakeNow()
		return
	}
	if !s.queued.Swap(true) {
		// Any one will do. Clients of a proxy have no port that would spread them: the
		// microsecond in which they came does.
		s.srv.drainers[uint64(s.began>>10)%uint64(len(s.srv.drainers))].add(s)
	}
}

// run is the session's turn on a drainer while no group serves it.
func (s *session) run() {
	s.queued.Store(false)
	s.flushPending()
	s.finish()
}

// abort cuts the connection; closed follows. A session that is not handed over yet
// is left to its handshake. Called by the sweep, and at the end of a shutdown.
//
// The policy: what the kernel holds for a client is forgotten with the session if the
// client is not there any more, or would not find the close frame behind it. Else the
// kernel goes on, as long as the client takes something.
func (s *session) abort() {
	if !s.handed.Load() {
		return
	}
	s.mu.Lock()
	told := s.closeSent && s.free()
	s.mu.Unlock()
	if !told || s.reason() == noSignOfLife && inKernel(s.conn) > 0 {
		forgetUnsent(s.conn)
	}
	s.close()
}

// close closes the connection; closed follows. What the kernel still holds for the
// client it goes on sending. The session is handed over. Any goroutine.
func (s *session) close() {
	boundAfterlife(s.conn, afterlife)
	_ = s.conn.Close()
}

// closed gives everything back. It runs once, on nbio's goroutine for closed
// connections or on the one where the hand-over failed; nothing here waits for a socket or for the log.
func (s *session) closed() {
	if s.gone.Swap(true) {
		return
	}
	s.end(clientGone)
	s.ch.leave(s)
	s.freeSlot()
	s.in.mu.Lock()
	s.dropMessage()
	s.in.deaf = true
	s.in.mu.Unlock()
	s.srv.closing.remove(s)
	if s.handed.Load() {
		s.dropUnsent()
	}
	if s.tls != nil {
		s.tls.release()
	}
	s.released.Store(true)
	if s.group.Load() == nil {
		s.farewell()
	}
}

// farewell is the last that happens to a session: closed has run, and no group has it
// any more. Who comes second of the two calls it, or both do. Any goroutine; it waits
// for nothing.
func (s *session) farewell() {
	if s.farewelled.Swap(true) {
		return
	}
	if s.kind == publish {
		s.observePublished()
	}
	s.logEnd()
	s.srv.ends.count(s.reason())
	s.srv.roster.remove(s)
}

// farewell is that on a drainer, when the pass that let go of the session is over.
type farewell struct{ s *session }

func (f farewell) run() { f.s.farewell() }

// freeSlot gives the place of the address and the one among all connections back, once.
func (s *session) freeSlot() {
	if !s.slotFreed.Swap(true) {
		s.srv.filter.Release(s.addr.Addr())
		s.srv.places.release()
	}
}
