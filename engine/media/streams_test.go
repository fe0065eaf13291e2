package media

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"ws-stream-server/engine/wstest"
)

// What the tests with real streams share.

// encoded are the streams that were made, by the arguments they were made with.
var encoded struct {
	sync.Mutex
	streams map[string][]byte
}

// encode makes a stream of generated pictures and a tone with ffmpeg, three seconds of it,
// whose output arguments are given: "-c:v libvpx -g 10 -f webm". A stream is made once a
// process.
func encode(t testing.TB, args string) []byte {
	t.Helper()
	encoded.Lock()
	defer encoded.Unlock()
	if b := encoded.streams[args]; b != nil {
		return b
	}
	const sources = "-nostats -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=frequency=440:sample_rate=48000 -t 3"
	b, complaints := runTool(t, "ffmpeg", nil, sources+" "+args+" -")
	if len(b) == 0 {
		t.Fatalf("ffmpeg made nothing of %s: %s", args, complaints)
	}
	if encoded.streams == nil {
		encoded.streams = map[string][]byte{}
	}
	encoded.streams[args] = b
	return b
}

// runTool runs ffmpeg or ffprobe with these bytes at its standard input, and returns its
// output and what it complained of. Tests that do so begin with TestFFmpeg: who has no
// time for them, as under the race detector, leaves these out.
func runTool(t testing.TB, name string, in []byte, args string) (out []byte, complaints string) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestFFmpeg") && !strings.HasPrefix(t.Name(), "Benchmark") {
		t.Fatalf("a test that starts %s is to have a name that begins with TestFFmpeg", name)
	}
	if _, err := exec.LookPath(name); err != nil {
		wstest.Skip(t, "%s is not installed", name)
	}
	cmd := exec.Command(name, append([]string{"-hide_banner", "-v", "error"}, strings.Fields(args)...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil && stderr.Len() == 0 {
		fmt.Fprint(&stderr, err)
	}
	return stdout.Bytes(), stderr.String()
}

// wantDecodable fails unless ffmpeg decodes the stream from its first frame on without a
// complaint.
func wantDecodable(t testing.TB, stream []byte) {
	t.Helper()
	// Times stay in the stream's own units: a recording's pictures have no steady rate.
	if _, complaints := runTool(t, "ffmpeg", stream, "-nostats -i - -map 0 -enc_time_base -1 -f null -"); complaints != "" {
		t.Errorf("ffmpeg complains of %d bytes: %s", len(stream), complaints)
	}
}

// cutter says how many bytes the next packet gets, at least 1.
type cutter func() int

func whole() int  { return 1 << 30 }
func single() int { return 1 }

// randomly cuts into packets of 1 to 2*mean bytes.
func randomly(seed uint64, mean int) cutter {
	r := rand.New(rand.NewPCG(seed, 1))
	return func() int { return 1 + r.IntN(2*mean) }
}

// found is a sync point in a whole stream, and the init segment that it belongs to.
type found struct {
	at   int // byte of the stream
	init []byte
}

// following is what a Stream found in a whole one.
type following struct {
	*Stream
	points     []found // those of the newest init segment
	unforeseen []Point // those that lay in earlier packets, and were not pending
	held       []Point // what was pending still when a sync point behind it had been found
}

// follow cuts a stream into packets, also empty ones, and follows it. The bytes of a packet
// are destroyed as soon as Write has returned.
func follow(stream []byte, cut cutter) following {
	f := following{Stream: &Stream{}}
	var starts []int
	var init []byte
	for at := 0; at < len(stream); {
		n := min(cut(), len(stream)-at)
		if len(starts)%7 == 3 {
			n = 0
		}
		starts = append(starts, at)
		b := bytes.Clone(stream[at : at+n])
		seq := uint64(len(starts) - 1)
		pending, some := f.Pending()
		points := f.Write(seq, b)
		for i := range b {
			b[i] = 0xDB
		}
		if in := f.Init(); len(in) > 0 && (init == nil || &in[0] != &init[0]) {
			init, f.points = in, nil
		}
		for _, p := range points {
			if early := !some || before(p, pending); p.Seq < seq && early {
				f.unforeseen = append(f.unforeseen, p)
			}
			f.points = append(f.points, found{starts[p.Seq] + p.Offset, init})
		}
		if n := len(points); n > 0 {
			if p, some := f.Pending(); some && before(p, points[n-1]) {
				f.held = append(f.held, p)
			}
		}
		at += n
	}
	return f
}

func before(p, q Point) bool { return p.Seq < q.Seq || p.Seq == q.Seq && p.Offset < q.Offset }

// from is what a joiner gets who starts at the i-th sync point.
func (f following) from(stream []byte, i int) []byte {
	p := f.points[i]
	return append(bytes.Clone(p.init), stream[p.at:]...)
}

// wantSame fails unless two followings of one stream, cut in different ways, found the same.
func (f following) wantSame(t testing.TB, other following) {
	t.Helper()
	if f.Container() != other.Container() || !bytes.Equal(f.Init(), other.Init()) || fmt.Sprint(f.Tracks()) != fmt.Sprint(other.Tracks()) {
		t.Errorf("cut in two ways: container %v and %v, init segments of %d and %d bytes, tracks %v and %v", f.Container(), other.Container(), len(f.Init()), len(other.Init()), f.Tracks(), other.Tracks())
	}
	if early := append(f.unforeseen, other.unforeseen...); len(early) > 0 {
		t.Errorf("sync points in earlier packets, at %v, were not pending", early)
	}
	if held := append(f.held, other.held...); len(held) > 0 {
		t.Errorf("%v was pending still when a sync point behind it had been found", held)
	}
	at := func(ps []found) (all []int) {
		for _, p := range ps {
			all = append(all, p.at)
		}
		return all
	}
	if a, b := fmt.Sprint(at(f.points)), fmt.Sprint(at(other.points)); a != b && max(len(f.points), len(other.points)) < maxFound {
		t.Errorf("cut in two ways: sync points at %s and %s", a, b)
	}
}
