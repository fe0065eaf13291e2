package body

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// decode gives a decoder a stream in pieces that are at most n bytes long, each in a
// buffer that is overwritten afterwards, and returns the body, whether it is whole, and
// how long the stream was up to there.
func decode(d Decoder, stream string, n int) (body string, done bool, err error) {
	var all []byte
	for len(stream) > 0 && !done && err == nil {
		piece := []byte(stream[:min(n, len(stream))])
		stream = stream[len(piece):]
		var b []byte
		b, done, err = d.Next(piece)
		all = append(all, b...)
		for i := range piece {
			piece[i] = 0xDB
		}
	}
	return string(all), done, err
}

func TestSized(t *testing.T) {
	for _, n := range []int{1, 2, 5, 100} {
		for most := 1; most <= 5; most++ {
			if b, done, err := decode(Sized(5), "hello, and more"[:min(15, 5+most)], n); b != "hello" || !done || err != nil {
				t.Errorf("in pieces of %d: %q, %t, %v", n, b, done, err)
			}
			if b, done, err := decode(Sized(5), "hell", n); b != "hell" || done || err != nil {
				t.Errorf("in pieces of %d, not all: %q, %t, %v", n, b, done, err)
			}
		}
	}
	d := Sized(0)
	if b, done, err := d.Next([]byte("x")); len(b) > 0 || !done || err != nil {
		t.Errorf("nothing: %q, %t, %v", b, done, err)
	}
	d = Sized(1 << 62)
	if b, done, err := d.Next([]byte("x")); string(b) != "x" || done || err != nil {
		t.Errorf("a lot: %q, %t, %v", b, done, err)
	}
}

func TestChunked(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		stream, body string
		done         bool
		err          error
	}{
		"one":                  {"5\r\nhello\r\n0\r\n\r\n", "hello", true, nil},
		"none":                 {"0\r\n\r\n", "", true, nil},
		"some":                 {"1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\nmore", "hello", true, nil},
		"zeros and both cases": {"000A\r\n0123456789\r\nb\r\n0123456789a\r\n00\r\n\r\n", "01234567890123456789a", true, nil},
		"extensions":           {"5;a=b;c=\"d;\t\x80\"\r\nhello\r\n0;x\r\n\r\n", "hello", true, nil},
		"blanks":               {"5 \t\r\nhello\r\n0 ;x\r\n\r\n", "hello", true, nil},
		"trailers":             {"5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", "hello", true, nil},
		"not the end":          {"5\r\nhello\r\n", "hello", false, nil},
		"not even the chunk":   {"5\r\nhel", "hel", false, nil},
		"not the last line":    {"5\r\nhello\r\n0\r\n", "hello", false, nil},
		"what looks like ends": {"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n", true, nil},

		"no size":              {"\r\nhello", "", false, ErrSize},
		"no number":            {"x\r\n", "", false, ErrSize},
		"a sign":               {"+5\r\nhello\r\n", "", false, ErrSize},
		"a prefix":             {"0x5\r\nhello\r\n", "", false, ErrSize},
		"blanks in front":      {" 5\r\nhello\r\n", "", false, ErrSize},
		"blanks inside":        {"1 0\r\n", "", false, ErrSize},
		"too large":            {"7FFFFFFFFFFFFFFF0\r\n", "", false, ErrSize},
		"larger than anything": {"8000000000000000\r\n", "", false, ErrSize},
		"too many digits":      {"00000000000000005\r\nhello\r\n", "", false, ErrSize},
		"LF alone":             {"5\nhello\r\n", "", false, ErrSize},
		"CR alone":             {"5\rhello\r\n", "", false, ErrLine},
		"LF in an extension":   {"5;a\nb\r\n", "", false, ErrLine},
		"NUL in an extension":  {"5;\x00\r\n", "", false, ErrLine},
		"too little":           {"6\r\nhello\r\n0\r\n\r\n", "hello\r", false, ErrLine},
		"too much":             {"4\r\nhello\r\n0\r\n\r\n", "hell", false, ErrLine},
		"LF behind a chunk":    {"5\r\nhello\n0\r\n\r\n", "hello", false, ErrLine},
		"LF at the end":        {"5\r\nhello\r\n0\r\n\n", "hello", false, ErrLine},
		"LF in a trailer":      {"0\r\nA: b\nC: d\r\n\r\n", "", false, ErrLine},
		"a long extension":     {"5;" + long + "\r\nhello\r\n", "", false, ErrTooLong},
		"long extensions":      {strings.Repeat("1;"+long[:3000]+"\r\nh\r\n", 9), "hhhhh", false, ErrTooLong},
		"long trailers":        {"0\r\n" + strings.Repeat(long[:1000]+"\r\n", 5), "", false, ErrTooLong},
		"short chunks":         {strings.Repeat("1\r\nh\r\n", 30_000) + "0\r\n\r\n", strings.Repeat("h", 30_000), true, nil},
	} {
		for _, n := range []int{1, 2, 3, 7, 1 << 20} {
			b, done, err := decode(Chunked(), c.stream, n)
			if b != c.body || done != c.done || !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Errorf("%s, in pieces of %d: %.40q, %t, %v; wanted %.40q, %t, %v", name, n, b, done, err, c.body, c.done, c.err)
			}
		}
	}
}

