package engine

import "ws-stream-server/engine/frame"

// decodeBody is decode for a client over HTTP: a publisher's bytes are its request's
// body, and a receiver has nothing to say. The caller holds in.mu; b may be changed.
func (s *session) decodeBody(b []byte) (reason, uint16) {
	if s.kind != publish || s.in.deaf {
		return notEnded, 0
	}
	payload, done, err := s.http.body.Next(b)
	if len(payload) > 0 {
		s.publishPayload(payload)
	}
	var why reason
	switch {
	case err != nil:
		why = protocolError
	case done:
		why = clientClosed
	default:
		return notEnded, 0
	}
	s.in.deaf = true // whatever follows is no request
	return why, closings[why].code
}

// publishPayload makes what has come of a body a packet. It neither waits for more, for
// the latency, nor is there one for each chunk, for what a packet costs beside its bytes:
// one for what was read at once. The caller holds in.mu; payload is copied.
func (s *session) publishPayload(payload []byte) {
	if !s.mayPublish() {
		return
	}
	n := len(payload)
	packet := s.ring.Reserve(frame.HeaderSize(n) + n)
	copied := packet[frame.PutHeader(packet, frame.Binary, n):]
	copy(copied, payload)
	s.commit(copied)
	if s.in.phase == phaseBeginning {
		s.in.phase = phaseRunning
		s.noteFirst()
	}
}
