package media

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// webmStreams are real streams of ffmpeg's, and what their init segment says.
var webmStreams = []struct {
	args      string
	container Container
	tracks    []Track
}{
	{
		"-c:v libvpx -deadline realtime -cpu-used 8 -g 25 -c:a libopus -f webm", WebM,
		[]Track{{Kind: "video", Codec: "vp8", Width: 160, Height: 120}, {Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 1}},
	},
	{
		"-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10 -c:a libvorbis -ac 2 -f webm -live 1 -cluster_time_limit 300", WebM,
		[]Track{{Kind: "video", Codec: "vp9", Width: 160, Height: 120}, {Kind: "audio", Codec: "vorbis", SampleRate: 48000, Channels: 2}},
	},
	{
		"-an -c:v libsvtav1 -preset 12 -g 30 -b:v 100k -f webm -dash 1 -dash_track_number 3", WebM,
		[]Track{{Kind: "video", Codec: "av01.0.00M.08", Width: 160, Height: 120}},
	},
	{
		"-c:v libx264 -preset ultrafast -g 25 -bf 2 -c:a aac -f matroska -cluster_size_limit 4000000 -cluster_time_limit 10000", Matroska,
		[]Track{{Kind: "video", Codec: "avc1.4D400B", Width: 160, Height: 120}, {Kind: "audio", Codec: "mp4a.40.2", SampleRate: 48000, Channels: 1}},
	},
	{
		"-an -c:v libx265 -x265-params log-level=none:pools=1 -preset ultrafast -g 20 -b:v 300k -f matroska -live 1 -cluster_size_limit 20000", Matroska,
		[]Track{{Kind: "video", Codec: "hvc1.1.6.L60.90", Width: 160, Height: 120}},
	},
	{
		"-vn -c:a libopus -f webm -cluster_time_limit 500", WebM,
		[]Track{{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 1}},
	},
}

// recordings were made by Chromium 156's MediaRecorder from a canvas and an oscillator, in
// slices of 100 ms: a Cluster of unknown size each. VP8 has its transparency beside it,
// in BlockGroups; H.264 is as in Annex B, without CodecPrivate.
var recordings = []struct {
	name      string
	container Container
	tracks    []Track
}{
	{"chromium-vp8-opus.webm", WebM, []Track{{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 2}, {Kind: "video", Codec: "vp8", Width: 160, Height: 120}}},
	{"chromium-h264-opus.mkv", Matroska, []Track{{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 2}, {Kind: "video", Codec: "avc1", Width: 160, Height: 120}}},
	{"chromium-opus.webm", WebM, []Track{{Kind: "audio", Codec: "opus", SampleRate: 48000, Channels: 2}}},
}

// recording is a stream that Chromium made.
func recording(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFFmpegWebM(t *testing.T) {
	t.Parallel()
	for _, c := range webmStreams {
		t.Run(strings.Fields(c.args)[1]+strings.Fields(c.args)[2], func(t *testing.T) {
			t.Parallel()
			wantWebM(t, encode(t, c.args), c.container, c.tracks)
		})
	}
}

func TestFFmpegWebMOfChromium(t *testing.T) {
	t.Parallel()
	for _, c := range recordings {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantWebM(t, recording(t, c.name), c.container, c.tracks)
		})
	}
}

// wantWebM fails unless a stream is what it should be, however it is cut, and decodes from
// a sync point in the middle.
func wantWebM(t *testing.T, stream []byte, container Container, tracks []Track) {
	t.Helper()
	f := follow(stream, whole)
	if f.Container() != container || !slices.Equal(f.Tracks(), tracks) {
		t.Errorf("it is a %v with %+v, wanted %v with %+v", f.Container(), f.Tracks(), container, tracks)
	}
	f.wantSame(t, follow(stream, single))
	f.wantSame(t, follow(stream, randomly(1, 20)))
	f.wantSame(t, follow(stream, randomly(2, 2000)))

	twin := readWebM(stream)
	f.wantWebMTwin(t, twin)
	if len(f.points) < 2 {
		t.Fatalf("%d sync points in %d clusters, wanted some", len(f.points), len(twin.clusters))
	}
	if tracks[0].Kind != "audio" || len(tracks) > 1 {
		f.wantFirstKeyFrames(t, stream, twin.clusters)
	} else if len(f.points) != len(twin.clusters) {
		t.Errorf("%d sync points in %d clusters of sound", len(f.points), len(twin.clusters))
	}
	wantDecodable(t, f.from(stream, len(f.points)/2))
}

// wantWebMTwin fails unless the twin found the same.
func (f following) wantWebMTwin(t *testing.T, twin webmTwin) {
	t.Helper()
	if !bytes.Equal(f.Init(), twin.init) {
		t.Errorf("an init segment of %d bytes, the twin's has %d", len(f.Init()), len(twin.init))
	}
	f.wantPoints(t, "the twin", twin.points)
}

// wantFirstKeyFrames fails unless the sync points are the clusters that ffprobe finds a key
// frame in, first of all pictures.
func (f following) wantFirstKeyFrames(t *testing.T, stream []byte, clusters []int) {
	t.Helper()
	var want []int
	cluster := -1
	for _, p := range videoPackets(t, stream) {
		i, found := slices.BinarySearch(clusters, p.at)
		if !found {
			i--
		}
		if i != cluster && p.key {
			want = append(want, clusters[i])
		}
		cluster = i
	}
	f.wantPoints(t, "ffprobe", want)
}

// A recorder that starts over, in the middle of its publishing session, begins a new
// document straight after a Cluster of unknown size, or one whose size was told.
func TestWebMThatStartsOver(t *testing.T) {
	t.Parallel()
	vp8, h264 := recording(t, "chromium-vp8-opus.webm"), recording(t, "chromium-h264-opus.mkv")
	both := slices.Concat(h264, vp8, h264)
	f := follow(both, whole)
	f.wantSame(t, follow(both, single))
	f.wantSame(t, follow(both, randomly(3, 300)))
	alone := follow(h264, whole)
	if f.Container() != Matroska || !bytes.Equal(f.Init(), alone.Init()) || len(f.points) != len(alone.points) {
		t.Errorf("after starting over it is a %v with %d sync points, alone a %v with %d", f.Container(), len(f.points), alone.Container(), len(alone.points))
	}
	for i, p := range f.points {
		if want := alone.points[i].at + len(h264) + len(vp8); p.at != want {
			t.Errorf("sync point %d is at %d, wanted %d", i, p.at, want)
		}
	}
	if got, want := len(readWebM(both).points), 2*len(alone.points)+len(follow(vp8, whole).points); got != want {
		t.Errorf("%d sync points in the three documents, wanted %d", got, want)
	}
}

// What a publisher sends of its media must not cost an allocation.
func TestWebMDoesNotAllocate(t *testing.T) {
	stream := recording(t, "chromium-vp8-opus.webm")
	init := len(follow(stream, whole).Init())
	var st Stream
	st.Write(0, stream[:init])
	media, seq, points := stream[init:], uint64(0), 0
	allocs := testing.AllocsPerRun(10, func() {
		for b := media; len(b) > 0; b = b[min(len(b), 99):] {
			seq++
			points += len(st.Write(seq, b[:min(len(b), 99)]))
		}
	})
	if allocs > 0 || points == 0 || st.Container() != WebM {
		t.Errorf("following a %v with %d sync points makes %v allocations", st.Container(), points, allocs)
	}
}
