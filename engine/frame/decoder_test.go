package frame

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

const fin = 0x80

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d} // the RFC's own example, 5.7

// client is a masked frame as a client sends it; first is the header's first byte.
func client(first byte, payload string) string {
	return clientLength(first, len(payload), 0) + masked(payload)
}

// clientLength is the header of a masked frame. form is 0 for the shortest form
// of the length, else length16 or length64.
func clientLength(first byte, n int, form byte) string {
	b := []byte{first}
	switch {
	case form == length64 || n > 65535:
		b = binary.BigEndian.AppendUint64(append(b, bitMask|length64), uint64(n))
	case form == length16 || n > 125:
		b = binary.BigEndian.AppendUint16(append(b, bitMask|length16), uint16(n))
	default:
		b = append(b, bitMask|byte(n))
	}
	return string(append(b, testKey[:]...))
}

func masked(payload string) string {
	b := []byte(payload)
	for i := range b {
		b[i] ^= testKey[i%4]
	}
	return string(b)
}

type decodeCase struct {
	name   string // begins with the RFC's section
	stream string
	limit  int64
	want   []string
}

// long is a payload that no stretch of itself resembles.
var long = func() string {
	var b strings.Builder
	for i := range 70000 {
		b.WriteByte(byte(i ^ i>>8*37))
	}
	return b.String()
}()

var decodeCases = slices.Concat(framingCases, fragmentCases, controlCases, closeCases, textCases, limitCases)

var framingCases = []decodeCase{
	{name: "5.7 masked Hello", stream: "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", want: []string{`text "Hello"`}},
	{name: "5.2 binary", stream: client(fin|2, "\x01\x02\x03"), want: []string{"binary 010203"}},
	{name: "5.2 empty binary", stream: client(fin|2, ""), want: []string{"binary "}},
	{name: "5.2 empty text", stream: client(fin|1, ""), want: []string{`text ""`}},
	{name: "5.2 several in a row", stream: client(fin|2, "a") + client(fin|2, "") + client(fin|1, "h") + client(fin|2, "b"),
		want: []string{"binary 61", "binary ", `text "h"`, "binary 62"}},
	{name: "5.2 non-minimal 16-bit length accepted", stream: clientLength(fin|2, 3, length16) + masked("abc"), want: []string{"binary 616263"}},
	{name: "5.2 non-minimal 64-bit length accepted", stream: clientLength(fin|2, 3, length64) + masked("abc"), want: []string{"binary 616263"}},
	{name: "5.2 non-minimal length of nothing accepted", stream: clientLength(fin|2, 0, length64), want: []string{"binary "}},
	{name: "5.2 64-bit length with top bit", stream: "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x01key!", want: []string{"error 1002 length with the top bit set"}},
	{name: "5.2 64-bit length with top bit, first byte is enough", stream: "\x82\xff\x80", want: []string{"error 1002 length with the top bit set"}},
	{name: "5.2 largest length", stream: "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffkey!", want: []string{"open binary  +9223372036854775807"}},
	{name: "5.2 RSV1", stream: client(fin|0x40|2, "a"), want: []string{"error 1002 reserved bit set"}},
	{name: "5.2 RSV2", stream: client(fin|0x20|2, "a"), want: []string{"error 1002 reserved bit set"}},
	{name: "5.2 RSV3", stream: client(fin|0x10|2, "a"), want: []string{"error 1002 reserved bit set"}},
	{name: "5.2 RSV1 on a ping", stream: client(fin|0x40|9, ""), want: []string{"error 1002 reserved bit set"}},
	{name: "5.2 RSV1, first byte is enough", stream: "\xc2", want: []string{"error 1002 reserved bit set"}},
	{name: "5.2 opcode 3", stream: client(fin|3, "a"), want: []string{"error 1002 reserved opcode"}},
	{name: "5.2 opcode 7", stream: client(fin|7, "a"), want: []string{"error 1002 reserved opcode"}},
	{name: "5.2 opcode 11", stream: client(fin|11, "a"), want: []string{"error 1002 reserved opcode"}},
	{name: "5.2 opcode 15", stream: client(fin|15, "a"), want: []string{"error 1002 reserved opcode"}},
	{name: "5.2 opcode 3 after a good message", stream: client(fin|2, "a") + client(3, "a"), want: []string{"binary 61", "error 1002 reserved opcode"}},
	{name: "5.1 binary not masked", stream: "\x82\x01a", want: []string{"error 1002 frame not masked"}},
	{name: "5.1 text not masked", stream: "\x81\x01h", want: []string{"error 1002 frame not masked"}},
	{name: "5.1 ping not masked", stream: "\x89\x00", want: []string{"error 1002 frame not masked"}},
	{name: "5.1 empty binary not masked, long enough", stream: "\x82\x00abcdefgh", want: []string{"error 1002 frame not masked"}},
	{name: "5.3 key of zeros", stream: "\x82\x83\x00\x00\x00\x00abc", want: []string{"binary 616263"}},
	{name: "5.2 header only", stream: clientLength(fin|2, 5, 0), want: []string{"open binary  +5"}},
	{name: "5.2 half a header", stream: "\x82\x83\x01", want: nil},
	{name: "5.2 payload begun", stream: clientLength(fin|2, 5, 0) + masked("ab"), want: []string{"open binary 6162 +3"}},
}

