package engine

import (
	"net"
	"net/http"
	"time"

	"github.com/valyala/bytebufferpool"

	"ws-stream-server/engine/frame"
)

const (
	// gatheredPiece is the most of small packets that is put together for a receiver over
	// HTTP, in bytes: their headers stand between them in the ring. It is what one that
	// stopped reading costs.
	gatheredPiece = 64 << 10

	// gatheredPacket is the size of a packet's payload, in bytes, from which on it is
	// written by itself, straight from the ring.
	gatheredPacket = 16 << 10
)

// drainHTTP is drainLocked for a receiver over HTTP: it gets the payloads alone, one
// behind the other. The caller holds the write lock, and the socket is free.
//
// The policy: what was begun is not finished once the receiver has to go, for nothing
// may follow that says why; it is cut off (mustCut).
func (m *member) drainHTTP(over bool, now int64) (again bool) {
	s := m.s
	for sent := 0; ; {
		if s.pending.Load() != 0 {
			s.flushLocked()
		}
		if s.closeSent || s.ending.Load() != 0 || !s.free() {
			return false
		}
		if sent >= passBudget {
			return true
		}
		n, early := m.writePayloads()
		if early {
			return false // the publisher's poller is about to tell what it is, and to wake us
		}
		if n == 0 {
			if !over {
				return false
			}
			s.end(s.srv.endOfStream())
			continue // writes the end
		}
		sent += n
		s.progress.Store(now)
		if s.kind == probe && !m.cur.MidPacket() {
			s.end(probeDone)
		}
	}
}

// writePayloads writes the payloads that follow, as many as fit into one piece, and
// returns how many bytes of the ring it has used: 0 if there are none. early says that
// the first packet is there and not looked at yet: then nothing was used. The caller
// holds the write lock, and the socket is free.
func (m *member) writePayloads() (used int, early bool) {
	s := m.s
	var buf *bytebufferpool.ByteBuffer
	defer func() {
		if buf != nil {
			bytebufferpool.Put(buf)
		}
	}()
	for used < gatheredPiece {
		begins := !m.cur.MidPacket()
		b := m.cur.TakeRest(m.limit())
		if b == nil {
			break
		}
		payload := b
		if begins {
			payload = frame.Payload(b)
		}
		if len(payload) > 0 && !s.http.begun.Load() {
			kind := s.ch.ContentType()
			if kind == "" {
				m.cur.Back(len(b))
				return 0, true
			}
			s.http.begun.Store(true)
			buf = bytebufferpool.Get()
			buf.B = append(appendHead(buf.B, http.StatusOK, kind, s.http.more), "\r\n"...)
		}
		if buf == nil && len(payload) >= gatheredPacket {
			n := s.writePackets(payload)
			if n < len(payload) {
				m.cur.Back(len(payload) - n)
			}
			return used + len(b) - len(payload) + n, false
		}
		if buf == nil && len(payload) > 0 {
			buf = bytebufferpool.Get()
		}
		room := gatheredPiece - used
		if len(payload) > room {
			m.cur.Back(len(payload) - room)
			b, payload = b[:len(b)-len(payload)+room], payload[:room]
		}
		used += len(b)
		if len(payload) > 0 {
			buf.B = append(buf.B, payload...)
		}
		if s.kind == probe && !m.cur.MidPacket() {
			break
		}
	}
	if buf != nil {
		s.writePiece(buf.B)
	}
	return used, false
}

// limit is how much of a packet is taken from the ring at once, in bytes.
func (m *member) limit() int {
	if m.s.tls != nil {
		return sealedPiece
	}
	return directPiece
}

// writePiece is writePackets for bytes that cannot go back to the ring: nbio keeps what
// the socket does not take. The caller holds the write lock, and the socket is free.
func (s *session) writePiece(b []byte) {
	if s.srv.sink != nil {
		s.srv.sink(b)
		return
	}
	s.write(b)
}

// mustCut reports whether a session that ends for a reason can only be told by cutting
// it off: a receiver over HTTP that has got a part of the stream, and would take an
// orderly end for the stream's. Any goroutine.
func (s *session) mustCut(r reason) bool {
	return s.http != nil && s.http.begun.Load() && !closings[r].complete
}

// cut cuts the connection off with a reset: what the client was not sent yet is lost.
// The session is handed over. Any goroutine.
func (s *session) cut() {
	forgetUnsent(s.conn)
	_ = s.conn.Close()
}

// appendEnd appends the end of the answer: nothing where the end of the connection says
// it, a status where no header was written yet. The caller holds the write lock.
func (s *session) appendEnd(b []byte) []byte {
	how := closings[s.reason()]
	switch {
	case how.status == 0 || s.http.begun.Load():
		return b
	case s.kind == publish && how.status == http.StatusOK:
		return appendAnswer(b, how.status, "OK: the stream was published", s.http.more)
	case how.status == http.StatusOK: // of a stream without a byte
		kind := s.ch.ContentType()
		if kind == "" {
			kind = contentTypes[unknownContainer]
		}
		return append(appendHead(b, how.status, kind, s.http.more), "Content-Length: 0\r\n\r\n"...)
	}
	text := how.fault
	if text == "" {
		text = how.text
	}
	return appendAnswer(b, how.status, http.StatusText(how.status)+": "+text, s.http.more)
}

// The kernel asks a receiver that was silent whether it is there: one over HTTP may have
// nothing to say and nothing to take for hours, and no heartbeat is written to it. It is
// found to be gone after keepIdle and keepCount times keepEach: 70 s.
const (
	keepIdle  = 30 * time.Second
	keepEach  = 10 * time.Second
	keepCount = 4
)

// keepAlive has the kernel find out when the client has vanished. Called before the
// hand-over.
func keepAlive(tcp net.Conn) {
	if t, ok := tcp.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEach, Count: keepCount})
	}
}
