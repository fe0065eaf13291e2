package media

import "fmt"

// Tags of descriptors (ISO 14496-1, 7.2.2.1).
const (
	tagES              = 3
	tagDecoderConfig   = 4
	tagDecoderSpecific = 5
)

// mpeg4Audio is the objectTypeIndication of AAC and its kin (7.2.6.6.2).
const mpeg4Audio = 0x40

// describeMPEG4 reads the esds of an mp4a entry (ISO 14496-14, 5.6): which codec it is,
// and for AAC how many channels there are, which the entry often does not tell.
func (t *Track) describeMPEG4(esds []byte) {
	t.Codec = "mp4a"
	f := fields{b: esds}
	f.u32() // version, flags
	es := fields{b: descriptor(&f, tagES)}
	es.number(2) // ES_ID
	has := es.number(1)
	if has&0x80 != 0 { // depends on another
		es.number(2)
	}
	if has&0x40 != 0 { // a URL
		es.bytes(int(es.number(1)))
	}
	if has&0x20 != 0 { // a clock of another
		es.number(2)
	}
	config := fields{b: descriptor(&es, tagDecoderConfig)}
	object := config.number(1)
	config.bytes(12) // stream type, buffer size, bit rates
	if config.short {
		return
	}
	t.Codec = fmt.Sprintf("mp4a.%02X", object)
	if object != mpeg4Audio {
		return
	}
	aac := aacTrack(descriptor(&config, tagDecoderSpecific))
	if aac.Codec == "" {
		return
	}
	t.Codec = aac.Codec
	if aac.SampleRate != 0 {
		t.SampleRate = aac.SampleRate
	}
	if aac.Channels != 0 {
		t.Channels = aac.Channels
	}
}

// descriptor takes the next descriptor, and returns what is in it, nil if it has another
// tag (ISO 14496-1, 8.3.3: up to four bytes of length, seven bits each).
func descriptor(f *fields, tag uint64) []byte {
	if f.number(1) != tag {
		return nil
	}
	var size int
	for range 4 {
		c := int(f.number(1))
		size = size<<7 | c&0x7F
		if c&0x80 == 0 {
			break
		}
	}
	return f.bytes(size)
}
