package media

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// Files made by hand, box by box: what ffmpeg does not write.

// Flags of a sample.
const (
	syncSample  = 0x02000000 // sample_depends_on: on no other
	otherSample = 0x01010000
)

// mp4Box makes a box of what is in it: other boxes, bytes, or numbers of 4 bytes.
func mp4Box(name string, inside ...any) []byte {
	b := append(make([]byte, 4), name...)
	for _, part := range inside {
		switch v := part.(type) {
		case []byte:
			b = append(b, v...)
		case string:
			b = append(b, v...)
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// mp4Long makes of a box one with a size of 64 bits.
func mp4Long(box []byte) []byte {
	b := append([]byte{0, 0, 0, 1}, box[4:8]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(box)+8))
	return append(b, box[8:]...)
}

// mp4Trak makes the trak of a track that has one sample entry. The entries of its
// samples are none.
func mp4Trak(id int, handler string, entry []byte) []byte {
	table := mp4Box("stbl", mp4Box("stsd", 0, 1, entry), mp4Box("stsz", 0, 0, 0))
	return mp4Box("trak", mp4Box("tkhd", 0, 0, 0, id), mp4Box("mdia", mp4Box("hdlr", 0, 0, handler), mp4Box("minf", table)))
}

// mp4Trex makes the defaults of a track.
func mp4Trex(id, flags int) []byte { return mp4Box("trex", 0, id, 1, 0, 0, flags) }

var (
	mp4Ftyp  = mp4Box("ftyp", "iso5", 0)
	mp4Sound = mp4Trak(1, "soun", mp4Box("none"))
	mp4Video = mp4Trak(2, "vide", mp4Box("none"))
	mp4Text  = mp4Trak(3, "text", mp4Box("wvtt"))

	// The track 2 is the video track.
	mp4Moov = mp4Box("moov", mp4Sound, mp4Video, mp4Box("mvex", mp4Box("mehd", 0, 0), mp4Trex(1, syncSample), mp4Trex(2, otherSample)))

	mp4Key   = mp4Box("moof", mp4Traf(2, mp4Box("trun", 0x4, 1, syncSample)))
	mp4Other = mp4Box("moof", mp4Traf(2, mp4Box("trun", 0x4, 1, otherSample)))
	mp4Audio = mp4Box("moof", mp4Traf(1, mp4Box("trun", 0, 1)))
	mp4Mdat  = mp4Box("mdat", "samples")
)

// mp4Traf makes what a moof says of a track that has no defaults in it.
func mp4Traf(id int, truns ...any) []byte {
	return mp4Box("traf", append([]any{mp4Box("tfhd", 0, id)}, truns...)...)
}

// mp4File puts boxes together; "|" is where a sync point is wanted.
func mp4File(parts ...any) (file []byte, points []int) {
	for _, part := range parts {
		if b, ok := part.([]byte); ok {
			file = append(file, b...)
		} else {
			points = append(points, len(file))
		}
	}
	return file, points
}

func TestMP4Layout(t *testing.T) {
	t.Parallel()
	styp, prft, sidx, emsg := mp4Box("styp", "msdh", 0), mp4Box("prft", 0, 1, 2, 3), mp4Box("sidx", 0, 1), mp4Box("emsg", 0, "id")
	uuid, free := mp4Box("uuid", "0123456789abcdef"), mp4Box("free")
	for name, parts := range map[string][]any{
		"no ftyp":                      {mp4Moov, "|", mp4Key, mp4Mdat, mp4Other, mp4Mdat, "|", mp4Key, mp4Mdat},
		"audio between":                {mp4Ftyp, mp4Moov, mp4Audio, mp4Mdat, "|", mp4Key, mp4Mdat, mp4Audio, mp4Mdat, "|", mp4Key, mp4Mdat},
		"boxes before the moov":        {mp4Ftyp, free, uuid, mp4Box("pdin"), mp4Moov, "|", mp4Key, mp4Mdat},
		"sizes of 64 bits":             {mp4Long(mp4Ftyp), mp4Long(mp4Moov), "|", mp4Long(styp), mp4Long(mp4Key), mp4Long(mp4Mdat), "|", mp4Key, mp4Long(mp4Mdat)},
		"boxes of a unit":              {mp4Ftyp, mp4Moov, "|", styp, prft, sidx, sidx, emsg, mp4Key, mp4Mdat, "|", prft, mp4Key, mp4Mdat},
		"boxes of no unit":             {mp4Ftyp, mp4Moov, uuid, "|", mp4Key, mp4Mdat, sidx, free, "|", mp4Key, mp4Mdat, emsg, mp4Mdat, "|", emsg, mp4Key, mp4Mdat},
		"boxes of another unit":        {mp4Ftyp, mp4Moov, styp, mp4Other, mp4Mdat, "|", mp4Key, mp4Mdat},
		"several mdat, or none":        {mp4Ftyp, mp4Moov, "|", mp4Key, mp4Mdat, mp4Mdat, "|", mp4Key, "|", mp4Key, free, styp, mp4Mdat, mp4Key},
		"begins with a segment's type": {styp, mp4Moov, "|", mp4Key, mp4Mdat},
		"two ftyp":                     {mp4Moov, mp4Key, mp4Ftyp, mp4Ftyp, mp4Moov},
	} {
		t.Run(name, func(t *testing.T) {
			stream, points := mp4File(parts...)
			f := follow(stream, whole)
			f.wantMP4Points(t, points...)
			f.wantSame(t, follow(stream, single))
		})
	}
}

// What a joiner gets before the first sync point is the newest moov, with what is before
// it down to the newest ftyp.
func TestMP4InitSegment(t *testing.T) {
	t.Parallel()
	free, second := mp4Box("free", "here"), mp4Box("ftyp", "isom", 1)
	for name, c := range map[string]struct{ before, init []byte }{
		"the first":                 {nil, slices.Concat(mp4Ftyp, free, mp4Moov)},
		"a moov alone":              {nil, mp4Moov},
		"a second":                  {slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Mdat), slices.Concat(second, free, mp4Moov)},
		"a second moov alone":       {slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Mdat, free), mp4Moov},
		"a second without a moov":   {slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Ftyp, free), slices.Concat(second, mp4Moov)},
		"a second after an emsg":    {slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Box("emsg", 0)), slices.Concat(second, mp4Moov)},
		"a second behind the first": {slices.Concat(mp4Ftyp, mp4Moov), slices.Concat(second, mp4Moov)},
	} {
		stream, points := mp4File(c.before, c.init, "|", mp4Key, mp4Mdat)
		f := follow(stream, single)
		if !bytes.Equal(f.Init(), c.init) {
			t.Errorf("%s: the init segment is %q, wanted %q", name, f.Init(), c.init)
		}
		f.wantMP4Points(t, points...)
	}
}

