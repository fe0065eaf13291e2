package media

import (
	"bytes"
	"encoding/binary"
)

// Tables of ISO 13818-1, 2.4.4.
const (
	tablePAT = 0x00
	tablePMT = 0x02

	sectionHead = 3    // up to section_length
	sectionMost = 1024 // bytes, of a PAT or PMT
	sectionMin  = 12   // a header of 8 bytes, and the CRC
	pmtMin      = 16   // also the PID of the clock and program_info_length

	// tablePackets is how many transport packets a section may span: 6 hold the longest, unless
	// they are stuffed.
	tablePackets = 64
)

// tsSection is a section with a right CRC, and the transport packets that carry it.
type tsSection struct{ b, packets []byte }

// tsTable puts the sections of a PID together.
type tsTable struct {
	open    bool
	section tsSection
}

// take takes the payload of a transport packet, and gives whole sections to each, whose
// bytes are each's.
func (t *tsTable) take(packet, payload []byte, start bool, each func(tsSection)) {
	if start {
		if len(payload) == 0 || len(payload) <= int(payload[0]) {
			t.open = false
			return
		}
		n := 1 + int(payload[0])
		t.add(packet, payload[1:n], each)
		payload = payload[n:]
	} else {
		t.add(packet, payload, each)
		return
	}
	for len(payload) > 0 && payload[0] != 0xFF { // stuffing
		*t = tsTable{open: true}
		n := len(payload)
		if n >= sectionHead {
			n = min(n, sectionHead+sectionLength(payload))
		}
		t.add(packet, payload[:n], each)
		payload = payload[n:]
	}
}

// sectionLength is what stands in a section behind section_length.
func sectionLength(b []byte) int { return int(b[1]&0xF)<<8 | int(b[2]) }

// add takes the next bytes of the section that is open.
func (t *tsTable) add(packet, b []byte, each func(tsSection)) {
	if !t.open {
		return
	}
	s := &t.section
	s.packets = append(s.packets, packet...)
	s.b = append(s.b, b...)
	if len(s.b) >= sectionHead {
		n := sectionHead + sectionLength(s.b)
		switch {
		case n > sectionMost || n < sectionMin:
			t.open = false
			return
		case len(s.b) >= n:
			t.open = false
			if s.b = s.b[:n]; crc32MPEG(s.b) == 0 {
				each(*s)
			}
			return
		}
	}
	t.open = len(s.packets) < tablePackets*tsPacket
}

// crcMPEG is the table of the CRC of ISO 13818-1, annex A: not reflected, unlike hash/crc32's.
var crcMPEG = func() (table [256]uint32) {
	for i := range table {
		c := uint32(i) << 24
		for range 8 {
			c = c<<1 ^ 0x04C11DB7&-(c>>31)
		}
		table[i] = c
	}
	return table
}()

// crc32MPEG is the CRC of b, 0 if b ends with its right CRC.
func crc32MPEG(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c = c<<8 ^ crcMPEG[byte(c>>24)^v]
	}
	return c
}

// isNow reports whether a section is of that table, and is in force.
func isNow(b []byte, table byte) bool { return b[0] == table && b[1]&0x80 != 0 && b[5]&1 != 0 }

// takePAT takes a section of PID 0 (2.4.4.3). The first program stands in the first section.
func (p *mpegTS) takePAT(s tsSection, out *sink) {
	if !isNow(s.b, tablePAT) || s.b[6] != 0 || bytes.Equal(s.b, p.pat.b) {
		return
	}
	for b := s.b[8 : len(s.b)-4]; len(b) >= 4; b = b[4:] {
		program := binary.BigEndian.Uint16(b)
		pid := binary.BigEndian.Uint16(b[2:]) & 0x1FFF
		if program == 0 || pid == 0 { // 0 is the network's PID
			continue
		}
		p.pat = s
		if program != p.program || pid != p.pmtPID {
			p.program, p.pmtPID = program, pid
			p.pmtTable, p.pmt = tsTable{}, tsSection{}
		} else if len(p.pmt.b) > 0 {
			p.begin(out)
		}
		return
	}
}

// takePMT takes a section of the PID with the program's PMT (2.4.4.8).
func (p *mpegTS) takePMT(s tsSection, out *sink) {
	if !isNow(s.b, tablePMT) || len(s.b) < pmtMin || binary.BigEndian.Uint16(s.b[3:]) != p.program || bytes.Equal(s.b, p.pmt.b) {
		return
	}
	p.pmt = s
	p.begin(out)
}

