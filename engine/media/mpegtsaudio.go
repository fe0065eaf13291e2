package media

import "fmt"

// adtsTrack says what the header of an ADTS frame does (ISO 13818-7, 6.2); ok is false if
// b does not begin with one. b has at least 4 bytes.
func adtsTrack(b []byte) (t Track, ok bool) {
	if b[0] != 0xFF || b[1]&0xF6 != 0xF0 {
		return t, false
	}
	return Track{
		Kind:       "audio",
		Codec:      fmt.Sprintf("mp4a.40.%d", b[2]>>6+1),
		SampleRate: aacRates[b[2]>>2&15],
		Channels:   aacChannels[b[2]&1<<2|b[3]>>6],
	}, true
}

// mpegAudioTrack says what the header of an MPEG audio frame does (ISO 11172-3, 2.4.1.3); ok
// is false if b does not begin with one. b has at least 4 bytes.
func mpegAudioTrack(b []byte) (t Track, ok bool) {
	version, layer, rate := b[1]>>3&3, b[1]>>1&3, b[2]>>2&3
	if b[0] != 0xFF || b[1]&0xE0 != 0xE0 || version == 1 || layer == 0 || rate == 3 {
		return t, false
	}
	t = Track{Kind: "audio", SampleRate: []int{44100, 48000, 32000}[rate], Channels: 2}
	switch version {
	case 0: // MPEG 2.5
		t.SampleRate /= 4
	case 2: // MPEG 2
		t.SampleRate /= 2
	}
	if layer == 1 { // layer III
		t.Codec = "mp3"
	}
	if b[3]>>6 == 3 {
		t.Channels = 1
	}
	return t, true
}
