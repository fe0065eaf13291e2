package media

import "bytes"

// tsPacket is the size of an MPEG transport stream's packets, in bytes (ISO 13818-1,
// 2.4.3.2).
const tsPacket = 188

// decideWithin is how many bytes decide what a stream is: two transport packets and the
// first byte of the third.
const decideWithin = 2*tsPacket + 1

var (
	ebmlID   = []byte{0x1A, 0x45, 0xDF, 0xA3} // RFC 8794, 11.2.1
	flvMagic = []byte("FLV\x01")              // FLV 10.1, E.2
)

// decide takes bytes as long as it is not decided what the stream is; then the parser gets all of them.
func (st *Stream) decide(p piece) {
	if len(p.b) == 0 {
		return
	}
	st.head = append(st.head, p)
	var b []byte
	for _, h := range st.head {
		b = append(b, h.b[:min(len(h.b), decideWithin-len(b))]...)
	}
	st.container, st.parser = recognize(b)
	if st.container == Undecided {
		st.head[len(st.head)-1].b = bytes.Clone(p.b) // the packet's bytes are not ours
		return
	}
	head := st.head
	st.head = nil
	for _, h := range head {
		st.parse(h)
	}
}

// recognize tells the container from a stream's first bytes. It is Undecided only as
// long as these could be the beginning of one: a stream of something else waits for
// nothing.
func recognize(b []byte) (Container, parser) {
	begins := func(magic []byte) bool { return bytes.HasPrefix(b, magic) || bytes.HasPrefix(magic, b) }
	switch {
	case begins(ebmlID):
		if len(b) < len(ebmlID) {
			return Undecided, nil
		}
		return WebM, &webm{} // Matroska by its DocType: the parser says
	case begins(flvMagic):
		if len(b) < len(flvMagic) {
			return Undecided, nil
		}
		return FLV, &flv{}
	case b[0] == 0x47:
		return recognizeTS(b)
	default:
		return recognizeMP4(b)
	}
}

func recognizeTS(b []byte) (Container, parser) {
	for at := tsPacket; at <= 2*tsPacket; at += tsPacket {
		if len(b) <= at {
			return Undecided, nil
		}
		if b[at] != 0x47 {
			return Opaque, nil
		}
	}
	return MPEGTS, &mpegTS{}
}

// recognizeMP4 reports whether b begins with a box that may begin a fragmented file (ISO
// 14496-12) or a segment of one: four bytes of size, which an init segment has room for,
// and a type.
func recognizeMP4(b []byte) (Container, parser) {
	if len(b) < 8 {
		if b[0] == 0 && (len(b) == 1 || b[1] <= MaxInit>>16) {
			return Undecided, nil
		}
		return Opaque, nil
	}
	switch string(b[4:8]) {
	case "ftyp", "styp", "moov":
		return MP4, &mp4{}
	default:
		return Opaque, nil
	}
}
