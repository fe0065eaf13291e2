package media

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// Enhanced RTMP's tags. The ffmpeg of today's distributions neither writes nor reads them, so the
// test puts what it encoded into tags by itself, and takes it out again to decode it.

// TestFFmpegFLVFourCC follows H.265, AV1 and VP9 in tags with a FourCC.
func TestFFmpegFLVFourCC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args, tracks string
		carrier            flvCarrier
	}{
		{"H.265", "-an -t 2 -c:v libx265 -preset ultrafast -g 25 -x265-params log-level=error:aud=1:bframes=0:open-gop=0 -f hevc",
			"video hvc1.1.6.L30.90 160x120", hevcCarrier{}},
		{"AV1", "-an -t 2 -c:v libaom-av1 -usage realtime -cpu-used 8 -g 25 -f ivf", "video av01.0.00M.08", ivfCarrier{"av01", "AV01", av1Config}},
		{"VP9", "-an -t 2 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -f ivf", "video vp09.00.10.08", ivfCarrier{"vp09", "VP90", vp9Config}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw := encode(t, c.args)
			stream := c.carrier.mux(t, raw)
			f := wantSameCuts(t, stream)
			f.wantTracks(t, c.tracks)
			f.wantFLVTwin(t, stream)
			if n := len(f.points); n != 2 {
				t.Fatalf("%d sync points, wanted 2", n)
			}
			wantDecodable(t, c.carrier.demux(f.from(stream, 1)))
		})
	}
}

// TestFLVExtended reads the beginnings of tags with a FourCC one by one.
func TestFLVExtended(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		kind       byte
		want       flvUnit
	}{
		{"key frame", "\x93hvc1", flvVideo, flvUnit{what: flvMediaTag, key: true, track: -1, codec: "hvc1", rest: 5}},
		{"frame", "\xA1hvc1", flvVideo, flvUnit{what: flvMediaTag, track: -1, codec: "hvc1", rest: 5}},
		{"configuration", "\x90av01", flvVideo, flvUnit{what: flvConfigTag, key: true, track: -1, codec: "av01", rest: 5}},
		{"AV1's descriptor", "\x95av01", flvVideo, flvUnit{what: flvConfigTag, key: true, track: -1, codec: "av01", rest: 5}},
		{"end", "\x92av01", flvVideo, flvUnit{key: true, track: -1, codec: "av01", rest: 5}},
		{"colours", "\x94av01", flvVideo, flvUnit{key: true, track: -1, codec: "av01", rest: 5}},
		{"command", "\xD1\x00", flvVideo, flvUnit{track: -1}},
		{"nanoseconds", "\x97\x02abc\x01hvc1", flvVideo, flvUnit{what: flvMediaTag, key: true, track: -1, codec: "hvc1", rest: 10}},
		{"long extension", "\x97\xFF\x00\x01ab\x01hvc1", flvVideo, flvUnit{what: flvMediaTag, key: true, track: -1, codec: "hvc1", rest: 11}},
		{"one track of several", "\x96\x01avc1\x03", flvVideo, flvUnit{what: flvMediaTag, key: true, track: 3, codec: "avc1", rest: 7}},
		{"several tracks", "\x96\x11avc1\x00\x00\x00\x09", flvVideo, flvUnit{what: flvMediaTag, key: true, track: 0, codec: "avc1", rest: 10}},
		{"cut off", "\x93hvc", flvVideo, flvUnit{key: true, track: -1, rest: 4}},
		{"Opus", "\x91Opus", flvAudio, flvUnit{what: flvMediaTag, track: -1, codec: "Opus", rest: 5}},
		{"AAC's configuration", "\x90mp4a", flvAudio, flvUnit{what: flvConfigTag, track: -1, codec: "mp4a", rest: 5}},
		{"order of channels", "\x94Opus", flvAudio, flvUnit{track: -1, codec: "Opus", rest: 5}},
		{"audio track of several", "\x95\x01mp4a\x01", flvAudio, flvUnit{what: flvMediaTag, track: 1, codec: "mp4a", rest: 7}},
	} {
		c.want.kind, c.want.first = c.kind, c.body[0]
		if got := flvUnitOf(c.kind, []byte(c.body)); got != c.want {
			t.Errorf("%s: read %+v, wanted %+v", c.name, got, c.want)
		}
	}
}

// flvCarrier puts an encoder's output into tags, and takes it out again.
type flvCarrier interface {
	mux(t *testing.T, raw []byte) []byte
	demux(stream []byte) []byte
}