var fragmentCases = []decodeCase{
	{name: "5.4 two fragments", stream: client(2, "ab") + client(fin|0, "c"), want: []string{"binary 616263"}},
	{name: "5.4 three fragments of text", stream: client(1, "ab") + client(0, "cd") + client(fin|0, "e"), want: []string{`text "abcde"`}},
	{name: "5.4 empty fragments", stream: client(2, "") + client(0, "") + client(fin|0, ""), want: []string{"binary "}},
	{name: "5.4 empty first and last fragment", stream: client(2, "") + client(0, "x") + client(fin|0, ""), want: []string{"binary 78"}},
	{name: "5.4 fragment lengths that turn the key", stream: client(2, "abcde") + client(0, "fgh") + client(fin|0, "ijklmno"),
		want: []string{"binary 6162636465666768696a6b6c6d6e6f"}},
	{name: "5.4 control frames between fragments", stream: client(2, "a") + client(fin|9, "p") + client(0, "b") + client(fin|10, "") + client(fin|0, "c"),
		want: []string{`ping "p"`, `pong ""`, "binary 616263"}},
	{name: "5.4 close between fragments", stream: client(2, "a") + client(fin|8, "\x03\xe8bye"), want: []string{`close 1000 "bye"`, "open binary 61 +0"}},
	{name: "5.4 continuation of nothing", stream: client(fin|0, "a"), want: []string{"error 1002 continuation frame outside a message"}},
	{name: "5.4 continuation after the last", stream: client(2, "a") + client(fin|0, "b") + client(0, "c"),
		want: []string{"binary 6162", "error 1002 continuation frame outside a message"}},
	{name: "5.4 binary inside a message", stream: client(2, "a") + client(fin|2, "b"), want: []string{"error 1002 new message inside a fragmented one"}},
	{name: "5.4 text inside a message", stream: client(2, "a") + client(fin|1, "b"), want: []string{"error 1002 new message inside a fragmented one"}},
	{name: "5.4 message goes on after a ping", stream: client(1, "a") + client(fin|9, "") + client(1, "b"),
		want: []string{`ping ""`, "error 1002 new message inside a fragmented one"}},
	{name: "5.4 message not ended", stream: client(2, "a") + client(0, "bc"), want: []string{"open binary 616263 +0"}},
}

var controlCases = []decodeCase{
	{name: "5.5.2 ping", stream: client(fin|9, "hello"), want: []string{`ping "hello"`}},
	{name: "5.5.2 empty ping", stream: client(fin|9, ""), want: []string{`ping ""`}},
	{name: "5.5.3 pong", stream: client(fin|10, "hello"), want: []string{`pong "hello"`}},
	{name: "5.5 125 bytes", stream: client(fin|9, long[:125]), want: []string{transcriptOf(Ping, long[:125])}},
	{name: "5.5 126 bytes", stream: client(fin|9, long[:126]), want: []string{"error 1002 control frame above 125 bytes"}},
	{name: "5.5 64-bit length", stream: clientLength(fin|10, 1, length64) + "a", want: []string{"error 1002 control frame above 125 bytes"}},
	{name: "5.5 fragmented ping", stream: client(9, "a"), want: []string{"error 1002 fragmented control frame"}},
	{name: "5.5 fragmented close", stream: client(8, ""), want: []string{"error 1002 fragmented control frame"}},
	{name: "5.5 two pings, one pong", stream: client(fin|9, "1") + client(fin|9, "22") + client(fin|10, "333"), want: []string{`ping "1"`, `ping "22"`, `pong "333"`}},
	{name: "5.5 control frame begun", stream: clientLength(fin|9, 5, 0) + masked("ab"), want: []string{"open none  +3"}},
}

