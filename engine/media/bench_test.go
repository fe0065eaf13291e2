package media

import "testing"

// BenchmarkStream is what it costs a publisher that its stream is followed: packets of
// 16 KiB, as ffmpeg's and a recorder's are, and of 1 KiB.
func BenchmarkStream(b *testing.B) {
	for name, args := range map[string]string{
		"webm":   "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 4M -g 25 -c:a libopus -f webm",
		"mp4":    "-c:v libx264 -preset ultrafast -b:v 4M -g 25 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof",
		"flv":    "-c:v libx264 -preset ultrafast -b:v 4M -g 25 -pix_fmt yuv420p -c:a aac -f flv",
		"mpegts": "-c:v libx264 -preset ultrafast -b:v 4M -g 25 -pix_fmt yuv420p -c:a aac -f mpegts",
	} {
		stream := encode(b, args)
		for _, size := range []struct {
			name string
			n    int
		}{{"1KiB", 1 << 10}, {"16KiB", 16 << 10}} {
			b.Run(name+"/"+size.name, func(b *testing.B) {
				b.SetBytes(int64(size.n))
				b.ReportAllocs()
				var st *Stream
				at, seq := 0, uint64(0)
				for b.Loop() {
					if st == nil || at == len(stream) {
						st, at, seq = &Stream{}, 0, 0
					}
					n := min(size.n, len(stream)-at)
					st.Write(seq, stream[at:at+n])
					at += n
					seq++
				}
				if st.Container() == Opaque {
					b.Fatal("it was not followed")
				}
			})
		}
	}
}
