package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What streams of real encoders do not show: documents made by hand.

// el is an EBML element with these data.
func el(id uint32, data ...string) string {
	d := strings.Join(data, "")
	return sized(id, uint64(len(d))) + d
}

// sized is the header of an element, its size in eight bytes.
func sized(id uint32, size uint64) string {
	b := bytes.TrimLeft(binary.BigEndian.AppendUint32(nil, id), "\x00")
	return string(binary.BigEndian.AppendUint64(b, size|1<<56))
}

// endless is the header of an element of unknown size.
func endless(id uint32) string { return sized(id, 1<<56-1) }

// block is the beginning of a block: the track's number, the time, the flags.
func block(track, flags byte) string { return string([]byte{0x80 | track, 0, 0, flags}) + "payload" }

var (
	lawHeader = el(idEBML, el(idDocType, "webm"))
	lawInfo   = el(idInfo, el(0x2AD7B1, "\x0F\x42\x40"))
	lawVP8    = el(idTrackEntry, el(idTrackNumber, "\x01"), el(idTrackType, "\x01"), el(idCodecID, "V_VP8"))
	lawOpus   = el(idTrackEntry, el(idTrackNumber, "\x02"), el(idTrackType, "\x02"), el(idCodecID, "A_OPUS"))
	lawText   = el(idTrackEntry, el(idTrackNumber, "\x03"), el(idTrackType, "\x11"), el(idCodecID, "D_WEBVTT/SUBTITLES"))
	lawTracks = el(idTracks, lawOpus, lawVP8)
	lawBegin  = lawHeader + endless(idSegment) + lawInfo + lawTracks

	lawTime = el(0xE7, "\x00")
	keyed   = el(idSimpleBlock, block(1, 0x80))
	inter   = el(idSimpleBlock, block(1, 0))
	sound   = el(idSimpleBlock, block(2, 0x80))
	refers  = el(idReferenceBlock, "\xFF")
	cues    = el(idCues, "anything")
	void    = el(idVoid, "\x00\x00\x00")
	crc     = el(idCRC32, "\x01\x02\x03\x04")
)

// Here | marks a sync point. It is taken out.
var webmLawful = []struct{ name, stream string }{
	{"key frame first", lawBegin + "|" + el(idCluster, lawTime, keyed, inter)},
	{"key frame later", lawBegin + el(idCluster, lawTime, inter, keyed) + "|" + el(idCluster, keyed)},
	{"sound before", lawBegin + "|" + el(idCluster, lawTime, sound, sound, keyed) + el(idCluster, sound, inter)},
	{"no picture", lawBegin + el(idCluster, lawTime, sound) + el(idCluster, lawTime) + el(idCluster) + "|" + el(idCluster, keyed)},
	{"unknown sizes", lawBegin + "|" + endless(idCluster) + lawTime + keyed + inter + endless(idCluster) + inter + keyed + "|" + endless(idCluster) + keyed},
	{"unknown and known sizes", lawBegin + "|" + endless(idCluster) + keyed + "|" + el(idCluster, keyed) + endless(idCluster) + inter + cues + "|" + el(idCluster, keyed)},
	{"groups", lawBegin + "|" + el(idCluster, lawTime, el(idBlockGroup, el(idBlock, block(1, 0)), el(0x75A1, "alpha"))) +
		el(idCluster, el(idBlockGroup, el(idBlock, block(1, 0)), refers), keyed) + el(idCluster, el(idBlockGroup, refers, el(idBlock, block(1, 0)))) +
		"|" + el(idCluster, el(idBlockGroup, refers, el(idBlock, block(2, 0))), el(idBlockGroup), keyed)},
	{"groups in unknown sizes", lawBegin + "|" + endless(idCluster) + el(idBlockGroup, el(idBlock, block(1, 0))) + "|" + endless(idCluster) + el(idBlockGroup, el(idBlock, block(1, 0)))},
	{"a flag that means nothing in a group", lawBegin + el(idCluster, el(idBlockGroup, el(idBlock, block(1, 0x80)), refers))},
	{"things between", lawHeader + void + endless(idSegment) + crc + el(idSeekHead, "seek") + lawInfo + void + el(idTags, "tags") + lawTracks + el(idAttachments, "font") +
		"|" + el(idCluster, crc, lawTime, void, el(0x4DBB, "not known"), keyed) + el(0x4DBC, "not known") + cues + void + "|" + endless(idCluster) + void + el(0x4DBB, "not known") + crc + keyed + el(idTags, "tags")},
	{"Info after Tracks", lawHeader + endless(idSegment) + lawTracks + lawInfo + "|" + el(idCluster, keyed)},
	{"no Info", lawHeader + endless(idSegment) + lawTracks + "|" + el(idCluster, keyed)},
	{"an empty Info", lawHeader + endless(idSegment) + lawTracks + el(idInfo) + "|" + el(idCluster, keyed)},
	{"Info and Tracks again", lawBegin + lawInfo + el(idTracks, lawOpus) + "|" + el(idCluster, keyed) + lawInfo + el(idTracks, lawOpus) + el(idCluster, sound)},
	{"sound only", lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawOpus) + "|" + el(idCluster, lawTime, sound) + "|" + endless(idCluster) + sound + "|" + endless(idCluster) + lawTime + sound},
	{"sound only, also clusters without", lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawOpus) + el(idCluster) + endless(idCluster) + "|" + endless(idCluster) + el(idBlockGroup, el(idBlock, block(2, 0))) + el(idCluster, lawTime)},
	{"text only", lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawText) + "|" + el(idCluster, lawTime, sound)},
	{"a Segment of known size", lawHeader + el(idSegment, lawInfo, lawTracks, el(idCluster, inter), cues) + void + lawHeader +
		sized(idSegment, uint64(len(lawInfo+lawTracks+endless(idCluster)+keyed))) + lawInfo + lawTracks + "|" + endless(idCluster) + keyed + void},
	{"a Segment that was left", lawHeader + sized(idSegment, 1<<40) + lawInfo + lawTracks + "|" + el(idCluster, keyed) + lawHeader + endless(idSegment) + lawTracks + "|" + el(idCluster, keyed)},
	{"a Cluster that was left", lawBegin + "|" + sized(idCluster, 1<<20) + keyed + lawBegin + "|" + endless(idCluster) + keyed + lawBegin + el(idCluster, inter)},
	{"two pictures", lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawVP8, el(idTrackEntry, el(idTrackNumber, "\x04"), el(idTrackType, "\x01"))) +
		"|" + el(idCluster, el(idSimpleBlock, block(4, 0)), keyed) + el(idCluster, el(idSimpleBlock, block(4, 0x80)), inter)},
	{"a large element", lawBegin + "|" + el(idCluster, keyed) + sized(idVoid, maxBox) + "and so on"},
}

