package frame

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"
)

// next is Next without an error.
func next(t *testing.T, d *Decoder, b []byte) (Event, []byte) {
	t.Helper()
	ev, rest, err := d.Next(b)
	if err != nil {
		t.Fatal(err)
	}
	return ev, rest
}

func TestDecoderIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Decoder{}); unsafe.Sizeof(uintptr(0)) == 8 && n > 64 {
		t.Errorf("a Decoder takes %d bytes", n)
	}
}

// A message whose only frame is in the bytes given is one piece, not copied.
func TestWholeMessageIsOnePiece(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		for _, op := range []Opcode{Text, Binary} {
			payload := strings.Repeat("x", n)
			b := []byte(client(fin|byte(op), payload) + "\x82")
			var d Decoder
			ev, rest := next(t, &d, b)
			p := d.Piece()
			if ev != Data || p.Op != op || !p.First || !p.End || len(p.Bytes) != n || len(rest) != 1 {
				t.Fatalf("%d bytes: event %d, %d left, piece %+v", n, ev, len(rest), p)
			}
			if n > 0 && &p.Bytes[n-1] != &b[len(b)-2] {
				t.Fatalf("%d bytes: the piece is a copy", n)
			}
			p.Unmask(p.Bytes) // in place
			if string(p.Bytes) != payload {
				t.Fatalf("%d bytes: wrong bytes in place", n)
			}
		}
	}
}

// A fragment is one piece; an empty one too, with First and End where they belong.
func TestFragmentsAsPieces(t *testing.T) {
	b := []byte(client(2, "") + client(0, "ab") + client(0, "") + client(fin|0, ""))
	var d Decoder
	for i, want := range []struct {
		n          int
		first, end bool
	}{{0, true, false}, {2, false, false}, {0, false, false}, {0, false, true}} {
		var ev Event
		ev, b = next(t, &d, b)
		p := d.Piece()
		if ev != Data || len(p.Bytes) != want.n || p.First != want.first || p.End != want.end || p.Op != Binary {
			t.Fatalf("piece %d: event %d, %+v", i, ev, p)
		}
		if d.MidMessage() == want.end {
			t.Fatalf("piece %d: MidMessage %t", i, d.MidMessage())
		}
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes left", len(b))
	}
}

// A header alone is no piece: First comes with the first bytes.
func TestFirstComesWithBytes(t *testing.T) {
	var d Decoder
	if ev, _ := next(t, &d, []byte(clientLength(fin|2, 3, 0))); ev != NeedMore {
		t.Fatalf("event %d", ev)
	}
	if d.Remaining() != 3 || !d.MidMessage() {
		t.Fatalf("Remaining %d, MidMessage %t", d.Remaining(), d.MidMessage())
	}
	if ev, _ := next(t, &d, nil); ev != NeedMore {
		t.Fatalf("event %d for nothing", ev)
	}
	if ev, _ := next(t, &d, []byte("a")); ev != Data || !d.Piece().First || d.Piece().End || d.Remaining() != 2 {
		t.Fatalf("event %d, piece %+v, Remaining %d", ev, d.Piece(), d.Remaining())
	}
	if ev, _ := next(t, &d, []byte("bc")); ev != Data || d.Piece().First || !d.Piece().End || d.Remaining() != 0 {
		t.Fatalf("event %d, piece %+v, Remaining %d", ev, d.Piece(), d.Remaining())
	}
}

// Remaining does not show the half-read length of a header.
func TestRemainingInsideHeader(t *testing.T) {
	var d Decoder
	for i, c := range []byte(clientLength(fin|2, 70000, 0)) {
		if d.Remaining() != 0 {
			t.Fatalf("Remaining %d after %d bytes", d.Remaining(), i)
		}
		next(t, &d, []byte{c})
	}
	if d.Remaining() != 70000 {
		t.Fatalf("Remaining %d", d.Remaining())
	}
}

// A decoder that said NeedMore between frames keeps nobody's memory alive.
func TestIdleDecoderHoldsNothing(t *testing.T) {
	for _, stream := range []string{client(fin|2, "abc"), client(fin|1, "abc"), client(fin|9, "abc"), client(2, "abc")} {
		for _, cut := range []int{len(stream), len(stream) - 2} {
			var d Decoder
			for _, b := range [][]byte{[]byte(stream[:cut]), []byte(stream[cut:])} {
				for ev := Data; ev != NeedMore; {
					ev, b = next(t, &d, b)
				}
			}
			if d.piece.Bytes != nil {
				t.Errorf("%q cut at %d: holds %d bytes", stream, cut, len(d.piece.Bytes))
			}
		}
	}
}

// The memory for a control frame in parts is what it announces, and is not
// taken before a byte of its payload is there.
func TestControlMemory(t *testing.T) {
	var d Decoder
	next(t, &d, []byte(clientLength(fin|9, 125, 0)))
	if d.piece.Bytes != nil {
		t.Fatal("memory for a header")
	}
	for range 124 {
		next(t, &d, []byte("x"))
		if cap(d.piece.Bytes) > 128 {
			t.Fatalf("room for %d bytes", cap(d.piece.Bytes))
		}
	}
	if ev, _ := next(t, &d, []byte("x")); ev != Control || len(d.ControlPayload()) != 125 {
		t.Fatalf("event %d, %d bytes", ev, len(d.ControlPayload()))
	}
}

func TestCloseCodeWithoutClose(t *testing.T) {
	var d Decoder
	next(t, &d, []byte(client(fin|9, "ab")))
	if d.CloseCode() != 0 {
		t.Errorf("close code %d before any close", d.CloseCode())
	}
}