// Several chunks come out in one piece, and nothing is allocated for that.
func TestNextReturnsOnePiece(t *testing.T) {
	stream := []byte("5\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n3\r\n!!")
	b := make([]byte, len(stream))
	if n := testing.AllocsPerRun(100, func() {
		copy(b, stream)
		d := Chunked()
		if got, _, _ := d.Next(b); string(got) != "hello, world!!" {
			t.Fatalf("got %q", got)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

var (
	twinSize    = regexp.MustCompile(`^([0-9A-Fa-f]{1,16})[ \t]*(;[^\x00-\x08\x0A-\x1F\x7F]*)?\r\n`)
	twinTrailer = regexp.MustCompile(`^[^\x00-\x08\x0A-\x1F\x7F]+\r\n`)
)

// twin reads a stream of chunks that is there as a whole, in the plainest way. ok: it is
// a body from the beginning to its end.
func twin(stream string) (body string, ok bool) {
	for excess := int64(0); ; {
		m := twinSize.FindStringSubmatch(stream)
		if m == nil {
			return body, false
		}
		size, err := strconv.ParseInt(m[1], 16, 64)
		line := int64(len(m[0]) - 2)
		excess = max(0, excess+line+2-16-2*size)
		if err != nil || line > 4096+1 || excess > 16<<10 {
			return body, false
		}
		stream = stream[len(m[0]):]
		if size == 0 {
			return body, twinTrailers(stream)
		}
		if int64(len(stream)) < size {
			return body + stream, false
		}
		body, stream = body+stream[:size], stream[size:]
		if !strings.HasPrefix(stream, "\r\n") {
			return body, false
		}
		stream = stream[2:]
	}
}

func twinTrailers(stream string) (ok bool) {
	for n := 0; n <= 4096; {
		if strings.HasPrefix(stream, "\r\n") {
			return true
		}
		m := twinTrailer.FindString(stream)
		if m == "" {
			return false
		}
		n += len(m) - 2
		stream = stream[len(m):]
	}
	return false
}

// FuzzChunked draws streams: whole and in pieces they give the body that the twin finds,
// and what we take net/http takes, too, for the same bytes.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\nmore", "A;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
		"5 \r\nhello\r\n0\t;\r\n\r\n", "0\r\n\r\n", "5\nhello\n0\n\n", "ffffffffffffffff\r\nx", "7FFFFFFFFFFFFFFF\r\nx", "00000000000000001\r\n",
	} {
		f.Add(s, uint16(1))
		f.Add(s, uint16(4))
	}
	f.Fuzz(func(t *testing.T, stream string, chop uint16) {
		body, done, err := decode(Chunked(), stream, len(stream)+1)
		again, doneAgain, errAgain := decode(Chunked(), stream, int(chop)+1)
		if again != body || doneAgain != done || !errors.Is(errAgain, err) {
			t.Fatalf("whole: %q, %t, %v; in pieces of %d: %q, %t, %v", body, done, err, chop+1, again, doneAgain, errAgain)
		}
		want, ok := twin(stream)
		if done != ok || ok && body != want || !strings.HasPrefix(body, want) && !strings.HasPrefix(want, body) {
			t.Fatalf("%q: got %q, %t, %v; the twin has %q, %t", stream, body, done, err, want, ok)
		}
		if done && err != nil {
			t.Fatal("done, and an error")
		}
		theirs, theirErr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader([]byte(stream))))
		blanks := strings.Contains(stream, " ;") || strings.Contains(stream, "\t;") // RFC 9112 has us take them, net/http does not
		if done && !blanks && (theirErr != nil || string(theirs) != body) {
			t.Fatalf("%q: got %q, net/http %q, %v", stream, body, theirs, theirErr)
		}
	})
}

// FuzzSized draws bodies of a declared length.
func FuzzSized(f *testing.F) {
	f.Add("hello", int64(3), uint16(2))
	f.Add("", int64(0), uint16(0))
	f.Fuzz(func(t *testing.T, stream string, n int64, chop uint16) {
		body, done, err := decode(Sized(n), stream, int(chop)+1)
		want := stream[:max(0, min(int64(len(stream)), n))]
		if err != nil || body != want || len(stream) > 0 && done != (n <= int64(len(stream))) {
			t.Fatalf("%d of %q: got %q, %t, %v", n, stream, body, done, err)
		}
	})
}
