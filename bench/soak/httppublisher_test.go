//go:build soak && linux

package soak

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ws-stream-server/engine/wstest"
)

// putter is one life of a client that publishes over HTTP: a PUT or POST whose body is
// the stream.
type putter struct {
	*client
	s      *session
	peer   *peer
	secure bool
	total  uint32 // Content-Length; 0: the body is in chunks
	sent   uint32 // bytes of the stream that were written
	buf    []byte // what is written at once

	done chan struct{} // closed when the answer was read
	a    answer        // set before done is closed
}

// put is one life on a channel.
func (c *client) put(ch *channel, longest int) error {
	m, prof := c.round.model, body
	if ch.torrent {
		prof = bodyTorrent
	}
	denied := c.round.coordinator != nil && c.chance(10)
	s, alone := m.beginSession(ch, prof)
	c.round.coordinator.begin(s)
	key := ch.key
	if denied {
		key = "denied-" + key
	}
	p := &putter{client: c, s: s, secure: c.chance(5), done: make(chan struct{})}
	opts := []wstest.Option{wstest.AddHeader("Transfer-Encoding", "chunked")}
	if c.chance(3) {
		p.total = 1 + c.rng.Uint32N(uint32(prof.high)*40)
		opts = []wstest.Option{wstest.AddHeader("Content-Length", fmt.Sprint(p.total))}
	}
	if c.chance(3) {
		opts = append(opts, wstest.PipelinedRaw(p.next()))
	}
	p.perhapsLast()
	conn, err := c.ask([]string{"PUT", "POST"}[c.rng.IntN(2)], "/"+ch.name+"/"+key+"/publish", p.secure, opts...)
	if err != nil {
		m.neverBegan(s, false)
		if m.stopping.Load() {
			return nil
		}
		return wrongf("cannot send a request: %v", err)
	}
	c.note("session %d, %s, Content-Length %d", s.id, prof.name, p.total)
	p.peer = newPeer(conn)
	p.peer.mute = true
	_ = p.peer.nc.SetReadDeadline(time.Now().Add(silence / 4))
	p.setPeer(p.peer)
	go p.readAnswer()
	how := p.stream(c.between(0, longest))
	err = p.end(how)
	p.setPeer(nil)
	p.peer.release()
	c.round.stats.lives.Add(1)
	c.round.stats.overHTTP.Add(1)
	if err != nil {
		return err
	}
	return p.judge(how, denied, alone)
}

// readAnswer reads what the server says to a publisher, to the end of the connection.
func (p *putter) readAnswer() {
	defer close(p.done)
	resp, err := http.ReadResponse(p.peer.br, nil)
	if err != nil {
		p.a.err = err
		return
	}
	p.a.status = resp.StatusCode
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	p.a.text, p.a.err = string(b), err
}

// stream publishes for so long, or all that was declared, and returns how it is to end.
func (p *putter) stream(long time.Duration) (how finish) {
	for end := time.Now().Add(long); time.Now().Before(end) && p.round.going() && !p.gone(); {
		n := 1 + p.rng.IntN(4)
		if p.chance(20) {
			n += 30 // many at once
		}
		for ; n > 0; n-- {
			b, part := p.next(), 0
			if p.chance(10) {
				part = 1 + len(b)/(1+p.rng.IntN(20))
			}
			p.perhapsLast()
			if p.peer.sendRaw(b, part) != nil {
				return finClose // it is over, and the answer says why
			}
		}
		if p.total > 0 && p.sent == p.total || !p.rest(time.Duration(p.s.profile.everyMillis)*time.Millisecond) {
			break
		}
	}
	switch how = finish(p.rng.IntN(len(finishes))); {
	case p.chance(2) || how == finOversized || how == finTLS && !p.secure || how == finViolate && p.total > 0 || p.total > 0 && p.sent == p.total:
		return finClose
	}
	return how
}

// gone tells whether there is an answer already.
func (p *putter) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// next makes the next bytes of the body, in one chunk or in several.
func (p *putter) next() []byte {
	pr := p.s.profile
	n := uint32(pr.low + p.rng.IntN(pr.high-pr.low+1))
	if p.chance(40) {
		n = uint32(pr.rare)
	}
	return p.take(n)
}

// take makes the next n bytes of the stream a part of the body.
func (p *putter) take(n uint32) []byte {
	if p.total > 0 {
		n = min(n, p.total-p.sent)
	}
	p.s.begun.Store(p.sent + n)
	if p.total > 0 {
		p.buf = p.s.appendBytes(p.buf[:0], p.sent, n)
		p.sent += n
		return p.buf
	}
	p.buf = p.buf[:0]
	for n > 0 {
		m := n
		if p.chance(3) {
			m = 1 + p.rng.Uint32N(n)
		}
		extension := ""
		if p.chance(10) {
			extension = `;so="what"`
		}
		p.buf = fmt.Appendf(p.buf, "%x%s\r\n", m, extension)
		p.buf = append(p.s.appendBytes(p.buf, p.sent, m), "\r\n"...)
		p.sent += m
		n -= m
	}
	return p.buf
}

