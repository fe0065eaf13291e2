package media

// Flags of the boxes of a fragment (ISO 14496-12, 8.8.7.1 and 8.8.8.1).
const (
	tfhdBaseDataOffset    = 0x000001
	tfhdDescriptionIndex  = 0x000002
	tfhdDefaultDuration   = 0x000008
	tfhdDefaultSize       = 0x000010
	tfhdDefaultFlags      = 0x000020
	trunDataOffset        = 0x000001
	trunFirstSampleFlags  = 0x000004
	trunSampleDuration    = 0x000100
	trunSampleSize        = 0x000200
	trunSampleFlags       = 0x000400
	trunSampleComposition = 0x000800
)

// Flags of a sample (8.8.3.1).
const (
	sampleIsNonSync     = 0x00010000
	sampleDependsOn     = 0x03000000 // two bits
	sampleDependsOnSome = 0x01000000 // of the two: it is no picture of its own
)

// isSync reports whether decoding can start with a sample that has these flags. Of two
// flags that contradict each other, the one that says no is believed, as ffmpeg does.
func isSync(flags uint32) bool {
	return flags&sampleIsNonSync == 0 && flags&sampleDependsOn != sampleDependsOnSome
}

// fragment reports of a moof whether decoding can start with it. ok is false if it is not
// lawful, or if it tells where its samples are from the file's beginning.
func (m *movie) fragment(moof []byte) (sync, ok bool) {
	sync = m.video == 0
	decided := sync
	x := boxes{rest: moof}
	for x.next() {
		if string(x.kind[:]) != "traf" {
			continue
		}
		track, flags, ok := readTrackFragment(x.payload, m.flags)
		if !ok {
			return false, false
		}
		if decided || track != m.video {
			continue
		}
		flags, decided, ok = firstSample(x.payload, flags)
		if !ok {
			return false, false
		}
		sync = decided && isSync(flags)
	}
	return sync, !x.bad
}

// readTrackFragment reads the tfhd of a traf (8.8.7): the track_ID and, if it overrules
// flags, the track's own, default_sample_flags.
func readTrackFragment(traf []byte, flags uint32) (track, defaults uint32, ok bool) {
	f := fields{b: boxAt(traf, "tfhd")}
	has := f.u32()
	track = f.u32()
	for _, flag := range []uint32{tfhdDescriptionIndex, tfhdDefaultDuration, tfhdDefaultSize} {
		if has&flag != 0 {
			f.bytes(4)
		}
	}
	if has&tfhdDefaultFlags != 0 {
		flags = f.u32()
	}
	return track, flags, !f.short && track != 0 && has&tfhdBaseDataOffset == 0
}

// firstSample returns the flags of the first sample of a traf whose default flags are
// given; some is false if it has none, ok if a trun before the first sample is not lawful.
func firstSample(traf []byte, flags uint32) (sample uint32, some, ok bool) {
	x := boxes{rest: traf}
	for x.next() {
		if string(x.kind[:]) != "trun" {
			continue
		}
		f := fields{b: x.payload}
		has, count := f.u32(), f.u32()
		if has&trunDataOffset != 0 {
			f.bytes(4)
		}
		override := has&trunFirstSampleFlags != 0
		first := flags
		if override {
			first = f.u32()
		}
		var entry uint64 // bytes of a sample's entry
		for _, flag := range []uint32{trunSampleDuration, trunSampleSize, trunSampleFlags, trunSampleComposition} {
			if has&flag != 0 {
				entry += 4
			}
		}
		if f.short || uint64(count)*entry > uint64(len(f.b)) {
			return 0, false, false
		}
		if count == 0 {
			continue
		}
		if has&trunSampleFlags != 0 && !override {
			for _, flag := range []uint32{trunSampleDuration, trunSampleSize} {
				if has&flag != 0 {
					f.bytes(4)
				}
			}
			first = f.u32()
		}
		return first, true, true
	}
	return 0, false, !x.bad
}
