package media

import (
	"strings"
)

// What sample entries say of a codec, and how RFC 6381 writes it. An entry that is not
// lawful makes a Track that says less, never a stream that is not followed.

// describeVideo reads a VisualSampleEntry (ISO 14496-12, 12.1.3.2).
func (t *Track) describeVideo(entry boxes) {
	f := fields{b: entry.payload}
	f.bytes(24)
	t.Width, t.Height = int(f.number(2)), int(f.number(2))
	f.bytes(50)
	name := original(entry, f.b)
	switch name {
	case "avc1", "avc3":
		t.Codec = avcName(name, boxAt(f.b, "avcC"))
	case "hvc1", "hev1":
		t.Codec = hevcName(name, boxAt(f.b, "hvcC"))
	case "av01":
		t.Codec = av1Name(boxAt(f.b, "av1C"))
	case "vp08", "vp09":
		t.Codec = vpName(name, withoutVersion(boxAt(f.b, "vpcC")))
	default:
		t.Codec = printable(name)
	}
}

// describeAudio reads an AudioSampleEntry (12.2.3.2), and of codecs whose own
// configuration overrules it, that.
func (t *Track) describeAudio(entry boxes) {
	f := fields{b: entry.payload}
	f.bytes(16)
	t.Channels = int(f.number(2))
	f.bytes(6)
	t.SampleRate = int(f.u32() >> 16)
	name := original(entry, f.b)
	switch name {
	case "mp4a":
		t.describeMPEG4(boxAt(f.b, "esds"))
	case "Opus", "fLaC":
		t.Codec = strings.ToLower(name)
	case "ac-3":
		t.Codec = name
		t.Channels = ac3Channels(boxAt(f.b, "dac3"))
	case "ec-3":
		t.Codec = name
		t.Channels = 0 // the entry's number means nothing (ETSI TS 102 366, F.5)
	default:
		t.Codec = printable(name)
	}
}

// original is the name of a sample entry, of an encrypted one that of the entry that it
// stands for (8.12.2). inside are the boxes of the entry.
func original(entry boxes, inside []byte) string {
	name := string(entry.kind[:])
	if name == "encv" || name == "enca" {
		if format := boxAt(inside, "sinf", "frma"); len(format) == 4 {
			return string(format)
		}
	}
	return name
}

// printable returns a name if each of its characters can stand anywhere.
func printable(name string) string {
	for _, c := range name {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '-':
		default:
			return ""
		}
	}
	return name
}

// ac3Channels counts the channels by the AC3SpecificBox (ETSI TS 102 366, F.4): acmod,
// and one more for low frequencies.
func ac3Channels(config []byte) int {
	if len(config) < 2 {
		return 0
	}
	mode, low := config[1]>>3&7, config[1]>>2&1
	return []int{2, 1, 2, 3, 3, 4, 4, 5}[mode] + int(low)
}

// withoutVersion leaves out a full box's version and flags (ISO 14496-12, 4.2).
func withoutVersion(b []byte) []byte { return b[min(4, len(b)):] }