func transcriptOf(op Opcode, payload string) string {
	var t transcript
	t.control(op, []byte(payload), 0)
	return t[0]
}

var closeCases = []decodeCase{
	{name: "5.5.1 close without code", stream: client(fin|8, ""), want: []string{`close 1005 ""`}},
	{name: "5.5.1 close with code", stream: client(fin|8, "\x03\xe8"), want: []string{`close 1000 ""`}},
	{name: "5.5.1 close with reason", stream: client(fin|8, "\x03\xe9größe"), want: []string{`close 1001 "größe"`}},
	{name: "5.5.1 longest reason", stream: client(fin|8, "\x03\xe8"+strings.Repeat("x", 123)), want: []string{`close 1000 "` + strings.Repeat("x", 123) + `"`}},
	{name: "5.5.1 payload of one byte", stream: client(fin|8, "\x03"), want: []string{"error 1002 close payload of one byte"}},
	{name: "5.5.1 reason is not UTF-8", stream: client(fin|8, "\x03\xe8\xff"), want: []string{"error 1007 close reason is not UTF-8"}},
	{name: "5.5.1 reason breaks off", stream: client(fin|8, "\x03\xe8\xe2\x82"), want: []string{"error 1007 close reason is not UTF-8"}},
	{name: "5.5.1 bytes after the close are decoded", stream: client(fin|8, "") + client(fin|2, "a"), want: []string{`close 1005 ""`, "binary 61"}},
}

