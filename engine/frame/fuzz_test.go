package frame

import (
	"slices"
	"testing"
)

// FuzzDecoder compares the decoder with its twin. The input holds both the
// stream and where it is cut: cuts are the sizes of the reads, over and over; an
// empty one gives the stream whole. limit is MaxMessage.
func FuzzDecoder(f *testing.F) {
	all := ""
	for _, c := range decodeCases {
		if len(c.stream) < 400 {
			f.Add([]byte(c.stream), []byte{}, uint16(c.limit))
			f.Add([]byte(c.stream), []byte{1}, uint16(c.limit))
		}
	}
	for _, c := range []string{client(fin|2, "abc"), client(1, "aß"), client(fin|9, "p"), client(0, "€"),
		client(fin|0, ""), clientLength(fin|2, 3, length16) + masked("abc"), client(fin|2, long[:200]), client(fin|8, "\x03\xe8bye")} {
		all += c
	}
	f.Add([]byte(all), []byte{3, 1, 7}, uint16(0))
	f.Add([]byte(all), []byte{40, 2}, uint16(199))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, limit uint16) {
		i := -1
		cut := func(left int) int {
			if len(cuts) == 0 {
				return left
			}
			i++
			return int(cuts[i%len(cuts)])
		}
		want := twin(stream, int64(limit))
		got, err := play(stream, int64(limit), cut)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("limit %d, cuts %v\n got %q\nwant %q", limit, cuts, []string(got), []string(want))
		}
	})
}