// The points that are marked are those of all documents; a Stream has those of the last.
func TestWebMThatIsLawful(t *testing.T) {
	t.Parallel()
	for _, c := range webmLawful {
		stream, marks := unmarked(c.stream)
		f := follow(stream, whole)
		f.wantSame(t, follow(stream, single))
		f.wantSame(t, follow(stream, randomly(4, 9)))
		last := bytes.LastIndex(stream, []byte(lawHeader))
		marks = slices.DeleteFunc(marks, func(at int) bool { return at < last })
		if f.Container() != WebM || f.Init() == nil || !slices.Equal(f.at(), marks) {
			t.Errorf("%s: a %v with sync points at %v, wanted %v", c.name, f.Container(), f.at(), marks)
		}
	}
}

// unmarked is a stream without the marks, and where they were.
func unmarked(marked string) (stream []byte, marks []int) {
	for i, part := range strings.Split(marked, "|") {
		if i > 0 {
			marks = append(marks, len(stream))
		}
		stream = append(stream, part...)
	}
	return stream, marks
}

// What is left out of an init segment is what no decoder needs.
func TestWebMInitSegment(t *testing.T) {
	t.Parallel()
	stream := lawHeader + void + endless(idSegment) + el(idSeekHead, "seek") + lawInfo + crc + el(idAttachments, strings.Repeat("font", MaxInit/3)) + lawTracks + el(idTags, "tags") + el(idCluster, keyed)
	f := follow([]byte(stream), whole)
	if want := lawHeader + endless(idSegment) + lawInfo + lawTracks; string(f.Init()) != want {
		t.Errorf("the init segment is %q, wanted %q", f.Init(), want)
	}
}

