package media

import (
	"bytes"
	"math"
)

// The elements that matter here (RFC 9559, 5.1; the EBML ones RFC 8794, 11).
const (
	idEBML    = 0x1A45DFA3
	idDocType = 0x4282
	idVoid    = 0xEC
	idCRC32   = 0xBF

	idSegment     = 0x18538067
	idSeekHead    = 0x114D9B74
	idInfo        = 0x1549A966
	idTracks      = 0x1654AE6B
	idCluster     = 0x1F43B675
	idCues        = 0x1C53BB6B
	idChapters    = 0x1043A770
	idTags        = 0x1254C367
	idAttachments = 0x1941A469

	idSimpleBlock    = 0xA3
	idBlockGroup     = 0xA0
	idBlock          = 0xA1
	idReferenceBlock = 0xFB
)

// isTopLevel reports whether an element stands directly in a Segment. One of these ends a
// Cluster of unknown size; an ID that is not known does not.
func isTopLevel(id uint32) bool {
	switch id {
	case idSeekHead, idInfo, idTracks, idCluster, idCues, idChapters, idTags, idAttachments:
		return true
	default:
		return false
	}
}

// webm follows WebM and Matroska: see the package's comment.
type webm struct {
	phase webmPhase
	left  uint64   // bytes of the element's data that are still to come
	head  gatherer // the header of an element, or the beginning of a block

	// Where the next element stands, and how many bytes fit into the open element of
	// each level. An element of unknown size has as much room as the one around it, the
	// outermost of them 2^64-1 bytes, which no stream will ever have.
	level   webmLevel
	room    [inGroup + 1]uint64
	endless bool // the open Cluster has unknown size

	// The init segment that is being collected.
	init    []byte // nil when it was handed over
	keeping uint32 // ID of the element that goes into it
	data    int    // where in init that element's data begin
	ready   bool   // the EBML header has come, the Segment has not
	info    bool   // Info has come, or does not come in time
	tracks  []Track
	begun   bool   // it is complete
	video   uint64 // number of the track that decides, 0 if there is none

	// The open Cluster and the open BlockGroup.
	cluster Point // of its first byte
	decided bool  // whether it is a sync point is known
	picture bool  // the BlockGroup belongs to the video track
	refers  bool  // the BlockGroup has a ReferenceBlock
}

// webmPhase is what the next byte belongs to.
type webmPhase uint8

const (
	webmHeader webmPhase = iota // the header of an element
	webmKeep                    // data of an element of the init segment
	webmBlock                   // the beginning of a Block or SimpleBlock
	webmSkip                    // data that do not matter
)

// webmLevel is an element that has others in it.
type webmLevel uint8

const (
	inDocument webmLevel = iota
	inSegment
	inCluster
	inGroup
)

func (p *webm) parse(in *input, out *sink) bool {
	for len(in.b) > 0 {
		ok := true
		switch p.phase {
		case webmHeader:
			ok = p.header(in, out)
		case webmKeep:
			ok = p.keep(in, out)
		case webmBlock:
			ok = p.block(in, out)
		case webmSkip:
			p.left = in.skip(p.left)
		}
		if !ok {
			return false
		}
		if p.phase == webmSkip && p.left == 0 {
			p.phase = webmHeader
			p.closeFull(out)
		}
	}
	return true
}

func (p *webm) pending() (Point, bool) {
	if p.level >= inCluster && !p.decided {
		return p.cluster, true
	}
	return p.head.pending()
}

func (p *webm) kept() int { return cap(p.head.b) + cap(p.init) }

// header takes bytes of an element's header.
func (p *webm) header(in *input, out *sink) bool {
	if len(p.head.b) == 0 { // Fast path: it may be whole in the input
		if e, n := readElement(in.b); n > 0 && n <= len(in.b) {
			p.head.fill(in, n)
			ok := p.element(e, out)
			p.head.reset()
			return ok
		}
	}
	for { // Slow path
		e, n := readElement(p.head.b)
		switch {
		case n == 0:
			return false
		case n <= len(p.head.b):
			ok := p.element(e, out)
			p.head.reset()
			return ok
		case !p.head.fill(in, n):
			return true
		}
	}
}

// element decides what becomes of an element whose header, in head, is complete.
func (p *webm) element(e element, out *sink) bool {
	if e.id == idEBML && p.level != inGroup {
		p.startOver()
	}
	if p.level == inCluster && p.endless && isTopLevel(e.id) {
		p.close(out)
	}
	if !p.enclose(e) {
		return false
	}
	p.left, p.phase = e.size, webmSkip
	switch p.level {
	case inDocument:
		return p.inDocument(e)
	case inSegment:
		return p.inSegment(e, out)
	case inCluster:
		return p.inCluster(e, out)
	default:
		return p.inGroup(e)
	}
}

// enclose takes the room of an element from the one around it. It returns false when it
// does not fit, or is larger than any, or has no size and has to.
func (p *webm) enclose(e element) bool {
	room := &p.room[p.level]
	if e.size == unknownSize {
		return (e.id == idSegment || e.id == idCluster) && uint64(e.header) <= *room
	}
	if uint64(e.header)+e.size > *room || e.size > maxBox && e.id != idSegment && e.id != idCluster {
		return false
	}
	*room -= uint64(e.header) + e.size
	return true
}

