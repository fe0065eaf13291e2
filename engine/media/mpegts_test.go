package media

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"testing"
)

const (
	tsH264      = "-t 3 -c:v libx264 -preset ultrafast -g 25 -c:a aac -f mpegts"
	tsVideoOnly = "-t 2 -c:v libx264 -preset veryfast -bf 2 -g 10 -s 200x152 -an -f mpegts"
	tsH265      = "-t 3 -c:v libx265 -preset ultrafast -g 25 -x265-params log-level=error -c:a libmp3lame -f mpegts"
	tsMPEG2Film = "-t 2 -c:v mpeg2video -g 12 -bf 2 -c:a mp2 -f mpegts"
	tsOpenGOP   = "-t 3 -c:v libx264 -preset veryfast -bf 3 -g 25 -x264-params open-gop=1:scenecut=0 -c:a libopus -f mpegts"
	tsRefresh   = "-t 3 -c:v libx264 -preset veryfast -g 25 -x264-params intra-refresh=1 -c:a ac3 -f mpegts"
	tsAudioOnly = "-t 3 -vn -c:a aac -pes_payload_size 0 -f mpegts"
)

// unreferenced is what ffmpeg complains of when it starts at a picture that is no IDR
// picture: of reference pictures that it never had.
var unreferenced = regexp.MustCompile(`mmco: unref short failure|number of reference frames .* exceeds max`)

// TestFFmpegTS follows what ffmpeg writes, and asks ffprobe and the twin.
func TestFFmpegTS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args, tracks string
		allowed            *regexp.Regexp
	}{
		{"H.264 and AAC", tsH264, "video avc1.42C00B 160x120, audio mp4a.40.2 48000 Hz 1", nil},
		{"H.264 alone", tsVideoOnly, "video avc1.64000C 200x152", nil},
		{"H.265 and MP3", tsH265, "video hvc1.1.6.L30.90 160x120, audio mp3 48000 Hz 1", nil},
		{"MPEG-2 and MP2", tsMPEG2Film, "video  160x120, audio  48000 Hz 1", nil},
		{"open groups and Opus", tsOpenGOP, "video avc1.64000B 160x120, audio opus 48000 Hz 1", unreferenced},
		{"gradual refresh and AC-3", tsRefresh, "video avc1.64000B 160x120, audio ac-3", unreferenced},
		{"AAC alone", tsAudioOnly, "audio mp4a.40.2 48000 Hz 1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stream := encode(t, c.args)
			f := wantSameCuts(t, stream)
			if f.Container() != MPEGTS {
				t.Fatalf("the container is %v", f.Container())
			}
			f.wantTracks(t, c.tracks)
			f.wantTSTwin(t, stream)
			if f.Tracks()[0].Kind == "video" {
				f.wantPoints(t, "ffprobe", keyPositions(t, stream))
			} else if n := len(f.points); n < 20 || n > 30 {
				t.Errorf("%d sync points in 3 s, wanted one in about 100 ms", n)
			}
			f.wantJoinable(t, stream, c.allowed)
		})
	}
}

// TestFFmpegTSInit is about a stream that is joined in the middle, as a publisher's may be: the
// init segment is there as soon as the tables are.
func TestFFmpegTSInit(t *testing.T) {
	t.Parallel()
	stream := encode(t, tsH264)
	at := 3 * tsPacket // behind the first tables: SDT, PAT, PMT
	if got := tsPID(stream[tsPacket:]); got != 0 {
		t.Fatalf("the second packet has PID %d, wanted the PAT", got)
	}
	next := at
	for tsPID(stream[next:]) != 0x1000 {
		next += tsPacket
	}
	next += tsPacket
	f := follow(stream[at:next-1], whole)
	if f.Container() != MPEGTS || f.Init() != nil || f.Tracks() != nil || len(f.points) > 0 {
		t.Errorf("without tables: container %v, init segment of %d bytes, sync points at %d", f.Container(), len(f.Init()), f.at())
	}
	f = follow(stream[at:next], randomly(1, 50))
	if want := stream[next-2*tsPacket : next]; !bytes.Equal(f.Init(), want) {
		t.Errorf("the init segment has %d bytes, wanted PAT and PMT", len(f.Init()))
	}
	f.wantTracks(t, "video , audio ")
	f = follow(stream[at:], whole)
	f.wantTracks(t, "video avc1.42C00B 160x120, audio mp4a.40.2 48000 Hz 1")
	wantDecodable(t, f.from(stream[at:], 0))
}

