//go:build soak && linux

package soak

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"syscall"

	"ws-stream-server/engine/wstest"
)

// answer is how a request of plain HTTP was answered.
type answer struct {
	status int    // 0: nothing came
	text   string // of one that is no stream
	whole  bool   // the stream's answer has come to its end, in order
	err    error  // why nothing more comes
}

func (a answer) String() string {
	end := "cut off"
	if a.whole {
		end = "whole"
	}
	return fmt.Sprintf("status %d %q, %s, %v", a.status, a.text, end, a.err)
}

// receiveHTTP is one life of a receiver over HTTP.
func (c *client) receiveHTTP() error {
	ch := c.round.pick(c.rng)
	plan, old := c.planReceiver(ch), c.chance(4)
	if plan.act == violate || plan.act == leave { // there is nothing to violate, and no word for leaving
		plan.act = vanish
	}
	t := c.newTrack(ch, plan)
	t.overHTTP = true
	opts := plan.options()
	if old {
		opts = append(opts, wstest.Proto("HTTP/1.0"))
	}
	if plan.nuisance { // what stands behind the request is discarded
		opts = append(opts, wstest.PipelinedRaw([]byte("GET / HTTP/1.1\r\nHost: soak\r\n\r\n")))
	}
	t.t0 = t.m.moment(ch, false)
	conn, err := c.ask("GET", t.path(plan), plan.secure, opts...)
	if err != nil {
		return c.refused(nil, err)
	}
	r := newReceiver(c, t, plan, conn)
	r.peer.mute = true
	c.note(plan.String())
	stop := r.carryOut()
	a := r.readAnswer()
	stop()
	r.note("the end: %v after %d packets, next %d", a, r.packets, r.next)
	err = r.judgeAnswer(a, old)
	r.peer.release()
	return r.lived(err)
}

