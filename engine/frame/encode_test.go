package frame

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPutHeader(t *testing.T) {
	for _, c := range []struct {
		op   Opcode
		n    int
		want string
	}{
		{Binary, 0, "8200"},
		{Text, 1, "8101"},
		{Ping, 125, "897d"},
		{Binary, 125, "827d"},
		{Binary, 126, "827e007e"},
		{Binary, 65535, "827effff"},
		{Binary, 65536, "827f0000000000010000"},
		{Binary, 1<<31 - 1, "827f000000007fffffff"},
	} {
		dst := bytes.Repeat([]byte{0xEE}, MaxHeader+2)
		n := PutHeader(dst, c.op, c.n)
		if got := hex.EncodeToString(dst[:n]); got != c.want || HeaderSize(c.n) != n || n > MaxHeader {
			t.Errorf("opcode %d, %d bytes: %s, want %s; HeaderSize %d", c.op, c.n, got, c.want, HeaderSize(c.n))
		}
		if bytes.Count(dst[n:], []byte{0xEE}) != len(dst)-n {
			t.Errorf("%d bytes: wrote beyond the header", c.n)
		}
	}
}

// The RFC's own examples of frames that are not masked, 5.7.
func TestAppendFrame(t *testing.T) {
	for _, c := range []struct {
		op      Opcode
		payload string
		want    string
	}{
		{Text, "Hello", "810548656c6c6f"},
		{Ping, "Hello", "890548656c6c6f"},
		{Pong, "Hello", "8a0548656c6c6f"},
		{Text, "h", "810168"},
		{Binary, "", "8200"},
		{Close, "", "8800"},
	} {
		if got := AppendFrame([]byte("before"), c.op, []byte(c.payload)); string(got[:6]) != "before" || hex.EncodeToString(got[6:]) != c.want {
			t.Errorf("%q: %x, want %s", c.payload, got, c.want)
		}
	}
	for _, n := range []int{125, 126, 256, 65535, 65536} {
		got := AppendFrame(nil, Binary, []byte(long[:n]))
		if size := HeaderSize(n); len(got) != size+n || string(got[size:]) != long[:n] {
			t.Errorf("%d bytes: wrong frame", n)
		}
	}
}

// Payload finds what stands behind each header, also when a part of it is missing.
func TestPayload(t *testing.T) {
	if p := Payload(nil); p != nil {
		t.Errorf("no bytes have the payload %q", p)
	}
	for _, n := range []int{0, 1, 125, 126, 65_535, 65_536, 70_000} {
		want := bytes.Repeat([]byte{'p'}, n)
		b := AppendFrame(nil, Binary, want)
		if got := Payload(b); !bytes.Equal(got, want) {
			t.Errorf("a frame of %d bytes has a payload of %d", n, len(got))
		}
		if got := Payload(b[:len(b)-n/2]); !bytes.Equal(got, want[n/2:]) {
			t.Errorf("the beginning of a frame of %d bytes has a payload of %d", n, len(got))
		}
	}
}

func TestAppendClose(t *testing.T) {
	x := strings.Repeat("x", 200)
	for _, c := range []struct {
		code   uint16
		reason string
		want   string // after the code
		empty  bool
	}{
		{code: 1000, want: ""},
		{code: 1000, reason: "the stream ended", want: "the stream ended"},
		{code: 4008, reason: x[:123], want: x[:123]},
		{code: 4008, reason: x[:124], want: x[:123]},
		{code: 4008, reason: x[:122] + "é", want: x[:122]},
		{code: 4008, reason: x[:121] + "é", want: x[:121] + "é"},
		{code: 4008, reason: x[:121] + "éé", want: x[:121] + "é"},
		{code: 4008, reason: x[:120] + "𝄞", want: x[:120]},
		{code: 4008, reason: x[:119] + "𝄞x", want: x[:119] + "𝄞"},
		{code: 1011, reason: "a\xffb", want: "a\uFFFDb"},
		{code: 1011, reason: x[:121] + "\xff", want: x[:121]},
		{code: 0, reason: "lost", empty: true},
		{code: 1005, reason: "lost", empty: true},
		{code: 1006, reason: "lost", empty: true},
		{code: 1015, reason: "lost", empty: true},
	} {
		got := AppendClose([]byte("before"), c.code, c.reason)
		if string(got[:6]) != "before" {
			t.Fatalf("%d: dst was overwritten", c.code)
		}
		got = got[6:]
		if c.empty {
			if string(got) != "\x88\x00" {
				t.Errorf("%d: %x", c.code, got)
			}
			continue
		}
		want := "\x88" + string([]byte{byte(2 + len(c.want)), byte(c.code >> 8), byte(c.code)}) + c.want
		if string(got) != want || len(got) > 2+maxControl || !utf8.Valid(got[4:]) {
			t.Errorf("%d %q: %q, want %q", c.code, c.reason, got, want)
		}
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	dst, payload := make([]byte, 0, 70000), []byte(long[:66000])
	if n := testing.AllocsPerRun(100, func() {
		AppendFrame(dst, Binary, payload)
		AppendClose(dst, 4008, "the receiver was too slow")
		PutHeader(dst[:MaxHeader], Binary, len(payload))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