// TestFFmpegTSChange is about another PMT in mid-stream.
func TestFFmpegTSChange(t *testing.T) {
	t.Parallel()
	first, second := encode(t, tsH264), encode(t, tsVideoOnly)
	stream := append(bytes.Clone(first), second...)
	f := wantSameCuts(t, stream)
	keys := keyPositions(t, second)
	for i := range keys {
		keys[i] += len(first)
	}
	f.wantPoints(t, "ffprobe", keys)
	f.wantTracks(t, "video avc1.64000C 200x152")
	f.wantJoinable(t, stream, nil)

	// With equal tables the size changes without another init segment: the parameter sets
	// stand at each sync point.
	second = encode(t, "-t 1 -c:v libx264 -preset ultrafast -g 25 -s 320x240 -c:a aac -output_ts_offset 10 -f mpegts")
	stream = append(bytes.Clone(first), second...)
	f = wantSameCuts(t, stream)
	if n := len(f.points); n != 4 {
		t.Errorf("%d sync points, wanted 3 of the first size and 1 of the second", n)
	}
	f.wantTracks(t, "video avc1.42C00D 320x240, audio mp4a.40.2 48000 Hz 1")
	f.wantJoinable(t, stream, nil)
}

// TestFFmpegTSSpanningTables is about sections that span packets, with others between.
func TestFFmpegTSSpanningTables(t *testing.T) {
	t.Parallel()
	var stream, init []byte
	whole := encode(t, tsH264)
	for b := range slices.Chunk(whole, tsPacket) {
		pid := tsPID(b)
		if pid != 0 && pid != 0x1000 {
			stream = append(stream, b...)
			continue
		}
		var carriers []byte
		section := append([]byte{3, 'e', 'n', 'd'}, b[5:][:sectionHead+sectionLength(b[5:])]...) // of another section
		for i, piece := range [][]byte{section[:5], section[5:9], section[9:]} {
			packet := tsStuffed(pid, i == 0, piece)
			carriers = append(carriers, packet...)
			stream = append(append(stream, packet...), tsStuffed(0x1FFF, false, nil)...)
		}
		if len(init) < 6*tsPacket {
			init = append(init, carriers...)
		}
	}
	f := wantSameCuts(t, stream)
	if !bytes.Equal(f.Init(), init) {
		t.Errorf("the init segment has %d bytes, wanted the 6 packets with the tables, %d", len(f.Init()), len(init))
	}
	f.wantPoints(t, "ffprobe", keyPositions(t, stream))
	f.wantJoinable(t, stream, nil)
}

// TestFFmpegTSSmallPieces is about a key frame that comes a few bytes a packet, so that its PES
// header and its start codes span packets.
func TestFFmpegTSSmallPieces(t *testing.T) {
	t.Parallel()
	whole := encode(t, tsVideoOnly)
	keys := keyPositions(t, whole)
	for _, size := range []int{1, 3} {
		stream := bytes.Clone(whole[:keys[1]])
		for b := range slices.Chunk(whole[keys[1]:][:4*tsPacket], tsPacket) {
			if tsPID(b) != 0x100 {
				t.Fatalf("a packet of PID %d in the key frame", tsPID(b))
			}
			payload := b[4:]
			if b[3]&0x20 != 0 {
				payload = b[5+b[4]:]
			}
			for i, piece := range slices.Collect(slices.Chunk(payload, size)) {
				stream = append(stream, tsStuffed(0x100, i == 0 && b[1]&0x40 != 0, piece)...)
			}
		}
		longer := len(stream) - keys[1] - 4*tsPacket
		stream = append(stream, whole[keys[1]+4*tsPacket:]...)
		want := slices.Clone(keys)
		for i := range want[2:] {
			want[2+i] += longer
		}
		wantSameCuts(t, stream).wantPoints(t, "whole packets", want)
	}
}

// TestFFmpegTSTables is about tables that do not count.
func TestFFmpegTSTables(t *testing.T) {
	t.Parallel()
	stream := encode(t, tsH264)
	for name, change := range map[string]func(section []byte) []byte{
		"wrong CRC":    func(s []byte) []byte { s[len(s)-1] ^= 1; return s },
		"not in force": func(s []byte) []byte { s[5] &^= 1; return signed(s) },
		"other table":  func(s []byte) []byte { s[0] = 0x42; return signed(s) },
		"too long":     func(s []byte) []byte { s[1] |= 0xF; return s },
		"too short":    func(s []byte) []byte { s[2] = 8; return s },
	} {
		b := bytes.Clone(stream)
		for packet := range slices.Chunk(b, tsPacket) {
			if tsPID(packet) == 0x1000 {
				change(packet[5:][:sectionHead+sectionLength(packet[5:])])
			}
		}
		f := wantSameCuts(t, b)
		if f.Container() != MPEGTS || f.Init() != nil || len(f.points) > 0 {
			t.Errorf("PMT with %s: container %v, init segment of %d bytes, sync points at %d", name, f.Container(), len(f.Init()), f.at())
		}
	}
}

// TestFFmpegTSAnyTables is about tables with a right CRC in which anything may stand.
func TestFFmpegTSAnyTables(t *testing.T) {
	t.Parallel()
	stream := encode(t, tsOpenGOP)[:20*tsPacket]
	for seed := range uint64(300) {
		b := bytes.Clone(stream)
		draw := randomly(seed, 128)
		for packet := range slices.Chunk(b, tsPacket) {
			if pid := tsPID(packet); pid != 0x1000 && (pid != 0 || seed%4 != 0) {
				continue
			}
			section := packet[5:][:sectionHead+sectionLength(packet[5:])]
			for range 1 + seed%3 {
				section[sectionHead+draw()%(len(section)-sectionHead-4)] = byte(draw())
			}
			signed(section)
		}
		f := follow(b, whole)
		f.wantSame(t, follow(b, randomly(seed, 300)))
		if f.Container() != MPEGTS {
			t.Errorf("seed %d: the container is %v", seed, f.Container())
		}
	}
}

