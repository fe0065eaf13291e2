package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// mp4Streams are real streams: what ffmpeg is told, and what is to be found in the init
// segment. A key frame is not always the first of a fragment, nor a fragment the first
// frame's of a key packet.
var mp4Streams = []struct {
	name, args string
	tracks     []Track
}{
	{
		"H.264 and AAC, a fragment for each key frame",
		"-c:v libx264 -preset ultrafast -crf 40 -g 10 -c:a aac -b:a 32k -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof",
		[]Track{{Kind: "video", Codec: "avc1.42C00B", Width: 160, Height: 120}, {Kind: "audio", Codec: "mp4a.40.2", SampleRate: 48000, Channels: 1}},
	},
	{
		"H.264 and Opus, a fragment for each frame",
		"-c:v libx264 -preset superfast -crf 40 -g 25 -bf 2 -c:a libopus -b:a 16k -ac 2 -f mp4 -movflags frag_every_frame+empty_moov+default_base_moof",
		[]Track{{Kind: "video", Codec: "avc1.64000B", Width: 160, Height: 120}, {Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 2}},
	},
	{
		"AAC before H.265, CMAF",
		"-map 1 -map 0 -c:v libx265 -preset ultrafast -crf 40 -x265-params log-level=none:keyint=20 -tag:v hvc1 -c:a aac -b:a 32k -f mp4 -movflags cmaf+frag_keyframe",
		[]Track{{Kind: "audio", Codec: "mp4a.40.2", SampleRate: 48000, Channels: 1}, {Kind: "video", Codec: "hvc1.1.6.L30.90", Width: 160, Height: 120}},
	},
	{
		"AV1 and FLAC, fragments of 300 ms",
		"-t 4 -c:v libsvtav1 -preset 12 -crf 60 -g 20 -c:a flac -strict -2 -ar 8000 -f mp4 -frag_duration 300000 -movflags dash+empty_moov+default_base_moof",
		[]Track{{Kind: "video", Codec: "av01.0.00M.08", Width: 160, Height: 120}, {Kind: "audio", Codec: "flac", SampleRate: 8000, Channels: 1}},
	},
	{
		"VP9 and AC-3, with times of the encoder",
		"-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 60k -g 15 -c:a ac3 -b:a 32k -f mp4 -write_prft pts -movflags dash+frag_keyframe+delay_moov+default_base_moof",
		[]Track{{Kind: "video", Codec: "vp09.00.10.08", Width: 160, Height: 120}, {Kind: "audio", Codec: "ac-3", SampleRate: 48000, Channels: 1}},
	},
	{
		"only H.264, its parameter sets in the stream",
		"-an -c:v libx264 -preset ultrafast -crf 40 -g 40 -tag:v avc3 -f mp4 -frag_duration 500000 -movflags frag_keyframe+empty_moov+default_base_moof",
		[]Track{{Kind: "video", Codec: "avc3.42C00B", Width: 160, Height: 120}},
	},
	{
		"only AAC",
		"-vn -c:a aac -b:a 32k -ar 44100 -ac 2 -f mp4 -frag_duration 200000 -movflags cmaf",
		[]Track{{Kind: "audio", Codec: "mp4a.40.2", SampleRate: 44100, Channels: 2}},
	},
	{
		"only Opus, a fragment for each packet",
		"-vn -c:a libopus -b:a 16k -f mp4 -movflags frag_every_frame+empty_moov+default_base_moof",
		[]Track{{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 1}},
	},
}

func TestFFmpegMP4(t *testing.T) {
	t.Parallel()
	for _, c := range mp4Streams {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantMP4(t, encode(t, c.args), c.tracks)
		})
	}
}

// What Chromium's MediaRecorder makes: recorded with Chromium 156 from a canvas of 160x120
// at 10 pictures a second and an oscillator, for 3.5 s, a key frame each second.
func TestFFmpegMP4OfChromium(t *testing.T) {
	t.Parallel()
	audio := Track{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 2}
	for file, tracks := range map[string][]Track{
		"vp9":   {audio, {Kind: "video", Codec: "vp09.00.00.08", Width: 160, Height: 120}},
		"h264":  {audio, {Kind: "video", Codec: "avc1.42C00C", Width: 160, Height: 120}},
		"audio": {audio},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			stream, err := os.ReadFile("testdata/chromium-" + file + ".mp4")
			if err != nil {
				t.Fatal(err)
			}
			wantMP4(t, stream, tracks)
		})
	}
}

