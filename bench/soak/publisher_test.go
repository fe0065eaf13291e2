//go:build soak && linux

package soak

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"ws-stream-server/engine/wstest"
)

// finish is how a publisher ends.
type finish uint8

const (
	finClose   finish = iota // a close frame
	finHalf                  // the sending side shut down
	finReset                 // a TCP reset, perhaps in the middle of a frame
	finVanish                // no close frame, perhaps in the middle of a message
	finViolate               // a violation of RFC 6455
	finOversized
	finTLS // bytes that are no record
)

var finishes = [...]string{"closes", "half-closes", "resets", "vanishes", "violates", "sends too much", "breaks TLS"}

// publisher is one life of a client that publishes.
type publisher struct {
	*client
	s        *session
	peer     *peer
	secure   bool
	sent     uint32        // owned by the writer: packets that were written whole
	asked    [2]uint32     // owned by the writer: what the last two pings stood behind
	buf      []byte        // owned by the writer: what is written at once
	packet   []byte        // owned by the writer
	ponged   chan uint32   // what a pong stood behind
	asksAt   atomic.Int64  // model.now when the oldest ping without a pong was sent; 0: there is none
	answered atomic.Uint32 // packets before the last ping that was answered

	done chan struct{} // closed when the reader has read the end
	e    ending        // set before done is closed
}

// publish is one life on a channel.
func (c *client) publish(ch *channel, longest int) error {
	if c.chance(5) {
		return c.put(ch, longest)
	}
	m := c.round.model
	prof := profiles[c.rng.IntN(len(profiles))]
	if ch.torrent {
		prof = torrent
	}
	denied := c.round.coordinator != nil && c.chance(10)
	s, alone := m.beginSession(ch, prof)
	c.round.coordinator.begin(s)
	key := ch.key
	if denied {
		key = "denied-" + key
	}
	p := &publisher{client: c, s: s, secure: c.chance(5), ponged: make(chan uint32, 64), done: make(chan struct{})}
	var opts []wstest.Option
	if c.chance(4) && alone {
		opts = append(opts, wstest.PipelinedRaw(p.pipelined(1+c.rng.IntN(3))))
	}
	conn, resp, err := c.open("/"+ch.name+"/"+key+"/publish", p.secure, opts...)
	if conn == nil {
		alone = m.neverBegan(s, err == nil) && alone
		return p.refused(resp, err, denied, alone)
	}
	c.refusals = 0
	c.note("session %d, %s", s.id, prof.name)
	p.peer = newPeer(conn)
	p.setPeer(p.peer)
	go p.read()
	err = p.stream(c.between(0, longest))
	p.setPeer(nil)
	<-p.done // stream has bounded it
	p.peer.release()
	c.round.stats.lives.Add(1)
	if denied && err == nil {
		return wrongf("a publisher that was denied is let in")
	}
	return err
}

// pipelined returns the first packets, sent along with the handshake.
func (p *publisher) pipelined(n int) []byte {
	for range n {
		p.s.begun.Store(p.sent + 1)
		p.buf = appendFrame(p.buf, wstest.Frame{Op: wstest.Binary, Payload: p.s.appendPacket(nil, p.sent)})
		p.sent++
	}
	return p.buf
}

// refused judges the answer of a publisher that is not let in. alone says that
// nobody else can have the channel.
func (p *publisher) refused(resp *wstest.Response, err error, denied, alone bool) error {
	switch {
	case p.round.model.stopping.Load():
		return nil
	case err != nil && p.sent > 0 && (denied || p.s.cutShort.Load()):
		return nil // a refusal (403, or 503 for the link) may be lost behind what was sent along
	case err != nil:
		return wrongf("no answer to a handshake: %v", err)
	case resp.Status == 429:
		return p.crowded()
	case resp.Status == 503 && p.s.cutShort.Load():
		p.round.stats.unavailable.Add(1)
		p.rest(p.between(200, 1500))
		return nil
	case resp.Status == 403 && denied:
		p.round.stats.denied.Add(1)
		return nil
	case resp.Status == 403 && !alone:
		p.round.stats.taken.Add(1)
		p.rest(p.between(5, 300))
		return nil
	}
	return wrongf("refused: %v", resp)
}

