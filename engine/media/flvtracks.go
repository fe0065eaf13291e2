package media

import (
	"encoding/binary"
)

// tracks says what the configurations and the metadata do. Of a kind without a
// configuration it says what the metadata does, or u, the first tag with media.
func (p *flv) tracks(u flvUnit) []Track {
	var all []Track
	for _, kind := range []byte{flvVideo, flvAudio} {
		n := len(all)
		for _, c := range p.configs {
			if c.unit.kind == kind {
				all = append(all, c.trackOf())
			}
		}
		if len(all) == n {
			t, ok := p.about.trackOf(kind)
			if u.kind == kind {
				t, ok = u.trackOf(), true
			}
			if ok {
				all = append(all, t)
			}
		}
		if len(all) > n {
			all[n] = p.about.complete(all[n])
		}
	}
	return all
}

// complete says of a track also what only the metadata does.
func (m flvMetadata) complete(t Track) Track {
	if t.Kind == "video" && t.Width == 0 {
		t.Width, t.Height = m.width, m.height
	}
	if t.Kind == "audio" && t.SampleRate == 0 {
		t.SampleRate = m.rate
	}
	if t.Kind == "audio" && t.Channels == 0 {
		t.Channels = m.channels
	}
	return t
}

// trackOf is a track of which there is only metadata; ok is false if there is none either.
func (m flvMetadata) trackOf(kind byte) (t Track, ok bool) {
	if kind == flvVideo {
		return Track{Kind: "video"}, m.videoCodec != 0
	}
	t.Kind = "audio"
	if m.audioCodec == flvMP3 || m.audioCodec == flvMP3Slow {
		t.Codec = "mp3"
	}
	return t, m.audioCodec != 0
}

// trackOf is a track of which there is only a tag with media.
func (u *flvUnit) trackOf() Track {
	if u.kind == flvVideo {
		return Track{Kind: "video", Codec: plainCodecs[u.codec]}
	}
	t := Track{Kind: "audio", Codec: plainCodecs[u.codec]}
	if format := u.first >> 4; format != flvFourCC && format != flvAAC { // SoundRate and SoundType
		t.SampleRate = []int{5512, 11025, 22050, 44100}[u.first>>2&3]
		t.Channels = 1 + int(u.first&1)
		if format == flvMP3Slow {
			t.SampleRate = 8000
		}
	}
	return t
}

// plainCodecs are the codecs whose name needs no configuration, by their FourCC.
var plainCodecs = map[string]string{
	"vp08": "vp8",
	"Opus": "opus",
	"fLaC": "flac",
	".mp3": "mp3",
	"ac-3": "ac-3",
	"ec-3": "ec-3",
}

// trackOf says what a configuration does.
func (c *flvConfig) trackOf() Track {
	b := c.tag[flvTagHead+c.unit.rest : len(c.tag)-flvTagSize]
	switch c.unit.codec {
	case "avc1":
		return avcConfigTrack(b)
	case "hvc1":
		return hevcConfigTrack(b)
	case "av01":
		return Track{Kind: "video", Codec: av1Name(b)}
	case "vp09":
		return Track{Kind: "video", Codec: vp9ConfigName(b)}
	case "mp4a":
		return aacTrack(b)
	}
	t := c.unit.trackOf()
	if c.unit.codec == "Opus" && len(b) >= 19 { // OpusHead (RFC 7845, 5.1)
		t.Channels, t.SampleRate = int(b[9]), 48000
	}
	return t
}

// avcConfigTrack says what an avcC does (ISO 14496-15, 5.3.3.1).
func avcConfigTrack(b []byte) Track {
	t := Track{Kind: "video"}
	if len(b) < 4 {
		return t
	}
	if len(b) > 8 && b[5]&0x1F > 0 {
		n := int(binary.BigEndian.Uint16(b[6:]))
		t = avcTrack(b[8:][:min(n, len(b)-8)])
	}
	t.Codec = avcName("avc1", b)
	return t
}

// hevcConfigTrack says what an hvcC and the first SPS in it do (ISO 14496-15, 8.3.3.1).
func hevcConfigTrack(b []byte) Track {
	t := Track{Kind: "video"}
	if len(b) < 23 {
		return t
	}
	t.Codec = hevcName("hvc1", b)
	f := fields{b: b[22:]}
	for arrays := f.number(1); arrays > 0 && !f.short; arrays-- {
		kind := f.number(1) & 0x3F
		for units := f.number(2); units > 0 && !f.short; units-- {
			nal := f.bytes(int(f.number(2)))
			if kind == hevcSPS {
				sps := hevcTrack(nal)
				t.Width, t.Height = sps.Width, sps.Height
				return t
			}
		}
	}
	return t
}

// vp9ConfigName is VP9's name by a vpcC, of which some writers leave out the box's version
// and flags.
func vp9ConfigName(b []byte) string {
	if len(b) >= 12 {
		b = b[4:]
	}
	return vpName("vp09", b)
}