// TestFFmpegTSParameterSets is about key frames whose parameter sets came earlier: no joiner can
// start there.
func TestFFmpegTSParameterSets(t *testing.T) {
	t.Parallel()
	stream := bytes.Clone(encode(t, tsH264))
	points := follow(stream, whole).at()
	sps := stream[points[1]:][:tsPacket]
	i := bytes.Index(sps, []byte{0, 0, 1, 0x67})
	sps[i+3] = 0x6C // a reserved type
	f := wantSameCuts(t, stream)
	if want := slices.Delete(points, 1, 2); !slices.Equal(f.at(), want) {
		t.Errorf("sync points at %d, wanted %d", f.at(), want)
	}
}

// TestFFmpegTSLost is about a stream that loses bytes, or has more than it should.
func TestFFmpegTSLost(t *testing.T) {
	t.Parallel()
	stream := encode(t, tsH264)
	points := follow(stream, whole).at()
	middle := points[1] + 10*tsPacket
	for _, c := range []struct {
		name       string
		lose, more int
		want       Container
	}{
		{"fewer", 50, 0, MPEGTS},
		{"a packet and more fewer", tsPacket + 1, 0, MPEGTS},
		{"more", 0, 300, MPEGTS},
		{"most", 0, tsLost, MPEGTS},
		{"too many", 0, tsLost + 1, Opaque},
	} {
		b := append(bytes.Clone(stream[:middle]), zeros(c.more)...)
		b = append(b, stream[middle+c.lose:]...)
		f := wantSameCuts(t, b)
		if f.Container() != c.want {
			t.Errorf("%s bytes: the container is %v, wanted %v", c.name, f.Container(), c.want)
			continue
		}
		if c.want == Opaque {
			continue
		}
		want := slices.Clone(points)
		for i := range want[2:] {
			want[2+i] += c.more - c.lose
		}
		f.wantPoints(t, "those without the loss", want)
	}
	sync := append(bytes.Clone(stream[:middle]), bytes.Repeat([]byte{'G', 0}, 200)...)
	f := wantSameCuts(t, append(sync, stream[middle:]...))
	if n := len(f.points); n != len(points) {
		t.Errorf("%d sync points after bytes that look like the beginning of a packet, wanted %d", n, len(points))
	}
}

// TestFFmpegTSLostAtKeyFrame is about bytes that are too many right in front of a key frame, a
// packet earlier, and inside of its beginning: only then it is no sync point.
func TestFFmpegTSLostAtKeyFrame(t *testing.T) {
	t.Parallel()
	stream := encode(t, tsH265)
	points := follow(stream, whole).at()
	for after, still := range map[int]bool{-tsPacket: true, 0: true, tsPacket: false} {
		at := points[1] + after
		b := append(append(bytes.Clone(stream[:at]), zeros(10)...), stream[at:]...)
		want := []int{points[0], points[1] + 10, points[2] + 10}
		if !still {
			want = []int{points[0], points[2] + 10}
		}
		wantSameCuts(t, b).wantPoints(t, "those without the loss", want)
	}
}

// TestFFmpegTSDamaged follows streams with bytes flipped, lost and doubled.
func TestFFmpegTSDamaged(t *testing.T) {
	t.Parallel()
	kept := func(p parser) int {
		ts := p.(*mpegTS)
		n := cap(ts.packet.b) + cap(ts.patTable.section.packets) + cap(ts.pmtTable.section.packets)
		for _, s := range ts.streams {
			n += cap(s.b)
		}
		return n
	}
	wantHarmless(t, encode(t, tsH264)[:300*tsPacket], kept, 128<<10)
	wantHarmless(t, encode(t, tsH265)[:100*tsPacket], kept, 128<<10)
}

func FuzzTS(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 0 && stream[0] == tsSync {
			wantSameCuts(t, stream)
		}
	})
}

// tsPID is the PID of a transport packet.
func tsPID(packet []byte) int { return int(binary.BigEndian.Uint16(packet[1:]) & 0x1FFF) }

// tsStuffed is a transport packet with that payload behind stuffing.
func tsStuffed(pid int, start bool, payload []byte) []byte {
	b := []byte{tsSync, byte(pid >> 8), byte(pid), 0x30, byte(tsPacket - 5 - len(payload)), 0}
	if start {
		b[1] |= 0x40
	}
	for len(b) < tsPacket-len(payload) {
		b = append(b, 0xFF)
	}
	return append(b, payload...)
}

// signed gives a section its right CRC.
func signed(section []byte) []byte {
	n := len(section) - 4
	binary.BigEndian.PutUint32(section[n:], crc32MPEG(section[:n]))
	return section
}
