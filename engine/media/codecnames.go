package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// The names of codecs (RFC 6381), as browsers take them, from the configuration that
// containers carry. A configuration that is not there, or is not what it should be, leaves
// the first part of the name: what is known.

// avcName is H.264's name by its AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1).
// entry is avc1 or avc3.
func avcName(entry string, avcC []byte) string {
	if len(avcC) < 4 || avcC[0] != 1 {
		return entry
	}
	return avcProfileName(entry, avcC[1:])
}

// avcProfileName is H.264's name by the three bytes of profile, constraints and level, as
// they stand in an avcC and in an SPS (RFC 6381, 3.3).
func avcProfileName(entry string, b []byte) string { return fmt.Sprintf("%s.%X", entry, b[:3]) }

// hevcName is H.265's name by its HEVCDecoderConfigurationRecord (ISO 14496-15, 8.3.3.1).
// entry is hvc1 or hev1.
func hevcName(entry string, hvcC []byte) string {
	if len(hvcC) < 1+hevcProfile || hvcC[0] > 1 { // 0 was written before the standard was final
		return entry
	}
	return hevcProfileName(entry, hvcC[1:])
}

// hevcProfileName is H.265's name by its general profile, tier and level, hevcProfile bytes
// as they stand in an hvcC and in an SPS (ISO 14496-15, annex E.3).
func hevcProfileName(entry string, b []byte) string {
	space := [...]string{"", "A", "B", "C"}[b[0]>>6]
	tier := "LH"[b[0]>>5&1]
	var s strings.Builder
	fmt.Fprintf(&s, "%s.%s%d.%X.%c%d", entry, space, b[0]&0x1F, bits.Reverse32(binary.BigEndian.Uint32(b[1:])), tier, b[11])
	for _, c := range bytes.TrimRight(b[5:11], "\x00") {
		fmt.Fprintf(&s, ".%X", c)
	}
	return s.String()
}

// av1Name is AV1's name by its AV1CodecConfigurationRecord (AV1 Codec ISO Media File Format
// Binding, 2.3.3, and 5 for the name).
func av1Name(av1C []byte) string {
	if len(av1C) < 4 || av1C[0] != 0x81 {
		return "av01"
	}
	profile, level := av1C[1]>>5, av1C[1]&0x1F
	tier := "M"
	if av1C[2]&0x80 != 0 {
		tier = "H"
	}
	depth := 8
	if av1C[2]&0x40 != 0 {
		depth = 10
		if profile == 2 && av1C[2]&0x20 != 0 {
			depth = 12
		}
	}
	return fmt.Sprintf("av01.%d.%02d%s.%02d", profile, level, tier, depth)
}

// vpName is the name of VP8 and VP9 by their VPCodecConfigurationRecord: profile, level,
// depth (VP Codec ISO Media File Format Binding, "Codecs Parameter String"). entry is vp08
// or vp09.
func vpName(entry string, vpcC []byte) string {
	if len(vpcC) < 3 {
		return entry
	}
	return fmt.Sprintf("%s.%02d.%02d.%02d", entry, vpcC[0], vpcC[1], vpcC[2]>>4)
}
