package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ws-stream-server/engine/wstest"
)

// What the tests with real media share: ffmpeg and ffprobe, and clients built on
// somebody else's WebSocket library, as real ones are.

// mediaPatience bounds every single wait of these tests. It is long because the
// machine may be slow; nothing waits longer than it has to.
const mediaPatience = patience

// needTools skips the test when a program is missing, and fails it in CI, where
// all of them have to be there. Media is encoded in real processes, so -short
// leaves these tests out.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	if testing.Short() {
		wstest.Skip(t, "encodes real media")
	}
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		wstest.Skip(t, "%s is not installed", name)
	}
}

// within is a context for one step of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Clients.

// dialMedia opens a stream connection: plain when trust is nil, over TLS otherwise.
func dialMedia(t *testing.T, addr, path string, trust *tls.Config) *websocket.Conn {
	t.Helper()
	scheme, transport := "ws", &http.Transport{DisableKeepAlives: true}
	if trust != nil {
		scheme, transport.TLSClientConfig = "wss", trust
	}
	conn, resp, err := websocket.Dial(within(t, mediaPatience), scheme+"://"+addr+path, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: transport},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		t.Fatalf("%s: cannot connect: %v", path, err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(-1)
	return conn
}

// recorder reads a connection to its end and keeps everything.
type recorder struct {
	name string
	done chan struct{} // closed after the last message; then end may be read
	end  error

	mu      sync.Mutex // guards what follows
	cond    *sync.Cond
	packets [][]byte
	texts   []string
}

// startRecorder reads conn in the background until it ends. Each packet is also
// given to sink, which may be nil, and each TEXT is answered with `h` when answer
// is set, as an HLS encoder does.
func startRecorder(t *testing.T, name string, conn *websocket.Conn, sink io.Writer, answer bool) *recorder {
	t.Helper()
	r := &recorder{name: name, done: make(chan struct{})}
	r.cond = sync.NewCond(&r.mu)
	ctx, cancel := context.WithTimeout(context.Background(), 5*mediaPatience)
	go func() {
		defer cancel()
		err := r.read(ctx, conn, sink, answer)
		r.mu.Lock()
		r.end = err
		close(r.done)
		r.cond.Broadcast()
		r.mu.Unlock()
	}()
	return r
}

// startReceiver is the recorder of a plain receiver.
func startReceiver(t *testing.T, addr, path string, trust *tls.Config) *recorder {
	t.Helper()
	return startRecorder(t, path, dialMedia(t, addr, path, trust), nil, false)
}

func (r *recorder) read(ctx context.Context, conn *websocket.Conn, sink io.Writer, answer bool) error {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if kind == websocket.MessageBinary {
			r.packets = append(r.packets, data)
		} else {
			r.texts = append(r.texts, string(data))
		}
		r.cond.Broadcast()
		r.mu.Unlock()
		if kind == websocket.MessageBinary && sink != nil {
			if _, err := sink.Write(data); err != nil {
				return fmt.Errorf("cannot hand a packet on: %w", err)
			}
		}
		if kind == websocket.MessageText && answer {
			if err := conn.Write(ctx, websocket.MessageText, []byte("h")); err != nil {
				return err
			}
		}
	}
}

// count is the number of packets so far.
func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.packets)
}

// waitFor returns once there are at least n packets.
func (r *recorder) waitFor(t *testing.T, n int) {
	t.Helper()
	r.waitUntil(t, fmt.Sprint(n, " packets"), func() bool { return len(r.packets) >= n })
}

// waitForBytes returns once there are at least n bytes.
func (r *recorder) waitForBytes(t *testing.T, n int) {
	t.Helper()
	r.waitUntil(t, fmt.Sprint(n, " bytes"), func() bool { return len(bytes.Join(r.packets, nil)) >= n })
}

// waitUntil returns once a condition holds, which is asked with mu held.
func (r *recorder) waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(mediaPatience)
	timer := time.AfterFunc(mediaPatience, r.cond.Broadcast)
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !holds() {
		select {
		case <-r.done:
			t.Fatalf("%s: the connection ended after %d packets, wanted %s: %v", r.name, len(r.packets), what, r.end)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d packets after %v, wanted %s", r.name, len(r.packets), mediaPatience, what)
		}
		r.cond.Wait()
	}
}

// wantClose waits for the end, which must be a close frame with this code, and
// returns every packet that came before it.
func (r *recorder) wantClose(t *testing.T, code websocket.StatusCode) [][]byte {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(mediaPatience):
		t.Fatalf("%s: no end after %v", r.name, mediaPatience)
	}
	if got := websocket.CloseStatus(r.end); got != code {
		t.Fatalf("%s: wanted close code %d, got %d: %v", r.name, code, got, r.end)
	}
	for _, text := range r.texts {
		if text != "h" {
			t.Errorf("%s: unexpected text %q", r.name, text)
		}
	}
	return r.packets
}

// wantSame fails unless both are the same packets with the same boundaries.
func wantSame(t *testing.T, name string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: packet %d differs: %d bytes, wanted %d", name, i, len(got[i]), len(want[i]))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, wanted %d", name, len(got), len(want))
	}
}

// ffmpeg.

// encoder is an ffmpeg process that writes a stream to a pipe.
type encoder struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  io.ReadCloser
	errs bytes.Buffer
	cut  *rand.Rand
}

// Short and small: what matters is the container, not the picture.
const (
	mediaSeconds = 3
	mediaRate    = 15 // pictures a second
	mediaFrames  = mediaSeconds * mediaRate
)

