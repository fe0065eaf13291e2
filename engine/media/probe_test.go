package media

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What the tests share: ffprobe as the oracle, streams that are damaged.

// videoPacket is where ffprobe found a packet of the first video track.
type videoPacket struct {
	at  int // -1: it does not know
	key bool
}

// videoPackets returns the packets of a stream's first video track, as ffprobe finds them.
func videoPackets(t testing.TB, stream []byte) (all []videoPacket) {
	t.Helper()
	out, complaints := runTool(t, "ffprobe", stream, "-select_streams v:0 -show_entries packet=pos,flags -of csv=p=0 -")
	for line := range strings.Lines(string(out)) {
		at, flags, ok := strings.Cut(strings.TrimSpace(line), ",")
		if !ok {
			continue
		}
		p := videoPacket{-1, strings.HasPrefix(flags, "K")}
		if n, err := strconv.Atoi(at); err == nil {
			p.at = n
		} else if p.key {
			t.Fatalf("ffprobe says %q of a key frame, and complains: %s", line, complaints)
		}
		all = append(all, p)
	}
	return all
}

// keyPositions returns at which bytes of the stream ffprobe found the units with key frames of
// its video.
func keyPositions(t testing.TB, stream []byte) (at []int) {
	t.Helper()
	for _, p := range videoPackets(t, stream) {
		if p.key {
			at = append(at, p.at)
		}
	}
	return at
}

// at returns the bytes of the stream at which there are sync points.
func (f following) at() (all []int) {
	for _, p := range f.points {
		all = append(all, p.at)
	}
	return all
}

// wantPoints fails unless the sync points are at these bytes, and there are some.
func (f following) wantPoints(t testing.TB, whose string, want []int) {
	t.Helper()
	if !slices.Equal(f.at(), want) || len(want) == 0 {
		t.Errorf("sync points at %d, of %s at %d", f.at(), whose, want)
	}
}

// wantTracks fails unless the tracks print as this: "video avc1.42C00B 160x120, audio mp3 44100 Hz 1".
func (f following) wantTracks(t testing.TB, want string) {
	t.Helper()
	var all []string
	for _, track := range f.Tracks() {
		s := track.Kind + " " + track.Codec
		if track.Width != 0 {
			s += fmt.Sprintf(" %dx%d", track.Width, track.Height)
		}
		if track.SampleRate != 0 {
			s += fmt.Sprintf(" %d Hz %d", track.SampleRate, track.Channels)
		}
		all = append(all, s)
	}
	if got := strings.Join(all, ", "); got != want {
		t.Errorf("the tracks are %q, wanted %q", got, want)
	}
}

// wantJoinable fails unless a joiner can start at a sync point in the middle, behind which
// there is enough that ffmpeg can tell what it is. Lines of ffmpeg's complaints that allowed
// matches do not count.
func (f following) wantJoinable(t testing.TB, stream []byte, allowed *regexp.Regexp) {
	t.Helper()
	i := len(f.points) / 2
	for i > 0 && len(stream)-f.points[i].at < 4096 {
		i--
	}
	if allowed == nil {
		wantDecodable(t, f.from(stream, i))
		return
	}
	_, complaints := runTool(t, "ffmpeg", f.from(stream, i), "-nostats -i - -map 0 -f null -")
	for line := range strings.Lines(complaints) {
		if !allowed.MatchString(line) {
			t.Errorf("from sync point %d ffmpeg complains: %s", i, line)
		}
	}
}

// wantSameCuts follows a stream whole and cut at random, and what it begins with byte by
// byte, fails unless it finds the same, and returns what.
func wantSameCuts(t testing.TB, stream []byte) following {
	t.Helper()
	f := follow(stream, whole)
	same := func(f, other following) {
		t.Helper()
		if f.Container() != Opaque || other.Container() != Opaque { // what was found before counts no more
			f.wantSame(t, other)
		}
	}
	same(f, follow(stream, randomly(1, 100)))
	same(f, follow(stream, randomly(2, 2000)))
	beginning := stream[:min(len(stream), 64<<10)]
	same(follow(beginning, whole), follow(beginning, single))
	return f
}

// wantHarmless damages a stream in many ways, and fails unless each of them is followed the
// same however it is cut, and kept says of each parser that it keeps no more than a bounded number of bytes.
func wantHarmless(t *testing.T, stream []byte, kept func(parser) int, most int) {
	t.Helper()
	for seed := range uint64(100) {
		b := damaged(stream, seed)
		f := follow(b, whole)
		other := follow(b, randomly(seed, 300))
		if f.Container() != Opaque || other.Container() != Opaque {
			f.wantSame(t, other)
		}
		for _, st := range []*Stream{f.Stream, other.Stream} {
			if st.parser == nil {
				continue
			}
			if n := kept(st.parser); n > most || len(st.Init()) > MaxInit {
				t.Errorf("damaged with seed %d: the parser keeps %d bytes and an init segment of %d", seed, n, len(st.Init()))
			}
		}
		if t.Failed() {
			t.Fatalf("the seed is %d", seed)
		}
	}
}

// damaged returns a copy of a stream in which a few bytes are changed, pieces are missing, or come twice.
func damaged(stream []byte, seed uint64) []byte {
	b := bytes.Clone(stream)
	small, anywhere := randomly(seed, 200), randomly(seed+1000, len(b)/2)
	place := func() int { return min(anywhere(), len(b)-1) }
	for range 1 + seed%4 {
		from := place()
		if seed%2 == 0 {
			from = min(small(), len(b)-1) // where the init segment is
		}
		to := min(from+small(), len(b))
		switch small() % 4 {
		case 0:
			b[from] ^= byte(small())
		case 1:
			b = slices.Delete(b, from, to)
		case 2:
			b = slices.Insert(b, to, b[from:to]...)
		case 3:
			b = b[:max(from, len(b)/2)]
		}
	}
	return b
}
