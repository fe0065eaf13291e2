package media

import "bytes"

// mp4 follows a fragmented MP4 file: see the package's comment.
type mp4 struct {
	// The box that begins: its header, and its payload too if that is read. No more
	// than MaxInit bytes.
	box  gatherer
	left uint64 // bytes of the payload before it that are still to be left out
	data bool   // these are an mdat's

	// The init segment: what there is of the next one, until ready.
	init  []byte
	ready bool
	movie movie // of the newest one

	unit   Point // of the first box of the unit, if inUnit
	inUnit bool  // nothing but boxes that belong to the next moof came since unit

	start  Point // of the unit whose moof came last, if starts
	starts bool  // a decoder can start at that unit, of whose mdat nothing has come
}

// maxBox is the largest box or block whose payload is passed over, in bytes. Nothing of
// live media is as large: a stream that has no more units for so long is followed no
// more, so that nobody waits for the next one.
const maxBox = 1 << 32

func (p *mp4) parse(in *input, out *sink) bool {
	for len(in.b) > 0 {
		if p.left > 0 {
			if p.data {
				p.tell(out)
			}
			p.left = in.skip(p.left)
			continue
		}
		if !p.box.fill(in, boxHeader) {
			return true
		}
		header := boxHeaderSize(p.box.b)
		if !p.box.fill(in, header) {
			return true
		}
		size, ok := boxSize(p.box.b)
		read, lawful := p.enter()
		switch {
		case !ok || !lawful || read && (size == 0 || size > uint64(MaxInit-len(p.init))):
			return false
		case read && !p.box.fill(in, int(size)):
			return true
		case read && !p.take(p.box.b[header:], out):
			return false
		case !read && (size == 0 || size > maxBox): // 0: to the end of the file
			return false
		case !read:
			p.left = size - uint64(header)
			p.data = string(p.box.b[4:boxHeader]) == "mdat"
		}
		p.box.reset()
	}
	return true
}

func (p *mp4) pending() (Point, bool) {
	switch {
	case p.starts:
		return p.start, true
	case p.inUnit:
		return p.unit, true
	}
	return p.box.pending()
}

func (p *mp4) kept() int { return cap(p.box.b) + cap(p.init) }

// enter says what is done with the box whose header is complete: it is read, as all of
// an init segment is and what says where samples are, or its payload is left out. It may
// be called again for the same box.
func (p *mp4) enter() (read, lawful bool) {
	switch string(p.box.b[4:boxHeader]) {
	case "ftyp":
		p.ready, p.init = false, nil
	case "moov":
		p.ready = false
	case "moof":
		return true, p.ready
	case "mdat":
		p.inUnit = false
		return false, p.ready
	case "styp", "prft", "sidx", "ssix", "emsg":
		if !p.inUnit {
			p.unit, p.inUnit = p.box.at, true
		}
	default:
		p.inUnit = false
	}
	return !p.ready, p.named()
}

// named reports whether the type of the box is one that somebody would give it. If not,
// these are no boxes.
func (p *mp4) named() bool {
	for _, c := range p.box.b[4:boxHeader] {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// take takes a box that is complete.
func (p *mp4) take(payload []byte, out *sink) (ok bool) {
	if p.ready {
		return p.fragment(payload, out)
	}
	p.init = append(p.init, p.box.b...)
	if string(p.box.b[4:boxHeader]) != "moov" {
		return true
	}
	if p.movie, ok = readMovie(payload); !ok {
		return false
	}
	out.begin(bytes.Clone(p.init), p.movie.tracks)
	*p = mp4{ready: true, movie: p.movie}
	return true
}

// fragment takes a moof.
func (p *mp4) fragment(moof []byte, out *sink) bool {
	sync, ok := p.movie.fragment(moof)
	if !ok {
		return false
	}
	if !p.inUnit {
		p.unit = p.box.at
	}
	p.tell(out) // of one without mdat
	p.start, p.starts, p.inUnit = p.unit, sync, false
	return true
}

// tell says that a decoder can start at the unit that was read last, if it can. Its media
// begin, or it has none of its own.
func (p *mp4) tell(out *sink) {
	if p.starts {
		out.point(p.start)
		p.starts = false
	}
}
