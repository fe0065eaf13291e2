package media

import (
	"bytes"
	"slices"
)

// tsSync begins each transport packet (ISO 13818-1, 2.4.3.3).
const tsSync = 0x47

// tsLost is how many bytes may be left out in search of the next transport packet when one does
// not begin where it should.
const tsLost = 4 * tsPacket

// tsApart is how far sync points of audio alone are apart, in ticks of the 90 kHz clock:
// any PES packet would do.
const tsApart = 90000 / 10

// mpegTS follows an MPEG transport stream: see the package's comment.
type mpegTS struct {
	packet gatherer // the transport packet that is open
	search *tsSearch

	patTable, pmtTable tsTable
	pat, pmt           tsSection // the newest; without bytes: none
	program, pmtPID    uint16    // as the PAT says

	tracks  []Track // as they are known, of the newest PMT; not changed
	streams map[uint16]*tsStream
	room    int       // bytes that the streams have room for
	leader  *tsStream // whose units are sync points

	last    *tsStream // of the packet taken last, unless that was a table's; may be nil
	lastPID uint16

	hasPoint  bool
	lastPoint uint64 // its PTS
}

// parse has a fast path for packets that lie whole in the input.
func (p *mpegTS) parse(in *input, out *sink) bool {
	for len(in.b) > 0 {
		switch {
		case p.search != nil: // Slow path
			if !p.find(in, out) {
				return false
			}
		case len(p.packet.b) == 0 && len(in.b) >= tsPacket && in.b[0] == tsSync: // Fast path
			at := in.at
			if b := in.next(tsPacket); !p.inside(b) {
				p.take(b, at, out)
			}
		case p.packet.fill(in, 1) && p.packet.b[0] != tsSync:
			p.search = &tsSearch{}
			p.search.add(p.packet.b[0], p.packet.at)
			p.packet.reset()
			p.lose()
		case p.packet.fill(in, tsPacket):
			p.take(p.packet.b, p.packet.at, out)
			p.packet.reset()
		}
	}
	return true
}

func (p *mpegTS) pending() (Point, bool) {
	switch {
	case p.leader != nil && p.leader.open:
		return p.leader.at, true
	case p.search != nil && len(p.search.at) > 0:
		return p.search.at[0], true
	default:
		return p.packet.pending()
	}
}

func (p *mpegTS) kept() int {
	return cap(p.packet.b) + cap(p.patTable.section.b) + cap(p.patTable.section.packets) + cap(p.pmtTable.section.b) + cap(p.pmtTable.section.packets) +
		len(p.pat.packets) + len(p.pmt.packets) + p.room
}

// tsSearch looks for the next transport packet: a sync byte with another behind it.
type tsSearch struct {
	b    []byte // at most a packet and a byte
	at   []Point
	lost int // bytes left out
}

func (s *tsSearch) add(c byte, at Point) {
	s.b, s.at = append(s.b, c), append(s.at, at)
	if len(s.b) == tsPacket+1 && c == tsSync || s.b[0] == tsSync && len(s.b) <= tsPacket {
		return
	}
	n := bytes.IndexByte(s.b[1:], tsSync) + 1
	if n == 0 {
		n = len(s.b)
	}
	s.lost += n
	s.b, s.at = slices.Delete(s.b, 0, n), slices.Delete(s.at, 0, n)
}

// find goes on with the search, and returns false when it was too long.
func (p *mpegTS) find(in *input, out *sink) bool {
	for len(in.b) > 0 {
		s := p.search
		at := in.at
		s.add(in.next(1)[0], at)
		if s.lost > tsLost {
			return false
		}
		if len(s.b) == tsPacket+1 {
			p.search = nil
			p.take(s.b[:tsPacket], s.at[0], out)
			p.packet = gatherer{b: s.b[tsPacket:], at: s.at[tsPacket]}
			return true
		}
	}
	return true
}

// lose forgets what is open, because some of it is lost.
func (p *mpegTS) lose() {
	p.patTable, p.pmtTable = tsTable{}, tsTable{}
	for _, s := range p.streams {
		s.open = false
	}
}

func packetPID(b []byte) uint16 { return uint16(b[1]&0x1F)<<8 | uint16(b[2]) }

// inside reports whether a transport packet goes on with a unit whose beginning has been
// looked at, so that take would do nothing. Most packets are such.
func (p *mpegTS) inside(b []byte) bool {
	return p.last != nil && !p.last.open && b[1]&0x40 == 0 && packetPID(b) == p.lastPID
}

// take takes a transport packet, which may be overwritten afterwards.
func (p *mpegTS) take(b []byte, at Point, out *sink) {
	pid := packetPID(b)
	isTable := pid == 0 || len(p.pat.b) > 0 && pid == p.pmtPID
	s := p.streams[pid]
	p.last, p.lastPID = s, pid
	if isTable {
		p.last = nil
	}
	if !isTable && s == nil || b[1]&0x80 != 0 { // transport_error_indicator
		return
	}
	start := b[1]&0x40 != 0
	payload, random := b[4:], false
	if b[3]&0x20 != 0 {
		n := int(b[4])
		if n > len(b)-5 {
			return
		}
		random = n > 0 && b[5]&0x40 != 0
		payload = b[5+n:]
	}
	switch {
	case b[3]&0x10 == 0:
	case pid == 0:
		p.patTable.take(b, payload, start, func(s tsSection) { p.takePAT(s, out) })
	case isTable:
		p.pmtTable.take(b, payload, start, func(s tsSection) { p.takePMT(s, out) })
	default:
		if start {
			s.begin(at, random)
		}
		if s.open {
			room := cap(s.b)
			s.b = append(s.b, payload[:min(len(payload), tsLook-len(s.b))]...)
			p.room += cap(s.b) - room
			p.judge(s, out)
		}
	}
}

// judge looks at the beginning of a unit, as far as it is there.
func (p *mpegTS) judge(s *tsStream, out *sink) {
	judged, isPoint := s.judge()
	s.open = !judged && len(s.b) < tsLook
	if judged && p.tracks[s.track] != s.known {
		p.tracks = slices.Clone(p.tracks)
		p.tracks[s.track] = s.known
		out.describe(p.tracks)
	}
	if !isPoint || s != p.leader {
		return
	}
	if s.known.Kind == "audio" {
		if p.hasPoint && s.pts-p.lastPoint < tsApart { // not when time went back
			return
		}
		p.hasPoint, p.lastPoint = true, s.pts
	}
	out.point(s.at)
}

// begin makes an init segment of the newest tables, and starts with their streams.
func (p *mpegTS) begin(out *sink) {
	p.tracks, p.streams, p.leader, p.hasPoint, p.room = nil, map[uint16]*tsStream{}, nil, false, 0
	for _, e := range pmtStreams(p.pmt.b) {
		t, codec := e.track()
		s := &tsStream{codec: codec, track: len(p.tracks), known: t}
		p.tracks = append(p.tracks, t)
		if t.Kind == "other" || p.streams[e.pid] != nil {
			continue
		}
		p.streams[e.pid] = s
		if p.leader == nil || p.leader.known.Kind == "audio" && t.Kind == "video" {
			p.leader = s
		}
	}
	out.begin(slices.Concat(p.pat.packets, p.pmt.packets), p.tracks)
}
