package media

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// wantMP4Safe fails unless a stream that may be anything is followed in the same way
// however it is cut, keeps what it may, and finds sync points where there are bytes.
func wantMP4Safe(t testing.TB, stream []byte, cut cutter) {
	t.Helper()
	f, other := follow(stream, whole), follow(stream, cut)
	if f.Container() != MP4 || other.Container() != MP4 {
		if f.Container() == MP4 || other.Container() == MP4 {
			t.Errorf("the container is %q in one piece, %q in several", f.Container(), other.Container())
		}
		return
	}
	f.wantSame(t, other)
	before := -1
	for _, p := range f.points {
		if p.at <= before || p.at >= len(stream) {
			t.Errorf("a sync point at %d of %d bytes, behind one at %d", p.at, len(stream), before)
		}
		before = p.at
	}
	if len(f.points) > 0 && !bytes.Contains(stream, f.Init()) {
		t.Errorf("an init segment that was not published")
	}
	if p, ok := f.parser.(*mp4); ok && len(p.box.b)+len(p.init) > 2*MaxInit {
		t.Errorf("%d and %d bytes are kept", len(p.box.b), len(p.init))
	}
}

// Bytes that changed, are missing or come twice make at worst an opaque stream.
func TestFFmpegMP4Damage(t *testing.T) {
	t.Parallel()
	stream := encode(t, mp4Streams[0].args)
	init := len(follow(stream, whole).Init())
	r := rand.New(rand.NewPCG(7, 7))
	opaque := 0
	const tries = 300
	for i := range tries {
		b := bytes.Clone(stream[:init+4000])
		at := r.IntN(len(b) - 100)
		if i%2 == 0 {
			at = r.IntN(init + 400) // where it matters
		}
		n := 1 + r.IntN(100)
		switch i % 4 {
		case 0, 1:
			b[at] ^= 1 << r.IntN(8)
		case 2:
			b = slices.Delete(b, at, at+n)
		case 3:
			b = slices.Insert(b, at, bytes.Clone(b[at:at+n])...)
		}
		wantMP4Safe(t, b, randomly(uint64(i), 1+r.IntN(300)))
		if follow(b, whole).Container() == Opaque {
			opaque++
		}
	}
	if opaque == 0 || opaque == tries {
		t.Errorf("%d of %d damaged streams are opaque: that is no test", opaque, tries)
	}
}

// A stream that ends anywhere has the init segment and the sync points that came till then.
func TestFFmpegMP4Truncated(t *testing.T) {
	t.Parallel()
	stream := encode(t, mp4Streams[0].args)
	all := follow(stream, whole)
	for end := 8; end < len(stream); end += 1 + end/50 {
		f := follow(stream[:end], randomly(uint64(end), 1000))
		if len(f.points) > len(all.points) || fmt.Sprint(f.points) != fmt.Sprint(all.points[:len(f.points)]) {
			t.Fatalf("%d bytes: the sync points are %v, wanted the first of %v", end, f.points, all.points)
		}
		if complete := end >= len(all.Init()); complete != (f.Init() != nil) || f.Container() != MP4 {
			t.Fatalf("%d bytes: the container is %q, an init segment of %d bytes, wanted one of %d: %v", end, f.Container(), len(f.Init()), len(all.Init()), complete)
		}
	}
}

// Following media costs no memory: what is read is read into a buffer that is there, and
// what is left out is not touched.
func TestMP4DoesNotAllocate(t *testing.T) {
	var p mp4
	var out sink
	var in input
	parse := func(b []byte, points int) {
		out.points = out.points[:0]
		in = input{b: b}
		if !p.parse(&in, &out) || len(out.points) != points {
			t.Fatalf("%d sync points, wanted %d", len(out.points), points)
		}
	}
	unit := slices.Concat(mp4Box("styp", "msdh"), mp4Key, mp4Long(mp4Mdat))
	parse(slices.Concat(mp4Ftyp, mp4Moov, unit), 1)
	if n := testing.AllocsPerRun(100, func() {
		parse(unit, 1)
		parse(unit[:40], 0)
		parse(unit[40:], 1)
	}); n != 0 {
		t.Errorf("%v allocations for two fragments, wanted none", n)
	}
}

// FuzzMP4 compares a stream in one piece with the same in several. The seeds are the first
// fragments of real streams.
func FuzzMP4(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		wantMP4Safe(t, stream, randomly(seed, 1+int(seed%200)))
		wantMP4Safe(t, append(bytes.Clone(mp4Ftyp), stream...), single)
		wantMP4Safe(t, slices.Concat(mp4Ftyp, mp4Moov, stream), single)
	})
}