func TestErrorReads(t *testing.T) {
	var d Decoder
	_, _, err := d.Next([]byte("\x82\x01a"))
	var e *Error
	if !errors.As(err, &e) || e.Code != 1002 || err.Error() != "cannot decode frame: frame not masked" {
		t.Errorf("got %v", err)
	}
	for v := fine + 1; v < violationCount; v++ {
		e := &violations[v]
		if e.Code != 1002 && e.Code != 1007 && e.Code != 1009 || e.Reason == "" || len(e.Reason) > maxCloseReason {
			t.Errorf("violation %d: %+v", v, e)
		}
		for _, c := range e.Reason {
			if c >= utf8.RuneSelf {
				t.Errorf("violation %d: reason %q", v, e.Reason)
			}
		}
	}
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	split := client(fin|2, long[:4000])
	for _, c := range []struct {
		name  string
		reads []string
	}{
		{"binary", []string{client(fin|2, long[:1000])}},
		{"binary with a long header", []string{client(fin|2, long)}},
		{"binary split anywhere", []string{split[:1], split[1:3], split[3:7], split[7:1000], split[1000:]}},
		{"fragments", []string{client(2, "a") + client(0, "b") + client(fin|0, "c")}},
		{"text", []string{client(fin|1, "h"), client(fin|1, "größe")}},
		{"control frames", []string{client(fin|9, "ping") + client(fin|10, "") + client(fin|8, "\x03\xe8bye")}},
	} {
		reads := make([][]byte, len(c.reads))
		for i := range reads {
			reads[i] = make([]byte, len(c.reads[i]))
		}
		dst := make([]byte, 70000)
		d := &Decoder{MaxMessage: 1 << 20}
		n := testing.AllocsPerRun(100, func() {
			for i, b := range reads {
				copy(b, c.reads[i])
				for ev := Data; ev != NeedMore; {
					ev, b, _ = d.Next(b)
					if ev == Data {
						d.Piece().Unmask(dst)
					}
				}
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if d.phase != phaseFirst {
			t.Errorf("%s: not decoded", c.name)
		}
	}
	bad, empty := []byte("\xf2"), []byte(nil)
	if n := testing.AllocsPerRun(100, func() {
		var d Decoder
		_, _, err := d.Next(bad)
		_, _, again := d.Next(empty)
		if err == nil || again != err {
			t.Error("no error")
		}
	}); n != 0 {
		t.Errorf("refusing: %v allocations", n)
	}
}

// naiveUnmask is RFC 6455, 5.3, word for word.
func naiveUnmask(src []byte, key [4]byte, turned int) []byte {
	dst := make([]byte, len(src))
	for i := range src {
		dst[i] = src[i] ^ key[(i+turned)%4]
	}
	return dst
}

func TestUnmask(t *testing.T) {
	lengths := []int{127, 128, 129, 191, 192, 193, 1000, 4096, 65537}
	for n := range 101 {
		lengths = append(lengths, n)
	}
	key := uint32(testKey[0]) | uint32(testKey[1])<<8 | uint32(testKey[2])<<16 | uint32(testKey[3])<<24
	for _, n := range lengths {
		for turned := range 4 {
			for align := range 8 {
				src := []byte(long[align : align+n])
				want := naiveUnmask(src, testKey, turned)
				k := turn(key, turned)
				room := bytes.Repeat([]byte{0xEE}, align+n+9)
				unmask(room[align:], src, k)
				if !bytes.Equal(room[align:align+n], want) {
					t.Fatalf("length %d, turned by %d, alignment %d: wrong", n, turned, align)
				}
				if edge := append(room[:align:align], room[align+n:]...); bytes.Count(edge, []byte{0xEE}) != len(edge) {
					t.Fatalf("length %d, turned by %d, alignment %d: wrote beyond", n, turned, align)
				}
				place := append(bytes.Repeat([]byte{0xEE}, 7-align), src...)[7-align:]
				unmask(place, place, k)
				if !bytes.Equal(place, want) {
					t.Fatalf("length %d, turned by %d, alignment %d: wrong in place", n, turned, align)
				}
			}
		}
	}
}

func TestUnmaskWantsRoom(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("wrote to a dst that is too short")
		}
	}()
	p := Piece{Op: Binary, Bytes: make([]byte, 10)}
	p.Unmask(make([]byte, 9))
}

// The state machine against the standard library, at every cut of four bytes drawn
// from both sides of each border that RFC 3629 knows.
func TestUTF8Cuts(t *testing.T) {
	leads := []byte{0x00, 0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
		0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF}
	others := []byte{0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xE2}
	b := make([]byte, 4)
	for _, b[0] = range leads {
		for _, b[1] = range others {
			for _, b[2] = range others {
				for _, b[3] = range others {
					checkUTF8(t, b)
				}
			}
		}
	}
}

func checkUTF8(t *testing.T, b []byte) {
	t.Helper()
	state := utf8Complete
	for n := range len(b) + 1 {
		if n > 0 && state != utf8Invalid {
			state = state.check(b[n-1 : n])
		}
		if could := twinText(b[:n], false); could != (state != utf8Invalid) {
			t.Fatalf("% x byte by byte: state %d, could be text: %t", b[:n], state, could)
		}
		two := utf8Complete.check(b[:n])
		if two != state {
			t.Fatalf("% x at once: state %d, byte by byte %d", b[:n], two, state)
		}
		if two != utf8Invalid {
			two = two.check(b[n:])
		}
		if (two == utf8Complete) != utf8.Valid(b) {
			t.Fatalf("% x cut at %d: state %d", b, n, two)
		}
	}
}
