package frame

import "encoding/binary"

// unmask XORs src with the key into dst (RFC 6455, 5.3). The key's lowest byte
// goes with src[0]. dst is src or does not overlap it, and is not shorter.
//
// Words of eight bytes, eight at a time: a publisher's every byte passes here.
// The three-index slices let the compiler see that no access needs a check.
func unmask(dst, src []byte, key uint32) {
	dst = dst[:len(src)]
	k := uint64(key)<<32 | uint64(key)
	for len(src) >= 64 && len(dst) >= 64 {
		s, d := src[:64:64], dst[:64:64]
		le := binary.LittleEndian
		le.PutUint64(d[0:8], le.Uint64(s[0:8])^k)
		le.PutUint64(d[8:16], le.Uint64(s[8:16])^k)
		le.PutUint64(d[16:24], le.Uint64(s[16:24])^k)
		le.PutUint64(d[24:32], le.Uint64(s[24:32])^k)
		le.PutUint64(d[32:40], le.Uint64(s[32:40])^k)
		le.PutUint64(d[40:48], le.Uint64(s[40:48])^k)
		le.PutUint64(d[48:56], le.Uint64(s[48:56])^k)
		le.PutUint64(d[56:64], le.Uint64(s[56:64])^k)
		src, dst = src[64:], dst[64:]
	}
	for len(src) >= 8 && len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^k)
		src, dst = src[8:], dst[8:]
	}
	if len(src) >= 4 && len(dst) >= 4 {
		binary.LittleEndian.PutUint32(dst, binary.LittleEndian.Uint32(src)^key)
		src, dst = src[4:], dst[4:]
	}
	for i := range src {
		if i < len(dst) { // always; spares the check inside
			dst[i] = src[i] ^ byte(key>>(8*(i&3)))
		}
	}
}
