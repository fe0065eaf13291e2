package media

import "bytes"

// tsLook is how many bytes of a PES packet are looked at, at most, to tell what it begins
// with: in front of the first slice stand its parameter sets and messages (SEI).
const tsLook = 16 << 10

// NAL unit types of H.264 (ITU-T H.264, table 7-1) and H.265 (ITU-T H.265, table 7-1).
const (
	avcSlice  = 1 // to 5: coded slices
	avcIDR    = 5
	avcSPS    = 7
	avcPPS    = 8
	hevcIRAP  = 16 // to 23: pictures at which decoding can start
	hevcSlice = 31 // the last type of coded slices
	hevcVPS   = 32
	hevcPPS   = 34
)

// Start codes of MPEG-2 video (ISO 13818-2, table 6-1), and a picture_coding_type (table 6-12).
const (
	mpeg2Picture  = 0x00
	mpeg2Sequence = 0xB3
	mpeg2I        = 1
)

var startCode = []byte{0, 0, 1} // before each NAL unit (H.264, annex B; H.265, annex B), and before a PES packet

func avcType(first byte) byte  { return first & 0x1F }
func hevcType(first byte) byte { return first >> 1 & 0x3F }

// tsCodec is how the units of an elementary stream are read.
type tsCodec uint8

const (
	tsUnread tsCodec = iota // not at all: only the transport packet counts
	tsAVC
	tsHEVC
	tsMPEG2
	tsADTS
	tsMPEGAudio
)

// tsStream is an elementary stream.
type tsStream struct {
	codec tsCodec
	track int   // its number
	known Track // what is known of it

	// The PES packet whose beginning is looked at.

	open   bool
	at     Point // of the transport packet in which it begins
	random bool  // that packet has random_access_indicator
	b      []byte
	scan   int  // where to look for the next start code; 0: the PES header is not read yet
	unit   int  // where the unit begins that was found last; 0: none was
	sets   sets // that were found
	told   bool // one of them has told of the track: others need not be read
	hasPTS bool
	pts    uint64 // in ticks of the 90 kHz clock
}

// sets are what stood in front of the picture, a bit each.
type sets uint8

const (
	setSPS sets = 1 << iota // or MPEG-2's sequence header
	setPPS
	setVPS
)

// begin starts with another PES packet.
func (s *tsStream) begin(at Point, random bool) {
	s.open, s.at, s.random = true, at, random
	s.b = s.b[:0]
	s.scan, s.unit, s.sets, s.told, s.hasPTS = 0, 0, 0, false, false
}

// judge reports whether it is known what the PES packet begins with, and then whether a
// decoder can start there. It may be called again with more bytes until it is known.
func (s *tsStream) judge() (judged, isPoint bool) {
	if s.scan == 0 {
		if whole, lawful := s.header(); !whole || !lawful {
			return !lawful, false
		}
	}
	switch s.codec {
	case tsAVC, tsHEVC, tsMPEG2:
		return s.picture()
	case tsADTS, tsMPEGAudio:
		b := s.b[s.scan:]
		if len(b) < 4 {
			return false, false
		}
		t, ok := adtsTrack(b)
		if s.codec == tsMPEGAudio {
			t, ok = mpegAudioTrack(b)
		}
		if ok {
			s.known = t
		}
	}
	return true, s.random && s.known.Kind == "video" || s.hasPTS && s.known.Kind == "audio"
}

// header reads the PES header (ISO 13818-1, 2.4.3.7).
func (s *tsStream) header() (whole, lawful bool) {
	const head = 9 // up to PES_header_data_length
	b := s.b
	if len(b) < head {
		return false, true
	}
	if !bytes.HasPrefix(b, startCode) || b[6]&0xC0 != 0x80 {
		return true, false
	}
	n := head + int(b[8])
	if len(b) < n {
		return false, true
	}
	if b[7]&0x80 != 0 && b[8] >= 5 {
		s.hasPTS = true
		s.pts = uint64(b[9]>>1&7)<<30 | uint64(b[10])<<22 | uint64(b[11]>>1)<<15 | uint64(b[12])<<7 | uint64(b[13]>>1)
	}
	s.scan = n
	return true, true
}

// picture looks for the first coded picture. The search goes on where it ended.
func (s *tsStream) picture() (judged, isPoint bool) {
	const after = 3 // bytes behind a start code that are needed, at most: MPEG-2's picture type
	for {
		i := bytes.Index(s.b[s.scan:], startCode)
		if i < 0 {
			s.scan = max(s.scan, len(s.b)-len(startCode)+1)
			return false, false
		}
		s.scan += i
		if s.scan+len(startCode)+after > len(s.b) {
			return false, false
		}
		if s.unit != 0 {
			s.parameters(s.b[s.unit:s.scan])
		}
		s.scan += len(startCode)
		s.unit = s.scan
		if judged, isPoint = s.found(s.b[s.unit:]); judged {
			return judged, isPoint
		}
	}
}

// found takes the first bytes behind a start code.
func (s *tsStream) found(b []byte) (judged, isPoint bool) {
	switch s.codec {
	case tsAVC:
		switch t := avcType(b[0]); {
		case t == avcSPS:
			s.sets |= setSPS
		case t == avcPPS:
			s.sets |= setPPS
		case t >= avcSlice && t <= avcIDR:
			return true, s.sets == setSPS|setPPS && (t == avcIDR || s.random)
		}
	case tsHEVC:
		switch t := hevcType(b[0]); {
		case t == hevcVPS:
			s.sets |= setVPS
		case t == hevcSPS:
			s.sets |= setSPS
		case t == hevcPPS:
			s.sets |= setPPS
		case t <= hevcSlice:
			return true, s.sets == setVPS|setSPS|setPPS && (t >= hevcIRAP && t < hevcIRAP+8 || s.random)
		}
	case tsMPEG2:
		switch b[0] {
		case mpeg2Sequence:
			s.sets |= setSPS
		case mpeg2Picture:
			return true, s.sets == setSPS && b[2]>>3&7 == mpeg2I
		}
	}
	return false, false
}

// parameters takes a whole unit in front of the picture, which may be empty.
func (s *tsStream) parameters(b []byte) {
	if s.told || len(b) == 0 {
		return
	}
	var t Track
	switch {
	case s.codec == tsAVC && avcType(b[0]) == avcSPS:
		t = avcTrack(b)
	case s.codec == tsHEVC && hevcType(b[0]) == hevcSPS:
		t = hevcTrack(b)
	case s.codec == tsMPEG2 && b[0] == mpeg2Sequence && len(b) >= 4:
		t = Track{Kind: "video", Width: int(b[1])<<4 | int(b[2]>>4), Height: int(b[2]&0xF)<<8 | int(b[3])}
	default:
		return
	}
	s.told = true
	if t.Width != 0 {
		s.known = t
	}
}