// stream publishes for so long, then ends.
func (p *publisher) stream(long time.Duration) error {
	for end := time.Now().Add(long); time.Now().Before(end) && p.round.going(); {
		if err := p.burst(); err != nil {
			return err
		}
		if p.gone() || !p.rest(time.Duration(p.s.profile.everyMillis)*time.Millisecond) {
			break
		}
	}
	if p.gone() {
		p.s.over.Store(p.round.model.now())
		return p.judgeEnd(finClose, 0)
	}
	how := finClose
	if p.chance(2) {
		how = finish(p.rng.IntN(len(finishes)))
	}
	if how == finTLS && !p.secure {
		how = finReset
	}
	return p.end(how)
}

// gone tells whether the server has ended the session by itself.
func (p *publisher) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// burst writes some packets and a ping, and waits for the answer to the ping before.
func (p *publisher) burst() error {
	n := 1 + p.rng.IntN(4)
	if p.chance(20) {
		n += 50 // many at once
	}
	p.buf = p.buf[:0]
	for range n {
		p.s.begun.Store(p.sent + 1)
		p.packet = p.s.appendPacket(p.packet[:0], p.sent)
		p.sent++
		p.buf = p.appendMessage(p.buf, p.packet)
		if len(p.buf) > 2*mib {
			break
		}
	}
	ping := binary.BigEndian.AppendUint32(nil, p.sent)
	p.buf = wstest.Frame{Op: wstest.Ping, Payload: ping}.AppendTo(p.buf)
	p.asksAt.CompareAndSwap(0, p.round.model.now())
	part := 0
	if p.chance(10) {
		part = 1 + len(p.buf)/(1+p.rng.IntN(20))
	}
	if p.peer.sendRaw(p.buf, part) != nil {
		return p.noLonger() // the reader has found out why
	}
	if cap(p.buf) > mib {
		p.buf = nil
	}
	p.asked[0], p.asked[1] = p.asked[1], p.sent
	return p.await(p.asked[0])
}

// noLonger waits until the reader knows why nothing can be written any more.
func (p *publisher) noLonger() error {
	select {
	case <-p.done:
		return nil
	case <-time.After(endPatience):
		p.peer.reset()
		return wrongf("nothing can be written, and nothing is said about it")
	}
}

// await waits until the server is known to have so many packets.
func (p *publisher) await(n uint32) error {
	patience := time.NewTimer(endPatience)
	defer patience.Stop()
	for p.answered.Load() < n {
		select {
		case <-p.ponged:
		case <-p.done:
			return nil
		case <-patience.C:
			p.peer.reset()
			return wrongf("no pong for the ping behind packet %d in %v", n, endPatience)
		}
	}
	return nil
}

// appendMessage appends a packet, in one frame or in several with others between.
func (p *publisher) appendMessage(b, payload []byte) []byte {
	if p.chance(12) {
		b = append(b, p.nuisance(wstest.Text)...)
	}
	if !p.chance(6) {
		return appendFrame(b, wstest.Frame{Op: wstest.Binary, Payload: payload})
	}
	for _, f := range wstest.Message(wstest.Binary, payload, 2+p.rng.IntN(5)) {
		b = appendFrame(b, f)
		if f.More && p.chance(3) {
			b = wstest.Frame{Op: wstest.Pong}.AppendTo(b)
		}
	}
	return b
}