// ISO 14496-12, 8.8: the trun's first_sample_flags, else its sample flags, else the
// tfhd's default, else the trex's.
func TestMP4SyncFlags(t *testing.T) {
	t.Parallel()
	const firstFlags, sampleFlags = 0x4, 0x400
	tfhd := func(numbers ...any) []byte { return mp4Box("tfhd", numbers...) }
	trun := func(numbers ...any) []byte { return mp4Box("trun", numbers...) }
	yes, no := syncSample, otherSample
	for name, c := range map[string]struct {
		trex int
		traf []any
		sync bool
	}{
		"trex":                        {yes, []any{tfhd(0, 2), trun(0, 1)}, true},
		"trex, no":                    {no, []any{tfhd(0, 2), trun(0, 1)}, false},
		"zero is sync":                {0, []any{tfhd(0, 2), trun(0, 1)}, true},
		"two flags that contradict":   {0x01000000, []any{tfhd(0, 2), trun(0, 1)}, false},
		"two others":                  {0x02010000, []any{tfhd(0, 2), trun(0, 1)}, false},
		"tfhd over trex":              {no, []any{tfhd(0x20, 2, yes), trun(0, 1)}, true},
		"tfhd over trex, no":          {yes, []any{tfhd(0x20, 2, no), trun(0, 1)}, false},
		"tfhd with all else":          {no, []any{tfhd(0x3A, 2, no, no, no, yes), trun(0, 1)}, true},
		"sample over tfhd":            {no, []any{tfhd(0x20, 2, no), trun(sampleFlags, 2, yes, no)}, true},
		"sample over tfhd, no":        {yes, []any{tfhd(0x20, 2, yes), trun(sampleFlags, 2, no, yes)}, false},
		"sample with all else":        {no, []any{tfhd(0, 2), trun(0xF01, 1, no, no, no, yes, no)}, true},
		"sample without its duration": {no, []any{tfhd(0, 2), trun(0x600, 1, no, yes)}, true},
		"first over sample":           {no, []any{tfhd(0x20, 2, no), trun(firstFlags|sampleFlags, 1, yes, no)}, true},
		"first over sample, no":       {yes, []any{tfhd(0x20, 2, yes), trun(firstFlags|sampleFlags, 1, no, yes)}, false},
		"first with all else":         {no, []any{tfhd(0, 2), trun(0xF05, 1, no, yes, no, no, no, no)}, true},
		"the trun after an empty one": {no, []any{tfhd(0, 2), trun(firstFlags, 0, yes), trun(0, 1)}, false},
		"the first trun with samples": {yes, []any{tfhd(0, 2), trun(0, 0), trun(firstFlags, 1, yes), trun(firstFlags, 1, no)}, true},
		"no samples":                  {yes, []any{tfhd(0, 2), trun(0, 0)}, false},
		"no trun":                     {yes, []any{tfhd(0x010000, 2)}, false},
		"the tfhd last":               {no, []any{trun(0, 1), tfhd(0x20, 2, yes)}, true},
		"another track":               {yes, []any{tfhd(0x20, 1, yes), trun(0, 1)}, false},
	} {
		moov := mp4Box("moov", mp4Box("mvex", mp4Trex(2, c.trex), mp4Trex(1, yes)), mp4Sound, mp4Video)
		audio, after := mp4Traf(1, trun(0, 1)), mp4Traf(2, trun(firstFlags, 1, no))
		want := 0
		if c.sync {
			want = 1
		}
		for layout, moof := range map[string][]byte{
			"alone":                  mp4Box("moof", mp4Box("mfhd", 0, 1), mp4Box("traf", c.traf...)),
			"between two others":     mp4Box("moof", audio, mp4Box("traf", c.traf...), after),
			"after one with nothing": mp4Box("moof", mp4Traf(2), mp4Box("traf", c.traf...)),
		} {
			f := follow(slices.Concat(mp4Ftyp, moov, moof, mp4Mdat), whole)
			if f.Container() != MP4 || len(f.points) != want {
				t.Errorf("%s, %s: the container is %q, %d sync points, wanted %d", name, layout, f.Container(), len(f.points), want)
			}
		}
	}
}

