package media

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

const (
	flvH264      = "-c:v libx264 -preset ultrafast -t 3 -g 25 -c:a aac -f flv"
	flvVideoOnly = "-c:v libx264 -preset veryfast -bf 2 -t 2 -g 10 -s 200x152 -an -f flv"
	flvSorenson  = "-c:v flv -t 2 -g 25 -c:a libmp3lame -ar 44100 -f flv"
	flvAudioOnly = "-vn -t 3 -c:a aac -f flv"
	flvMP3Only   = "-vn -t 3 -c:a libmp3lame -ar 22050 -f flv"
)

// TestFFmpegFLV follows what ffmpeg writes, and asks ffprobe and the twin.
func TestFFmpegFLV(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args, tracks string
		early              int // sync points of audio in front of the first video tag of all
	}{
		{"H.264 and AAC", flvH264, "video avc1.42C00B 160x120, audio mp4a.40.2 48000 Hz 1", 0},
		{"H.264 alone", flvVideoOnly, "video avc1.64000C 200x152", 0},
		{"Sorenson and MP3", flvSorenson, "video  160x120, audio mp3 44100 Hz 1", 1},
		{"AAC alone", flvAudioOnly, "audio mp4a.40.2 48000 Hz 1", 0},
		{"MP3 alone", flvMP3Only, "audio mp3 22050 Hz 1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stream := encode(t, c.args)
			f := wantSameCuts(t, stream)
			if f.Container() != FLV {
				t.Fatalf("the container is %v", f.Container())
			}
			f.wantTracks(t, c.tracks)
			f.wantFLVTwin(t, stream)
			if f.Tracks()[0].Kind == "video" {
				keys := keyPositions(t, stream)
				early := len(f.points) - len(keys)
				if early != c.early {
					t.Errorf("%d more sync points than key frames, wanted %d", early, c.early)
				}
				f.points = f.points[max(early, 0):]
				f.wantPoints(t, "ffprobe", keys)
			} else if n := len(f.points); n < 24 || n > 30 {
				t.Errorf("%d sync points in 3 s, wanted one in 100 ms", n)
			}
			f.wantJoinable(t, stream, nil)
		})
	}
}

// TestFFmpegFLVInit takes the init segment apart: what stands in front of the first media, all of
// it and nothing else.
func TestFFmpegFLVInit(t *testing.T) {
	t.Parallel()
	stream := encode(t, flvH264)
	f := follow(stream, whole)
	if !bytes.HasPrefix(stream, f.Init()) {
		t.Error("the init segment is not what the stream begins with")
	}
	tags := flvTags(stream)
	if tags[0].kind != 18 || tags[1].kind != 9 || tags[2].kind != 8 || tags[3].at != len(f.Init()) {
		t.Errorf("the init segment has %d bytes, the tags begin with %v", len(f.Init()), tags[:4])
	}
}

// TestFFmpegFLVChange is about another size in mid-stream, with a new file header and without.
func TestFFmpegFLVChange(t *testing.T) {
	t.Parallel()
	first, second := encode(t, flvH264), encode(t, flvVideoOnly)
	for name, more := range map[string][]byte{"new header": second, "new configuration": second[13:]} {
		t.Run(name, func(t *testing.T) {
			stream := append(bytes.Clone(first), more...)
			f := wantSameCuts(t, stream)
			f.wantFLVTwin(t, stream)
			wantDecodable(t, f.from(stream, 0))
			at := len(f.points)
			if at != 5 || f.points[0].at < len(first) || len(f.points[0].init) == 0 {
				t.Errorf("after the change there are sync points at %d, wanted 5 behind %d", f.at(), len(first))
			}
			if tracks := f.Tracks(); tracks[0].Width != 200 || len(tracks) != map[string]int{"new header": 1, "new configuration": 2}[name] {
				t.Errorf("after the change the tracks are %v", tracks)
			}
		})
	}
}

// TestFFmpegFLVRepeatedConfig is about writers that send the configuration before each key frame:
// the same one is no new init segment.
func TestFFmpegFLVRepeatedConfig(t *testing.T) {
	t.Parallel()
	once := encode(t, flvH264)
	config := flvTags(once)[1]
	stream := bytes.Clone(once[:len(follow(once, whole).Init())])
	for _, tag := range flvTags(once)[3:] {
		if tag.kind == 9 && tag.body[0] == 0x17 {
			again := bytes.Clone(config.all)
			copy(again[4:8], tag.all[4:8]) // its time
			stream = append(stream, again...)
		}
		stream = append(stream, tag.all...)
	}
	f := wantSameCuts(t, stream)
	f.wantPoints(t, "ffprobe", keyPositions(t, stream))
	if !bytes.Equal(f.Init(), once[:len(f.Init())]) {
		t.Error("a repeated configuration changed the init segment")
	}
	f.wantJoinable(t, stream, nil)
}

