//go:build soak && linux

package soak

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"ws-stream-server/engine/wstest"
)

// ending is how a connection has ended.
type ending struct {
	code   int    // of the server's close frame, 1005 if that had none; 0: there was none
	reason string // in it
	fault  string // what followed "ERROR: " before it
	err    error
}

func (e ending) String() string {
	if e.code == 0 {
		return fmt.Sprintf("no close frame, %v", e.err)
	}
	s := fmt.Sprintf("close %d %q", e.code, e.reason)
	if e.fault != "" {
		s += fmt.Sprintf(" after ERROR: %q", e.fault)
	}
	if e.err != nil {
		s += ", " + e.err.Error()
	}
	return s
}

// read reads until the close frame or the end.
func (r *receiver) read() (e ending) {
	for {
		op, size, err := r.peer.header()
		if err != nil {
			e.err = err
			return e
		}
		if e.fault != "" && op != wstest.Close {
			e.err = wrongf("a frame of opcode %d after the ERROR", op)
			return e
		}
		if op == wstest.Binary {
			known := r.session != nil
			e.err = r.packet(r.peer, size)
			if !known && r.session != nil {
				r.note("has joined session %d, packet %d", r.session.id, r.joined)
			}
			if n := r.plan.pingEvery; n > 0 && r.packets%n == 0 {
				r.ping()
			}
		} else {
			e.err = r.control(op, size, &e)
		}
		if e.err != nil || e.code != 0 {
			return e
		}
	}
}

// control takes a frame that is no packet.
func (r *receiver) control(op byte, size int, e *ending) error {
	b, err := r.peer.small(size)
	if err != nil {
		return err
	}
	if op != wstest.Pong {
		return e.take(r.peer, op, b)
	}
	if string(b) == "nobody asked" || size != 8 {
		return wrongf("a pong of %d bytes: %q", size, b)
	}
	n := binary.BigEndian.Uint64(b)
	if n>>32 != uint64(r.number) || n&(1<<32-1) > r.pings.Load() || n <= r.answers {
		return wrongf("a pong for ping %#x, after the one for %#x; the last ping was %#x", n, r.answers, r.pings.Load())
	}
	r.answers = n
	return nil
}

// take is what every client does with a frame that is neither packet nor pong.
func (e *ending) take(p *peer, op byte, b []byte) error {
	switch op {
	case wstest.Ping:
		_ = p.send(wstest.Frame{Op: wstest.Pong, Payload: b})
	case wstest.Close:
		m := wstest.Msg{Op: op, Payload: b}
		e.code, e.reason = m.Code(), m.Reason()
		if len(b) == 1 {
			return wrongf("a close frame of one byte")
		}
	case wstest.Text:
		if string(b) == "h" {
			break
		}
		fault, found := strings.CutPrefix(string(b), "ERROR: ")
		if e.fault = fault; !found || fault == "" {
			return wrongf("TEXT %q", b)
		}
	default:
		return wrongf("a frame of opcode %d, %d bytes", op, len(b))
	}
	return nil
}

// judge decides whether a receiver's life may have ended like this.
func (r *receiver) judge(e ending) error {
	if w := asWrong(e.err); w != nil {
		return w
	}
	if (e.fault != "") != (e.code != 0 && e.code != 1000 && e.code != 1001) {
		return wrongf("close code %d with ERROR %q", e.code, e.fault)
	}
	caused := r.caused.Load() != 0
	switch e.code {
	case 0:
		return r.judgeCut(e)
	case 1000:
		return r.judgeEnd(e, caused)
	case 1001:
		if !r.m.stopping.Load() {
			return wrongf("closed with 1001, but the server does not shut down")
		}
		return r.streamEndedOrWaiting()
	case 1008:
		if !r.wrongKey {
			return wrongf("closed with 1008, but the key is right")
		}
		return nil
	case 4008:
		return r.toldTooSlow()
	}
	if caused && r.did == violate && e.code == violations[r.plan.violation].code {
		return nil
	}
	return wrongf("closed with %d", e.code)
}

// judgeEnd judges code 1000.
func (r *receiver) judgeEnd(e ending, caused bool) error {
	switch {
	case e.reason == "stream ended":
		r.round.stats.whole.Add(1)
		return r.streamEnded()
	case e.reason == "probe done" && r.probe && r.packets == 1 && len(r.unplaced) > 0:
		return r.endedUnplaced()
	case e.reason == "probe done" && r.probe && r.packets == 1:
		return nil
	case e.reason == "" && caused && r.did == leave:
		return nil
	}
	return wrongf("closed with %v after %d packets", e, r.packets)
}

// streamEndedOrWaiting judges 1001: a receiver that waits is told so as well.
func (r *receiver) streamEndedOrWaiting() error {
	if r.session == nil {
		return nil
	}
	return r.streamEnded()
}

// judgeCut judges an end without a close frame. It is the client's doing, or that of
// one too slow to be told (PROTO.md, 1.6).
func (r *receiver) judgeCut(e ending) error {
	if at := r.caused.Load(); at != 0 {
		since := time.Duration(r.m.now() - at)
		switch r.did {
		case reset, vanish, halfClose, breakTLS:
			return nil
		case violate:
			if since >= 1500*time.Millisecond { // the server waits 2 s for its end
				return nil
			}
		case leave:
			if since >= 4*time.Second { // the close frame has 5 s
				return nil
			}
		}
	}
	if r.paused >= 500*time.Millisecond && r.lagged() == nil {
		r.round.stats.slow.Add(1)
		return nil
	}
	if r.m.rules.short && r.overtaken() { // elsewhere one that reads has 5 s, which is enough
		return nil
	}
	if errors.Is(e.err, errTorn) {
		return wrongf("cut off in the middle of a frame: %v", e.err)
	}
	return wrongf("cut off without a close frame: %v", e.err)
}

// toldTooSlow judges 4008, and counts it.
func (r *receiver) toldTooSlow() error {
	r.round.stats.slow.Add(1)
	if r.wrongKey {
		return wrongf("too slow, with the wrong key")
	}
	return r.lagged()
}

// overtaken reports whether a receiver that reads may have been cut off all the same, and
// counts it. When the ring drops the packet behind the one that a receiver is being sent, it
// has 5 s to take the rest of that, and no time where too much is kept for such rests
// (PROTO.md, 1.6), or over HTTP (1.11). It is told nothing then: the server's log says that it
// was too slow, or why else it was ending already.
func (r *receiver) overtaken() bool {
	if !r.peer.wasReset.Load() || r.lagged() != nil {
		return false
	}
	caused := r.caused.Load() != 0
	switch r.round.log.reason(r.peer.tcp.LocalAddr().String(), r.m.epoch.Add(time.Duration(r.t0.at))) {
	case "slow_receiver":
	case "client_closed":
		if !caused || r.did != leave {
			return false
		}
	case "protocol_error", "invalid_text":
		if !caused || r.did != violate {
			return false
		}
	default:
		return false
	}
	r.round.stats.slow.Add(1)
	return true
}
