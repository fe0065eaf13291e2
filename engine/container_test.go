package engine

import (
	"bytes"
	"testing"

	"ws-stream-server/engine/media"
	"ws-stream-server/engine/wstest"
)

// What a stream is, from its first bytes.
func TestSniff(t *testing.T) {
	ts := func(n int) string { return string(bytes.Repeat(append([]byte{0x47}, make([]byte, 187)...), n)) }
	for want, beginnings := range map[container][]string{
		webm:     {"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "\x1a\x45\xdf\xa3", "\x1a\x45\xdf", "\x1a"},
		matroska: {"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska\x42\x87"},
		mp4:      {"\x00\x00\x00\x18ftypiso5", "\x00\x00\x00\x18styp", "\x00\x00\x10\x00moof\x00"},
		flv:      {"FLV\x01\x05\x00\x00\x00\x09"},
		mpegTS:   {ts(1), ts(2), ts(7), ts(1) + "\x47\x40", ts(9) + "?"},
		ogg:      {"OggS\x00\x02"},
		adts:     {"\xff\xf1\x50\x80\x02\x1f\xfc", "\xff\xf9\x4c\x80"},
		mp3:      {"ID3\x04\x00", "\xff\xfb\x90\x44", "\xff\xf3\x40\xc0"},
		unknownContainer: {
			"h", "FLV", "FLV\x02", "", "\x1a\x1a", "\x1a\x45\xdf\xa2", "ftypisom", "\x00\x00\x00\x18mdat", ts(1)[:187], ts(1) + "?", ts(3) + "?",
			"\xff\xff\xff\xff", "\xff\xfb\xf0\x44", "\xff\xf1\x7c\x80", "\xff\xe8\x90\x44", "\xff\xfb", "<html>",
		},
	} {
		for _, b := range beginnings {
			if got := sniff([]byte(b)); got != want {
				t.Errorf("%.24q is %s, wanted %s", b, contentTypes[got], contentTypes[want])
			}
		}
	}
}

// The first packet that is not empty decides, however it comes; what follows does not
// matter.
func TestContentTypeOfAChannel(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	flvStart, oggStart := []byte("FLV\x01\x05"), []byte("OggS\x00\x02")
	for name, frames := range map[string][]wstest.Frame{
		"whole":     {{Op: wstest.Binary, Payload: flvStart}},
		"in pieces": {{Op: wstest.Binary, Payload: flvStart[:2], More: true}, {Op: wstest.Continuation, Payload: flvStart[2:]}},
		"empty":     {{Op: wstest.Binary}, {Op: wstest.Text, Payload: []byte("h")}, {Op: wstest.Binary}, {Op: wstest.Binary, Payload: flvStart}},
	} {
		pub := s.publish(name[:2], "key")
		ch := s.session(pub).ch
		if got := ch.ContentType(); got != "" {
			t.Errorf("%s: before a packet it is %q", name, got)
		}
		for _, f := range frames {
			pub.SendFrames(f)
			pub.Sync()
		}
		pub.Send(wstest.Binary, oggStart)
		pub.Sync()
		if got := ch.ContentType(); got != "video/x-flv" {
			t.Errorf("%s: it is %q", name, got)
		}
		pub.CloseHandshake(1000)
	}
}

// The Content-Type is the container's, with the codecs where they can be told, whatever
// the first packet looked like.
func TestContentTypeOfWhatIsFollowed(t *testing.T) {
	video, audio, nameless := media.Track{Kind: "video", Codec: "avc1.42C01E"}, media.Track{Kind: "audio", Codec: "opus"}, media.Track{Kind: "audio"}
	for _, c := range []struct {
		container     media.Container
		tracks        []media.Track
		sniffed, want string
	}{
		{media.Undecided, nil, "", ""},
		{media.Undecided, nil, "application/octet-stream", "application/octet-stream"},
		{media.Opaque, []media.Track{video}, "audio/mpeg", "audio/mpeg"},
		{media.MP4, nil, "application/octet-stream", "video/mp4"},
		{media.MP4, []media.Track{video, audio}, "application/octet-stream", `video/mp4; codecs="avc1.42C01E, opus"`},
		{media.MP4, []media.Track{video, nameless}, "video/mp4", "video/mp4"},
		{media.WebM, []media.Track{audio}, "video/webm", `video/webm; codecs="opus"`},
		{media.Matroska, []media.Track{video}, "video/webm", "video/x-matroska"},
		{media.FLV, []media.Track{video}, "application/octet-stream", "video/x-flv"},
		{media.MPEGTS, []media.Track{video}, "application/octet-stream", "video/mp2t"},
	} {
		x := index{container: c.container, tracks: c.tracks}
		if got := x.contentType(c.sniffed); got != c.want {
			t.Errorf("%v, %d tracks, sniffed %q: %q, wanted %q", c.container, len(c.tracks), c.sniffed, got, c.want)
		}
	}
}