// startEncoder makes ffmpeg generate a moving picture and a tone as live WebM, as
// fast as its reader takes it.
func startEncoder(t *testing.T, codecs ...string) *encoder {
	t.Helper()
	args := []string{
		"-hide_banner", "-loglevel", "error", "-nostdin",
		"-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=192x108:rate=%d:duration=%d", mediaRate, mediaSeconds),
		"-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:sample_rate=48000:duration=%d", mediaSeconds),
	}
	args = append(args, codecs...)
	args = append(args,
		"-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k", "-g", strconv.Itoa(mediaRate), "-pix_fmt", "yuv420p",
		"-c:a", "libopus", "-b:a", "48k",
		"-f", "webm", "-live", "1", "-cluster_time_limit", "500", "-flush_packets", "1", "-")
	e := &encoder{t: t, cmd: exec.CommandContext(within(t, 5*mediaPatience), "ffmpeg", args...), cut: rand.New(rand.NewPCG(1, 2))}
	e.cmd.Stderr = &e.errs
	var err error
	if e.out, err = e.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatalf("cannot start ffmpeg: %v", err)
	}
	t.Cleanup(func() { _ = e.cmd.Process.Kill(); _ = e.cmd.Wait() })
	return e
}

// first returns the first n bytes: the init segment and the first pictures.
func (e *encoder) first(n int) []byte {
	e.t.Helper()
	piece := make([]byte, n)
	if _, err := io.ReadFull(e.out, piece); err != nil {
		e.t.Fatalf("ffmpeg wrote less than %d bytes: %v; it says: %s", n, err, &e.errs)
	}
	return piece
}

// next returns the next piece, now one byte, now some thousand, cut without
// regard to what is inside; nil at the end.
func (e *encoder) next() []byte {
	e.t.Helper()
	size := 1 + e.cut.IntN(4000)
	if e.cut.IntN(8) == 0 {
		size = 1 + e.cut.IntN(10)
	}
	piece := make([]byte, size)
	n, err := io.ReadFull(e.out, piece)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		e.t.Fatalf("cannot read from ffmpeg: %v; it says: %s", err, &e.errs)
	}
	if n == 0 {
		if err := e.cmd.Wait(); err != nil {
			e.t.Fatalf("ffmpeg failed: %v; it says: %s", err, &e.errs)
		}
		return nil
	}
	return piece[:n]
}

// mediaInfo is what ffprobe found in a stream.
type mediaInfo struct {
	codecs map[string]int // decoded frames of each codec
	width  int
}

// probeMedia decodes a whole stream with ffprobe, which must find no error.
func probeMedia(t *testing.T, stream []byte) mediaInfo {
	t.Helper()
	info, complaints := runProbe(t, stream, "-count_frames")
	if complaints != "" {
		t.Errorf("ffprobe complains about the stream: %s", complaints)
	}
	return info
}

// probeBeginning names the codecs of a stream's first bytes. They may stop in the
// middle of anything, so complaints are no news.
func probeBeginning(t *testing.T, stream []byte) mediaInfo {
	t.Helper()
	info, _ := runProbe(t, stream)
	return info
}

func runProbe(t *testing.T, stream []byte, args ...string) (info mediaInfo, complaints string) {
	t.Helper()
	args = append([]string{"-v", "error", "-f", "matroska", "-i", "-", "-of", "json",
		"-show_entries", "stream=codec_name,width,nb_read_frames"}, args...)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(within(t, 2*mediaPatience), "ffprobe", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stream), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffprobe cannot read the stream of %d bytes: %v; it says: %s", len(stream), err, &errs)
	}
	return readProbe(t, out.Bytes()), strings.TrimSpace(errs.String())
}

// readProbe reads what ffprobe writes about streams.
func readProbe(t *testing.T, out []byte) (info mediaInfo) {
	t.Helper()
	var found struct {
		Streams []struct {
			Codec  string `json:"codec_name"`
			Width  int    `json:"width"`
			Frames string `json:"nb_read_frames"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("cannot understand ffprobe: %v\n%s", err, out)
	}
	info.codecs = map[string]int{}
	for _, s := range found.Streams {
		info.codecs[s.Codec], _ = strconv.Atoi(s.Frames)
		info.width = max(info.width, s.Width)
	}
	return info
}

// sendPacket publishes one packet.
func sendPacket(t *testing.T, publisher *websocket.Conn, packet []byte) {
	t.Helper()
	if err := publisher.Write(within(t, mediaPatience), websocket.MessageBinary, packet); err != nil {
		t.Fatalf("cannot publish a packet of %d bytes: %v", len(packet), err)
	}
}

// endPublisher ends a stream in an orderly way. Close gives the server 5 s to answer, and
// a busy one may have to read for longer before it comes to the close frame: a ping is
// waited for first, behind all that was published.
func endPublisher(t *testing.T, publisher *websocket.Conn) {
	t.Helper()
	ctx := within(t, mediaPatience)
	end := make(chan error, 1)
	go func() { // takes the pong, and all else up to the server's close frame
		for {
			if _, _, err := publisher.Read(ctx); err != nil {
				end <- err
				return
			}
		}
	}()
	if err := publisher.Ping(ctx); err != nil {
		t.Fatalf("the server does not come to the end of the stream: %v", err)
	}
	if err := publisher.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatalf("cannot end the publisher: %v", err)
	}
	// Close reads as well, and has closed the connection if the close frame came to it.
	if err := <-end; websocket.CloseStatus(err) != websocket.StatusNormalClosure && !errors.Is(err, net.ErrClosed) {
		t.Fatalf("wanted the publisher's close frame answered, got %v", err)
	}
}
