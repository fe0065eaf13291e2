package bench

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/wstest"
)

// payloadSizes are those of a message, in bytes: audio and video. Larger ones come
// chopped anyway, as the server reads at most 64 KiB at once.
var payloadSizes = []int{200, 16 << 10}

// segment is what one TCP segment carries over Ethernet, in bytes.
const segment = 1460

// BenchmarkFrameDecode is what the server does with a publisher's bytes before the
// ring. An operation is one masked BINARY message: its frames are found, and its
// payload is unmasked to another buffer.
//
//	size=           bytes of a message's payload
//	way=whole       one frame, handed over alone and whole
//	way=fragmented  four frames of a quarter each, handed over together
//	way=chopped     one frame; what the messages are together, 64 KiB or more, is
//	                handed over in pieces of 1460 bytes
//	MB/s            bytes of payload, not of headers
//	messages/s      decoded
//
// The baseline is BenchmarkUnmask with the same size and unmask=ours, which is the
// same without the decoding.
func BenchmarkFrameDecode(b *testing.B) {
	ways := []struct {
		name  string
		reads func(payload []byte) [][]byte
	}{
		{"whole", whole}, {"fragmented", fragmented}, {"chopped", chopped},
	}
	for _, size := range payloadSizes {
		for _, way := range ways {
			b.Run(fmt.Sprintf("size=%d/way=%s", size, way.name), func(b *testing.B) {
				payload := distinct(size)
				decode(b, newFeed(way.reads(payload), size), payload)
			})
		}
	}
}

func decode(b *testing.B, f *feed, payload []byte) {
	read := 0
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		n, err := f.message()
		if err != nil {
			b.Fatal(err)
		}
		read += n
	}
	perSecond(b, b.N, "messages/s")
	if read != b.N*len(payload) || !bytes.Equal(f.dst, payload) {
		b.Fatalf("%d bytes were decoded of %d, or wrong ones", read, b.N*len(payload))
	}
}

// feed is a client's bytes as a poller hands them to its decoder, without end.
type feed struct {
	reads [][]byte // whole messages together; not changed: BINARY stays masked
	at    int      // the next of reads
	rest  []byte   // of the last one, not decoded yet
	dst   []byte   // the message, unmasked
	dec   frame.Decoder
}

// newFeed returns a feed of messages with so many bytes of payload.
func newFeed(reads [][]byte, size int) *feed {
	return &feed{reads: reads, dst: make([]byte, size), dec: frame.Decoder{MaxMessage: 64 << 20}}
}

// message decodes the next message to dst and returns the bytes of its payload.
func (f *feed) message() (n int, err error) {
	for {
		ev, rest, err := f.dec.Next(f.rest)
		if err != nil {
			return n, err
		}
		f.rest = rest
		switch ev {
		case frame.NeedMore:
			f.rest = f.reads[f.at]
			if f.at++; f.at == len(f.reads) {
				f.at = 0
			}
		case frame.Data:
			p := f.dec.Piece()
			p.Unmask(f.dst[n:])
			n += len(p.Bytes)
			if p.End {
				return n, nil
			}
		}
	}
}

// distinct returns n bytes of which no stretch resembles another one.
func distinct(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8*37)
	}
	return b
}

func whole(payload []byte) [][]byte {
	return [][]byte{wstest.Frame{Op: wstest.Binary, Payload: payload}.AppendTo(nil)}
}

func fragmented(payload []byte) [][]byte {
	const frames = 4
	var b []byte
	for i := range frames {
		f := wstest.Frame{Op: wstest.Continuation, More: i < frames-1,
			Payload: payload[i*len(payload)/frames : (i+1)*len(payload)/frames]}
		if i == 0 {
			f.Op = wstest.Binary
		}
		b = f.AppendTo(b)
	}
	return [][]byte{b}
}

func chopped(payload []byte) [][]byte {
	var b []byte
	for len(b) < 64<<10 {
		b = wstest.Frame{Op: wstest.Binary, Payload: payload}.AppendTo(b)
	}
	return slices.Collect(slices.Chunk(b, segment))
}

