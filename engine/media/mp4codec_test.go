package media

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// mp4Bytes is what hexadecimal digits stand for; spaces do not matter.
func mp4Bytes(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Configurations that ffmpeg here does not make. The names are those of the codecs'
// specifications, where they have examples.
func TestMP4Codecs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ entry, config, digits, want string }{
		{"avc1", "avcC", "01 64 00 1F FF", "avc1.64001F"},
		{"avc3", "avcC", "01 4D 40 28", "avc3.4D4028"},
		{"avc1", "avcC", "01 64 00", "avc1"},
		{"avc1", "free", "01 64 00 1F", "avc1"},
		{"hvc1", "hvcC", "01 01 60000000 B00000000000 5D", "hvc1.1.6.L93.B0"}, // ISO 14496-15, E.3
		{"hev1", "hvcC", "01 A2 20000000 9008 00000000 99", "hev1.B2.4.H153.90.8"},
		{"hvc1", "hvcC", "01 01 60000000 000000000000 5D", "hvc1.1.6.L93"},
		{"hvc1", "hvcC", "01 01 60000000 B00000000000", "hvc1"},
		{"av01", "av1C", "81 04 40 00", "av01.0.04M.10"}, // AV1 in ISO BMFF, 5
		{"av01", "av1C", "81 4D E0 00", "av01.2.13H.12"},
		{"av01", "av1C", "81 04 40", "av01"},
		{"vp09", "vpcC", "01000000 02 0A A0 000000 0000", "vp09.02.10.10"}, // VP Codec binding
		{"vp08", "vpcC", "01000000 00 0A 82", "vp08.00.10.08"},
		{"vp09", "vpcC", "01000000 02 0A", "vp09"},
		{"encv", "avcC", "01 64 00 1F", "encv"},
		{"mp4v", "esds", "00", "mp4v"},
		{"dvh1", "dvcC", "00", "dvh1"},
		{"s\"1 ", "none", "00", ""},
	} {
		entry := mp4Box(c.entry, make([]byte, 24), "\x01\x40\x00\xF0", make([]byte, 50), mp4Box(c.config, mp4Bytes(t, c.digits)))
		want := Track{Kind: "video", Codec: c.want, Width: 320, Height: 240}
		if got := mp4Described(t, "vide", entry); got != want {
			t.Errorf("%s with %s %s: %+v, wanted %+v", c.entry, c.config, c.digits, got, want)
		}
	}
}

func TestMP4Sounds(t *testing.T) {
	t.Parallel()
	es := func(object, specific string) string {
		config := object + "15 000000 00000000 00000000" + specific
		return fmt.Sprintf("00000000 03 80 80 80 %02X 0001 00 04 %02X %s", len(mp4Bytes(t, config))+5, len(mp4Bytes(t, config)), config)
	}
	for _, c := range []struct{ entry, config, digits, want string }{
		{"mp4a", "esds", es("40", "05 02 1210"), "mp4a.40.2 44100 2"},
		{"mp4a", "esds", es("40", "05 80 80 02 1188"), "mp4a.40.2 48000 1"},
		{"mp4a", "esds", es("40", "05 02 11B8"), "mp4a.40.2 48000 8"},                                                      // channelConfiguration 7
		{"mp4a", "esds", es("40", "05 02 1180"), "mp4a.40.2 48000 6"},                                                      // none: a program_config_element says
		{"mp4a", "esds", es("40", "05 04 2B118800"), "mp4a.40.5 48000 2"},                                                  // HE-AAC: 24000, doubled
		{"mp4a", "esds", es("40", "05 04 EB098800"), "mp4a.40.29 48000 2"},                                                 // HE-AAC v2: one channel, made two
		{"mp4a", "esds", es("40", "05 06 F95E 0158 8840"), "mp4a.40.42 44100 2"},                                           // xHE-AAC: 32 + 10, and the rate in full
		{"mp4a", "esds", es("40", "05 02 1710"), "mp4a.40.2 32000 2"},                                                      // a rate that is reserved
		{"mp4a", "esds", es("40", "05 01 12"), "mp4a.40 32000 6"},                                                          // too short
		{"mp4a", "esds", es("40", ""), "mp4a.40 32000 6"},                                                                  // missing
		{"mp4a", "esds", es("40", "06 02 1210"), "mp4a.40 32000 6"},                                                        // another descriptor
		{"mp4a", "esds", es("6B", ""), "mp4a.6B 32000 6"},                                                                  // MP3
		{"mp4a", "esds", "00000000 03 0A 0001 A0 1234 5678 04 01 6B", "mp4a 32000 6"},                                      // cut off
		{"mp4a", "esds", "00000000 03 19 0001 E0 1234 02 2F2F 5678 04 0D 6B 000000000000 000000000000", "mp4a.6B 32000 6"}, // all there can be before
		{"mp4a", "esds", "00000000 05 02 1210", "mp4a 32000 6"},
		{"mp4a", "none", "", "mp4a 32000 6"},
		{"Opus", "dOps", "00 02 0138 0000BB80 0000 00", "opus 32000 6"},
		{"fLaC", "dfLa", "00", "flac 32000 6"},
		{"ac-3", "dac3", "10 3D E0", "ac-3 32000 6"}, // 3/2 and low frequencies
		{"ac-3", "dac3", "10 10 E0", "ac-3 32000 2"},
		{"ac-3", "dac3", "10", "ac-3 32000 0"},
		{"ec-3", "dec3", "00", "ec-3 32000 0"},
		{"alac", "alac", "00", "alac 32000 6"},
	} {
		entry := mp4Box(c.entry, make([]byte, 16), "\x00\x06\x00\x10", 0, 32000<<16, mp4Box(c.config, mp4Bytes(t, c.digits)))
		got := mp4Described(t, "soun", entry)
		if s := fmt.Sprint(got.Codec, " ", got.SampleRate, " ", got.Channels); s != c.want || got.Kind != "audio" {
			t.Errorf("%s with %s %s: %q (%s), wanted %q", c.entry, c.config, c.digits, s, got.Kind, c.want)
		}
	}
}

