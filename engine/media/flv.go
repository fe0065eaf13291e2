package media

import (
	"bytes"
	"encoding/binary"
)

// Sizes in bytes (Adobe Flash Video File Format Specification 10.1, E.2 and E.4.1), and
// the types of tags.
const (
	flvHeader  = 9
	flvTagHead = 11
	flvTagSize = 4 // PreviousTagSize, behind each tag and behind the header

	flvAudio  = 8
	flvVideo  = 9
	flvScript = 18
)

// flvLook is how many bytes of a tag's body are looked at to tell what it is: what stands
// before the media takes at most 8, and 5 for each extension of enhanced RTMP.
const flvLook = 32

// flvApart is how far sync points of audio alone are apart, in milliseconds: any tag would do.
const flvApart = 100

// flv follows Flash Video: see the package's comment.
type flv struct {
	tag   gatherer // the beginning of the header or tag that is open, or all of one that is kept
	phase flvPhase
	size  int // of the open tag's body
	left  uint64

	header   []byte
	metadata []byte
	about    flvMetadata
	configs  []flvConfig // in the order of the tracks' first
	tags     int         // bytes of them
	changed  bool        // there is no init segment yet with these configurations

	hasVideo  bool
	hasPoint  bool
	lastPoint uint32 // its time, in ms
}

type flvPhase uint8

const (
	flvInHead flvPhase = iota // file header or tag: what tells what it is
	flvInKept                 // a tag that is kept whole
	flvInBody                 // bytes that are left out
	flvInSize                 // PreviousTagSize of a tag that is not kept
)

// flvConfig is the newest configuration of a track.
type flvConfig struct {
	unit flvUnit
	tag  []byte // with its PreviousTagSize
}

func (p *flv) parse(in *input, out *sink) bool {
	for len(in.b) > 0 {
		lawful := true
		switch p.phase {
		case flvInHead:
			lawful = p.head(in, out)
		case flvInKept:
			if p.tag.fill(in, flvTagHead+p.size+flvTagSize) {
				lawful = p.keep(p.tag.b)
				p.next(flvInHead)
			}
		case flvInBody:
			if p.left = in.skip(p.left); p.left == 0 {
				p.next(flvInSize)
			}
		case flvInSize:
			if p.tag.fill(in, flvTagSize) {
				lawful = p.fits(p.tag.b)
				p.next(flvInHead)
			}
		}
		if !lawful {
			return false
		}
	}
	return true
}

func (p *flv) pending() (Point, bool) {
	at, some := p.tag.pending()
	return at, some && p.phase == flvInHead
}

func (p *flv) kept() int { return cap(p.tag.b) + len(p.header) + len(p.metadata) + p.tags }

func (p *flv) next(phase flvPhase) {
	p.phase = phase
	p.tag.reset()
}

// head takes a file header, or a tag's header and the beginning of its body.
func (p *flv) head(in *input, out *sink) bool {
	if !p.tag.fill(in, 1) {
		return true
	}
	if p.tag.b[0] == 'F' {
		return p.file(in)
	}
	if p.header == nil || !p.tag.fill(in, flvTagHead) {
		return p.header != nil
	}
	b := p.tag.b
	kind := b[0]
	if kind != flvAudio && kind != flvVideo && kind != flvScript {
		return false // also what is encrypted (bit 5, E.4.1)
	}
	p.size = int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	look := min(p.size, flvLook)
	if !p.tag.fill(in, flvTagHead+look) {
		return true
	}
	b = p.tag.b
	u := flvUnitOf(kind, b[flvTagHead:])
	p.hasVideo = p.hasVideo || kind == flvVideo && u.what != flvOtherTag
	switch u.what {
	case flvMetadataTag, flvConfigTag:
		p.phase = flvInKept
		return p.room(flvTagHead + p.size + flvTagSize)
	case flvMediaTag:
		p.media(u, uint32(b[7])<<24|uint32(b[4])<<16|uint32(b[5])<<8|uint32(b[6]), out)
	}
	p.left = uint64(p.size - look)
	p.next(flvInBody)
	if p.left == 0 {
		p.next(flvInSize)
	}
	return true
}

// file takes a file header, with which everything begins anew.
func (p *flv) file(in *input) bool {
	if !p.tag.fill(in, flvHeader) {
		return true
	}
	b := p.tag.b
	offset := binary.BigEndian.Uint32(b[5:])
	if !bytes.HasPrefix(b, []byte("FLV\x01")) || offset < flvHeader || offset > MaxInit-flvTagSize {
		return false
	}
	if p.tag.fill(in, int(offset)+flvTagSize) {
		*p = flv{header: bytes.Clone(p.tag.b), changed: true}
	}
	return true
}

// room reports whether another n bytes may be kept.
func (p *flv) room(n int) bool {
	return n+len(p.header)+len(p.metadata)+p.tags <= MaxInit
}

// fits reports whether a PreviousTagSize is that of the tag before it. Some writers leave
// the tag's header out of it, or some of that, or write zero; ffmpeg takes all of these.
func (p *flv) fits(b []byte) bool {
	switch int(binary.BigEndian.Uint32(b)) {
	case p.size + flvTagHead, p.size + flvTagHead - 1, p.size, 0:
		return true
	default:
		return false
	}
}

// keep takes a whole tag, which may be overwritten afterwards.
func (p *flv) keep(b []byte) bool {
	if !p.fits(b[len(b)-flvTagSize:]) {
		return false
	}
	body := b[flvTagHead : len(b)-flvTagSize]
	u := flvUnitOf(b[0], body)
	if u.what == flvMetadataTag {
		p.metadata, p.about = bytes.Clone(b), parseFLVMetadata(body)
		return true
	}
	for i := range p.configs {
		c := &p.configs[i]
		if c.unit.kind != u.kind || c.unit.track != u.track {
			continue
		}
		if !bytes.Equal(c.tag[flvTagHead:], b[flvTagHead:]) { // else repeated at another time
			p.tags += len(b) - len(c.tag)
			*c = flvConfig{u, bytes.Clone(b)}
			p.changed = true
		}
		return true
	}
	if len(p.configs) == maxTracks {
		return false
	}
	p.configs = append(p.configs, flvConfig{u, bytes.Clone(b)})
	p.tags += len(b)
	p.changed = true
	return true
}

// media takes the beginning of a tag with media, of that time in milliseconds.
func (p *flv) media(u flvUnit, time uint32, out *sink) {
	if p.changed {
		out.begin(p.init(), p.tracks(u))
		p.changed, p.hasPoint = false, false
	}
	if u.needsConfig() && !p.configured(u) {
		return
	}
	switch {
	case p.hasVideo && u.kind == flvVideo && u.key && u.track <= 0:
	case !p.hasVideo && (!p.hasPoint || time-p.lastPoint >= flvApart): // also when time went back
	default:
		return
	}
	p.hasPoint, p.lastPoint = true, time
	out.point(p.tag.at)
}

// configured reports whether the configuration of a tag's track is there.
func (p *flv) configured(u flvUnit) bool {
	for _, c := range p.configs {
		if c.unit.kind == u.kind && c.unit.track == u.track {
			return true
		}
	}
	return false
}

// init returns a new init segment.
func (p *flv) init() []byte {
	b := append(bytes.Clone(p.header), p.metadata...)
	for _, kind := range []byte{flvVideo, flvAudio} {
		for _, c := range p.configs {
			if c.unit.kind == kind {
				b = append(b, c.tag...)
			}
		}
	}
	return b
}