// wantMP4 fails unless a stream is followed however it is cut: the init segment, the
// tracks, and the sync points that its whole file has; and one in the middle can be decoded.
func wantMP4(t *testing.T, stream []byte, tracks []Track) {
	t.Helper()
	f := follow(stream, whole)
	if f.Container() != MP4 {
		t.Fatalf("the container is %q, wanted %q", f.Container(), MP4)
	}
	video := slices.ContainsFunc(tracks, func(t Track) bool { return t.Kind == "video" })
	end, points := mp4Twin(t, stream, video)
	if !bytes.Equal(f.Init(), stream[:end]) {
		t.Errorf("an init segment of %d bytes, wanted the first %d bytes", len(f.Init()), end)
	}
	if !slices.Equal(f.Tracks(), tracks) {
		t.Errorf("tracks %+v, wanted %+v", f.Tracks(), tracks)
	}
	f.wantMP4Points(t, points...)
	for _, cut := range []cutter{single, randomly(1, 40), randomly(2, 5000)} {
		f.wantSame(t, follow(stream, cut))
	}
	last := len(f.points) - 1
	if last < 1 {
		t.Fatalf("%d sync points: that is no test", len(f.points))
	}
	wantDecodable(t, f.from(stream, (last+1)/2))
}

// wantMP4Points fails unless these are the sync points of the newest init segment: none
// is lawful too.
func (f following) wantMP4Points(t testing.TB, points ...int) {
	t.Helper()
	if !slices.Equal(f.at(), points) {
		t.Errorf("sync points at %v, wanted %v", f.at(), points)
	}
}

// mp4Twin finds the end of the init segment and the sync points of a whole file: by the
// boxes at its top, and where ffprobe says that the video track's packets lie.
func mp4Twin(t *testing.T, stream []byte, video bool) (end int, points []int) {
	t.Helper()
	var packets []videoPacket
	if video {
		packets = videoPackets(t, stream)
	}
	unit, before := 0, ""
	for at := 0; at < len(stream); {
		size, name := int(binary.BigEndian.Uint32(stream[at:])), string(stream[at+4:at+8])
		if attached := "styp prft sidx emsg"; !strings.Contains(attached, before) || before == "" {
			unit = at
		}
		switch before = name; name {
		case "moov":
			end = at + size
		case "moof":
			next := at + size + int(binary.BigEndian.Uint32(stream[at+size:]))
			i := slices.IndexFunc(packets, func(p videoPacket) bool { return p.at > at && p.at < next })
			if !video || i >= 0 && packets[i].key {
				points = append(points, unit)
			}
		}
		at += size
	}
	return end, points
}

// A recorder that starts over, or changes the size of its pictures, publishes a new file.
func TestFFmpegMP4NewInitSegment(t *testing.T) {
	t.Parallel()
	const args = "-c:v libx264 -preset ultrafast -crf 40 -g 25 -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof"
	first := encode(t, "-an "+args)
	second := encode(t, "-an -s 96x64 "+args)
	stream := slices.Concat(first, second)
	one, two := follow(first, whole), follow(second, whole)
	both := follow(stream, whole)
	if !bytes.Equal(both.Init(), two.Init()) || fmt.Sprint(both.Tracks()) != "[{video avc1.42C00A 96 64 0 0}]" {
		t.Errorf("an init segment of %d bytes and the tracks %v, wanted those of the second file", len(both.Init()), both.Tracks())
	}
	var points []int
	for _, p := range two.points {
		points = append(points, len(first)+p.at)
	}
	both.wantMP4Points(t, points...)
	both.wantSame(t, follow(stream, randomly(3, 300)))
	wantDecodable(t, both.from(stream, len(points)-1))
	// Before the second file has a moov, the first's is the newest.
	half := follow(stream[:len(first)+len(two.Init())-1], randomly(4, 300))
	if !bytes.Equal(half.Init(), one.Init()) || len(half.points) != len(one.points) {
		t.Errorf("before the new init segment is complete: one of %d bytes and %d sync points, wanted %d and %d", len(half.Init()), len(half.points), len(one.Init()), len(one.points))
	}
}

// Without default_base_moof ffmpeg tells where samples are from the file's beginning: who
// did not get all of it finds others there. Without empty_moov the first samples are listed
// in the moov, and lie behind it. Nobody can join with that.
func TestFFmpegMP4OnlyFromTheBeginning(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"frag_keyframe+empty_moov", "frag_keyframe+default_base_moof"} {
		stream := encode(t, "-an -c:v libx264 -preset ultrafast -crf 40 -g 25 -f mp4 -movflags "+flags)
		for _, cut := range []cutter{whole, randomly(5, 100)} {
			if f := follow(stream, cut); f.Container() != Opaque {
				t.Errorf("%s: the container is %q, wanted %q", flags, f.Container(), Opaque)
			}
		}
	}
}