// TestFFmpegFLVLateVideo is about audio that begins earlier: until there is video, each place of
// audio is a sync point.
func TestFFmpegFLVLateVideo(t *testing.T) {
	t.Parallel()
	both := encode(t, flvH264)
	tags := flvTags(both)
	stream, rest := append(bytes.Clone(both[:13]), tags[2].all...), bytes.Clone(tags[1].all)
	audio := 0
	for _, tag := range tags[3:] {
		if audio < 20 && tag.kind == 8 {
			stream = append(stream, tag.all...)
			audio++
			continue
		}
		rest = append(rest, tag.all...)
	}
	before := follow(stream, whole)
	if n := len(before.points); n != 4 { // 20 frames of 1024 samples are 427 ms
		t.Errorf("%d sync points before there is video, wanted 4", n)
	}
	before.wantTracks(t, "audio mp4a.40.2 48000 Hz 1")
	stream = append(stream, rest...)
	f := wantSameCuts(t, stream)
	f.wantPoints(t, "ffprobe", keyPositions(t, stream))
	f.wantFLVTwin(t, stream)
	wantDecodable(t, before.from(stream, 2))
	f.wantJoinable(t, stream, nil)
}

// TestFLVUnlawful is about what makes a stream opaque, at once and without keeping it.
func TestFLVUnlawful(t *testing.T) {
	t.Parallel()
	tag := func(kind byte, size int, body string) string {
		head := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|uint32(size))
		return string(head) + "\x00\x00\x00\x00\x00\x00\x00" + body
	}
	const header = "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
	for _, c := range []struct {
		name, stream string
		want         Container
	}{
		{"type of no tag", header + tag(15, 1, "x\x00\x00\x00\x0c"), Opaque},
		{"encrypted", header + tag(0x29, 1, "x\x00\x00\x00\x0c"), Opaque},
		{"large header", "FLV\x01\x05\x00\x10\x00\x00\x00\x00\x00\x00", Opaque},
		{"small header", "FLV\x01\x05\x00\x00\x00\x08\x00\x00\x00\x00", Opaque},
		{"large configuration", header + tag(9, MaxInit, "\x17\x00\x00\x00\x00"+zeros(40)), Opaque},
		{"large metadata", header + tag(18, MaxInit, "\x02\x00\x0aonMetaData"+zeros(40)), Opaque},
		{"wrong size behind a tag", header + tag(9, 1, "\x27\x00\x00\x00\x07"), Opaque},
		{"wrong size behind a configuration", header + tag(9, 5, "\x17\x00\x00\x00\x00\x00\x00\x00\x07"), Opaque},
		{"no size behind a tag", header + tag(9, 1, "\x27\x00\x00\x00\x00"), FLV},
		{"empty tags", header + tag(9, 0, "\x00\x00\x00\x0b") + tag(8, 0, "\x00\x00\x00\x0b") + tag(18, 0, "\x00\x00\x00\x0b"), FLV},
		{"large picture", header + tag(9, 1<<24-1, "\x17\x01\x00\x00\x00"+zeros(40)), FLV},
		{"key frame without its configuration", header + tag(9, 5, "\x17\x01\x00\x00\x00\x00\x00\x00\x10"), FLV},
	} {
		f := wantSameCuts(t, []byte(c.stream))
		if f.Container() != c.want || len(f.points) > 0 {
			t.Errorf("%s: the container is %v with %d sync points, wanted %v without", c.name, f.Container(), len(f.points), c.want)
		}
	}
}

func zeros(n int) string { return string(make([]byte, n)) }

