package media

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
)

// The elements of Tracks that matter here (RFC 9559, 5.1.4).
const (
	idTrackEntry        = 0xAE
	idTrackNumber       = 0xD7
	idTrackType         = 0x83
	idCodecID           = 0x86
	idCodecPrivate      = 0x63A2
	idVideo             = 0xE0
	idPixelWidth        = 0xB0
	idPixelHeight       = 0xBA
	idAudio             = 0xE1
	idSamplingFrequency = 0xB5
	idOutputFrequency   = 0x78B5
	idChannels          = 0x9F
)

// webmTracks reads the data of Tracks. video is the number of the first video track, 0 if
// there is none. tracks is nil when the data are not lawful.
func webmTracks(b []byte) (tracks []Track, video uint64) {
	ok := children(b, func(id uint32, data []byte) bool {
		if id != idTrackEntry {
			return true
		}
		track, number, ok := webmTrack(data)
		if track.Kind == "video" && video == 0 {
			video = number
		}
		tracks = append(tracks, track)
		return ok && len(tracks) <= maxTracks
	})
	if !ok {
		return nil, 0
	}
	return tracks, video
}

// webmTrack reads the data of a TrackEntry.
func webmTrack(b []byte) (track Track, number uint64, ok bool) {
	var codec string
	var private []byte
	track.Kind = "other"
	ok = children(b, func(id uint32, data []byte) bool {
		switch id {
		case idTrackNumber:
			number = unsigned(data)
		case idTrackType:
			track.Kind = webmKind(unsigned(data))
		case idCodecID:
			codec = string(bytes.TrimRight(data, "\x00"))
		case idCodecPrivate:
			private = data
		case idVideo:
			return webmVideo(data, &track)
		case idAudio:
			return webmAudio(data, &track)
		}
		return true
	})
	track.Codec = webmCodec(codec, private)
	return track, number, ok && number != 0
}

// webmKind is the kind of a track by its TrackType (RFC 9559, 5.1.4.1.3).
func webmKind(trackType uint64) string {
	switch trackType {
	case 1:
		return "video"
	case 2:
		return "audio"
	default:
		return "other"
	}
}

// webmVideo reads the data of Video.
func webmVideo(b []byte, track *Track) bool {
	return children(b, func(id uint32, data []byte) bool {
		switch id {
		case idPixelWidth:
			track.Width = int(min(unsigned(data), math.MaxInt32))
		case idPixelHeight:
			track.Height = int(min(unsigned(data), math.MaxInt32))
		}
		return true
	})
}

// webmAudio reads the data of Audio, whose elements have defaults (RFC 9559, 5.1.4.1.29).
// The rate is what comes out of the decoder, where the two differ.
func webmAudio(b []byte, track *Track) bool {
	rate, output := 8000, 0
	track.Channels = 1
	ok := children(b, func(id uint32, data []byte) bool {
		switch id {
		case idSamplingFrequency:
			rate = frequency(data)
		case idOutputFrequency:
			output = frequency(data)
		case idChannels:
			track.Channels = int(min(unsigned(data), math.MaxInt32))
		}
		return true
	})
	track.SampleRate = cmp.Or(output, rate)
	return ok
}

// frequency is the value of a float (RFC 8794, 7.3) in Hz, 0 if it is none that can be.
func frequency(b []byte) int {
	var hz float64
	switch len(b) {
	case 4:
		hz = float64(math.Float32frombits(uint32(unsigned(b))))
	case 8:
		hz = math.Float64frombits(unsigned(b))
	}
	if hz > 0 && hz <= math.MaxInt32 {
		return int(hz)
	}
	return 0
}

// webmCodec is the name of a codec by its CodecID and CodecPrivate (Matroska Codec
// Specifications, 6), as far as they tell: browsers record without CodecPrivate what
// others record with it.
func webmCodec(id string, private []byte) string {
	switch id {
	case "V_VP8":
		return "vp8"
	case "V_VP9":
		return vp9Name(private)
	case "V_AV1":
		return av1Name(private)
	case "V_MPEG4/ISO/AVC": // Chromium writes H.264 as in Annex B, without CodecPrivate
		return avcName("avc1", private)
	case "V_MPEGH/ISO/HEVC":
		return hevcName("hvc1", private)
	case "V_THEORA":
		return "theora"
	case "A_OPUS":
		return "opus"
	case "A_VORBIS":
		return "vorbis"
	case "A_FLAC":
		return "flac"
	case "A_AAC":
		return cmp.Or(aacTrack(private).Codec, "mp4a.40")
	case "A_MPEG/L3":
		return "mp3"
	case "A_AC3":
		return "ac-3"
	case "A_EAC3":
		return "ec-3"
	case "A_PCM/INT/LIT", "A_PCM/FLOAT/IEEE":
		return "pcm"
	default:
		return ""
	}
}

// vp9Name is VP9's name by its CodecPrivate in WebM: features, each an ID, a length and a
// value of one byte (WebM Container Guidelines, "VP9 Codec Feature Metadata"; the name in
// VP Codec ISO Media File Format Binding, "Codecs Parameter String"). Where it does not
// tell all, which is the rule, browsers take "vp9".
func vp9Name(private []byte) string {
	const profile, level, depth = 1, 2, 3
	var feature [4]byte
	var has [4]bool
	for b := private; len(b) >= 3 && b[1] == 1; b = b[3:] {
		if b[0] < 4 {
			feature[b[0]], has[b[0]] = b[2], true
		}
	}
	if !has[depth] && feature[profile] < 2 { // profiles 0 and 1 have 8 bits only
		feature[depth], has[depth] = 8, true
	}
	if !has[profile] || !has[level] || !has[depth] {
		return "vp9"
	}
	return fmt.Sprintf("vp09.%02d.%02d.%02d", feature[profile], feature[level], feature[depth])
}