// An encrypted track has the codec that it would have (8.12).
func TestMP4Encrypted(t *testing.T) {
	t.Parallel()
	avc := mp4Box("avcC", "\x01\x64\x00\x1F")
	entry := mp4Box("encv", make([]byte, 78), avc, mp4Box("sinf", mp4Box("frma", "avc1")))
	if got := mp4Described(t, "vide", entry); got.Codec != "avc1.64001F" {
		t.Errorf("the codec is %q, wanted avc1.64001F", got.Codec)
	}
}

// A track of which less is said is followed all the same.
func TestMP4ShortDescriptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		handler string
		entry   []byte
		want    Track
	}{
		{"vide", nil, Track{Kind: "video"}},
		{"vide", []byte("short"), Track{Kind: "video"}},
		{"vide", mp4Box("avc1"), Track{Kind: "video", Codec: "avc1"}},
		{"vide", mp4Box("avc1", make([]byte, 78), "short"), Track{Kind: "video", Codec: "avc1"}},
		{"soun", nil, Track{Kind: "audio"}},
		{"soun", mp4Box("mp4a", make([]byte, 20)), Track{Kind: "audio", Codec: "mp4a"}},
		{"text", nil, Track{Kind: "other"}},
		{"text", mp4Box("wvtt"), Track{Kind: "other", Codec: "wvtt"}},
		{"subt", mp4Box("\x00\x00\x00\x00"), Track{Kind: "other"}},
	} {
		if got := mp4Described(t, c.handler, c.entry); got != c.want {
			t.Errorf("%s %q: %+v, wanted %+v", c.handler, c.entry, got, c.want)
		}
	}
}

// The version 1 of a tkhd has longer times before the track's number.
func TestMP4LongTimes(t *testing.T) {
	t.Parallel()
	trak := mp4Box("trak", mp4Box("tkhd", 1<<24, 0, 0, 0, 0, 2), mp4Video[8+24:])
	moov := mp4Box("moov", trak, mp4Box("mvex", mp4Trex(2, 0)))
	stream, points := mp4File(mp4Ftyp, moov, "|", mp4Key, mp4Mdat)
	follow(stream, whole).wantMP4Points(t, points...)
}

// mp4Described is what is said of a track that has this sample entry.
func mp4Described(t *testing.T, handler string, entry []byte) Track {
	t.Helper()
	stream := append(mp4Ftyp[:len(mp4Ftyp):len(mp4Ftyp)], mp4Box("moov", mp4Trak(1, handler, entry), mp4Box("mvex", mp4Trex(1, 0)))...)
	f := follow(stream, whole)
	if f.Container() != MP4 || len(f.Tracks()) != 1 {
		t.Fatalf("%s %q: the container is %q, the tracks are %v", handler, entry, f.Container(), f.Tracks())
	}
	return f.Tracks()[0]
}
