package media

import "math"

// flvWhat is what a tag is for.
type flvWhat uint8

const (
	flvOtherTag flvWhat = iota // nothing that a decoder needs: commands, ends, unknown
	flvMetadataTag
	flvConfigTag
	flvMediaTag
)

// flvUnit is what the beginning of a tag's body tells.
type flvUnit struct {
	what  flvWhat
	kind  byte // flvAudio, flvVideo, flvScript
	key   bool // a key frame
	track int  // of a multitrack tag, the first; -1: the tag has no number
	codec string
	rest  int  // where the configuration begins in the body
	first byte // of the body
}

// Codecs by their numbers (E.4.2.1, E.4.3.1); those without a name in RFC 6381 are left out.
const (
	flvAVC     = 7
	flvHEVC    = 12 // no specification has it, many writers do
	flvMP3     = 2
	flvAAC     = 10
	flvMP3Slow = 14 // 8 kHz
	flvFourCC  = 9  // SoundFormat: a FourCC follows (Enhanced RTMP v2)
)

// FrameTypes (E.4.3.1).
const (
	flvKey     = 1
	flvCommand = 5
)

// flvUnitOf tells what a tag is from the beginning of its body, at least the first flvLook bytes if
// it has so many. A body that is too short for what it seems to be is flvOtherTag.
func flvUnitOf(kind byte, body []byte) flvUnit {
	u := flvUnit{kind: kind, track: -1}
	if len(body) == 0 {
		return u
	}
	u.first = body[0]
	switch {
	case kind == flvScript:
		if name, ok := flvName(body); ok && name == "onMetaData" {
			u.what = flvMetadataTag
		}
	case kind == flvVideo && u.first&0x80 != 0:
		u.key = u.first>>4&7 == flvKey
		u.extended(body, 6, u.first>>4&7 == flvCommand)
	case kind == flvVideo:
		u.video(body)
	case u.first>>4 == flvFourCC:
		u.extended(body, 5, false)
	default:
		u.audio(body)
	}
	return u
}

// video tells what a video tag without a FourCC is.
func (u *flvUnit) video(body []byte) {
	u.key = u.first>>4 == flvKey
	if u.first>>4 == flvCommand {
		return
	}
	switch u.first & 15 {
	case flvAVC:
		u.codec = "avc1"
	case flvHEVC:
		u.codec = "hvc1"
	default:
		u.what = flvMediaTag
		return
	}
	if u.rest = 5; len(body) >= u.rest {
		u.packet(body[1])
	}
}

// audio tells what an audio tag without a FourCC is.
func (u *flvUnit) audio(body []byte) {
	switch u.first >> 4 {
	case flvAAC:
		u.codec = "mp4a"
		if u.rest = 2; len(body) >= u.rest {
			u.packet(body[1])
		}
	case flvMP3, flvMP3Slow:
		u.codec = ".mp3"
		fallthrough
	default:
		u.what = flvMediaTag
	}
}

// packet tells what a packet type makes of the tag: AVCPacketType, AACPacketType, and those of Enhanced RTMP.
func (u *flvUnit) packet(kind byte) {
	switch {
	case kind == 0, kind == 5 && u.kind == flvVideo: // SequenceStart, MPEG2TSSequenceStart
		u.what = flvConfigTag
	case kind == 1, kind == 3 && u.kind == flvVideo: // CodedFrames, CodedFramesX
		u.what = flvMediaTag
	}
}

// extended tells what a tag with a FourCC is (Enhanced RTMP v2, "Extended AudioTagHeader"
// and "Extended VideoTagHeader"). multitrack is the packet type that says that there are
// several tracks; those of command frames stand for themselves.
func (u *flvUnit) extended(body []byte, multitrack byte, command bool) {
	const modEx = 7
	kind, f := u.first&15, fields{b: body[1:]}
	for kind == modEx && !f.short {
		n := int(f.number(1)) + 1
		if n == 256 {
			n = int(f.number(2)) + 1
		}
		f.bytes(n)
		kind = byte(f.number(1)) & 15
	}
	if command {
		return
	}
	numbered, tracks := kind == multitrack, byte(0)
	if numbered {
		first := byte(f.number(1))
		tracks, kind = first>>4, first&15
	}
	u.codec = string(f.bytes(4))
	if numbered {
		u.track = int(f.number(1))
		if tracks != 0 { // OneTrack has no size
			f.bytes(3)
		}
	}
	if u.rest = len(body) - len(f.b); !f.short {
		u.packet(kind)
	}
}

