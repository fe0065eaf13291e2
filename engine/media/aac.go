package media

import "fmt"

// aacRates are the sample rates by their index, in Hz (ISO 14496-3, table 1.18).
var aacRates = [16]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// aacChannels are the channels by their configuration (ISO 14496-3, table 1.19); 0: it
// stands elsewhere.
var aacChannels = [16]int{0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8}

// aacTrack says what an AudioSpecificConfig does (ISO 14496-3, 1.6.2.1).
func aacTrack(config []byte) Track {
	r := &bitsOf{b: config}
	object := func() uint32 {
		if v := r.u(5); v != 31 {
			return v
		}
		return 32 + r.u(6)
	}
	rate := func() int {
		if i := r.u(4); i != 15 {
			return aacRates[i]
		}
		return int(r.u(24))
	}
	t := Track{Kind: "audio"}
	kind := object()
	t.SampleRate = rate()
	t.Channels = aacChannels[r.u(4)]
	if kind == 5 || kind == 29 { // SBR, with PS: what follows is the rate that is heard
		t.SampleRate = rate()
	}
	if kind == 29 { // PS makes two channels of one
		t.Channels = 2
	}
	if r.short {
		return Track{Kind: "audio"}
	}
	t.Codec = fmt.Sprintf("mp4a.40.%d", kind)
	return t
}