// end ends the session.
func (p *publisher) end(how finish) error {
	p.s.over.Store(p.round.model.now())
	p.note(finishes[how]+" after packet %d", p.sent)
	violation := p.rng.IntN(len(violations))
	half := wstest.Frame{Op: wstest.Binary, More: true, Payload: make([]byte, p.rng.IntN(9000))}.AppendTo(nil)
	if how == finReset || how == finVanish {
		half = half[:p.rng.IntN(len(half)+1)]
	}
	if p.chance(2) && how != finViolate && how != finOversized {
		_ = p.peer.sendRaw(half, 0) // of a packet that will never be one
	}
	want := 1000
	switch how {
	case finClose:
		_ = p.peer.sendClose(1000)
	case finHalf:
		_ = p.peer.tcp.CloseWrite()
	case finReset:
		p.peer.reset()
	case finVanish:
		_ = p.peer.tcp.Close()
	case finViolate:
		p.note("violates: " + violations[violation].name)
		want = violations[violation].code
		_ = p.peer.sendRaw(violations[violation].bytes(), 0)
	case finOversized:
		want = 1009
		_ = p.peer.sendRaw(oversized(), 0)
	case finTLS:
		_, _ = p.peer.tcp.Write([]byte("this is no record of TLS, whatever it is"))
	}
	select {
	case <-p.done:
	case <-time.After(endPatience):
		p.peer.reset()
		return wrongf("no end %v after it %s", endPatience, finishes[how])
	}
	return p.judgeEnd(how, want)
}

// read reads what the server says to a publisher, to the end.
func (p *publisher) read() {
	defer close(p.done)
	_ = p.peer.nc.SetReadDeadline(time.Now().Add(silence / 4))
	for p.e.err == nil && p.e.code == 0 {
		op, size, err := p.peer.header()
		if err != nil {
			p.e.err = err
			break
		}
		var b []byte
		if b, p.e.err = p.peer.small(size); p.e.err != nil {
			break
		}
		if op != wstest.Pong {
			p.e.err = p.e.take(p.peer, op, b)
			continue
		}
		p.e.err = p.pong(b)
	}
	if p.e.code != 0 && asWrong(p.e.err) == nil {
		if err := p.peer.awaitEnd(); err != nil {
			p.e.err = err
		}
	}
}

// pong takes the answer to a ping: all that stood before it was published.
func (p *publisher) pong(b []byte) error {
	if len(b) != 4 {
		return wrongf("a pong of %d bytes", len(b))
	}
	n := binary.BigEndian.Uint32(b)
	if n > p.s.begun.Load() {
		return wrongf("a pong that answers no ping: %d", n)
	}
	if at := p.asksAt.Swap(0); at != 0 {
		p.round.answered(p.round.model.now() - at)
	}
	// A server that ends the session by itself answers pings behind what it drops.
	if !p.s.cutShort.Load() && !p.round.model.stopping.Load() {
		raise(&p.s.known, n)
	}
	raise(&p.answered, n)
	select {
	case p.ponged <- n:
	default: // there is news enough
	}
	return nil
}

// judgeEnd judges how the server took a publisher's end, after which it wants a close
// code; 0: the publisher did nothing to end.
func (p *publisher) judgeEnd(how finish, want int) error {
	p.note("the end: %v, packets known to be there %d", p.e, p.s.known.Load())
	p.round.model.endSession(p.s, p.e.code != 0)
	if w := asWrong(p.e.err); w != nil {
		return w
	}
	cut := p.s.cutShort.Load()
	switch code := p.e.code; {
	case code == 4000 && cut, code == 1013 && cut, code == 1001 && p.round.model.stopping.Load():
		p.round.stats.killed.Add(1)
		return nil
	case want == 0:
		return wrongf("closed with %v while it publishes", p.e)
	case how == finReset, how == finVanish, how == finTLS:
		return nil
	case how == finHalf:
		if cut || p.round.model.stopping.Load() {
			return nil
		}
		if code != 0 && code != want {
			return wrongf("half-closed, and the server says %v", p.e)
		}
	case code != want:
		return wrongf("closed with %v, wanted %d", p.e, want)
	case (p.e.fault != "") != (want != 1000):
		return wrongf("closed with %v", p.e)
	}
	return p.s.settle(p.sent)
}
