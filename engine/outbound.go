package engine

import (
	"github.com/valyala/bytebufferpool"

	"ws-stream-server/engine/frame"
)

// maxPongs is how many bytes of answers to pings wait for a socket, before the
// newest one replaces them.
const maxPongs = 2 << 10

// Bits of session.pending.
const (
	sendPong  uint32 = 1 << iota
	sendBeat         // the heartbeat
	sendWire         // TLS has bytes of its own to send
	sendClose        // the close frame, an "ERROR: …" before it
)

// beat is the heartbeat: TEXT "h", then an empty ping. pingBeat is that of a session
// that is sent no TEXT.
var (
	beat     = []byte{0x81, 1, 'h', 0x89, 0}
	pingBeat = beat[3:]
)

// free reports whether nbio has nothing left to write for the session.
func (s *session) free() bool { return s.unsent.Load() == 0 }

// heartbeat is the session's heartbeat; its bytes are shared and only read.
func (s *session) heartbeat() []byte {
	if s.noText {
		return pingBeat
	}
	return beat
}

// raise has something written at the next frame boundary. Any goroutine.
func (s *session) raise(bits uint32) {
	s.pending.Or(bits)
	s.flushPending()
}

// flushPending writes what is pending if the socket is free and nobody else
// writes. Who holds the lock instead calls it after it has let go, and when the
// socket becomes free the owner does. Any goroutine that does not hold the lock.
func (s *session) flushPending() {
	for s.pending.Load() != 0 && s.free() && s.mu.TryLock() {
		if !s.flushAndUnlock() {
			return
		}
	}
}

// flushAndUnlock is flushLocked. It lets go of the write lock.
func (s *session) flushAndUnlock() (flushed bool) {
	defer s.contain()
	defer s.unlock()
	return s.flushLocked()
}

// unlock lets go of the write lock. A pass may have come by meanwhile and found the
// socket taken: it is made up for.
func (s *session) unlock() {
	s.mu.Unlock()
	if s.free() && s.skipped.Load() {
		s.skipped.Store(false)
		s.wakeOwner()
	}
}

// flushLocked writes what is pending and reports whether it could: not in the
// middle of a packet or a torn frame, not after the close frame, and not to a socket that is not
// free. The caller holds the write lock.
func (s *session) flushLocked() bool {
	// Another holder may have filled the socket since the caller looked.
	if s.mid || s.torn || s.closeSent || s.gone.Load() || !s.free() {
		return false
	}
	bits := s.pending.Swap(0)
	switch bits {
	case 0: // another holder was faster
		return true
	case sendBeat: // Fast path: thousands at a time.
		s.writeFrames(s.heartbeat())
		return true
	}
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	if bits&sendPong != 0 {
		if p := s.pongs.Swap(nil); p != nil {
			buf.B = append(buf.B, *p...)
		}
	}
	if bits&sendBeat != 0 {
		buf.B = append(buf.B, s.heartbeat()...)
	}
	if bits&sendClose != 0 {
		s.closeSent = true
		if s.mustCut(s.reason()) {
			s.cut()
			return true
		}
		buf.B = s.appendClose(buf.B)
	}
	s.writeFrames(buf.B) // TLS adds its own end behind the close frame
	return true
}

// writeFrames writes whole control frames. The caller holds the write lock, and the socket
// is free.
func (s *session) writeFrames(b []byte) {
	s.torn = true
	s.write(b)
	s.torn = false
}

// appendClose appends the last frames of the session, or the last of its answer.
func (s *session) appendClose(b []byte) []byte {
	if s.http != nil {
		return s.appendEnd(b)
	}
	how := closings[s.reason()]
	code := uint16(s.ending.Load() >> 16)
	if how.fault != "" && !s.noText {
		b = frame.AppendFrame(b, frame.Text, []byte("ERROR: "+how.fault))
	}
	if code == 0 {
		return b
	}
	return frame.AppendClose(b, code, how.text)
}

// writePackets writes bytes of packets and returns how many of b were used: all
// that the socket took, and a piece more that nbio keeps, to tell when there is
// room again. The caller holds the write lock, and the socket is free.
//
// TLS cannot take records back, so of a TLS session's b, a piece at the most,
// everything is used.
func (s *session) writePackets(b []byte) (used int) {
	switch sink := s.srv.sink; {
	case sink != nil:
		sink(b)
	case s.tls != nil:
		s.write(b)
	default:
		return s.push(b, keptPiece)
	}
	return len(b)
}

