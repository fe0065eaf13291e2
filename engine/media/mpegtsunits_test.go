package media

import (
	"strings"
	"testing"
)

// TestTSPictures judges access units by hand: parameter sets alone make no sync point.
func TestTSPictures(t *testing.T) {
	t.Parallel()
	const pes, code, rest = "\x00\x00\x01\xE0\x00\x00\x80\x00\x00", "\x00\x00\x01", "\x01zz"
	const avcSets, hevcSets = code + "\x67z" + code + "\x68z", code + "\x40z" + code + "\x42z" + code + "\x44z"
	const sequence = code + "\xB3\x0A\x00\x78zzzz"
	for _, c := range []struct {
		name   string
		codec  tsCodec
		unit   string
		random bool
		want   bool
	}{
		{"IDR", tsAVC, avcSets + code + "\x65" + rest, false, true},
		{"IDR behind a start code of nothing", tsAVC, code + avcSets + code + code + "\x65" + rest, false, true},
		{"slice", tsAVC, avcSets + code + "\x41" + rest, false, false},
		{"marked slice", tsAVC, avcSets + code + "\x41" + rest, true, true},
		{"IRAP", tsHEVC, hevcSets + code + "\x2A" + rest, false, true},
		{"trailing picture", tsHEVC, hevcSets + code + "\x02" + rest, false, false},
		{"IRAP without its sets", tsHEVC, code + "\x2A" + rest, true, false},
		{"I picture", tsMPEG2, sequence + code + "\x00\x00\x08z", false, true},
		{"P picture", tsMPEG2, sequence + code + "\x00\x00\x10z", false, false},
		{"I picture without a sequence header", tsMPEG2, code + "\x00\x00\x08z", true, false},
	} {
		s := tsStream{codec: c.codec}
		s.begin(Point{}, c.random)
		s.b = []byte(pes + c.unit)
		if judged, got := s.judge(); !judged || got != c.want {
			t.Errorf("%s: judged %v, a sync point %v, wanted %v", c.name, judged, got, c.want)
		}
	}
}

// TestTSManySPS is about an access unit with several SPS: the first tells of the track, the
// others are not read.
func TestTSManySPS(t *testing.T) {
	t.Parallel()
	const pes, code = "\x00\x00\x01\xE0\x00\x00\x80\x00\x00", "\x00\x00\x01"
	const sps = "\xAC\xD9\x40\x50\x05\xBB\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xF1\x83\x19\x60"
	s := tsStream{codec: tsAVC}
	s.begin(Point{}, false)
	s.b = []byte(pes + code + "\x67\x64\x00\x1F" + sps + code + "\x67\x64\x00\x28" + sps + code + "\x68z" + code + "\x65zzz")
	_, isPoint := s.judge()
	if want := (Track{Kind: "video", Codec: "avc1.64001F", Width: 1280, Height: 720}); s.known != want || !isPoint {
		t.Errorf("it tells %+v, a sync point %v, wanted %+v", s.known, isPoint, want)
	}
}

// TestSPSScalingLists reads an SPS with scaling lists, one of which ends at once.
func TestSPSScalingLists(t *testing.T) {
	t.Parallel()
	bits := "1" + "010" + "11" + "0" + "1" + // 4:2:0, 8 bits, there are lists
		"1" + "000010001" + // the first: -8, so it is the default
		"1" + strings.Repeat("1", 16) + "000000" + // the second: flat
		"1" + "011" + "1" + "0" + "0001010" + "0001000" + "1" + "0" + "0" + "1"
	nal := []byte{0x67, 100, 0, 11}
	for i := 0; i < len(bits); i += 8 {
		var v byte
		for _, c := range (bits + "0000000")[i : i+8] {
			v = v<<1 | byte(c-'0')
		}
		nal = append(nal, v)
	}
	if got := avcTrack(nal); got.Width != 160 || got.Height != 128 {
		t.Errorf("read %+v, wanted 160x128", got)
	}
}
