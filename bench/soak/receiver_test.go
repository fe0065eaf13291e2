//go:build soak && linux

package soak

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"ws-stream-server/engine/wstest"
)

// receiver is one life of a client that receives.
type receiver struct {
	*client
	*track
	plan plan
	peer *peer

	acting  sync.Once
	did     act           // set before caused, then static
	caused  atomic.Int64  // model.now when it did what may end the connection; 0: it did not
	eager   chan struct{} // closed when it reads as fast as it can, whatever the plan
	paused  time.Duration // owned by the reader: how long it has not read
	pings   atomic.Uint64 // sent
	answers uint64        // owned by the reader: the last ping that was answered
}

// act is what a receiver does to its connection when its time has come.
type act uint8

const (
	stay      act = iota // to the end
	leave                // a close frame
	reset                // a TCP reset
	vanish               // no close frame
	halfClose            // the sending side only
	violate              // RFC 6455
	breakTLS             // bytes that are no record
)

var acts = [...]string{"stays", "leaves", "resets", "vanishes", "half-closes", "violates", "breaks TLS"}

// plan is what a receiver is going to do.
type plan struct {
	kind      string
	secure    bool
	act       act
	after     time.Duration // until act
	violation int
	crawl     bool            // reads a few KiB a second
	stalls    []time.Duration // pairs: when, since the 101, and for how long it does not read
	pingEvery int             // packets; 0: never
	nuisance  bool
	buffer    int // SO_RCVBUF; 0: the system's
}

func (c *client) planReceiver(ch *channel) plan {
	p := plan{kind: "receive", secure: c.chance(4), pingEvery: c.rng.IntN(20), nuisance: c.chance(8)}
	switch {
	case c.chance(8):
		p.kind = "probe"
	case ch.encoder && c.chance(2):
		p.kind = "receive-clear-cache"
	}
	if c.chance(2) {
		p.act = act(1 + c.rng.IntN(len(acts)-1))
		if p.act == breakTLS && !p.secure {
			p.act = reset
		}
		p.after = c.between(0, 6000)
		p.violation = c.rng.IntN(len(violations))
	}
	slow := c.rng.IntN(8)
	if ch.torrent {
		slow /= 2 // who is slow there is left behind
	}
	switch slow {
	case 0:
		p.crawl = true
		p.buffer = 4 << 10
	case 1, 2:
		for at := c.between(0, 2000); at < 20*time.Second && len(p.stalls) < 8; {
			d := c.between(200, 8000)
			p.stalls = append(p.stalls, at, d)
			at += d + c.between(0, 4000)
		}
		p.buffer = 4<<10 + c.rng.IntN(64<<10)
	}
	return p
}

// receive is one life.
func (c *client) receive() error {
	if c.chance(5) {
		return c.receiveHTTP()
	}
	ch := c.round.pick(c.rng)
	plan := c.planReceiver(ch)
	t := c.newTrack(ch, plan)
	opts := plan.options()
	if c.chance(8) {
		opts = append(opts, wstest.PipelinedRaw(c.nuisance(wstest.Binary)))
	}
	t.t0 = t.m.moment(ch, false)
	conn, resp, err := c.open(t.path(plan), plan.secure, opts...)
	if conn == nil {
		return c.refused(resp, err)
	}
	t.t1 = t.m.moment(ch, true)
	r := newReceiver(c, t, plan, conn)
	c.note(plan.String())
	return r.lived(r.live())
}

func (c *client) newTrack(ch *channel, p plan) *track {
	return &track{m: c.round.model, ch: ch, probe: p.kind == "probe", clears: p.kind == "receive-clear-cache", wrongKey: c.chance(25)}
}

func newReceiver(c *client, t *track, p plan, conn opened) *receiver {
	return &receiver{client: c, track: t, plan: p, peer: newPeer(conn), eager: make(chan struct{})}
}

// path is where the receiver of a track connects to.
func (t *track) path(p plan) string {
	key := t.ch.key
	if t.wrongKey {
		key = "wrong-key"
	}
	return "/" + t.ch.name + "/" + key + "/" + p.kind
}

func (p plan) options() (opts []wstest.Option) {
	if p.buffer > 0 {
		opts = append(opts, wstest.ReceiveBuffer(p.buffer))
	}
	return opts
}

// lived counts a life that has ended like this, and rests.
func (r *receiver) lived(err error) error {
	r.round.stats.lives.Add(1)
	r.round.stats.packets.Add(int64(r.packets))
	if r.overHTTP {
		r.round.stats.overHTTP.Add(1)
	}
	if err == nil {
		r.client.rest(r.between(0, 500))
	}
	return err
}

func (p plan) String() string {
	s := fmt.Sprintf("%s after %v", acts[p.act], p.after)
	if p.act == stay {
		s = "stays"
	}
	if p.act == violate {
		s += ": " + violations[p.violation].name
	}
	if p.crawl {
		s += ", crawls"
	}
	if len(p.stalls) > 0 {
		s += fmt.Sprintf(", stalls (when, how long) %v", p.stalls)
	}
	return s
}

