package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
)

// The cache understands media: who comes late gets the init segment, then starts at a
// sync point, whatever has left the cache.

// mediaStream is a stream that ffmpeg makes: more than the smallest cache holds.
type mediaStream struct {
	name   string
	output string // ffmpeg's arguments
}

// noise makes pictures that are dear: some megabytes in four seconds.
const noise = "-f lavfi -i testsrc2=size=224x168:rate=25,noise=alls=30:allf=t -f lavfi -i sine=sample_rate=48000 -t 4 "

var mediaStreams = []mediaStream{
	{"webm-vp8", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 5M -g 20 -c:a libopus -f webm -live 1"},
	{"webm-vp9", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 5M -g 25 -c:a libopus -f webm -live 1"},
	{"mp4-h264", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 5M -g 25 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof"},
	{"mp4-every-frame", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 5M -g 15 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_every_frame+empty_moov+default_base_moof"},
	{"flv-h264", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 5M -g 20 -pix_fmt yuv420p -c:a aac -f flv"},
	{"mpegts-h264", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 5M -g 20 -pix_fmt yuv420p -c:a aac -f mpegts"},
	{"mp4-av1", "-c:v libsvtav1 -preset 12 -svtav1-params pred-struct=1 -b:v 5M -g 20 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof"},
	{"webm-av1", "-c:v libsvtav1 -preset 12 -b:v 5M -g 20 -pix_fmt yuv420p -c:a libopus -f webm -live 1"},
	{"mpegts-h265", "-c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=none -b:v 5M -g 20 -pix_fmt yuv420p -c:a aac -f mpegts"},
}

// plainStreams are those of which a byte is a packet, one of each container. A cache of 1
// MiB holds some 15 KB of them.
var plainStreams = []mediaStream{
	{"webm", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 80k -g 6 -c:a libopus -f webm -live 1"},
	{"mp4", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 80k -g 6 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof"},
	{"flv", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 80k -g 6 -pix_fmt yuv420p -c:a aac -f flv"},
	{"mpegts", "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 80k -g 6 -pix_fmt yuv420p -c:a aac -f mpegts"},
}

// plain makes pictures that are cheap: some tens of kilobytes in four seconds.
const plain = "-f lavfi -i testsrc2=size=224x168:rate=15 -f lavfi -i sine=sample_rate=48000 -t 4 -b:a 24k "

// cutAtRandom cuts a stream into packets of 1 to most bytes, one in ten of them of a
// single byte.
func cutAtRandom(stream []byte, most int, seed uint64) (packets [][]byte) {
	r := rand.New(rand.NewPCG(seed, 6))
	for len(stream) > 0 {
		n := 1 + r.IntN(most)
		if r.IntN(10) == 0 {
			n = 1
		}
		n = min(n, len(stream))
		packets = append(packets, stream[:n])
		stream = stream[n:]
	}
	return packets
}

// runFFmpeg gives a program bytes at its standard input, and returns what it wrote and
// what it complained of.
func runFFmpeg(t *testing.T, name string, in []byte, args string) (out []byte, complaints string) {
	t.Helper()
	cmd := exec.CommandContext(within(t, 2*mediaPatience), name, append([]string{"-v", "error"}, strings.Fields(args)...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil && stderr.Len() == 0 {
		fmt.Fprint(&stderr, err)
	}
	return stdout.Bytes(), stderr.String()
}

// wantPlayable fails unless ffmpeg decodes all of it without a complaint, and the first
// picture is a key frame. It returns how many pictures there are.
func wantPlayable(t *testing.T, name string, stream []byte) int {
	t.Helper()
	if _, complaints := runFFmpeg(t, "ffmpeg", stream, "-i - -map 0 -enc_time_base -1 -f null -"); complaints != "" {
		t.Errorf("%s: ffmpeg complains of %d bytes: %.500s", name, len(stream), complaints)
	}
	out, _ := runFFmpeg(t, "ffprobe", stream, "-select_streams v:0 -show_entries packet=flags -of csv=p=0 -")
	flags := strings.Fields(string(out))
	if len(flags) == 0 || !strings.HasPrefix(flags[0], "K") {
		t.Errorf("%s: the pictures begin with %.3q, wanted a key frame", name, flags)
	}
	return len(flags)
}

// takeAll reads packets up to the stream's end.
func takeAll(c *wstest.Conn) (all []byte, err error) {
	for {
		m, err := c.NextWithin(mediaPatience)
		switch {
		case err != nil:
			return all, err
		case m.Op == wstest.Binary:
			all = append(all, m.Payload...)
		case m.Op == wstest.Close && m.Code() == 1000:
			return all, nil
		case m.Op == wstest.Close:
			return all, fmt.Errorf("closed with %d", m.Code())
		}
	}
}

// commonEnd returns with how many bytes of b's end a ends.
func commonEnd(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// Real streams, cut into packets at random, whose beginning has long left the cache: who
// joins now gets the init segment and starts with a key frame, as early or as late as
// it has asked, whatever GOP_CACHE_MODE says for those who have not.
func TestLateJoinersDecode(t *testing.T) {
	t.Parallel()
	heavy(t)
	needTools(t, "ffmpeg", "ffprobe")
	full := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_IP_CONCURRENT_CONNECTIONS=0")
	keyFrame := startServer(t, "GOP_CACHE_SIZE_MB=64", "GOP_CACHE_MODE=keyframe")
	for i, m := range mediaStreams {
		t.Run(m.name, func(t *testing.T) {
			stream, complaints := runFFmpeg(t, "ffmpeg", nil, noise+m.output+" -")
			if len(stream) < 3<<19 {
				t.Fatalf("ffmpeg made %d bytes: %s", len(stream), complaints)
			}
			packets := cutAtRandom(stream, 6000, uint64(i))
			got := joinLate(t, full, m.name, packets)
			if n := len(got["full"]); n < 200_000 {
				t.Errorf("full: %d bytes, wanted most of the cache and what came then", n)
			}
			if !bytes.Equal(got["full"], got["default"]) {
				t.Errorf("without a wish %d bytes, with start=full %d", len(got["default"]), len(got["full"]))
			}
			if i%2 == 1 {
				return
			}
			got = joinLate(t, keyFrame, m.name, packets)
			if !bytes.Equal(got["keyframe"], got["default"]) {
				t.Errorf("GOP_CACHE_MODE=keyframe: without a wish %d bytes, with start=keyframe %d", len(got["default"]), len(got["keyframe"]))
			}
		})
	}
}

// The same with a byte to a packet: each unit of a container, and each number in it, lies
// across packets.
func TestLateJoinersOfSingleBytesDecode(t *testing.T) {
	t.Parallel()
	heavy(t)
	needTools(t, "ffmpeg", "ffprobe")
	s := startServer(t, "GOP_CACHE_SIZE_MB=1", "MAX_IP_CONCURRENT_CONNECTIONS=0")
	for _, m := range plainStreams {
		t.Run(m.name, func(t *testing.T) {
			stream, complaints := runFFmpeg(t, "ffmpeg", nil, plain+m.output+" -")
			if len(stream) < 40_000 {
				t.Fatalf("ffmpeg made %d bytes: %s", len(stream), complaints)
			}
			got := joinLate(t, s, m.name, slices.Collect(slices.Chunk(stream, 1)))
			if n := len(got["full"]); n > len(stream)-15_000 {
				t.Errorf("full: %d of %d bytes, wanted a beginning that has left the cache", n, len(stream))
			}
		})
	}
}

// joiner is a receiver that has joined, and what it has got so far.
type joiner struct {
	*wstest.Conn
	got []byte
}

// join returns when the receiver is in its place: only one that waits for the next key
// frame gets nothing of what was published before.
func (s *server) join(channel, query string) *joiner {
	j := &joiner{Conn: wstest.Dial(s.t, s.addr, "/"+channel+"/key/receive"+query)}
	if query == "?start=live" {
		j.Sync()
	} else {
		j.got = bytes.Clone(j.Next().Payload)
	}
	return j
}

// publishPackets publishes packets, many of them at once, and has a receiver get them.
func publishPackets(pub, whole *wstest.Conn, packets [][]byte) {
	for some := range slices.Chunk(packets, 500) {
		frames := make([]wstest.Frame, len(some))
		for i, p := range some {
			frames[i] = wstest.Frame{Op: wstest.Binary, Payload: p}
		}
		pub.SendFrames(frames...)
		whole.WantPackets(some...)
	}
}

// joinLate publishes packets, has receivers join when two thirds are through, and returns
// what each of them got.
func joinLate(t *testing.T, s *server, channel string, packets [][]byte) map[string][]byte {
	t.Helper()
	s = s.on(t)
	pub, whole := s.publish(channel, "key"), s.receive(channel, "key")
	whole.Sync() // so that it is there before the first packet leaves the cache
	half := 2 * len(packets) / 3
	before := len(bytes.Join(packets[:half], nil))
	publishPackets(pub, whole, packets[:half])
	joiners := map[string]*joiner{}
	for name, query := range map[string]string{"default": "", "full": "?start=full", "keyframe": "?start=keyframe", "live": "?start=live"} {
		joiners[name] = s.join(channel, query)
	}
	probe := s.probe(channel, "key")
	first := probe.Next()
	probe.WantClose(1000)
	publishPackets(pub, whole, packets[half:])
	pub.CloseHandshake(1000)
	whole.WantClose(1000)

	stream := bytes.Join(packets, nil)
	got := map[string][]byte{}
	for name, j := range joiners {
		rest, err := takeAll(j.Conn)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got[name] = append(j.got, rest...)
	}
	at, pictures := wantParts(t, stream, got)
	const known = 2 << 10 // so much of a unit may have come before it was known to begin with a key frame
	for name, at := range at {
		if name == "live" && at < before-known || name != "live" && at >= before {
			t.Errorf("%s: it starts at byte %d, and joined at %d", name, at, before)
		}
	}
	t.Logf("%d bytes, joined at %d; pictures %v", len(stream), before, pictures)
	// It may end in the middle of a picture, of which ffprobe complains.
	if out, complaints := runFFmpeg(t, "ffprobe", first.Payload, "-select_streams v:0 -show_entries stream=width,height -of csv=p=0 -"); !strings.HasPrefix(string(out), "224,168") {
		t.Errorf("of the probe's %d bytes ffprobe says %q: %.300s", len(first.Payload), out, complaints)
	}
	return got
}

// wantParts fails unless what receivers got, by the start that they asked for, is an init
// segment and the end of the stream, can be decoded, and is the less the later they start.
// It returns where in the stream they start and how many pictures they got.
func wantParts(t *testing.T, stream []byte, got map[string][]byte) (at, pictures map[string]int) {
	t.Helper()
	at, pictures = map[string]int{}, map[string]int{}
	for _, name := range []string{"full", "keyframe", "live"} {
		pictures[name] = wantPlayable(t, name, got[name])
		n := commonEnd(got[name], stream)
		if rest := len(got[name]) - n; rest > 16<<10 {
			t.Errorf("%s: %d bytes are no end of what was published, wanted only an init segment", name, rest)
		}
		at[name] = len(stream) - n
	}
	if pictures["live"] >= pictures["keyframe"] || pictures["keyframe"] > pictures["full"] {
		t.Errorf("pictures: %v", pictures)
	}
	return at, pictures
}

// SLOW_RECEIVER=skip: a receiver that takes a part of what is published jumps ahead, more
// than once, gets whole units of the container only, and is not closed.
func TestSkippersDecode(t *testing.T) {
	t.Parallel()
	heavy(t)
	needTools(t, "ffmpeg", "ffprobe")
	s := startServer(t, "SLOW_RECEIVER=skip", "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=4", "SEND_BUFFER_KB=32", "ADMIN_ADDRESS="+anyAdmin)
	skips := 0.0
	for i, output := range []string{
		"-c:v libx264 -preset ultrafast -tune zerolatency -b:v 12M -g 5 -pix_fmt yuv420p -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof",
		"-c:v libx264 -preset ultrafast -tune zerolatency -b:v 12M -g 5 -pix_fmt yuv420p -c:a aac -f flv",
		"-c:v libvpx -deadline realtime -cpu-used 8 -b:v 20M -qmax 10 -g 5 -c:a libopus -f webm -live 1",
	} {
		seconds := "-t 8"
		if strings.Contains(output, "libvpx") {
			seconds = "-t 16" // it will not take as many bits
		}
		stream, complaints := runFFmpeg(t, "ffmpeg", nil, strings.Replace(noise, "-t 4", seconds, 1)+output+" -")
		if len(stream) < 10<<20 {
			t.Fatalf("ffmpeg made %d bytes: %s", len(stream), complaints)
		}
		channel := fmt.Sprint("slow", i)
		pub, whole := s.publish(channel, "key"), s.receive(channel, "key")
		slow := s.receive(channel, "key", wstest.ReceiveBuffer(4096))
		var got []byte
		for n, p := range cutAtRandom(stream, 6000, uint64(i)) {
			pub.Send(wstest.Binary, p)
			whole.WantPacket(p)
			if n%4 == 0 {
				got = append(got, slow.Next().Payload...)
			}
		}
		pub.CloseHandshake(1000)
		whole.WantClose(1000)
		rest, err := takeAll(slow)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rest...)
		pictures := wantPlayable(t, channel, got)
		t.Logf("%s: %d of %d bytes, %d pictures", channel, len(got), len(stream), pictures)
		if len(got) > len(stream)-len(stream)/5 {
			t.Errorf("%s: it got %d of %d bytes, wanted skips", channel, len(got), len(stream))
		}
		all := s.metric("wsstream_receiver_skips_total")
		if n := all - skips; n < 2 {
			t.Errorf("%s: %v skips are counted, wanted more than one", channel, n)
		}
		skips = all
	}
}
