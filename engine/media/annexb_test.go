package media

import (
	"strings"
	"testing"
)

// TestFFmpegSPS reads the parameter sets that encoders write for pictures of many kinds.
func TestFFmpegSPS(t *testing.T) {
	t.Parallel()
	const avc, hevc = "-c:v libx264 -preset ultrafast ", "-c:v libx265 -preset ultrafast -x265-params log-level=error"
	for _, c := range []struct {
		name, args, codec string
		width, height     int
	}{
		{"cropped", avc + "-s 318x178", "avc1.42C00C", 318, 178},
		{"4:2:2, interlaced, cropped", avc + "-s 320x184 -pix_fmt yuv422p -flags +ildct+ilme", "avc1.7A0015", 320, 184},
		{"4:4:4, scaling lists", avc + "-s 162x122 -pix_fmt yuv444p -x264-params 8x8dct=1:cqm=jvt", "avc1.F4000B", 162, 122},
		{"H.265, cropped", hevc + " -s 318x178", "hvc1.1.6.L60.90", 318, 178},
		{"H.265, 4:2:2, cropped", hevc + " -s 318x178 -pix_fmt yuv422p", "hvc1.4.10.L60.9D.8", 318, 178},
		{"H.265, temporal layers", hevc + ":temporal-layers=3 -s 318x178", "hvc1.1.6.L60.90", 318, 178},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stream := encode(t, c.args+" -an -frames:v 2 -f mpegts")
			tracks := follow(stream, whole).Tracks()
			if len(tracks) != 1 || tracks[0] != (Track{Kind: "video", Codec: c.codec, Width: c.width, Height: c.height}) {
				t.Errorf("read %+v, wanted %s of %dx%d", tracks, c.codec, c.width, c.height)
			}
		})
	}
}

// TestSPSCutOff reads parameter sets that end early, or are anything: no size, and no end of the world.
func TestSPSCutOff(t *testing.T) {
	t.Parallel()
	avc := []byte("\x67\x64\x00\x1F\xAC\xD9\x40\x50\x05\xBB\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xF1\x83\x19\x60")
	if got := avcTrack(avc); got != (Track{Kind: "video", Codec: "avc1.64001F", Width: 1280, Height: 720}) {
		t.Errorf("read %+v", got)
	}
	for n := range 10 { // more hold the size
		if got := avcTrack(avc[:n]); got.Width != 0 || got.Kind != "video" {
			t.Errorf("of %d bytes read %+v", n, got)
		}
	}
	for n := range 40 {
		for _, fill := range []string{"\x00", "\x42", "\xFF", "\xF4\x01", "\x67\x64"} {
			b := []byte(strings.Repeat(fill, n))
			avcTrack(b)
			hevcTrack(b)
			avcConfigTrack(b)
			hevcConfigTrack(b)
			av1Name(b)
			vp9ConfigName(b)
			aacTrack(b)
		}
	}
}

// TestAudioSpecificConfig reads those of AAC LC, and of HE-AAC, whose rate is given twice.
func TestAudioSpecificConfig(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]Track{
		"\x12\x10":             {Kind: "audio", Codec: "mp4a.40.2", SampleRate: 44100, Channels: 2},
		"\x2B\x11\x88":         {Kind: "audio", Codec: "mp4a.40.5", SampleRate: 48000, Channels: 2},
		"\x17\x80\x5D\xC0\x08": {Kind: "audio", Codec: "mp4a.40.2", SampleRate: 48000, Channels: 1},
		"\x12":                 {Kind: "audio"},
	} {
		if got := aacTrack([]byte(config)); got != want {
			t.Errorf("of % X read %+v, wanted %+v", config, got, want)
		}
	}
}