// fourCCTag is a video tag: PacketType 0 for a configuration, 3 for frames.
func fourCCTag(fourCC string, key bool, packet byte, ms int, data []byte) []byte {
	first := 0xA0 | packet
	if key {
		first = 0x90 | packet
	}
	body := append([]byte{first}, fourCC...)
	body = append(body, data...)
	b := binary.BigEndian.AppendUint32(nil, flvVideo<<24|uint32(len(body)))
	b = append(b, byte(ms>>16), byte(ms>>8), byte(ms), 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(append(b, body...), uint32(11+len(body)))
}

const flvVideoHeader = "FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"

// hevcCarrier carries H.265.
type hevcCarrier struct{}

func (hevcCarrier) mux(t *testing.T, raw []byte) []byte {
	var config, frames, frame []byte
	arrays := byte(0)
	key, ms := false, 0
	flush := func() {
		if len(frame) > 0 {
			frames = append(frames, fourCCTag("hvc1", key, 3, ms, frame)...)
			frame, key, ms = nil, false, ms+40
		}
	}
	for _, nal := range nalUnits(raw) {
		switch kind := nal[0] >> 1; {
		case kind == 35: // access unit delimiter
			flush()
			continue
		case kind >= 32 && kind <= 34: // in the configuration alone
			if arrays++; arrays > 3 {
				continue
			}
			config = append(config, 0x80|kind, 0, 1)
			config = append(binary.BigEndian.AppendUint16(config, uint16(len(nal))), nal...)
			if kind == 33 { // the SPS has profile, tier and level
				plain := bytes.ReplaceAll(nal, []byte{0, 0, 3}, []byte{0, 0})
				config = append(append(append([]byte{1}, plain[3:15]...), 0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3), config...)
			}
			continue
		case kind >= 16 && kind < 24:
			key = true
		}
		frame = append(binary.BigEndian.AppendUint32(frame, uint32(len(nal))), nal...)
	}
	flush()
	if arrays < 3 {
		t.Fatalf("the encoder wrote %d parameter sets, wanted at least 3", arrays)
	}
	return append(append([]byte(flvVideoHeader), fourCCTag("hvc1", true, 0, 0, config)...), frames...)
}

func (hevcCarrier) demux(stream []byte) (raw []byte) {
	add := func(nal []byte) { raw = append(append(raw, 0, 0, 0, 1), nal...) }
	for _, tag := range flvTags(stream) {
		data := tag.body[5:]
		if tag.body[0]&15 == 0 {
			for b := data[23:]; len(b) > 0; {
				n := int(binary.BigEndian.Uint16(b[3:]))
				add(b[5:][:n])
				b = b[5+n:]
			}
			continue
		}
		for len(data) > 0 {
			n := int(binary.BigEndian.Uint32(data))
			add(data[4:][:n])
			data = data[4+n:]
		}
	}
	return raw
}

// nalUnits splits a raw stream at its start codes.
func nalUnits(raw []byte) (all [][]byte) {
	for _, b := range bytes.Split(raw, []byte{0, 0, 1})[1:] {
		all = append(all, bytes.TrimRight(b, "\x00"))
	}
	return all
}

// ivfCarrier carries what ffmpeg writes as IVF: a header of 32 bytes, then frames with
// their length(4) and time(8), little endian.
type ivfCarrier struct {
	fourCC, ivf string
	config      func(frame []byte) []byte // nil if it is no key frame
}

func (c ivfCarrier) mux(t *testing.T, raw []byte) []byte {
	var stream []byte
	for ms, b := 0, raw[32:]; len(b) > 0; ms += 40 {
		n := int(binary.LittleEndian.Uint32(b))
		frame := b[12:][:n]
		b = b[12+n:]
		config := c.config(frame)
		if stream == nil {
			stream = append([]byte(flvVideoHeader), fourCCTag(c.fourCC, true, 0, 0, config)...)
		}
		stream = append(stream, fourCCTag(c.fourCC, config != nil, 3, ms, frame)...)
	}
	return stream
}

func (c ivfCarrier) demux(stream []byte) []byte {
	raw := append([]byte("DKIF\x00\x00\x20\x00"+c.ivf), 160, 0, 120, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	time := uint64(0)
	for _, tag := range flvTags(stream) {
		if tag.body[0]&15 != 0 {
			frame := tag.body[5:]
			raw = binary.LittleEndian.AppendUint32(raw, uint32(len(frame)))
			raw = append(binary.LittleEndian.AppendUint64(raw, time), frame...)
			time++
		}
	}
	return raw
}

// av1Config is an av1C if the temporal unit has a sequence header, behind its delimiter (12 00).
func av1Config(frame []byte) []byte {
	if frame[2]>>3&15 != 1 {
		return nil
	}
	return append([]byte{0x81, 0, 0x0C, 0}, frame[2:4+frame[3]]...)
}

// vp9Config is a vpcC of profile 0, level 1, 8 bits, for a key frame.
func vp9Config(frame []byte) []byte {
	if frame[0]&0x0C != 0 { // show_existing_frame, frame_type
		return nil
	}
	return []byte{1, 0, 0, 0, 0, 10, 0x82, 1, 1, 1, 0, 0}
}
