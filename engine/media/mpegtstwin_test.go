package media

import (
	"bytes"
	"testing"
)

// The twin: naive, on the whole stream of whole packets, from the specification.

// twinTS returns the first tables' packets, and the sync points.
func twinTS(stream []byte) (init []byte, points []int) {
	var pat, pmt []byte
	type unit struct {
		at     int
		random bool
		b      []byte
	}
	units := map[int][]unit{}
	for at := 0; at < len(stream); at += tsPacket {
		b := stream[at:][:tsPacket]
		pid, start := tsPID(b), b[1]&0x40 != 0
		payload, random := b[4:], false
		if b[3]&0x20 != 0 {
			random = b[4] > 0 && b[5]&0x40 != 0
			payload = b[5+b[4]:]
		}
		switch {
		case pid == 0 && pat == nil:
			pat = b
		case pid == 0x1000 && pmt == nil:
			pmt = b
		}
		if start {
			units[pid] = append(units[pid], unit{at, random, nil})
		}
		if n := len(units[pid]); n > 0 {
			units[pid][n-1].b = append(units[pid][n-1].b, payload...)
		}
	}
	kind, pid := pmt[17], tsPID(pmt[17:])
	last := -9000
	for _, u := range units[pid] {
		head := 9 + int(u.b[8])
		if kind == 0x0F {
			pts := int(u.b[9]>>1&7)<<30 | int(u.b[10])<<22 | int(u.b[11]>>1)<<15 | int(u.b[12])<<7 | int(u.b[13]>>1)
			if pts >= last+9000 {
				points, last = append(points, u.at), pts
			}
			continue
		}
		if twinStarts(kind, u.b[head:], u.random) {
			points = append(points, u.at)
		}
	}
	return append(bytes.Clone(pat), pmt...), points
}

// twinStarts reports whether a decoder can start with this access unit.
func twinStarts(kind byte, b []byte, random bool) bool {
	had := map[byte]bool{}
	for _, nal := range nalUnits(b) {
		switch t := nal[0]; kind {
		case 0x02:
			if len(nal) > 2 && t == 0 {
				return had[0xB3] && nal[2]&0x38 == 0x08
			}
			had[t] = true
		case 0x1B:
			if t &= 31; t == 1 || t == 5 {
				return had[7] && had[8] && (t == 5 || random)
			}
			had[t] = true
		case 0x24:
			if t >>= 1; t < 32 {
				return had[32] && had[33] && had[34] && (t >= 16 && t < 24 || random)
			}
			had[t] = true
		}
	}
	return false
}

// wantTSTwin fails unless the twin finds the same.
func (f following) wantTSTwin(t *testing.T, stream []byte) {
	t.Helper()
	init, points := twinTS(stream)
	if !bytes.Equal(f.Init(), init) {
		t.Errorf("the init segment has %d bytes, the twin's %d", len(f.Init()), len(init))
	}
	f.wantPoints(t, "the twin", points)
}
