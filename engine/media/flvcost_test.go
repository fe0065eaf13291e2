package media

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// flvTagOf is a tag with its PreviousTagSize.
func flvTagOf(kind byte, body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|uint32(len(body)))
	b = append(append(b, 0, 0, 0, 0, 0, 0, 0), body...)
	return string(binary.BigEndian.AppendUint32(b, uint32(flvTagHead+len(body))))
}

// Small configurations that change all the time may not have large metadata copied each
// time; what changes as rarely as it does in real streams may.
func TestFLVInitSegmentsHaveACost(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]Container{0: Opaque, MaxInit: FLV} {
		var b strings.Builder
		b.WriteString(flvVideoHeader + flvTagOf(flvScript, "\x02\x00\x0aonMetaData"+zeros(MaxInit/2)))
		for i := range 10 {
			b.WriteString(flvTagOf(flvVideo, "\x17\x00\x00\x00\x00"+fmt.Sprint(i)) + flvTagOf(flvVideo, "\x17\x01\x00\x00\x00"+zeros(size)))
		}
		for _, cut := range []cutter{whole, randomly(1, 5000)} {
			if f := follow([]byte(b.String()), cut); f.Container() != want {
				t.Errorf("new init segments, %d bytes of media apart: the container is %q, wanted %q", size, f.Container(), want)
			}
		}
	}
}

// What a tag claims to have costs nothing before it is there.
func TestFLVTagsDoNotAllocate(t *testing.T) {
	body := []byte("\x97\xFF\xFF\xFFcut off")
	var u flvUnit
	if n := testing.AllocsPerRun(10, func() { u = flvUnitOf(flvVideo, body) }); n > 0 || u.what != flvOtherTag {
		t.Errorf("%v allocations for a tag that ends early, which is %d, wanted none and %d", n, u.what, flvOtherTag)
	}
}

// As many tracks as no stream has are not followed.
func TestFLVTracksAreFew(t *testing.T) {
	t.Parallel()
	stream := flvVideoHeader
	for i := range maxTracks + 1 {
		if c := follow([]byte(stream), whole).Container(); c != FLV {
			t.Fatalf("with %d tracks the container is %q, wanted %q", i, c, FLV)
		}
		stream += flvTagOf(flvVideo, "\x96\x00avc1"+string([]byte{byte(i)}))
	}
	if c := follow([]byte(stream), whole).Container(); c != Opaque {
		t.Errorf("with %d tracks the container is %q, wanted %q", maxTracks+1, c, Opaque)
	}
}

// Of several SPS in an hvcC the first counts: not each has to be read.
func TestHEVCConfigOfManySPS(t *testing.T) {
	t.Parallel()
	one := mp4Bytes(t, "42 01 01 01 60 00 00 03 00 90 00 00 03 00 00 03 00 1E A0 14 20 79 65 95 94 A4 32 BC 05 A0 20 00 00 03 00 20 00 00 03 03 21")
	other := hevcTrack(one)
	if other.Width == 0 {
		t.Fatalf("the SPS cannot be read: %+v", other)
	}
	head := append(mp4Bytes(t, "01 01 60000000 900000000000 1E"), make([]byte, 22-13)...)
	unit := append([]byte{0, byte(len(one))}, one...)
	config := append(append(append(head, 1, hevcSPS, 0, 2), unit...), 0, 2, 0x42, 0x01)
	if got := hevcConfigTrack(config); got.Width != other.Width || got.Codec != "hvc1.1.6.L30.90" {
		t.Errorf("read %+v, wanted the size of the first SPS, %+v", got, other)
	}
}