func TestMP4OnlyAudioOrText(t *testing.T) {
	t.Parallel()
	for _, trak := range [][]byte{mp4Sound, mp4Text} {
		moov := mp4Box("moov", trak, mp4Box("mvex", mp4Trex(1, otherSample), mp4Trex(3, otherSample)))
		stream, points := mp4File(mp4Ftyp, moov, "|", mp4Audio, mp4Mdat, "|", mp4Audio, mp4Mdat)
		follow(stream, single).wantMP4Points(t, points...)
	}
}

// Of several video tracks the first counts, and of its samples the first.
func TestMP4TwoVideoTracks(t *testing.T) {
	t.Parallel()
	key, other := mp4Key[8:], mp4Other[8:]
	third := mp4Trak(3, "vide", mp4Box("none"))
	moov := mp4Box("moov", mp4Video, third, mp4Box("mvex", mp4Trex(3, syncSample), mp4Trex(2, otherSample)))
	stream, points := mp4File(mp4Ftyp, moov, mp4Box("moof", mp4Traf(3, mp4Box("trun", 0, 1))),
		mp4Box("moof", other, key), mp4Mdat, "|", mp4Box("moof", key, other), mp4Mdat)
	follow(stream, whole).wantMP4Points(t, points...)
}

// mp4Refused are files that are no live streams, or no files.
func mp4Refused() map[string][]byte {
	trex := mp4Box("mvex", mp4Trex(1, 0), mp4Trex(2, 0))
	moof := func(trafs ...any) []byte { return slices.Concat(mp4Ftyp, mp4Moov, mp4Box("moof", trafs...)) }
	listed := func(sizes []byte) []byte {
		table := mp4Box("stbl", mp4Box("stsd", 0, 1, mp4Box("none")), sizes)
		trak := mp4Box("trak", mp4Box("tkhd", 0, 0, 0, 1), mp4Box("mdia", mp4Box("hdlr", 0, 0, "soun"), mp4Box("minf", table)))
		return mp4Box("moov", trak, trex)
	}
	sized := func(size int, box []byte) []byte {
		b := bytes.Clone(box)
		binary.BigEndian.PutUint32(b, uint32(size))
		return b
	}
	return map[string][]byte{
		"a progressive file":             slices.Concat(mp4Ftyp, mp4Box("moov", mp4Sound, mp4Video), mp4Mdat),
		"media before the moov":          slices.Concat(mp4Ftyp, mp4Mdat, mp4Moov),
		"a fragment before the moov":     slices.Concat(mp4Box("styp", "msdh"), mp4Key, mp4Mdat),
		"a second file without moov":     slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Mdat, mp4Ftyp, mp4Key),
		"a second file that is none":     slices.Concat(mp4Ftyp, mp4Moov, mp4Key, mp4Mdat, mp4Box("moov")),
		"samples in the moov":            listed(mp4Box("stsz", 0, 0, 1, 7)),
		"samples of few bits":            listed(mp4Box("stz2", 0, 4, 1, 7)),
		"no tracks":                      mp4Box("moov", trex),
		"many tracks":                    mp4Box("moov", bytes.Repeat(mp4Sound, maxTracks+1), trex),
		"no defaults for a track":        mp4Box("moov", mp4Sound, mp4Video, mp4Box("mvex", mp4Trex(1, 0))),
		"defaults that are cut off":      mp4Box("moov", mp4Sound, mp4Box("mvex", mp4Trex(1, 0), mp4Box("trex", 0, 1))),
		"a track without header":         mp4Box("moov", mp4Box("trak", mp4Video[8+24:]), trex),
		"a track without number":         mp4Box("moov", mp4Trak(0, "vide", mp4Box("none")), trex),
		"a track without media":          mp4Box("moov", mp4Box("trak", mp4Box("tkhd", 0, 0, 0, 1)), trex),
		"a moov that is cut off":         sized(len(mp4Moov)-1, mp4Moov),
		"a moov with no whole box":       mp4Box("moov", mp4Sound, mp4Video, trex, "rest"),
		"a moov to the end":              slices.Concat(mp4Ftyp, sized(0, mp4Moov)),
		"a free box to the end":          slices.Concat(mp4Ftyp, sized(0, mp4Box("free"))),
		"a moof to the end":              slices.Concat(mp4Ftyp, mp4Moov, sized(0, mp4Key)),
		"an mdat to the end":             slices.Concat(mp4Ftyp, mp4Moov, mp4Key, sized(0, mp4Mdat)),
		"an mdat that has no end":        slices.Concat(mp4Ftyp, mp4Moov, mp4Key, []byte("\x00\x00\x00\x01mdat\x00\x00\x00\x01\x00\x00\x00\x01")),
		"a size of 7":                    slices.Concat(mp4Ftyp, mp4Moov, sized(7, mp4Mdat)),
		"a long size of 15":              slices.Concat(mp4Ftyp, mp4Moov, []byte("\x00\x00\x00\x01free\x00\x00\x00\x00\x00\x00\x00\x0F")),
		"an init segment over the bound": slices.Concat(mp4Ftyp, sized(MaxInit-len(mp4Ftyp)+1, mp4Box("free"))),
		"a moov over the bound":          slices.Concat(mp4Ftyp, mp4Moov, mp4Key, sized(MaxInit+1, mp4Moov)),
		"a moof over the bound":          slices.Concat(mp4Ftyp, mp4Moov, sized(MaxInit+1, mp4Key)),
		"a moof over all bounds":         slices.Concat(mp4Ftyp, mp4Moov, []byte("\x00\x00\x00\x01moof\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")),
		"a name that is none":            slices.Concat(mp4Ftyp, mp4Moov, mp4Box("m\x00at")),
		"a name of no letters":           slices.Concat(mp4Ftyp, mp4Moov, mp4Box("\xA9nam")),
		"a fragment that is cut off":     moof(sized(100, mp4Traf(2))),
		"a traf without header":          moof(mp4Box("traf", mp4Box("trun", 0, 1))),
		"a traf of no track":             moof(mp4Traf(0)),
		"a tfhd that is cut off":         moof(mp4Box("traf", mp4Box("tfhd", 0x20, 2))),
		"a trun that is cut off":         moof(mp4Traf(2, mp4Box("trun", 0x4, 1))),
		"a trun of too few samples":      moof(mp4Traf(2, mp4Box("trun", 0x700, 2, 7, 7, 7, 7, 7))),
		"a trun of very few samples":     moof(mp4Traf(2, mp4Box("trun", 0xF00, -1, 7, 7, 7, 7))),
		"a traf with no whole box":       moof(mp4Traf(2, "rest")),
		"an absolute offset":             moof(mp4Box("traf", mp4Box("tfhd", 0x1, 2, 0, 1234), mp4Box("trun", 0, 1))),
		"an absolute offset of audio":    moof(mp4Traf(2, mp4Box("trun", 0, 1)), mp4Box("traf", mp4Box("tfhd", 0x1, 1, 0, 1234))),
	}
}

