package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"ws-stream-server/engine/wstest"
)

// epoch is what stamps count from.
var epoch = time.Now()

// A packet begins with its stamp: the nanoseconds from epoch to its publishing, 0 if
// nobody wants to know, and its sequence, each in 8 bytes, little-endian.
const stampSize = 16

// putStamp writes a packet's stamp to b.
func putStamp(b []byte, seq uint64, timed bool) {
	var at uint64
	if timed {
		at = uint64(time.Since(epoch))
	}
	binary.LittleEndian.PutUint64(b, at)
	binary.LittleEndian.PutUint64(b[8:], seq)
}

// alive is what a receiver says when it is asked for a sign of life.
var alive = wstest.Frame{Op: wstest.Text, Payload: []byte("h")}.AppendTo(nil)

// receiver is a client that reads, on a goroutine of its own.
type receiver struct {
	conn   net.Conn
	buf    []byte
	stream stream
}

// read reads to the connection's end. The first n bytes are in the buffer already.
func (l *load) read(r *receiver, n int) {
	for {
		err := r.stream.feed(r.buf[:n])
		if packets, lost := r.stream.take(); packets+lost > 0 {
			l.count(packets, lost)
		}
		if err == nil && r.stream.pinged {
			r.stream.pinged = false
			_, err = r.conn.Write(alive)
		}
		if err == nil {
			n, err = r.conn.Read(r.buf)
		}
		if err != nil {
			if !l.closing.Load() {
				l.fail(fmt.Errorf("a receiver that waits for packet %d is cut off: %w", r.stream.next, err))
			}
			return
		}
	}
}

// maxPrefix is the most that is looked at of a frame, in bytes: the largest header
// of a frame without a mask, and the stamp.
const maxPrefix = 10 + stampSize

// stream takes apart what one receiver is sent. It checks that packets come in order
// and counts what is missing.
type stream struct {
	// Static.
	latency *histogram // of timed packets; nil: nobody wants it
	late    bool       // the receiver starts at a join point: the first packet may be any
	bare    int        // bytes of a packet, if they stand one behind the other without frames; 0: a WebSocket

	next   uint64 // the sequence that should come
	pinged bool   // a ping was read; whoever answers it resets this

	// What take has not taken yet.
	packets, lost int64

	// The frame that is being read.
	prefix [maxPrefix]byte
	have   int   // bytes of prefix
	op     byte  // 0 between two frames
	left   int   // bytes to come behind the prefix
	sent   int64 // the time in the stamp
}

// take returns the packets that are complete and those that were missed since the
// last call.
func (s *stream) take() (packets, lost int64) {
	packets, lost = s.packets, s.lost
	s.packets, s.lost = 0, 0
	return packets, lost
}

// feed reads on. b is not kept.
func (s *stream) feed(b []byte) error {
	for len(b) > 0 {
		if s.op == 0 {
			n, err := s.begin(b)
			if err != nil {
				return err
			}
			b = b[n:]
		} else {
			n := min(s.left, len(b))
			s.left -= n
			b = b[n:]
		}
		if s.op != 0 && s.left == 0 {
			s.finish()
		}
	}
	return nil
}

// begin reads a frame's prefix and returns how many bytes of b it used.
func (s *stream) begin(b []byte) (n int, err error) {
	if s.bare > 0 {
		return s.beginBare(b)
	}
	// Fast path: it is all there.
	if s.have == 0 && len(b) >= maxPrefix {
		n = prefixSize(b[0], b[1])
		return n, s.open(b[:n])
	}
	// Slow path: piece by piece.
	for {
		want := 2
		if s.have >= 2 {
			want = prefixSize(s.prefix[0], s.prefix[1])
		}
		if s.have == want {
			s.have = 0
			return n, s.open(s.prefix[:want])
		}
		if n == len(b) {
			return n, nil
		}
		m := copy(s.prefix[s.have:want], b[n:])
		s.have += m
		n += m
	}
}

// beginBare is begin where a packet has nothing before its stamp.
func (s *stream) beginBare(b []byte) (n int, err error) {
	n = copy(s.prefix[s.have:stampSize], b)
	if s.have += n; s.have < stampSize {
		return n, nil
	}
	s.have, s.op, s.left = 0, wstest.Binary, s.bare-stampSize
	return n, s.stamped(s.prefix[:stampSize])
}

// prefixSize returns how many bytes are looked at of the frame that begins with
// these two.
func prefixSize(first, second byte) int {
	n := 2
	switch second {
	case 126:
		n = 4
	case 127:
		n = 10
	}
	switch first & 0xF {
	case wstest.Binary:
		n += stampSize
	case wstest.Close:
		n += min(int(second), 2)
	}
	return n
}

// open begins the frame with this prefix.
func (s *stream) open(p []byte) error {
	s.op = p[0] & 0xF
	size, head := int(p[1]), 2
	switch size {
	case 126:
		size, head = int(binary.BigEndian.Uint16(p[2:])), 4
	case 127:
		size, head = int(binary.BigEndian.Uint64(p[2:])), 10
	}
	s.left = size - (len(p) - head)
	switch {
	case s.op == wstest.Close && len(p) == 4:
		return fmt.Errorf("closed with code %d", binary.BigEndian.Uint16(p[2:]))
	case s.op == wstest.Close:
		return errors.New("closed without a code")
	case s.op != wstest.Binary:
		return nil
	case s.left < 0:
		return fmt.Errorf("a packet of %d bytes, less than its stamp", size)
	}
	return s.stamped(p[head:])
}

// stamped begins the packet with this stamp.
func (s *stream) stamped(stamp []byte) error {
	if s.next == 0 && strings.HasPrefix(string(stamp), webmMagic) {
		s.op = wstest.Text // the beginning of media, which is no packet of the load's
		return nil
	}
	s.sent = int64(binary.LittleEndian.Uint64(stamp))
	seq := binary.LittleEndian.Uint64(stamp[8:])
	if s.late {
		s.late, s.next = false, seq
	}
	if seq < s.next {
		return fmt.Errorf("packet %d where %d should be", seq, s.next)
	}
	s.lost += int64(seq - s.next)
	s.next = seq
	return nil
}

// finish ends the frame that is complete.
func (s *stream) finish() {
	switch s.op {
	case wstest.Binary:
		s.packets++
		s.next++
		if s.sent != 0 && s.latency != nil {
			s.latency.add(int64(time.Since(epoch)) - s.sent)
		}
	case wstest.Ping:
		s.pinged = true
	}
	s.op = 0
}
