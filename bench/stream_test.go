package bench

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/wstest"
)

// sent is packets as a receiver gets them, with a heartbeat between them.
func sent(size int, seqs ...uint64) []byte {
	var b []byte
	for _, seq := range seqs {
		p := make([]byte, size)
		putStamp(p, seq, true)
		b = frame.AppendFrame(b, frame.Binary, p)
		b = frame.AppendFrame(b, frame.Text, []byte("h"))
		b = frame.AppendFrame(b, frame.Ping, nil)
	}
	return b
}

// bareSent is packets as a receiver over HTTP gets them.
func bareSent(size int, seqs ...uint64) []byte {
	b := make([]byte, size*len(seqs))
	for i, seq := range seqs {
		putStamp(b[i*size:], seq, true)
	}
	return b
}

// What the benchmarks count does not depend on how reads cut the stream.
func TestTheStreamIsCountedHoweverItIsCut(t *testing.T) {
	for _, size := range []int{stampSize, 125, 126, 1 << 10, 70 << 10} {
		b := sent(size, 0, 1, 4, 5)
		for _, piece := range []int{1, 2, 3, 25, 26, 27, 1000, len(b)} {
			var h histogram
			s := stream{latency: &h}
			for rest := b; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				if err := s.feed(rest[:min(piece, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			packets, lost := s.take()
			if packets != 4 || lost != 2 || s.next != 6 || !s.pinged || h.quantile(0.5) == 0 {
				t.Errorf("size %d in pieces of %d: %d packets, %d lost, next %d, pinged %v", size, piece, packets, lost, s.next, s.pinged)
			}
		}
		for _, piece := range []int{1, 15, 16, 17, 1000, size} {
			s := stream{bare: size}
			for rest := bareSent(size, 0, 1, 4, 5); len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				if err := s.feed(rest[:min(piece, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if packets, lost := s.take(); packets != 4 || lost != 2 || s.next != 6 {
				t.Errorf("size %d without frames in pieces of %d: %d packets, %d lost, next %d", size, piece, packets, lost, s.next)
			}
		}
	}
}

func TestTheStreamSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		late bool
		b    []byte
		want string
	}{
		{false, sent(100, 0, 1, 1), "packet 1 where 2 should be"},
		{true, sent(100, 7, 8, 3), "packet 3 where 9 should be"},
		{false, frame.AppendClose(nil, 4008, "slow"), "closed with code 4008"},
		{false, []byte{0x80 | wstest.Close, 0}, "closed without a code"},
		{false, append(frame.AppendFrame(nil, frame.Binary, []byte("short")), make([]byte, maxPrefix)...), "less than its stamp"},
	} {
		s := stream{late: c.late}
		if err := s.feed(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("wanted %q, got %v", c.want, err)
		}
	}
}

func TestTheHistogramIsAsFineAsItSays(t *testing.T) {
	for d := int64(1); d < 1<<40; d += d/7 + 1 {
		var h histogram
		h.add(d)
		if q := h.quantile(0.99); q < float64(d)*(1-1.0/fine) || q > float64(d)*(1+1.0/fine) {
			t.Errorf("%d ns are counted as %.1f", d, q)
		}
	}
	var h histogram
	for d := range int64(1000) {
		h.add(d * 1000)
	}
	if q := h.quantile(0.99); q < 0.93*990e3 || q > 1.07*990e3 {
		t.Errorf("the 0.99-quantile of 0 to 999 µs is %.0f ns", q)
	}
}

// A publisher's stamp survives its mask.
func TestThePublisherStampsEachPacket(t *testing.T) {
	p := newPublisher(discard{}, 300)
	for seq := range uint64(3) {
		if err := p.publish(seq, true); err != nil {
			t.Fatal(err)
		}
		key := p.frame[p.at-4 : p.at]
		var got [8]byte
		for i := range got {
			got[i] = p.frame[p.at+8+i] ^ key[i&3]
		}
		if n := binary.LittleEndian.Uint64(got[:]); n != seq {
			t.Errorf("wanted sequence %d on the wire, got %d", seq, n)
		}
	}
}

// discard is a connection that takes all.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error)        { return len(b), nil }
func (discard) SetWriteDeadline(_ time.Time) error { return nil }