func TestMP4Refused(t *testing.T) {
	t.Parallel()
	for name, stream := range mp4Refused() {
		for _, cut := range []cutter{whole, single} {
			if f := follow(stream, cut); f.Container() != Opaque || f.Init() != nil || f.Tracks() != nil {
				t.Errorf("%s: the container is %q, an init segment of %d bytes", name, f.Container(), len(f.Init()))
			}
		}
	}
	// All of these are in order but for the one thing.
	f := follow(slices.Concat(mp4Ftyp, mp4Box("moov", mp4Trak(1, "soun", mp4Box("none")), mp4Box("mvex", mp4Trex(1, 0))), mp4Audio, mp4Mdat), whole)
	f.wantMP4Points(t, len(f.Init()))
}

// What may be as large as the bound is followed, and costs no memory before it is there.
func TestMP4Bounds(t *testing.T) {
	t.Parallel()
	fill := func(n int) []byte { return mp4Box("free", make([]byte, n-8)) }
	moov := mp4Box("moov", mp4Video, mp4Box("mvex", mp4Trex(2, syncSample)))
	init := slices.Concat(mp4Ftyp, fill(MaxInit-len(mp4Ftyp)-len(moov)), moov)
	inside := mp4Key[8:]
	moof := mp4Box("moof", inside, fill(MaxInit-len(inside)-8))
	stream, points := mp4File(init, "|", moof, mp4Mdat, "|", moof, mp4Mdat)
	f := follow(stream, randomly(6, 5000))
	if len(f.Init()) != MaxInit {
		t.Errorf("an init segment of %d bytes, wanted %d", len(f.Init()), MaxInit)
	}
	f.wantMP4Points(t, points...)

	for _, stream := range [][]byte{init[:100], slices.Concat(mp4Ftyp, moov, moof[:100])} {
		f := follow(stream, whole)
		if p, ok := f.parser.(*mp4); !ok || cap(p.box.b)+cap(p.init) > 1000 {
			t.Errorf("%d bytes were published: wanted a parser that keeps few more, got %+v", len(stream), f.parser)
		}
	}
}
