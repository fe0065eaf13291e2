package media

import (
	"bytes"
)

// hevcSPS is a NAL unit type of H.265 (ITU-T H.265, table 7-1).
const hevcSPS = 33

// unescape returns a NAL unit without its emulation prevention bytes (H.264, 7.3.1).
func unescape(nal []byte) []byte {
	var b []byte
	for {
		i := bytes.Index(nal, []byte{0, 0, 3})
		if i < 0 {
			return append(b, nal...)
		}
		b = append(b, nal[:i+2]...)
		nal = nal[i+3:]
	}
}

// avcTrack says what an SPS of H.264 does (H.264, 7.3.2.1.1): of one that cannot be read,
// nothing.
func avcTrack(nal []byte) Track {
	t := Track{Kind: "video"}
	if len(nal) < 4 {
		return t
	}
	t.Codec = avcProfileName("avc1", nal[1:])
	r := &bitsOf{b: unescape(nal[4:])}
	r.ue() // seq_parameter_set_id
	chroma, separate := uint32(1), false
	switch nal[1] {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if chroma = r.ue(); chroma == 3 {
			separate = r.flag()
		}
		r.ue() // bit depths
		r.ue()
		r.u(1) // qpprime_y_zero_transform_bypass_flag
		if r.flag() {
			skipScaling(r, chroma)
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue() // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		r.u(1)
		r.se()
		r.se()
		for n := r.ue(); n > 0 && !r.short; n-- {
			r.se()
		}
	}
	r.ue() // max_num_ref_frames
	r.u(1) // gaps_in_frame_num_value_allowed_flag
	width, height := 16*(r.ue()+1), 16*(r.ue()+1)
	unitX, unitY := chromaUnits(chroma, separate)
	if !r.flag() { // frame_mbs_only_flag: otherwise the height is that of a field
		height *= 2
		unitY *= 2
		r.u(1)
	}
	r.u(1) // direct_8x8_inference_flag
	t.Width, t.Height = cropped(r, width, height, unitX, unitY)
	return t
}

// skipScaling reads over the scaling lists of an SPS (H.264, 7.3.2.1.1.1).
func skipScaling(r *bitsOf, chroma uint32) {
	lists := 8
	if chroma == 3 {
		lists = 12
	}
	for i := range lists {
		if !r.flag() {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int32(8), int32(8)
		for range size {
			if next != 0 {
				next = (last + r.se() + 256) % 256
			}
			if next != 0 {
				last = next
			}
		}
	}
}

// chromaUnits returns in what steps of pixels a picture is cropped (H.264, table 6-1; H.265, table 6-1).
func chromaUnits(chroma uint32, separate bool) (x, y uint32) {
	switch {
	case separate || chroma == 0 || chroma == 3:
		return 1, 1
	case chroma == 2:
		return 2, 1
	default:
		return 2, 2
	}
}

// cropped reads the cropping of an SPS, and returns the size that is shown, 0 if it cannot be read.
func cropped(r *bitsOf, width, height, unitX, unitY uint32) (w, h int) {
	if r.flag() {
		width -= unitX * (r.ue() + r.ue())
		height -= unitY * (r.ue() + r.ue())
	}
	const most = 1 << 16 // more is not lawful in any level, or underflowed
	if r.short || width > most || height > most {
		return 0, 0
	}
	return int(width), int(height)
}

// hevcProfile is the length of the general profile, tier and level, in bytes, as they stand in
// an hvcC and in an SPS.
const hevcProfile = 12

// hevcTrack says what an SPS of H.265 does (H.265, 7.3.2.2.1).
func hevcTrack(nal []byte) Track {
	t := Track{Kind: "video"}
	b := unescape(nal)
	if len(b) < 3+hevcProfile {
		return t
	}
	t.Codec = hevcProfileName("hvc1", b[3:])
	skipLayers := func(r *bitsOf, n int) {
		var profile, level [8]bool
		for i := range n {
			profile[i], level[i] = r.flag(), r.flag()
		}
		if n > 0 {
			r.u(2 * (8 - n))
		}
		for i := range n {
			if profile[i] {
				r.at += 88
			}
			if level[i] {
				r.at += 8
			}
		}
	}
	r := &bitsOf{b: b, at: 8 * (3 + hevcProfile)}
	skipLayers(r, int(b[2]>>1&7)) // sps_max_sub_layers_minus1
	r.ue()                        // sps_seq_parameter_set_id
	chroma, separate := r.ue(), false
	if chroma == 3 {
		separate = r.flag()
	}
	width, height := r.ue(), r.ue()
	unitX, unitY := chromaUnits(chroma, separate)
	t.Width, t.Height = cropped(r, width, height, unitX, unitY)
	return t
}