var webmUnlawful = []struct{ name, stream string }{
	{"another DocType", el(idEBML, el(idDocType, "other")) + endless(idSegment)},
	{"no DocType", el(idEBML, el(0x4286, "\x01")) + endless(idSegment)},
	{"an EBML header of unknown size", endless(idEBML) + el(idDocType, "webm")},
	{"an EBML header that is broken", el(idEBML, sized(idDocType, 5), "webm") + endless(idSegment)},
	{"no Segment", lawHeader + el(idCluster, keyed)},
	{"two Segments", lawBegin + el(idCluster, keyed) + endless(idSegment)},
	{"two Segments of known size", lawHeader + el(idSegment, lawInfo, lawTracks) + el(idSegment, lawInfo, lawTracks)},
	{"a Segment in a Cluster", lawBegin + endless(idCluster) + keyed + endless(idSegment)},
	{"a Cluster before Tracks", lawHeader + endless(idSegment) + lawInfo + el(idCluster, keyed) + lawTracks},
	{"no tracks", lawHeader + endless(idSegment) + lawInfo + el(idTracks) + el(idCluster, keyed)},
	{"a track without a number", lawHeader + endless(idSegment) + lawInfo + el(idTracks, el(idTrackEntry, el(idTrackType, "\x01")))},
	{"many tracks", lawHeader + endless(idSegment) + lawInfo + el(idTracks, strings.Repeat(lawVP8, maxTracks+1))},
	{"broken tracks", lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawVP8, sized(idTrackEntry, 4))},
	{"Tracks of unknown size", lawHeader + endless(idSegment) + lawInfo + endless(idTracks) + lawVP8},
	{"an element that has no end", lawBegin + el(idCluster, keyed) + sized(idVoid, maxBox+1)},
	{"a block that has no end", lawBegin + endless(idCluster) + sized(idSimpleBlock, 1<<56-2) + block(1, 0x80)},
	{"Tracks too large", lawHeader + endless(idSegment) + lawInfo + sized(idTracks, MaxInit)},
	{"Tracks that never end", lawHeader + endless(idSegment) + lawInfo + sized(idTracks, 1<<56-2)},
	{"a child larger than its Cluster", lawBegin + el(idCluster, sized(idSimpleBlock, 100), block(1, 0x80))},
	{"a child larger than its Segment", lawHeader + sized(idSegment, 500) + lawInfo + lawTracks + sized(idCluster, 500)},
	{"an unknown size in a full Segment", lawHeader + sized(idSegment, uint64(len(lawInfo+lawTracks)+5)) + lawInfo + lawTracks + endless(idCluster)},
	{"a Block larger than its group", lawBegin + el(idCluster, el(idBlockGroup, sized(idBlock, 100), block(1, 0)), keyed)},
	{"a group of unknown size", lawBegin + endless(idCluster) + endless(idBlockGroup) + el(idBlock, block(1, 0))},
	{"a Cluster in a Cluster", lawBegin + el(idCluster, el(idCluster, keyed))},
	{"a Cluster in a group", lawBegin + el(idCluster, el(idBlockGroup, el(idCluster)))},
	{"a document in a group", lawBegin + el(idCluster, el(idBlockGroup, lawHeader))},
	{"an empty block", lawBegin + el(idCluster, el(idSimpleBlock), keyed)},
	{"a short block", lawBegin + el(idCluster, el(idSimpleBlock, "\x81\x00\x00"), keyed)},
	{"a block of no track", lawBegin + el(idCluster, el(idSimpleBlock, "\x00\x00\x00\x80 and more"), keyed)},
	{"an ID of five bytes", lawBegin + "\x08\x00\x00\x00\x01\x80 and more"},
	{"a size of nine bytes", lawBegin + "\xEC\x00 and more"},
	{"more after a Segment that ends with an unknown size", lawHeader + sized(idSegment, uint64(len(lawInfo+lawTracks+endless(idCluster)+keyed))) + lawInfo + lawTracks + endless(idCluster) + keyed + cues},
	{"text after the Segment", lawHeader + el(idSegment, lawInfo, lawTracks) + "\xA3\x81 and more"},
}

func TestWebMThatIsNot(t *testing.T) {
	t.Parallel()
	for _, c := range webmUnlawful {
		for _, cut := range []cutter{whole, single, randomly(5, 9)} {
			if f := follow([]byte(c.stream), cut); f.Container() != Opaque || f.Init() != nil || f.Tracks() != nil {
				t.Errorf("%s: a %v with an init segment of %d bytes, wanted an opaque one", c.name, f.Container(), len(f.Init()))
			}
		}
	}
}