// TestFLVMetadata reads AMF0 with values of all types, in and out of each other, whole and
// cut off anywhere.
func TestFLVMetadata(t *testing.T) {
	t.Parallel()
	const (
		number = "\x00\x40\x54\x00\x00\x00\x00\x00\x00" // 80
		array  = "\x0a\x00\x00\x00\x02" + number + "\x05"
		object = "\x03\x00\x01a" + number + "\x00\x04list" + array + "\x00\x00\x09"
		name   = "\x02\x00\x0aonMetaData"
		all    = "\x00\x01o" + object + "\x00\x01s\x02\x00\x03abc\x00\x01l\x0c\x00\x00\x00\x02xy\x00\x01d\x0b" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01r\x07\x00\x00\x00\x01u\x06\x00\x01e\x08\x00\x00\x00\x00\x00\x00\x09" +
			"\x00\x06stereo\x01\x01\x00\x05width" + number + "\x00\x00\x09"
	)
	want := flvMetadata{width: 80, channels: 2}
	for _, kind := range []string{"\x03", "\x08\x00\x00\x00\x09"} {
		body := []byte(name + kind + all)
		if got := parseFLVMetadata(body); got != want {
			t.Errorf("read %+v, wanted %+v", got, want)
		}
		for n := len(name); n < len(body)-12; n++ {
			if got := parseFLVMetadata(body[:n]); got.width != 0 {
				t.Errorf("of the first %d bytes read %+v", n, got)
			}
		}
	}
	large := name + "\x03\x00\x05width\x00\x41\xE0\x00\x00\x00\x00\x00\x00\x00\x00\x09" // 2^31
	if got := parseFLVMetadata([]byte(large)); got != (flvMetadata{}) {
		t.Errorf("of a number that no int may have room for read %+v", got)
	}
	deep := name + "\x03" + strings.Repeat("\x00\x01x\x03", 100_000)
	if got := parseFLVMetadata([]byte(deep)); got != (flvMetadata{}) {
		t.Errorf("of objects in each other read %+v", got)
	}
}

// TestFFmpegFLVDamaged follows streams with bytes flipped, lost and doubled.
func TestFFmpegFLVDamaged(t *testing.T) {
	t.Parallel()
	kept := func(p parser) int { return cap(p.(*flv).tag.b) }
	wantHarmless(t, encode(t, flvH264)[:40000], kept, 2*MaxInit)
}

func FuzzFLV(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		if bytes.HasPrefix(stream, []byte("FLV\x01")) {
			wantSameCuts(t, stream)
		}
	})
}

// The twin: naive, on the whole stream, from the specification.

type flvTag struct {
	at, kind  int
	body, all []byte // all with its PreviousTagSize
}

// flvTags returns the tags of a lawful stream. A file header is a tag of the type 'F'.
func flvTags(stream []byte) (all []flvTag) {
	for at := 13; at+11 < len(stream); {
		if stream[at] == 'F' {
			all = append(all, flvTag{at: at, kind: 'F', all: stream[at : at+13]})
			at += 13
			continue
		}
		n := int(binary.BigEndian.Uint32(stream[at:]) & 0xFFFFFF)
		all = append(all, flvTag{at, int(stream[at]), stream[at+11 : at+11+n], stream[at : at+15+n]})
		at += 15 + n
	}
	return all
}

// twinFLV returns the newest init segment, and the sync points that belong to it.
func twinFLV(stream []byte) (init []byte, points []int) {
	header, kept := stream[:13], [3][]byte{} // metadata, video, audio
	changed, video, last := true, false, -1000
	for _, tag := range flvTags(stream) {
		if tag.kind == 'F' {
			header, kept, changed, video = tag.all, [3][]byte{}, true, false
			continue
		}
		slot, config := 0, false
		switch tag.kind {
		case 9:
			slot, video = 1, true
			config = tag.body[0]&0x8F == 7 && tag.body[1] == 0 || tag.body[0]&0x8F == 0x80
		case 8:
			slot = 2
			config = tag.body[0]>>4 == 10 && tag.body[1] == 0
		case 18:
			kept[0] = tag.all
			continue
		}
		if kind := tag.body[0] & 0x8F; kind == 7 && tag.body[1] > 1 {
			continue // the end of the sequence
		}
		if config {
			changed = changed || !bytes.Equal(kept[slot], tag.all)
			kept[slot] = tag.all
			continue
		}
		if changed {
			init, points, changed, last = append(bytes.Clone(header), bytes.Join(kept[:], nil)...), nil, false, -1000
		}
		time := int(tag.all[4])<<16 | int(tag.all[5])<<8 | int(tag.all[6])
		if video && tag.kind == 9 && tag.body[0]>>4&7 == 1 || !video && time >= last+100 {
			points, last = append(points, tag.at), time
		}
	}
	return init, points
}

// wantTwin fails unless the twin finds the same.
func (f following) wantFLVTwin(t *testing.T, stream []byte) {
	t.Helper()
	init, points := twinFLV(stream)
	if !bytes.Equal(f.Init(), init) {
		t.Errorf("the init segment has %d bytes, the twin's %d", len(f.Init()), len(init))
	}
	f.wantPoints(t, "the twin", points)
}
