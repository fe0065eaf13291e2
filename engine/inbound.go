package engine

import (
	"errors"
	"slices"

	"github.com/valyala/bytebufferpool"

	"ws-stream-server/engine/frame"
)

const (
	// readBuffer is what a poller reads at once, in bytes.
	readBuffer = 64 << 10

	// readsPerEvent bounds what one connection may have of its poller before the
	// others get their turn.
	readsPerEvent = 4

	// maxPooled is the largest buffer that is given back to a pool, in bytes.
	maxPooled = 1 << 20
)

// received takes bytes of the client, on the poller. b is the poller's and may be
// changed.
func (s *session) received(b []byte) {
	now := s.srv.now()
	s.life.Store(now)
	s.heed(now, s.hear(b))
}

// heard is what came of a client's bytes: what was published in all before and after
// them, in bytes as receivers get it, and why the session must end if it must.
type heard struct {
	before, after uint64
	r             reason
	code          uint16
}

// hear takes bytes as they came from the socket. Called on the poller.
func (s *session) hear(b []byte) (h heard) {
	s.in.mu.Lock()
	defer s.heardAll()
	h.before = s.published()
	h.after = h.before
	h.r, h.code = s.take(b)
	h.after = s.published()
	return h
}

// heardAll is deferred where in.mu is held, and lets go of it. After a fault nothing more
// is heard.
func (s *session) heardAll() {
	if p := recover(); p != nil {
		s.in.deaf = true
		s.fault(p)
	}
	s.in.mu.Unlock()
}

// heed does what follows from what was heard. Called on the poller without in.mu.
func (s *session) heed(now int64, h heard) {
	if h.after != h.before {
		s.ch.wake(now, h.before, h.after)
		if s.ch.index.news {
			s.ch.index.news = false
			s.ch.admitWaiting()
		}
	}
	if s.pending.Load() != 0 {
		s.flushPending() // the pings' answers
	}
	s.obey(h.r, h.code)
}

// published returns how many bytes the session has published, as receivers get
// them. The caller holds in.mu.
func (s *session) published() uint64 {
	if s.ring == nil {
		return 0
	}
	return s.ring.Written()
}

// obey ends the session for what was found in its bytes. Called on the poller
// without in.mu.
func (s *session) obey(r reason, code uint16) {
	if r == notEnded {
		return
	}
	if r == clientClosed {
		s.clientDone.Store(true)
		s.endWith(clientClosed, code)
	} else {
		s.end(r)
	}
	s.finish()
}

// take decodes bytes as they came from the socket. The caller holds in.mu.
func (s *session) take(b []byte) (reason, uint16) {
	if s.tls == nil {
		return s.decode(b)
	}
	return s.tls.open(s, b)
}

// decode takes the client's frames: publishes packets, answers pings, and reports
// why the session must end if it must. The caller holds in.mu; b may be changed.
func (s *session) decode(b []byte) (reason, uint16) {
	if s.door == httpDoor {
		return s.decodeBody(b)
	}
	for !s.in.deaf {
		ev, rest, err := s.in.dec.Next(b)
		if err != nil {
			s.in.deaf = true
			var violation *frame.Error
			if errors.As(err, &violation) {
				return ofCloseCode(violation.Code), violation.Code
			}
			return internalFault, closings[internalFault].code
		}
		switch ev {
		case frame.NeedMore:
			return notEnded, 0
		case frame.Data:
			if p := s.in.dec.Piece(); s.kind == publish && p.Op == frame.Binary {
				s.publish(p)
			}
		case frame.Control:
			switch s.in.dec.ControlOp() {
			case frame.Ping:
				s.answerPing(s.in.dec.ControlPayload())
			case frame.Close:
				s.in.deaf = true // RFC 6455, 5.5.1: nothing follows
				return clientClosed, answerTo(s.in.dec.CloseCode())
			}
		}
		b = rest
	}
	return notEnded, 0
}

// answerTo returns the close code that answers a client's.
func answerTo(code uint16) uint16 {
	if code == 1005 { // none was given
		return 1000
	}
	return code
}

// publish puts a piece of a message into the ring. A message that is whole, as
// most are, is unmasked straight into the ring: that is the only copy. The caller
// holds in.mu.
func (s *session) publish(p *frame.Piece) {
	r := s.ring
	if r == nil || s.in.phase != phaseRunning {
		s.publishFirst(p)
		return
	}
	// Fast path: the whole message.
	if p.First && p.End {
		n := len(p.Bytes)
		packet := r.Reserve(frame.HeaderSize(n) + n)
		payload := packet[frame.PutHeader(packet, frame.Binary, n):]
		p.Unmask(payload)
		s.commit(payload)
		return
	}
	// Slow path: put together first. What is declared allocates nothing, only
	// what has arrived does.
	if s.in.msg == nil {
		s.in.msg = bytebufferpool.Get()
	}
	m := s.in.msg
	at := len(m.B)
	m.B = slices.Grow(m.B, len(p.Bytes))[:at+len(p.Bytes)]
	s.countMessage(int64(cap(m.B)))
	p.Unmask(m.B[at:])
	if p.End {
		packet := r.Reserve(frame.HeaderSize(len(m.B)) + len(m.B))
		payload := packet[frame.PutHeader(packet, frame.Binary, len(m.B)):]
		copy(payload, m.B)
		s.commit(payload)
		s.dropMessage()
	}
}

// commit publishes the packet that was reserved, whose payload is given, and looks at
// what it is. The caller holds in.mu.
func (s *session) commit(payload []byte) {
	age := s.ch.age(s.life.Load())
	s.ring.Commit(age)
	s.ch.follow(payload, age)
}

// publishFirst is publish before anything was published, and when nothing may be any
// more. The caller holds in.mu.
//
// Slow path: once a publisher, twice if its first packets are empty or in pieces.
func (s *session) publishFirst(p *frame.Piece) {
	if !s.mayPublish() {
		return
	}
	s.in.phase = phaseRunning
	s.publish(p)
	s.noteFirst()
}

// mayPublish reports whether packets are taken: not of who was ended by someone else,
// before its start or between two frames. The caller holds in.mu.
func (s *session) mayPublish() bool { return s.ring != nil && s.in.phase != phaseOver }

// noteFirst looks at the packet that was just published, if one was, and it is not
// empty, to tell what the stream is. Receivers over HTTP wait for that, and are woken
// later. The caller holds in.mu.
func (s *session) noteFirst() {
	payload := frame.Payload(s.ring.Newest())
	if len(payload) == 0 {
		s.in.phase = phaseBeginning
		return
	}
	s.ch.container.Store(uint32(sniff(payload)))
}

// dropMessage gives the message's buffer back. The caller holds in.mu.
func (s *session) dropMessage() {
	if m := s.in.msg; m != nil && cap(m.B) <= maxPooled {
		if s.srv.poison {
			overwrite(m.B[:cap(m.B)])
		}
		bytebufferpool.Put(m)
	}
	s.in.msg = nil
	s.countMessage(0)
}

// countMessage tells the budget how many bytes the message takes now. The caller
// holds in.mu.
func (s *session) countMessage(size int64) {
	if before := s.in.size.Swap(size); size != before {
		s.srv.budget.add(size - before)
	}
}

// overwrite makes b unrecognizable, so that tests see who still looks at it.
func overwrite(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