// needsConfig reports whether media of this codec is of no use without its configuration.
func (u *flvUnit) needsConfig() bool {
	switch u.codec {
	case "avc1", "hvc1", "vvc1", "mp4a":
		return true
	default:
		return false
	}
}

// flvMetadata is what an onMetaData tells that is of use here; zero: it does not.
type flvMetadata struct {
	width, height, rate, channels int
	videoCodec, audioCodec        int // as in the tags, or a FourCC
}

// flvName reads a string with its marker at the beginning of a script tag.
func flvName(b []byte) (string, bool) {
	if len(b) < 3 || b[0] != amfString {
		return "", false
	}
	return (&amf0{fields{b: b[1:]}}).text(2)
}

// parseFLVMetadata reads the body of an onMetaData tag as far as it is lawful.
func parseFLVMetadata(body []byte) (m flvMetadata) {
	a := &amf0{fields{b: body[1:]}}
	a.text(2)
	switch a.number(1) {
	case amfArray:
		a.bytes(4) // about how many there are
	case amfObject:
	default:
		return m
	}
	for !a.short {
		name, _ := a.text(2)
		switch v := a.value(0); name {
		case "width":
			m.width = v
		case "height":
			m.height = v
		case "audiosamplerate":
			m.rate = v
		case "audiochannels":
			m.channels = v
		case "stereo":
			m.channels = 1 + v
		case "videocodecid":
			m.videoCodec = v
		case "audiocodecid":
			m.audioCodec = v
		}
	}
	return m
}

// Markers of AMF0's types (Action Message Format AMF0, 2.1).
const (
	amfNumber     = 0
	amfBoolean    = 1
	amfString     = 2
	amfObject     = 3
	amfNull       = 5
	amfUndefined  = 6
	amfReference  = 7
	amfArray      = 8 // ECMA array
	amfEnd        = 9
	amfStrict     = 10
	amfDate       = 11
	amfLongString = 12
)

// amfDepth is how deep values may stand in each other.
const amfDepth = 8

// amf0 reads AMF0. Where it is not lawful, short is set as well.
type amf0 struct{ fields }

func (a *amf0) fail() { a.b, a.short = nil, true }

// text reads a string whose length has size bytes, 2 or 4.
func (a *amf0) text(size int) (string, bool) {
	s := a.bytes(int(a.number(size)))
	return string(s), !a.short
}

// value reads a value, and returns it if it is a number or a boolean.
func (a *amf0) value(depth int) int {
	if depth > amfDepth {
		a.fail()
	}
	switch a.number(1) {
	case amfNumber:
		v := math.Float64frombits(a.number(8))
		if v > 0 && v <= math.MaxInt32 {
			return int(v)
		}
	case amfBoolean:
		if a.number(1) != 0 {
			return 1
		}
	case amfString:
		a.bytes(int(a.number(2)))
	case amfLongString:
		a.bytes(int(a.u32()))
	case amfArray:
		a.bytes(4)
		a.members(depth)
	case amfObject:
		a.members(depth)
	case amfStrict:
		for n := a.u32(); n > 0 && !a.short; n-- {
			a.value(depth + 1)
		}
	case amfReference:
		a.bytes(2)
	case amfDate:
		a.bytes(10)
	case amfNull, amfUndefined:
	default: // also amfEnd, which ends the object that this would be a member of
		a.fail()
	}
	return 0
}

// members reads the members of an object up to its end.
func (a *amf0) members(depth int) {
	for !a.short {
		a.bytes(int(a.number(2)))
		if len(a.b) > 0 && a.b[0] == amfEnd {
			a.bytes(1)
			return
		}
		a.value(depth + 1)
	}
}