// readAnswer reads the header of the answer, and the stream to its end.
func (r *receiver) readAnswer() (a answer) {
	resp, err := http.ReadResponse(r.peer.br, nil)
	if err != nil {
		return answer{err: err}
	}
	a.status = resp.StatusCode
	r.t1 = r.m.moment(r.ch, true) // it is in the channel since then at the latest
	if a.status != http.StatusOK || resp.ContentLength >= 0 {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		a.text, a.err = string(b), err
		a.whole = err == nil && len(b) == 0
		return a
	}
	// The body comes as it is: what chunks are is read here, for resp.Body takes the end
	// of the connection for an end where the answer is not in chunks.
	var end error
	raw, in := r.peer.br, io.Reader(r.peer.br)
	if len(resp.TransferEncoding) > 0 {
		in = httputil.NewChunkedReader(raw)
	}
	r.peer.br = buffers.Get().(*bufio.Reader)
	r.peer.br.Reset(readerFunc(func(b []byte) (n int, err error) {
		n, err = in.Read(b)
		end = err
		return n, err
	}))
	err = r.stream()
	r.peer.br.Reset(nil)
	buffers.Put(r.peer.br)
	r.peer.br = raw
	if asWrong(err) != nil {
		a.err = err
		return a
	}
	a.err, a.whole = end, end == io.EOF // a body that is cut gives another one
	// Without chunks the end of the connection is also what a client gets that half-closes.
	left := in == io.Reader(raw) && r.caused.Load() != 0
	switch {
	case a.whole && errors.Is(err, errTorn) && !r.session.profile.body && !left:
		a.err = wrongf("the answer ends in order, in the middle of packet %d of session %d", r.next, r.session.id)
	case a.whole && in != io.Reader(raw):
		a.err = r.lastLine(raw)
	}
	return a
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// lastLine reads what follows the last chunk: an empty line, and the end.
func (r *receiver) lastLine(br *bufio.Reader) error {
	b, err := io.ReadAll(io.LimitReader(br, 100))
	if w := asWrong(err); w != nil {
		return w
	}
	if string(b) != "\r\n" && r.caused.Load() == 0 {
		return wrongf("behind the last chunk stand %q, %v", b, err)
	}
	return nil
}

// stream reads payloads, to the end.
func (r *receiver) stream() error {
	for {
		if _, err := r.peer.br.Peek(1); err != nil {
			return err
		}
		if err := r.piece(); err != nil {
			return err
		}
	}
}

// piece reads a packet, or what is there of a stream of bytes.
func (r *receiver) piece() error {
	br := r.peer.br
	if r.packets > 0 && r.probe && (r.session == nil || !r.session.profile.body) && len(r.unplaced) == 0 {
		return wrongf("more than a packet for a probe")
	}
	if r.wrongKey {
		return wrongf("a stream for the wrong key")
	}
	if s := r.session; s != nil {
		if s.profile.body {
			return r.restBytes(r.peer, br.Buffered())
		}
		r.packets++
		r.next += s.blanks(r.next)
		return r.track.rest(r.peer, s.size(r.next))
	}
	defer func() {
		if r.session != nil {
			r.note("has joined session %d, packet %d", r.session.id, r.joined)
		}
	}()
	if b, _ := br.Peek(headSize); len(r.unplaced) == 0 && len(b) == headSize && r.hasHead(b) {
		h := readHead(b)
		r.packets++
		return r.firstPacket(r.peer, h, int(h.size))
	}
	return r.firstBytes(r.peer, br.Buffered())
}

// judgeAnswer decides whether a receiver's life may have ended like this. old says that
// it speaks HTTP/1.0, where a cut and an end look alike.
func (r *receiver) judgeAnswer(a answer, old bool) error {
	if w := asWrong(a.err); w != nil {
		return w
	}
	caused, stopping := r.caused.Load() != 0, r.m.stopping.Load()
	if a.status != http.StatusTooManyRequests {
		r.refusals = 0
	}
	switch {
	case caused && (old || !a.whole):
		return nil
	case a.whole && r.wrongKey:
		return wrongf("an answer in order for the wrong key")
	case a.whole && r.probe:
		return r.probed()
	case a.whole:
		r.round.stats.whole.Add(1)
		return r.streamEnded()
	case a.status == 0 && stopping:
		return nil
	case a.status == http.StatusOK, a.status == 0 && (r.plan.crawl || len(r.plan.stalls) > 0) && errors.Is(a.err, syscall.ECONNRESET):
		// Of who reads slowly the reset takes along what was not read, also the header.
		if r.lagged() != nil {
			return wrongf("cut off: %v", a.err)
		}
		r.round.stats.slow.Add(1)
		return nil
	case a.status == http.StatusForbidden && r.wrongKey && strings.Contains(a.text, "Invalid streaming key"):
		return nil
	case a.status == http.StatusTooManyRequests:
		return r.crowded()
	case a.status == http.StatusServiceUnavailable && stopping:
		return nil
	case a.status == http.StatusServiceUnavailable && strings.Contains(a.text, "Receiver too slow"):
		return r.toldTooSlow()
	case a.status == 0 && r.overtaken(): // the reset has taken the header along
		return nil
	}
	return wrongf("answered %d %q, %v", a.status, a.text, a.err)
}

// probed judges the end of a probe's answer: it has a packet, or that was empty, or the
// stream has ended without one.
func (r *receiver) probed() error {
	switch {
	case len(r.unplaced) > 0:
		return r.endedUnplaced()
	case r.session != nil && r.session.profile.body && r.next-r.joined > mostRead:
		return wrongf("%d bytes for a probe", r.next-r.joined)
	case r.session != nil || r.endedWithNothing() == nil:
		return nil
	}
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	for _, s := range r.ch.sessions {
		for seq := range s.begun.Load() {
			if !s.profile.body && s.size(seq) == 0 {
				return nil
			}
		}
	}
	return wrongf("nothing for a probe, but no packet of channel %d is empty", r.ch.number)
}