// write writes all of b, sealed if the session speaks TLS. b may be used again when
// write returns. The caller holds the write lock, and the socket is free.
func (s *session) write(b []byte) {
	if s.tls != nil {
		sealed := s.tls.seal(b, s.closeSent)
		defer s.tls.sealed(sealed)
		b = sealed.B
	}
	s.push(b, len(b))
}

// push writes b to the socket, and of what the socket does not take gives nbio as
// much as it is to keep, in bytes. It returns how much of b was used; b is not kept.
// The caller holds the write lock, and the socket is free.
func (s *session) push(b []byte, keep int) (used int) {
	if len(b) == 0 {
		return 0
	}
	// Fast path: to the kernel, and nothing is copied.
	used = writeDirect(s.conn, b)
	if used == len(b) {
		return used
	}
	// Slow path: the socket is full, or the connection is broken.
	if used == 0 && s.kind == publish && leftUnread(s.conn) {
		return len(b) // nbio would close at once: the poller reads to the end, and then does
	}
	rest := b[used:min(used+keep, len(b))]
	s.unsent.Store(int64(len(rest)))
	s.srv.budget.add(int64(len(rest)))
	s.writing.Add(1)
	beforeWrite(s.conn)
	_, _ = s.conn.Write(rest) // an error closes the connection: closed will run, or has
	s.writing.Add(1)
	if s.gone.Load() {
		s.dropUnsent() // closed may have been before
	}
	return used + len(rest)
}

// dropUnsent forgets what nbio was given and will not send any more: the connection
// is closed. Whoever comes first takes all of it.
func (s *session) dropUnsent() { s.srv.budget.add(-s.unsent.Swap(0)) }

// written is nbio's news that the kernel took n bytes. It runs under the
// connection's lock, on the goroutine that writes or on the poller: it counts,
// marks and wakes.
func (s *session) written(n int) {
	before := s.writing.Load()
	s.srv.budget.add(-int64(n))
	if s.unsent.Add(-int64(n)) != 0 {
		if before&1 == 0 { // the poller, which has not written all
			s.srv.reader.handled(s.conn)
		}
		return
	}
	if byPoller(before, s.writing.Load()) {
		s.progress.Store(s.srv.now())
		s.srv.reader.handled(s.conn)
		s.wakeOwner()
	}
}

// byPoller decides whether news that nothing is unsent came from the poller, which
// has written the rest, and not out of a Write under way, whose caller looks for
// itself. It is given session.writing before and after unsent became 0: from then
// on another Write may begin, and that one knows nothing of the backlog.
func byPoller(before, after uint32) bool {
	return after&1 == 0 || after != before
}

// answerPing has a ping answered: with the others of the same read (see heed), or when
// there are maxPongs bytes of answers. Each by itself would be a system call for six bytes
// of a client's. As long as the socket is full, or somebody else writes, answers wait up to
// that; then the newest one takes the place of all (RFC 6455, 5.5.3 asks for no more).
// payload is copied. Called on the poller.
func (s *session) answerPing(payload []byte) {
	waiting := s.pongs.Swap(nil) // only flushLocked takes beside us
	var b []byte
	if waiting != nil && len(*waiting) < maxPongs {
		b = *waiting
	}
	b = frame.AppendFrame(b, frame.Pong, payload)
	s.pongs.Store(&b)
	s.pending.Or(sendPong)
	if len(b) >= maxPongs {
		s.flushPending()
	}
}

// finish goes on with a session whose close frame was handed over: once it is
// written, the sending side is shut down, so that the client sees the end. What it
// still sends is read and discarded until it closes (RFC 6455, 7.1.1; RFC 9112, 9.6: also
// behind the body that it has published); to close first would have the kernel answer a
// late byte with a reset. Any goroutine that does not hold the write lock.
func (s *session) finish() {
	s.finishNow()
	s.flushPending() // what came while the lock was held
}

func (s *session) finishNow() {
	defer s.contain()
	s.mu.Lock()
	defer s.unlock()
	if s.pending.Load() != 0 {
		s.flushLocked() // the close frame may be in it
	}
	s.finishLocked()
}

// finishLocked is finish with the write lock held.
func (s *session) finishLocked() {
	if !s.closeSent || !s.free() || s.gone.Load() {
		return
	}
	done := s.clientDone.Load()
	if done {
		s.freeSlot() // before the client can know that it may come back
	}
	wait := lingerTimeout
	switch {
	case done && s.door == websocketDoor:
		wait = doneTimeout // it has nothing more to say
	case s.halfClosed:
		return
	}
	s.srv.closing.add(s, s.srv.now()+int64(wait))
	if !s.halfClosed {
		s.halfClosed = true
		shutdownWrite(s.conn)
	}
}
