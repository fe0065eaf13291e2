package media

// movie is what a moov says, as far as it matters here.
type movie struct {
	tracks []Track
	video  uint32 // track_ID of the first video track, 0 if there is none
	flags  uint32 // default_sample_flags of that track, by its trex
}

// readMovie reads the payload of a moov. ok is false if it is not lawful or not that of
// a fragmented file.
func readMovie(moov []byte) (m movie, ok bool) {
	var ids []uint32
	defaults := map[uint32]uint32{}
	x := boxes{rest: moov}
	for x.next() {
		switch string(x.kind[:]) {
		case "trak":
			id, track, ok := readTrack(x.payload)
			if !ok || len(ids) == maxTracks {
				return movie{}, false
			}
			if m.video == 0 && track.Kind == "video" {
				m.video = id
			}
			m.tracks, ids = append(m.tracks, track), append(ids, id)
		case "mvex":
			if !readDefaults(x.payload, defaults) {
				return movie{}, false
			}
		}
	}
	if x.bad || len(ids) == 0 {
		return movie{}, false
	}
	for _, id := range ids { // one each is mandatory (8.8.3.1)
		if _, ok := defaults[id]; !ok {
			return movie{}, false
		}
	}
	m.flags = defaults[m.video]
	return m, true
}

// readDefaults adds what the trex boxes of an mvex say: default_sample_flags by track_ID
// (8.8.3).
func readDefaults(mvex []byte, defaults map[uint32]uint32) bool {
	x := boxes{rest: mvex}
	for x.next() {
		if string(x.kind[:]) != "trex" {
			continue
		}
		f := fields{b: x.payload}
		f.u32()
		id := f.u32()
		f.bytes(4 + 4 + 4) // description index, duration, size
		if defaults[id] = f.u32(); f.short {
			return false
		}
	}
	return !x.bad
}

// readTrack reads the payload of a trak (8.3). ok is false if it is not lawful, or if its
// samples are listed in it: they lie behind the moov, where a joiner does not have them.
func readTrack(trak []byte) (id uint32, t Track, ok bool) {
	f := fields{b: boxAt(trak, "tkhd")}
	times := 4 + 4 // of creation and of the last change
	if f.u32()>>24 == 1 {
		times = 8 + 8
	}
	f.bytes(times)
	id = f.u32()
	h := fields{b: boxAt(trak, "mdia", "hdlr")}
	h.bytes(4 + 4)
	handler := string(h.bytes(4))
	table := boxAt(trak, "mdia", "minf", "stbl")
	if f.short || id == 0 || h.short || table == nil {
		return 0, Track{}, false
	}
	for _, name := range []string{"stsz", "stz2"} {
		sizes := fields{b: boxAt(table, name)}
		sizes.bytes(4 + 4)
		if sizes.u32() != 0 {
			return 0, Track{}, false
		}
	}
	t.Kind = "other"
	description := fields{b: boxAt(table, "stsd")}
	described := description.bytes(4+4) != nil // version, flags, count
	first := boxes{rest: description.b}
	described = described && first.next()
	switch {
	case handler == "vide":
		t.Kind = "video"
		if described {
			t.describeVideo(first)
		}
	case handler == "soun":
		t.Kind = "audio"
		if described {
			t.describeAudio(first)
		}
	case described:
		t.Codec = printable(string(first.kind[:]))
	}
	return id, t, true
}