// BenchmarkUnmask is the copy that takes the mask off (RFC 6455, 5.3). An operation
// is one payload, from the buffer that was read to another one.
//
//	size=         bytes of the payload
//	unmask=ours   Piece.Unmask: words of eight bytes
//	unmask=naive  byte by byte, as the RFC puts it
//	MB/s          bytes of payload
func BenchmarkUnmask(b *testing.B) {
	for _, size := range payloadSizes {
		payload := distinct(size)
		read := whole(payload)[0]
		b.Run(fmt.Sprintf("size=%d/unmask=ours", size), func(b *testing.B) {
			var d frame.Decoder
			if ev, _, err := d.Next(read); ev != frame.Data || err != nil {
				b.Fatal("no piece: ", err)
			}
			dst := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				d.Piece().Unmask(dst)
			}
			if !bytes.Equal(dst, payload) {
				b.Fatal("wrong bytes")
			}
		})
		b.Run(fmt.Sprintf("size=%d/unmask=naive", size), func(b *testing.B) {
			masked := read[len(read)-size:]
			key := [4]byte(read[len(read)-size-4:])
			dst := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				naiveUnmask(dst, masked, key)
			}
			if !bytes.Equal(dst, payload) {
				b.Fatal("wrong bytes")
			}
		})
	}
}

func naiveUnmask(dst, src []byte, key [4]byte) {
	for i := range src {
		dst[i] = src[i] ^ key[i%4]
	}
}

// BenchmarkFrameEncode is the header that the server puts before a packet. An
// operation is one header, written to where it stays.
//
//	size=         bytes of the payload that it announces, which makes headers of 4
//	              and of 10 bytes
//	encode=ours   PutHeader
//	encode=naive  appended byte by byte
//	MB/s          bytes of headers
//	frames/s      headers
func BenchmarkFrameEncode(b *testing.B) {
	for _, size := range []int{200, 512 << 10} {
		want := frame.AppendFrame(nil, frame.Binary, make([]byte, size))[:frame.HeaderSize(size)]
		b.Run(fmt.Sprintf("size=%d/encode=ours", size), func(b *testing.B) {
			dst := make([]byte, frame.MaxHeader)
			written := 0
			b.SetBytes(int64(len(want)))
			b.ReportAllocs()
			for b.Loop() {
				written += frame.PutHeader(dst, frame.Binary, size)
			}
			checkHeaders(b, written, dst, want)
		})
		b.Run(fmt.Sprintf("size=%d/encode=naive", size), func(b *testing.B) {
			dst := make([]byte, frame.MaxHeader)
			written := 0
			b.SetBytes(int64(len(want)))
			b.ReportAllocs()
			for b.Loop() {
				written += len(appendHeader(dst[:0], size))
			}
			checkHeaders(b, written, dst, want)
		})
	}
}

func checkHeaders(b *testing.B, written int, dst, want []byte) {
	b.Helper()
	perSecond(b, b.N, "frames/s")
	if written != b.N*len(want) || !bytes.Equal(dst[:len(want)], want) {
		b.Fatalf("%d bytes were written of %d, or wrong ones: % x", written, b.N*len(want), dst)
	}
}

// appendHeader is frame.PutHeader's baseline (RFC 6455, 5.2), for BINARY.
func appendHeader(dst []byte, payload int) []byte {
	dst = append(dst, 0x82) // FIN, BINARY
	var length int          // bytes of it
	switch {
	case payload < 126:
		return append(dst, byte(payload))
	case payload < 1<<16:
		dst, length = append(dst, 126), 2
	default:
		dst, length = append(dst, 127), 8
	}
	for i := length - 1; i >= 0; i-- {
		dst = append(dst, byte(uint64(payload)>>(8*i)))
	}
	return dst
}

// perSecond reports how often something happened in a second of the benchmark.
func perSecond(b *testing.B, n int, unit string) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), unit)
}
