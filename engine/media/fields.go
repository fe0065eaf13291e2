package media

// What headers and configurations are read with: numbers of whole bytes, and of bits.

// unsigned is the value of an unsigned integer of at most 8 bytes, the highest first; 0 if
// there are none.
func unsigned(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// fields reads the fields of a header or a payload, first to last. Nothing is copied. Past
// the end it reads zeros and nothing, and short is set.
type fields struct {
	b     []byte
	short bool // there were less bytes than were asked for
}

// bytes takes n bytes, nil if there are not as many.
func (f *fields) bytes(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.b, f.short = nil, true
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

// number takes a number of n bytes, at most 8; 0 if there are not as many.
func (f *fields) number(n int) uint64 { return unsigned(f.bytes(n)) }

// u32 takes a number of 4 bytes.
func (f *fields) u32() uint32 { return uint32(f.number(4)) }

// bitsOf reads b bit by bit. Past the end it reads zeros, and short is set.
type bitsOf struct {
	b     []byte
	at    int // bit
	short bool
}

// u reads n bits, at most 32, as an unsigned number.
func (r *bitsOf) u(n int) (v uint32) {
	for ; n > 0; n-- {
		v <<= 1
		if r.at >= 8*len(r.b) {
			r.short = true
			continue
		}
		v |= uint32(r.b[r.at/8]>>(7-r.at%8)) & 1
		r.at++
	}
	return v
}

func (r *bitsOf) flag() bool { return r.u(1) == 1 }

// ue reads an Exp-Golomb number (H.264, 9.1).
func (r *bitsOf) ue() uint32 {
	zeros := 0
	for !r.flag() {
		if zeros++; zeros > 31 || r.short {
			r.short = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.u(zeros)
}

// se reads a signed one (H.264, 9.1.1).
func (r *bitsOf) se() int32 {
	v := r.ue()
	if v&1 == 1 {
		return int32(v/2) + 1
	}
	return -int32(v / 2)
}
