package engine

import (
	"bytes"
	"cmp"
)

// container is what a stream's first bytes look like. The server does not act on it: it
// is what receivers over HTTP are told as Content-Type.
type container uint32

const (
	notSniffed container = iota // nothing was published yet
	unknownContainer
	webm
	matroska
	mp4
	flv
	mpegTS
	ogg
	adts
	mp3
)

// contentTypes are the registered names, where there is one (IANA media types).
var contentTypes = [...]string{
	notSniffed:       "",
	unknownContainer: "application/octet-stream",
	webm:             "video/webm",
	matroska:         "video/x-matroska",
	mp4:              "video/mp4",
	flv:              "video/x-flv",
	mpegTS:           "video/mp2t",
	ogg:              "application/ogg",
	adts:             "audio/aac",
	mp3:              "audio/mpeg",
}

// tsPacket is the size of an MPEG transport stream's packets, in bytes (ISO 13818-1).
const tsPacket = 188

// ebml is what WebM and Matroska begin with (RFC 8794, 11.2.1).
var ebml = []byte{0x1A, 0x45, 0xDF, 0xA3}

// sniff tells the container from a stream's first bytes.
func sniff(b []byte) container {
	switch {
	// Chromium's MediaRecorder often gives the first byte of its WebM away alone.
	case len(b) > 0 && bytes.HasPrefix(ebml, b):
		return webm
	case bytes.HasPrefix(b, ebml):
		if bytes.Contains(b[:min(len(b), 64)], []byte("matroska")) {
			return matroska
		}
		return webm
	case isMP4(b):
		return mp4
	case bytes.HasPrefix(b, []byte("FLV\x01")):
		return flv
	case bytes.HasPrefix(b, []byte("OggS")):
		return ogg
	case isTS(b):
		return mpegTS
	case bytes.HasPrefix(b, []byte("ID3")):
		return mp3
	case len(b) >= 4 && b[0] == 0xFF:
		return audioFrame(b)
	default:
		return unknownContainer
	}
}

// isMP4 reports whether b begins with a box that may begin an ISO media file or a
// segment of one (ISO 14496-12).
func isMP4(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	switch string(b[4:8]) {
	case "ftyp", "styp", "moof", "moov", "sidx", "emsg", "prft":
		return true
	default:
		return false
	}
}

// isTS reports whether b begins with a whole packet of an MPEG transport stream, and
// whatever follows is one as well.
func isTS(b []byte) bool {
	if len(b) < tsPacket {
		return false
	}
	for i := 0; i < min(len(b), 4*tsPacket); i += tsPacket {
		if b[i] != 0x47 {
			return false
		}
	}
	return true
}

// audioFrame tells AAC in ADTS from MPEG audio by a frame's header, of which b has four
// bytes: both begin with twelve bits, or eleven, that are set.
func audioFrame(b []byte) container {
	layer, version := b[1]>>1&3, b[1]>>3&3
	switch {
	case b[1]&0xF6 == 0xF0 && b[2]>>2&0xF < 13: // a sampling rate that there is
		return adts
	case b[1]&0xE0 == 0xE0 && layer != 0 && version != 1 && b[2]>>4 != 0xF && b[2]>>2&3 != 3:
		return mp3
	default:
		return unknownContainer
	}
}

// ContentType returns the media type that the channel's first packet looks like,
// application/octet-stream for one that is not known, "" before there is a packet. Any
// goroutine.
func (ch *Channel) ContentType() string { return contentTypes[ch.container.Load()] }

// contentTypeNow is ContentType for who has a packet to send: "" if its publisher is about
// to look at it. One that has ended is not, whatever kept it from looking.
func (ch *Channel) contentTypeNow() string {
	if t := ch.ContentType(); t != "" || !ch.ring.Ended() {
		return t
	}
	return cmp.Or(ch.ContentType(), contentTypes[unknownContainer])
}