// Whatever is broken, a stream costs no more memory than its bound, and no panic.
func TestWebMThatIsBroken(t *testing.T) {
	t.Parallel()
	for i, c := range recordings {
		stream := recording(t, c.name)
		r := rand.New(rand.NewPCG(uint64(i), 6))
		const rounds = 60
		opaque := 0
		for range rounds {
			broken := harm(r, stream)
			f := follow(broken, whole)
			other := follow(broken, randomly(r.Uint64(), 200))
			if f.Container() == Opaque && other.Container() == Opaque {
				opaque++
			} else {
				f.wantSame(t, other)
			}
		}
		if opaque == 0 || opaque == rounds {
			t.Errorf("%s: %d of %d broken streams are opaque, wanted some of each", c.name, opaque, rounds)
		}
	}
}

// harm is a stream in which bytes were changed, left out, or came twice; or which ends early.
func harm(r *rand.Rand, stream []byte) []byte {
	b := bytes.Clone(stream)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		if r.IntN(3) == 0 {
			at = r.IntN(min(len(b), 400)) // where the headers are
		}
		end := min(at+1+r.IntN(50), len(b))
		switch r.IntN(4) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b = slices.Delete(b, at, end)
		case 2:
			b = slices.Insert(b, at, bytes.Clone(b[at:end])...)
		default:
			b = b[:max(at, 8)]
		}
	}
	return b
}

// An init segment may come in pieces of any size and has to fit, and until it is
// complete no more is kept than that; then nothing is.
func TestWebMKeepsLittle(t *testing.T) {
	t.Parallel()
	const bound = 3 * MaxInit // a slice that grows has up to twice its length, and grows by copying
	prefix := lawHeader + endless(idSegment)
	largest := MaxInit - len(prefix) - len(sized(idTracks, 0))
	entry := len(el(idTracks, lawVP8, el(idVoid))) - len(sized(idTracks, 0))
	tracks := el(idTracks, lawVP8, el(idVoid, strings.Repeat("\x00", largest-entry)))
	var p webm
	var out sink
	in := input{b: []byte(prefix + tracks)}
	for len(in.b) > 0 {
		if !p.parse(&input{b: in.next(1000)}, &out) {
			t.Fatal("an init segment of MaxInit bytes is not lawful")
		}
		if kept := cap(p.init) + cap(p.head.b); kept > bound {
			t.Fatalf("%d bytes are kept", kept)
		}
	}
	media := el(idCluster, lawTime, sound, el(idSimpleBlock, block(1, 0x80), strings.Repeat("picture", 1<<16))) + el(idInfo, strings.Repeat("late", 100))
	for range 20 {
		out.points = out.points[:0]
		if !p.parse(&input{b: []byte(media)}, &out) || len(out.init) != MaxInit || len(out.points) != 1 || cap(p.init)+cap(p.head.b) > 64 {
			t.Fatalf("an init segment of %d bytes, %d sync points in a cluster, of which %d bytes are kept", len(out.init), len(out.points), cap(p.init)+cap(p.head.b))
		}
	}
}

// A packet of nothing but sync points costs no more memory than some of them.
func TestWebMThatIsFullOfPoints(t *testing.T) {
	t.Parallel()
	begin := lawHeader + endless(idSegment) + lawInfo + el(idTracks, lawOpus)
	clusters := strings.Repeat(el(idCluster, sound), 4*maxFound)
	var st Stream
	points := st.Write(0, []byte(begin+clusters))
	first, newest := Point{Offset: len(begin)}, Point{Offset: len(begin+clusters) - len(el(idCluster, sound))}
	if len(points) != maxFound || cap(points) > 2*maxFound || points[0] != first || points[len(points)-1] != newest {
		t.Errorf("%d sync points from %v to %v, wanted %d from %v to %v", len(points), points[0], points[len(points)-1], maxFound, first, newest)
	}
}