// open goes into an element: what follows stands in it.
func (p *webm) open(e element) {
	size := e.size
	if size == unknownSize {
		size = p.room[p.level] - uint64(e.header)
	}
	p.level++
	p.room[p.level] = size
	p.left = 0
}

// close leaves the innermost open element.
func (p *webm) close(out *sink) {
	switch p.level {
	case inGroup:
		if p.picture {
			p.decide(!p.refers, out)
		}
	case inCluster:
		if p.endless {
			p.room[inSegment] = p.room[inCluster]
		}
	}
	p.level--
}

// closeFull leaves the open elements that are at their end.
func (p *webm) closeFull(out *sink) {
	for p.level > inDocument && p.room[p.level] == 0 {
		p.close(out)
	}
}

// decide says whether the first picture of the open Cluster is a key frame. It is called
// once a Cluster: once decided, its blocks are passed over.
func (p *webm) decide(key bool, out *sink) {
	if key {
		out.point(p.cluster)
	}
	p.decided = true
}

// startOver begins a new document. The init segment of the one before stays what it is
// until the new one is complete.
func (p *webm) startOver() {
	*p = webm{head: p.head}
	p.room[inDocument] = math.MaxUint64
}

// inDocument judges an element beside the Segment.
func (p *webm) inDocument(e element) bool {
	switch {
	case e.id == idEBML:
		return p.collect(e)
	case e.id == idSegment && p.ready:
		p.ready = false
		p.init = append(p.init, p.head.b...)
		p.open(e)
		return true
	default:
		return e.id == idVoid || e.id == idCRC32
	}
}

// inSegment judges an element of the Segment.
func (p *webm) inSegment(e element, out *sink) bool {
	switch e.id {
	case idSegment:
		return false
	case idInfo:
		return p.info || p.collect(e)
	case idTracks:
		return p.tracks != nil || p.collect(e)
	case idCluster:
		if p.tracks == nil {
			return false
		}
		p.begin(out)
		p.open(e)
		p.endless = e.size == unknownSize
		p.cluster, p.decided = p.head.at, false
	}
	return true
}

// inCluster judges an element of a Cluster.
func (p *webm) inCluster(e element, out *sink) bool {
	switch {
	case e.id == idSegment || isTopLevel(e.id):
		return false
	case p.decided:
		return true
	case p.video == 0 && (e.id == idSimpleBlock || e.id == idBlockGroup):
		p.decide(true, out)
	case e.id == idSimpleBlock:
		p.phase = webmBlock
	case e.id == idBlockGroup:
		p.open(e)
		p.picture, p.refers = false, false
	}
	return true
}

// inGroup judges an element of a BlockGroup.
func (p *webm) inGroup(e element) bool {
	switch {
	case e.id == idSegment || e.id == idEBML || isTopLevel(e.id):
		return false
	case e.id == idBlock:
		p.phase = webmBlock
	case e.id == idReferenceBlock:
		p.refers = true
	}
	return true
}

// block takes bytes of the beginning of a Block or SimpleBlock.
func (p *webm) block(in *input, out *sink) bool {
	if !p.head.fill(in, 1) {
		return true
	}
	number := vintLength(p.head.b[0])
	n := number + 3 // the time and the flags
	if number > 8 || uint64(n) > p.left {
		return false
	}
	if !p.head.fill(in, n) {
		return true
	}
	if vint(p.head.b[:number]) == p.video {
		if p.level == inGroup {
			p.picture = true
		} else {
			p.decide(p.head.b[n-1]&0x80 != 0, out)
		}
	}
	p.head.reset()
	p.left -= uint64(n)
	p.phase = webmSkip
	return true
}

// collect makes an element, whose header is in head, a part of the init segment.
func (p *webm) collect(e element) bool {
	if uint64(len(p.init)+e.header)+e.size > MaxInit {
		return false
	}
	p.init = append(p.init, p.head.b...)
	p.keeping, p.data, p.phase = e.id, len(p.init), webmKeep
	return true
}

// keep takes bytes of an element of the init segment.
func (p *webm) keep(in *input, out *sink) bool {
	b := in.next(int(p.left))
	p.init = append(p.init, b...)
	p.left -= uint64(len(b))
	if p.left > 0 {
		return true
	}
	p.phase = webmSkip
	data := p.init[p.data:]
	switch p.keeping {
	case idEBML:
		p.ready = true
		out.container = docType(data)
		return out.container != Undecided
	case idInfo:
		p.info = true
	case idTracks:
		p.tracks, p.video = webmTracks(data)
		if p.tracks == nil {
			return false
		}
	}
	if p.info && p.tracks != nil {
		p.begin(out)
	}
	return true
}

// begin hands the init segment over, if that has not been done.
func (p *webm) begin(out *sink) {
	if !p.begun {
		out.begin(bytes.Clone(p.init), p.tracks)
		p.begun, p.info, p.init = true, true, nil
	}
}

// docType tells the container from the data of an EBML header, Undecided if it is none of ours.
func docType(header []byte) (c Container) {
	children(header, func(id uint32, data []byte) bool {
		if id == idDocType {
			switch string(bytes.TrimRight(data, "\x00")) { // padding is lawful (RFC 8794, 13)
			case "webm":
				c = WebM
			case "matroska":
				c = Matroska
			}
		}
		return true
	})
	return c
}