var textCases = []decodeCase{
	{name: "8.1 characters of every length", stream: client(fin|1, "aß€𝄞\U0010ffff"), want: []string{"text \"aß€𝄞\\U0010ffff\""}},
	{name: "8.1 character across fragments", stream: client(1, "\xf0") + client(0, "\x9d") + client(0, "") + client(0, "\x84") + client(fin|0, "\x9e"), want: []string{`text "𝄞"`}},
	{name: "8.1 character across a ping", stream: client(1, "\xe2\x82") + client(fin|9, "") + client(fin|0, "\xac!"), want: []string{`ping ""`, `text "€!"`}},
	{name: "8.1 invalid byte", stream: client(fin|1, "ab\xffcd"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 stray tail", stream: client(fin|1, "\x80"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 overlong 2", stream: client(fin|1, "\xc0\xaf"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 overlong 3", stream: client(fin|1, "\xe0\x9f\xbf"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 overlong 4", stream: client(fin|1, "\xf0\x8f\xbf\xbf"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 surrogate", stream: client(fin|1, "\xed\xa0\x80"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 above U+10FFFF", stream: client(fin|1, "\xf4\x90\x80\x80"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 message ends inside a character", stream: client(fin|1, "ab\xe2\x82"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 last fragment empty, character open", stream: client(1, "\xe2\x82") + client(fin|0, ""), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 found before the message is complete", stream: client(1, "\xed\xa0"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 found before the frame is complete", stream: clientLength(fin|1, 100, 0) + masked("\xf4\x90"), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 found before the ping after it", stream: client(1, "\xc3(") + client(fin|9, ""), want: []string{"error 1007 text is not UTF-8"}},
	{name: "8.1 open character is not an error yet", stream: client(1, "a\xf4\x8f\xbf"), want: []string{"open text 61f48fbf +0"}},
	{name: "8.1 state does not leak into the next message", stream: client(fin|1, "é") + client(fin|1, "a"), want: []string{`text "é"`, `text "a"`}},
	{name: "5.6 binary is not looked at", stream: client(fin|2, "\xff\xc0"), want: []string{"binary ffc0"}},
}

var limitCases = []decodeCase{
	{name: "7.4.1 as large as allowed", stream: client(fin|2, "abcd"), limit: 4, want: []string{"binary 61626364"}},
	{name: "7.4.1 one byte more", stream: client(fin|2, "abcde"), limit: 4, want: []string{"error 1009 message too big"}},
	{name: "7.4.1 refused with the header", stream: clientLength(fin|2, 1<<30, 0), limit: 4, want: []string{"error 1009 message too big"}},
	{name: "7.4.1 not before the header is complete", stream: clientLength(fin|2, 5, 0)[:5], limit: 4, want: nil},
	{name: "7.4.1 fragments are added up", stream: client(2, "abc") + client(0, "d") + clientLength(fin|0, 1, 0), limit: 4, want: []string{"error 1009 message too big"}},
	{name: "7.4.1 fragments as large as allowed", stream: client(2, "abc") + client(fin|0, "d"), limit: 4, want: []string{"binary 61626364"}},
	{name: "7.4.1 sum beyond 63 bits", stream: client(2, "abc") + "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xffkey!", limit: 1<<63 - 1, want: []string{"error 1009 message too big"}},
	{name: "7.4.1 control frames do not count", stream: client(2, "abc") + client(fin|9, "12345") + client(fin|0, "d"), limit: 4, want: []string{`ping "12345"`, "binary 61626364"}},
	{name: "7.4.1 each message anew", stream: client(2, "ab") + client(fin|0, "cd") + client(fin|1, "abcd") + client(2, "abc") + client(fin|0, "d"), limit: 4,
		want: []string{"binary 61626364", `text "abcd"`, "binary 61626364"}},
	{name: "7.4.1 text counts", stream: client(fin|1, "abcde"), limit: 4, want: []string{"error 1009 message too big"}},
}

// TestDecoder plays each case whole, byte by byte, in small reads, and cut in
// two at each of its boundaries; the twin has to agree.
func TestDecoder(t *testing.T) {
	for _, c := range decodeCases {
		t.Run(c.name, func(t *testing.T) {
			stream := []byte(c.stream)
			check := func(how string, got transcript, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if !slices.Equal(got, c.want) {
					t.Fatalf("%s:\n got %q\nwant %q", how, []string(got), c.want)
				}
			}
			check("twin", twin(stream, c.limit), nil)
			got, err := play(stream, c.limit, whole)
			check("whole", got, err)
			for _, n := range []int{1, 2, 3, 5, 7} {
				got, err = play(stream, c.limit, each(n))
				check("in small reads", got, err)
			}
			for i := 1; i < len(stream); i++ {
				got, err = play(stream, c.limit, chop(i))
				check("cut in two", got, err)
			}
		})
	}
}

// TestLengths walks over the borders of the three forms of the length (5.2).
func TestLengths(t *testing.T) {
	for _, n := range []int{1, 125, 126, 127, 255, 256, 65535, 65536} {
		stream := []byte(client(fin|2, long[:n]) + client(fin|2, "end"))
		want := twin(stream, 0)
		header := len(clientLength(fin|2, n, 0))
		cuts := []func(int) int{whole, each(4096), each(4093)}
		for i := 1; i <= header+9; i++ {
			cuts = append(cuts, chop(i), chop(len(stream)-i))
		}
		for i, cut := range cuts {
			got, err := play(stream, 0, cut)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("length %d, cut %d: wrong bytes, error %v", n, i, err)
			}
		}
	}
}

// TestCloseCodes walks over all 65536 codes (7.4).
func TestCloseCodes(t *testing.T) {
	for code := range 1 << 16 {
		allowed := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
		d := Decoder{}
		ev, _, err := d.Next([]byte(client(fin|8, string([]byte{byte(code >> 8), byte(code)}))))
		switch {
		case allowed && (err != nil || ev != Control || d.ControlOp() != Close || int(d.CloseCode()) != code):
			t.Fatalf("code %d: event %d, code %d, error %v", code, ev, d.CloseCode(), err)
		case !allowed && err != error(&violations[badCloseCode]):
			t.Fatalf("code %d: error %v", code, err)
		}
	}
}
