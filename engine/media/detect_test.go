package media

import (
	"bytes"
	"runtime"
	"testing"
)

// What could still become one of the containers is undecided; what cannot is opaque at
// once, however short it is.
func TestRecognize(t *testing.T) {
	t.Parallel()
	ts := bytes.Repeat(append([]byte{0x47}, make([]byte, tsPacket-1)...), 3)
	for _, c := range []struct {
		name string
		b    []byte
		want Container
	}{
		{"EBML", ebmlID, WebM},
		{"three bytes of EBML", ebmlID[:3], Undecided},
		{"almost EBML", []byte{0x1A, 0x45, 0xDF, 0xA4}, Opaque},
		{"FLV", []byte("FLV\x01"), FLV},
		{"FL", []byte("FL"), Undecided},
		{"FLX", []byte("FLX"), Opaque},
		{"ftyp", []byte("\x00\x00\x00\x18ftyp"), MP4},
		{"a large moov", []byte("\x00\x01\x00\x18moov"), MP4},
		{"a size", []byte{0, 0, 0, 24}, Undecided},
		{"a moov's size", []byte{0, 1, 2, 3}, Undecided},
		{"the size of no moov", []byte{0, 0x7F}, Opaque},
		{"a moof without its init segment", []byte("\x00\x00\x00\x18moof"), Opaque},
		{"three transport packets", ts, MPEGTS},
		{"two transport packets", ts[:2*tsPacket], Undecided},
		{"one transport packet and something", append(ts[:tsPacket:tsPacket], 'x'), Opaque},
		{"text", []byte("p"), Opaque},
		{"numbers", make([]byte, 100), Opaque},
	} {
		if got, _ := recognize(c.b); got != c.want {
			t.Errorf("%s: got %d, wanted %d", c.name, got, c.want)
		}
	}
}

// What is undecided is kept, and no more of it than decides.
func TestUndecidedIsBounded(t *testing.T) {
	t.Parallel()
	var st Stream
	for i := range 10_000 {
		st.Write(uint64(i), nil)
	}
	for i := range decideWithin - 1 {
		st.Write(uint64(i), []byte{0x47})
		if c := st.Container(); c != Undecided {
			t.Fatalf("after %d bytes it is %q", i+1, c)
		}
	}
	if n := len(st.head); n > decideWithin {
		t.Errorf("%d pieces are kept", n)
	}
}

// A large first packet is not copied to find out what it is.
func TestDecidingCopiesLittle(t *testing.T) {
	text := bytes.Repeat([]byte("text"), 1<<20)
	var st Stream
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	st.Write(0, text)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(text)/2) {
		t.Errorf("%d bytes are allocated for a packet of %d", n, len(text))
	}
}

// teller tells of 200 tracks anew with each piece.
type teller struct{}

func (teller) parse(in *input, out *sink) bool {
	out.point(in.at)
	in.next(len(in.b))
	out.describe(make([]Track, 200))
	return true
}

func (teller) pending() (Point, bool) { return Point{}, false }
func (teller) kept() int              { return 0 }

// Tracks that are told anew cost no more than is sent: a stream that tells much in little
// is followed no more.
func TestTracksThatAreToldAgainAndAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int
		want Container
	}{{188, Opaque}, {atOnce, MPEGTS}} {
		st := Stream{container: MPEGTS, parser: teller{}}
		for i := range 1000 {
			st.Write(uint64(i), make([]byte, c.size))
		}
		if got := st.Container(); got != c.want {
			t.Errorf("in pieces of %d bytes: it is %q, wanted %q", c.size, got, c.want)
		}
	}
}