// refused judges a handshake that was not answered with 101.
func (c *client) refused(resp *wstest.Response, err error) error {
	switch {
	case c.round.model.stopping.Load():
		return nil
	case err != nil:
		return wrongf("no answer to a handshake: %v", err)
	case resp.Status == 429:
		return c.crowded()
	}
	return wrongf("refused: %v", resp)
}

// crowded is told of a 429: the places of those that have left must come back.
func (c *client) crowded() error {
	c.round.stats.crowded.Add(1)
	if c.refusals++; c.refusals > 100 {
		return wrongf("429 again and again: the places of this address do not come back")
	}
	c.rest(c.between(100, 1000))
	return nil
}

// live reads until the connection ends, while the plan is carried out.
func (r *receiver) live() error {
	r.refusals = 0
	stop := r.carryOut()
	if r.plan.nuisance {
		_ = r.peer.sendRaw(r.nuisance(wstest.Binary), 0)
	}
	e := r.read()
	if e.code != 0 && asWrong(e.err) == nil {
		if err := r.peer.awaitEnd(); err != nil {
			e.err = err
		}
	}
	stop()
	r.note("the end: %v, after %d packets, next %d", e, r.packets, r.next)
	err := r.judge(e)
	r.peer.release()
	return err
}

// carryOut begins with what is planned, and returns what calls it off.
func (r *receiver) carryOut() (stop func()) {
	begin := time.Now()
	if r.plan.crawl {
		r.peer.chunk.Store(1 << 10)
	}
	if r.plan.crawl || len(r.plan.stalls) > 0 {
		pause := func() error { r.slow(begin); return nil }
		r.peer.pause.Store(&pause)
	}
	r.peer.idle = r.idle
	_ = r.peer.nc.SetReadDeadline(time.Now().Add(silence / 4))
	r.setPeer(r.peer)
	callOff := func() {}
	if r.plan.act != stay {
		callOff = after(time.Duration(float64(r.plan.after)*r.round.pace()), func() { r.doAct(r.plan.act) })
	}
	return func() {
		callOff()
		r.setPeer(nil)
	}
}

// slow is called before each read of a receiver that does not read as fast as it can.
func (r *receiver) slow(begin time.Time) {
	select {
	case <-r.eager:
		r.peer.chunk.Store(0)
		return
	case <-r.round.closing:
		r.peer.chunk.Store(0)
		return
	default:
	}
	var d time.Duration
	if s := r.plan.stalls; len(s) > 0 && time.Since(begin) >= s[0] {
		d = s[1]
		r.plan.stalls = s[2:]
	} else if r.plan.crawl {
		d = 300 * time.Millisecond
		r.ping()
	}
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	from := time.Now()
	select {
	case <-t.C:
	case <-r.eager:
	case <-r.round.closing:
	}
	r.paused += time.Since(from)
	r.peer.waits = time.Now()
}

// ping asks for a pong: the client's and the ping's number.
func (r *receiver) ping() {
	if r.overHTTP {
		return
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(r.number)<<32|r.pings.Add(1))
	_ = r.peer.send(wstest.Frame{Op: wstest.Ping, Payload: b})
}

// doAct does what was planned, or leaves at the round's end: whichever comes first. Any
// goroutine.
func (r *receiver) doAct(a act) {
	r.acting.Do(func() {
		r.note(acts[a])
		r.did = a
		r.caused.Store(r.m.now())
		switch a {
		case leave:
			_ = r.peer.sendClose(1000)
		case reset:
			r.peer.reset()
		case vanish:
			_ = r.peer.tcp.Close()
		case halfClose:
			_ = r.peer.tcp.CloseWrite()
		case violate:
			_ = r.peer.sendRaw(violations[r.plan.violation].bytes(), 0)
		case breakTLS:
			_, _ = r.peer.tcp.Write([]byte("this is no record of TLS, whatever it is"))
		}
		close(r.eager)
	})
}

// idle is asked when nothing came for a while, or when the round ends.
func (r *receiver) idle() error {
	if !r.round.publishersGone.Load() || r.caused.Load() != 0 {
		return r.overdue()
	}
	if r.session == nil { // it waits, for nobody
		if r.overHTTP {
			r.doAct(vanish)
		}
		r.doAct(leave)
	}
	return r.overdue()
}

// overdue tells whether the end that must come is late.
func (r *receiver) overdue() error {
	if at := r.caused.Load(); at != 0 && r.m.now()-at > int64(endPatience) {
		return wrongf("no end %v after it %s", endPatience, acts[r.did])
	}
	if s := r.session; s != nil {
		if over := s.over.Load(); over != 0 && r.m.now()-over > int64(endPatience) && time.Since(r.peer.waits) > endPatience/2 {
			return wrongf("session %d is over since %v, and the receiver waits for packet %d", s.id, time.Duration(r.m.now()-over), r.next)
		}
	}
	return nil
}