// pmtStream is an elementary stream as the PMT tells of it.
type pmtStream struct {
	kind        byte // stream_type
	pid         uint16
	descriptors []byte // a part of the section
}

// pmtStreams are the elementary streams of a PMT.
func pmtStreams(b []byte) (all []pmtStream) {
	length := func(b []byte) int { return int(binary.BigEndian.Uint16(b) & 0x0FFF) }
	n := 12 + length(b[10:]) // program_info
	end := len(b) - 4
	for n+5 <= end {
		s := pmtStream{kind: b[n], pid: binary.BigEndian.Uint16(b[n+1:]) & 0x1FFF}
		from := n + 5
		if n = from + length(b[n+3:]); n > end {
			break
		}
		s.descriptors = b[from:n]
		all = append(all, s)
	}
	return all
}

// Stream types (ISO 13818-1, table 2-34; those of ATSC from A/53 part 3, 6.5.4).
const (
	typeMPEG1  = 0x01
	typeMPEG2  = 0x02
	typeAudio1 = 0x03
	typeAudio2 = 0x04
	typeOwn    = 0x06 // PES packets with private data: the descriptors tell
	typeADTS   = 0x0F
	typeMPEG4  = 0x10
	typeLATM   = 0x11
	typeAVC    = 0x1B
	typeHEVC   = 0x24
	typeVVC    = 0x33
	typeAC3    = 0x81
	typeEAC3   = 0x87
	typeVC1    = 0xEA
)

// track is the track as the PMT tells of it, and how its units are to be read.
func (s pmtStream) track() (Track, tsCodec) {
	video, audio := Track{Kind: "video"}, Track{Kind: "audio"}
	named := func(codec string) Track { return Track{Kind: "audio", Codec: codec} }
	switch s.kind {
	case typeMPEG1, typeMPEG2:
		return video, tsMPEG2
	case typeAVC:
		return video, tsAVC
	case typeHEVC:
		return video, tsHEVC
	case typeMPEG4, typeVVC, typeVC1:
		return video, tsUnread
	case typeAudio1, typeAudio2:
		return audio, tsMPEGAudio
	case typeADTS:
		return audio, tsADTS
	case typeLATM:
		return audio, tsUnread
	case typeAC3:
		return named("ac-3"), tsUnread
	case typeEAC3:
		return named("ec-3"), tsUnread
	case typeOwn:
		return s.own()
	}
	return Track{Kind: "other"}, tsUnread
}

// Descriptors (ISO 13818-1, table 2-45; DVB's from ETSI EN 300 468, table 12).
const (
	descriptorFormat    = 0x05 // registration_descriptor: a name of four letters
	descriptorAC3       = 0x6A
	descriptorEAC3      = 0x7A
	descriptorExtension = 0x7F
	extensionOpus       = 0x80 // Opus in MPEG-TS, 4.2: channel_config_code
)

// own is the track of a stream of private data, as its descriptors tell.
func (s pmtStream) own() (Track, tsCodec) {
	t, codec := Track{Kind: "other"}, tsUnread
	channels := 0
	for b := s.descriptors; len(b) >= 2 && len(b) >= 2+int(b[1]); b = b[2+int(b[1]):] {
		body := b[2:][:b[1]]
		name := ""
		switch {
		case b[0] == descriptorFormat && len(body) >= 4:
			name = string(body[:4])
		case b[0] == descriptorAC3:
			name = "AC-3"
		case b[0] == descriptorEAC3:
			name = "EAC3"
		case b[0] == descriptorExtension && len(body) >= 2 && body[0] == extensionOpus && body[1] <= 8:
			if channels = int(body[1]); channels == 0 {
				channels = 2 // that are no pair
			}
		}
		switch name {
		case "Opus":
			t = Track{Kind: "audio", Codec: "opus", SampleRate: 48000}
		case "AC-3":
			t = Track{Kind: "audio", Codec: "ac-3"}
		case "EAC3":
			t = Track{Kind: "audio", Codec: "ec-3"}
		case "HEVC":
			t, codec = Track{Kind: "video"}, tsHEVC
		case "AV01", "VVC ":
			t = Track{Kind: "video"}
		}
	}
	if t.Codec == "opus" {
		t.Channels = channels
	}
	return t, codec
}
