package engine

import "ws-stream-server/ring"

const (
	// directPiece is the most of one write to a plain socket, in bytes; the packets
	// go to the kernel straight from the ring.
	directPiece = 1 << 20

	// keptPiece is the most that nbio keeps of it when the socket is full, in
	// bytes: what a receiver that stopped reading costs.
	keptPiece = 16 << 10

	// sealedPiece is the most that is sealed and handed to a TLS session's socket
	// at once, in bytes, and so what one that stopped reading costs.
	sealedPiece = 64 << 10

	// passBudget is what a receiver gets in one pass before the next one has its
	// turn, in bytes, so that one far behind cannot starve those that are live.
	passBudget = 512 << 10
)

// member is a receiver in its group.
type member struct {
	s   *session
	cur ring.Cursor
}

// drain serves one receiver: what is pending, then packets, as long as its socket
// is free. It reports whether the receiver stays in the group, and whether it used
// up its budget. over says that the ring has no packets but those that can be read
// now. The caller holds the group's passing.
//
// The policy: a receiver that is behind is kept as long as the ring keeps its next
// packet. When it does not, the receiver gets the rest of the packet it has begun
// and the close frame with slowReceiver's code; nothing waits for it. Where what is
// kept for such rests is too much, it is cut off at once.
func (m *member) drain(over bool, now int64) (stays, again bool) {
	s, locked := m.s, false
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if locked {
			s.mu.Unlock()
		}
		s.fault(p)
		stays, again = false, false
	}()
	// Fast path: it has everything.
	if !over && !m.cur.More() && s.pending.Load() == 0 && s.ending.Load() == 0 {
		return true, false
	}
	if s.gone.Load() {
		return false, false
	}
	if m.cur.Overrun() { // asked once: the writer may drop the segment between two looks
		m.observe(s.ch.ring, s.ch.age(now)) // as long as it is known when its next packet came
		s.end(slowReceiver)
		if m.cur.Detach(s.ch.ring) && s.srv.budget.pinsTooMuch() {
			s.cut()
			return false, false
		}
	}
	if !s.free() {
		s.skipped.Store(true)
		if !s.free() {
			return true, false // who frees it sees skipped
		}
	}
	s.mu.Lock()
	locked = true
	if s.door == httpDoor {
		again = m.drainHTTP(over, now)
	} else {
		again = m.drainLocked(over, now)
	}
	stays = !s.closeSent
	s.skipped.Store(false)
	locked = false
	s.mu.Unlock()
	s.flushPending()
	return stays, again
}

// leave has the receiver read no more. Of a cursor that is broken (see fault.go) nothing
// can be given back. The caller holds the group's passing.
func (m *member) leave() {
	defer m.s.contain()
	m.s.through()
	r := m.s.ch.ring
	m.observe(r, m.s.ch.age(m.s.srv.now()))
	m.cur.Close(r)
}

// drainLocked is drain with the write lock held and a socket that is free.
func (m *member) drainLocked(over bool, now int64) (again bool) {
	s := m.s
	for sent := 0; ; {
		if !s.mid {
			if s.pending.Load() != 0 {
				s.flushLocked()
			}
			if s.closeSent || s.torn || s.ending.Load() != 0 || !s.free() {
				return false
			}
		}
		if sent >= passBudget {
			return true
		}
		b := m.next()
		if b == nil {
			if !over {
				return false
			}
			s.end(s.srv.endOfStream())
			continue // writes the close frame
		}
		s.mid = true // as long as it is not known
		used := s.writePackets(b)
		if used < len(b) {
			m.cur.Back(len(b) - used)
		}
		sent += used
		s.mid = m.cur.MidPacket()
		s.progress.Store(now)
		if s.kind == probe && !s.mid {
			s.end(probeDone)
		}
		if !s.free() {
			return false
		}
	}
}

// next takes the next piece for the receiver: only the rest of the current packet
// if it is the last one it gets.
func (m *member) next() []byte {
	limit := directPiece
	if m.s.tls != nil {
		limit = sealedPiece
	}
	if m.s.kind == probe || m.s.ending.Load() != 0 {
		return m.cur.TakeRest(limit)
	}
	return m.cur.Take(limit)
}