// perhapsLast is called before bytes of the body are written. With the last one that was
// declared the stream is over for the server, perhaps before our write returns.
func (p *putter) perhapsLast() {
	if p.total > 0 && p.sent == p.total {
		p.s.over.CompareAndSwap(0, p.round.model.now())
	}
}

// end ends the session, and waits for the answer or the end of the connection.
func (p *putter) end(how finish) error {
	p.note("over HTTP it "+finishes[how]+" after byte %d", p.sent)
	if how == finClose || p.chance(2) {
		p.begin(how)
	}
	p.s.over.CompareAndSwap(0, p.round.model.now())
	switch how {
	case finClose:
		if p.total == 0 {
			_ = p.peer.sendRaw([]byte([]string{"0\r\n\r\n", "000;x\r\nTrailer: y\r\n\r\n"}[p.rng.IntN(2)]), 0)
		}
	case finHalf:
		_ = p.peer.tcp.CloseWrite()
	case finReset:
		p.peer.reset()
	case finVanish:
		_ = p.peer.tcp.Close()
	case finViolate:
		_ = p.peer.sendRaw([]byte("no size\r\n"), 0)
	case finTLS:
		_, _ = p.peer.tcp.Write([]byte("this is no record of TLS, whatever it is"))
	case finOversized: // a body may be endless
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(endPatience):
		p.peer.reset()
		<-p.done
		return wrongf("no end %v after it %s", endPatience, finishes[how])
	}
}

// begin writes what is still to come before the end: all that was declared, or a part
// of a chunk that will never be whole.
func (p *putter) begin(how finish) {
	if how == finClose {
		for p.sent < p.total && !p.gone() {
			b := p.take(mostRead)
			p.perhapsLast()
			_ = p.peer.sendRaw(b, 0)
		}
		return
	}
	if how == finViolate || p.total > 0 {
		return
	}
	n := 1 + p.rng.Uint32N(9000)
	p.s.begun.Store(p.sent + n)
	b := p.s.appendBytes(fmt.Appendf(nil, "%x\r\n", n+1), p.sent, n)
	p.sent += n
	_ = p.peer.sendRaw(b, 0)
}

// judge judges how the server took a publisher's end.
func (p *putter) judge(how finish, denied, alone bool) error {
	m, a := p.round.model, p.a
	p.note("the end: %v", a)
	if a.status != http.StatusTooManyRequests {
		p.refusals = 0
	}
	forbidden := a.status == http.StatusForbidden
	refused := a.status == http.StatusTooManyRequests ||
		forbidden && (strings.Contains(a.text, "already has a publisher") || strings.Contains(a.text, "was refused"))
	if refused {
		alone = m.neverBegan(p.s, true) && alone
		return p.refused(denied, alone)
	}
	m.endSession(p.s, a.status != 0)
	if w := asWrong(a.err); w != nil {
		return w
	}
	cut, stopping := p.s.cutShort.Load(), m.stopping.Load()
	switch {
	case a.status == http.StatusServiceUnavailable && (cut || stopping), forbidden && cut && strings.Contains(a.text, "killed"):
		p.round.stats.killed.Add(1)
		p.rest(p.between(0, 500))
		return nil
	case denied && (a.status != 0 || how == finClose || how == finViolate):
		if a.status == 0 && (cut || stopping) {
			return nil
		}
		return wrongf("a publisher that was denied is answered %d %q, %v", a.status, a.text, a.err)
	case how == finReset, how == finVanish, how == finTLS:
		return nil
	case a.status == 0 && (cut || stopping):
		return nil
	case how == finHalf && a.status == 0 && denied:
		return nil
	case how == finHalf && a.status == 0,
		how == finViolate && a.status == http.StatusBadRequest && strings.Contains(a.text, "Protocol error"),
		how == finClose && a.status == http.StatusOK && strings.Contains(a.text, "published"):
		return p.s.settle(p.sent)
	}
	return wrongf("it %s, and is answered %d %q, %v", finishes[how], a.status, a.text, a.err)
}

// refused judges a refusal before the stream has begun.
func (p *putter) refused(denied, alone bool) error {
	switch {
	case p.a.status == http.StatusTooManyRequests:
		return p.crowded()
	case denied && strings.Contains(p.a.text, "was refused"):
		p.round.stats.denied.Add(1)
		return nil
	case !alone && strings.Contains(p.a.text, "already has"):
		p.round.stats.taken.Add(1)
		p.rest(p.between(5, 300))
		return nil
	}
	return wrongf("refused: %d %q", p.a.status, p.a.text)
}