func TestWebMCodecs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ id, private, want string }{
		{"V_VP8", "", "vp8"},
		{"V_VP9", "", "vp9"},
		{"V_VP9", "\x01\x01\x02\x02\x01\x1f\x03\x01\x0a\x04\x01\x01", "vp09.02.31.10"},
		{"V_VP9", "\x01\x01\x00\x02\x01\x0a", "vp09.00.10.08"},
		{"V_VP9", "\x01\x01\x02\x02\x01\x0a", "vp9"},
		{"V_VP9", "\x02\x01\x0a\x01", "vp9"},
		{"V_AV1", "\x81\x09\x0c\x00", "av01.0.09M.08"}, // Chromium's
		{"V_AV1", "\x81\x4d\xe0\x00", "av01.2.13H.12"},
		{"V_AV1", "\x81\x08\x40\x00", "av01.0.08M.10"},
		{"V_AV1", "\x01\x08\x40\x00", "av01"},
		{"V_AV1", "", "av01"},
		{"V_MPEG4/ISO/AVC", "\x01\x64\x00\x1f\xff", "avc1.64001F"},
		{"V_MPEG4/ISO/AVC", "", "avc1"},
		{"V_MPEG4/ISO/AVC", "\x00\x00\x00\x01\x67", "avc1"},
		{"V_MPEGH/ISO/HEVC", "\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x5d", "hvc1.1.6.L93.90"},
		{"V_MPEGH/ISO/HEVC", "\x01\x62\x20\x00\x00\x00\xb0\x23\x00\x00\x00\x00\x99", "hvc1.A2.4.H153.B0.23"},
		{"V_MPEGH/ISO/HEVC", "\x01\x01", "hvc1"},
		{"A_AAC", "\x11\x90", "mp4a.40.2"},
		{"A_AAC", "\x2b\x92\x08\x00", "mp4a.40.5"},
		{"A_AAC", "\xf9\x46\x40", "mp4a.40.42"},
		{"A_AAC", "\xf9", "mp4a.40"},
		{"A_AAC", "", "mp4a.40"},
		{"A_OPUS\x00", "", ""},
		{"A_FLAC", "fLaC", "flac"},
		{"V_UNCOMPRESSED", "", ""},
	} {
		if got := webmCodec(c.id, []byte(c.private)); got != c.want {
			t.Errorf("%s with %x is %q, wanted %q", c.id, c.private, got, c.want)
		}
	}
}

// Numbers of any length and value make no track that lies.
func TestWebMTrackNumbers(t *testing.T) {
	t.Parallel()
	video := el(idVideo, el(idPixelWidth, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), el(idPixelHeight))
	for _, c := range []struct {
		entry string
		want  Track
	}{
		{el(idTrackType, "\x01") + video, Track{Kind: "video", Width: 1<<31 - 1}},
		{el(idTrackType, "\x02") + el(idAudio), Track{Kind: "audio", SampleRate: 8000, Channels: 1}},
		{el(idTrackType, "\x02") + el(idAudio, el(idSamplingFrequency, "\x7F\xF8\x00\x00\x00\x00\x00\x01"), el(idChannels, "\x06")), Track{Kind: "audio", Channels: 6}},
		{el(idTrackType, "\x02") + el(idAudio, el(idSamplingFrequency, "\x47\x2C\x44\x00")), Track{Kind: "audio", SampleRate: 44100, Channels: 1}},
		{el(idTrackType, "\x02") + el(idAudio, el(idOutputFrequency, "\x47\x3B\x80\x00"), el(idSamplingFrequency, "\x46\xBB\x80\x00")), Track{Kind: "audio", SampleRate: 48000, Channels: 1}},
		{el(idTrackType, "\x21"), Track{Kind: "other"}},
	} {
		track, number, ok := webmTrack([]byte(el(idTrackNumber, "\x40\x00") + c.entry))
		if !ok || number != 0x4000 || track != c.want {
			t.Errorf("%x is %+v with the number %x, wanted %+v", c.entry, track, number, c.want)
		}
	}
}

// FuzzWebM compares a stream that comes whole with one that comes in packets of these
// sizes, over and over.
func FuzzWebM(f *testing.F) {
	for _, c := range webmLawful {
		stream, _ := unmarked(c.stream)
		f.Add(stream, []byte{1})
	}
	for _, c := range webmUnlawful {
		if len(c.stream) < 1000 {
			f.Add([]byte(c.stream), []byte{3, 0, 7})
		}
	}
	for _, c := range recordings {
		f.Add(recording(f, c.name)[:2500], []byte{200, 1, 40})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		i := -1
		cut := func() int {
			if len(cuts) == 0 {
				return 1
			}
			i++
			return max(1, int(cuts[i%len(cuts)]))
		}
		a, b := follow(stream, whole), follow(stream, cut)
		if a.Container() == Opaque && b.Container() == Opaque {
			return // what was found before it showed depends on the cut
		}
		a.wantSame(t, b)
		for _, p := range a.points {
			if !bytes.HasPrefix(stream[p.at:], []byte{0x1F, 0x43, 0xB6, 0x75}) && (a.Container() == WebM || a.Container() == Matroska) {
				t.Errorf("no cluster begins at the sync point %d: %s", p.at, fmt.Sprintf("%.20q", stream[p.at:]))
			}
		}
		if len(a.Init()) > MaxInit {
			t.Errorf("an init segment of %d bytes", len(a.Init()))
		}
	})
}
