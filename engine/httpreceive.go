package engine

import (
	"net"
	"net/http"
	"time"

	"github.com/valyala/bytebufferpool"

	"ws-stream-server/engine/frame"
)

const (
	// gatheredPiece is the most of the stream that is put together for a receiver over
	// HTTP, and written at once, in bytes: headers stand between the packets in the ring.
	// It is what one that stopped reading costs.
	gatheredPiece = 64 << 10

	// chunkLine is the line in front of a chunk, whose size is written into it once that
	// is known: gatheredPiece at most. lastChunk is behind the last one (RFC 9112, 7.1).
	chunkLine = "00000\r\n"
	lastChunk = "0\r\n\r\n"
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
		n, unseen := m.writePayloads()
		if unseen {
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
// returns how many bytes of the ring it has used: 0 if there are none. unseen says that
// the first packet is there and not looked at yet: then nothing was used. The caller
// holds the write lock, and the socket is free.
func (m *member) writePayloads() (used int, unseen bool) {
	if !m.cur.More() {
		return 0, false
	}
	s := m.s
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	begin := 0 // of the payloads in buf
	for used < gatheredPiece {
		begins := !m.cur.MidPacket()
		b := m.cur.TakeRest(gatheredPiece)
		if b == nil {
			break
		}
		payload := b
		if begins {
			payload = frame.Payload(b)
		}
		if len(payload) > 0 && begin == 0 {
			kind := s.ch.contentTypeNow()
			if kind == "" {
				m.cur.Back(len(b))
				return 0, true
			}
			if !s.http.begun.Load() {
				kind = s.ch.index.contentType(kind)
			}
			buf.B = s.http.appendBegin(buf.B, kind)
			begin = len(buf.B)
		}
		if over := used + len(payload) - gatheredPiece; over > 0 {
			m.cur.Back(over)
			b, payload = b[:len(b)-over], payload[:len(payload)-over]
		}
		used += len(b)
		buf.B = append(buf.B, payload...)
		if s.kind == probe && !m.cur.MidPacket() {
			break
		}
	}
	if len(buf.B) > 0 {
		buf.B = s.http.closePiece(buf.B, begin)
		s.writePiece(buf.B)
	}
	return used, false
}

// appendBegin appends what stands before a piece of the stream: before the first one the
// answer's header. The caller holds the write lock.
func (h *httpSide) appendBegin(b []byte, contentType string) []byte {
	if !h.begun.Swap(true) {
		b = appendHead(b, http.StatusOK, contentType, h.more)
		if h.chunked {
			b = append(b, "Transfer-Encoding: chunked\r\n"...)
		}
		b = append(b, "\r\n"...)
	}
	if h.chunked {
		b = append(b, chunkLine...)
	}
	return b
}

// closePiece makes a chunk of the piece of the stream that begins there in b, if it is
// to be one.
func (h *httpSide) closePiece(b []byte, begin int) []byte {
	if !h.chunked {
		return b
	}
	size := len(b) - begin
	for i := begin - len("\r\n") - 1; size > 0; i-- {
		b[i] = "0123456789abcdef"[size&0xF]
		size >>= 4
	}
	return append(b, "\r\n"...)
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

// appendEnd appends the end of the answer: the last chunk, or nothing where the end of the
// connection says it, a status where no header was written yet. The caller holds the write lock.
func (s *session) appendEnd(b []byte) []byte {
	how := closings[s.reason()]
	switch {
	case s.http.begun.Load() && s.http.chunked: // what is incomplete was cut off (mustCut)
		return append(b, lastChunk...)
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
