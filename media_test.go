package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ws-stream-server/engine/wstest"
)

// A real stream, encoded while it is published, reaches every kind of receiver
// byte for byte and with its message boundaries, and can be decoded there: one
// that was there before the publisher, one that joined in the middle and starts
// with the cache, one over TLS, and one that joined just before the end.
func TestMediaReachesEveryReceiver(t *testing.T) {
	for _, c := range []struct {
		name, codec string
		encode      []string
		publishTLS  bool
	}{
		{"VP8", "vp8", []string{"-c:v", "libvpx"}, false},
		{"VP9 published over TLS", "vp9", []string{"-c:v", "libvpx-vp9", "-row-mt", "1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			needTools(t, "ffmpeg", "ffprobe")
			id := wstest.NewIdentity(t, "media")
			trust := id.Trust()
			s, _ := startTLS(t, id, "GOP_CACHE_SIZE_MB=16")
			early := startReceiver(t, s.addr, "/cam/key/receive", nil)
			earlyTLS := startReceiver(t, s.tlsAddr, "/cam/key/receive", trust)

			var publisher *websocket.Conn
			if c.publishTLS {
				publisher = dialMedia(t, s.tlsAddr, "/cam/key/publish", trust)
			} else {
				publisher = dialMedia(t, s.addr, "/cam/key/publish", nil)
			}
			waitingProbe := startReceiver(t, s.addr, "/cam/key/probe", nil)

			ffmpeg := startEncoder(t, c.encode...)
			sent := [][]byte{ffmpeg.first(6000)}
			sendPacket(t, publisher, sent[0])
			var late, lateTLS, lateProbe *recorder
			for piece := ffmpeg.next(); piece != nil; piece = ffmpeg.next() {
				sendPacket(t, publisher, piece)
				sent = append(sent, piece)
				if len(sent) == 10 {
					early.waitFor(t, 10) // so the late ones find ten packets in the cache
					late = startReceiver(t, s.addr, "/cam/key/receive", nil)
					lateTLS = startReceiver(t, s.tlsAddr, "/cam/key/receive", trust)
					lateProbe = startReceiver(t, s.addr, "/cam/key/probe", nil)
				}
			}
			if late == nil {
				t.Fatalf("ffmpeg wrote only %d pieces", len(sent))
			}
			last := startReceiver(t, s.tlsAddr, "/cam/key/receive", trust)
			last.waitFor(t, len(sent)) // all of it from the cache
			endPublisher(t, publisher)

			for name, r := range map[string]*recorder{
				"early": early, "early over TLS": earlyTLS, "late": late, "late over TLS": lateTLS, "last over TLS": last,
			} {
				wantSame(t, name, r.wantClose(t, websocket.StatusNormalClosure), sent)
			}
			for name, r := range map[string]*recorder{"waiting probe": waitingProbe, "late probe": lateProbe} {
				wantSame(t, name, r.wantClose(t, websocket.StatusNormalClosure), sent[:1])
			}

			// Every receiver has the same bytes, so decoding one decodes all.
			info := probeMedia(t, bytes.Join(late.packets, nil))
			if info.codecs[c.codec] != mediaFrames || info.width != 192 {
				t.Errorf("wanted %d %s pictures of width 192, ffprobe decodes %+v", mediaFrames, c.codec, info)
			}
			// Opus frames last 20 ms; the encoder adds one or two of delay.
			if n := info.codecs["opus"]; n < mediaSeconds*50 || n > mediaSeconds*50+3 {
				t.Errorf("wanted about %d opus frames, ffprobe decodes %+v", mediaSeconds*50, info)
			}
			beginning := probeBeginning(t, lateProbe.packets[0])
			if _, video := beginning.codecs[c.codec]; !video {
				t.Errorf("the probe's packet does not name %s: %+v", c.codec, beginning)
			}
			if _, audio := beginning.codecs["opus"]; !audio {
				t.Errorf("the probe's packet does not name opus: %+v", beginning)
			}
		})
	}
}

// What an HLS encoder does: as soon as the publisher is accepted, and before its
// first packet, it probes and then receives with the cache cleared, feeding ffmpeg
// until the stream's end, which must be an end that ffmpeg finishes well with.
func TestMediaThroughAnHLSEncoder(t *testing.T) {
	needTools(t, "ffmpeg", "ffprobe")
	s := startServer(t, "GOP_CACHE_SIZE_MB=16")
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	probe := startReceiver(t, s.addr, "/cam/key/probe", nil)
	receiving := dialMedia(t, s.addr, "/cam/key/receive-clear-cache", nil)
	hls := startHLS(t)
	feeder := startRecorder(t, "HLS encoder", receiving, hls.in, true)

	ffmpeg := startEncoder(t, "-c:v", "libvpx")
	sent := [][]byte{ffmpeg.first(6000)}
	sendPacket(t, publisher, sent[0])
	wantSame(t, "probe", probe.wantClose(t, websocket.StatusNormalClosure), sent[:1])
	if codecs := probeBeginning(t, sent[0]).codecs; len(codecs) != 2 {
		t.Fatalf("the probe's packet names %v, wanted vp8 and opus", codecs)
	}

	// Heartbeats of either side are never part of the stream.
	if err := publisher.Write(within(t, mediaPatience), websocket.MessageText, []byte("h")); err != nil {
		t.Fatal(err)
	}
	if err := receiving.Write(within(t, mediaPatience), websocket.MessageText, []byte("h")); err != nil {
		t.Fatal(err)
	}

	const before = 10 // packets that a later receiver must not get
	var late *recorder
	for piece := ffmpeg.next(); piece != nil; piece = ffmpeg.next() {
		sendPacket(t, publisher, piece)
		sent = append(sent, piece)
		if len(sent) == before {
			feeder.waitFor(t, before) // so it has been handed the cache, if there was any
			late = startReceiver(t, s.addr, "/cam/key/receive", nil)
		}
		if late != nil && late.count() == 0 {
			time.Sleep(5 * time.Millisecond) // the late one joins at its own pace
		}
	}
	if late == nil {
		t.Fatalf("ffmpeg wrote only %d pieces", len(sent))
	}
	late.waitFor(t, 1)
	endPublisher(t, publisher)

	wantSame(t, "HLS encoder", feeder.wantClose(t, websocket.StatusNormalClosure), sent)
	live := bytes.Join(late.wantClose(t, websocket.StatusNormalClosure), nil)
	all, missed := bytes.Join(sent, nil), len(bytes.Join(sent[:before], nil))
	at := bytes.Index(live, []byte(webmCluster))
	if at < 0 {
		t.Fatalf("a receiver that joined with the cache off gets %.300q, wanted a cluster", live)
	}
	n := 0 // the init segment: what was published to the list of offsets, and from behind it
	for n < at && live[n] == all[n] {
		n++
	}
	if !bytes.Contains(live[:at], []byte(webmTracks)) || !bytes.Contains(all, live[n:at]) {
		t.Errorf("a receiver that joined with the cache off gets first %.300q, wanted the init segment", live[:at])
	}
	if rest := live[at:]; !bytes.HasSuffix(all[missed:], rest) {
		t.Errorf("and then gets %d bytes, wanted the end of the stream, from behind the %d of %d bytes that it missed", len(rest), missed, len(all))
	}
	wantPlayable(t, "the receiver that joined with the cache off", live)
	hls.wantPlaylist(t)
}

// The IDs of WebM's elements that an init segment ends with, and that pictures are in.
const (
	webmTracks  = "\x16\x54\xAE\x6B"
	webmCluster = "\x1F\x43\xB6\x75"
)

// hlsProcess is an ffmpeg that turns its input into HLS.
type hlsProcess struct {
	dir  string
	cmd  *exec.Cmd
	in   *os.File
	done chan error
	errs bytes.Buffer
}

func startHLS(t *testing.T) *hlsProcess {
	t.Helper()
	h := &hlsProcess{dir: t.TempDir(), done: make(chan error, 1)}
	h.cmd = exec.CommandContext(within(t, 5*mediaPatience), "ffmpeg",
		"-hide_banner", "-loglevel", "error", "-i", "-",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", strconv.Itoa(mediaRate), "-c:a", "aac",
		"-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_filename", filepath.Join(h.dir, "%d.ts"),
		filepath.Join(h.dir, "index.m3u8"))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in = write
	h.cmd.Stdin, h.cmd.Stderr = read, &h.errs
	if err := h.cmd.Start(); err != nil {
		t.Fatalf("cannot start ffmpeg: %v", err)
	}
	_ = read.Close()
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(func() { _ = write.Close(); _ = h.cmd.Process.Kill() })
	return h
}

// wantPlaylist closes the input, as the end of the stream does, and waits for
// ffmpeg to end by itself with a whole playlist.
func (h *hlsProcess) wantPlaylist(t *testing.T) {
	t.Helper()
	_ = h.in.Close()
	select {
	case err := <-h.done:
		if err != nil {
			t.Fatalf("the HLS ffmpeg failed: %v; it says: %s", err, &h.errs)
		}
	case <-time.After(2 * mediaPatience):
		t.Fatalf("the HLS ffmpeg does not end after its input did; it says: %s", &h.errs)
	}
	playlist, err := os.ReadFile(filepath.Join(h.dir, "index.m3u8"))
	if err != nil {
		t.Fatal(err)
	}
	var total float64
	segments := 0
	for lines := bufio.NewScanner(bytes.NewReader(playlist)); lines.Scan(); {
		line := lines.Text()
		if duration, ok := strings.CutPrefix(line, "#EXTINF:"); ok {
			var d float64
			if _, err := fmt.Sscanf(duration, "%f,", &d); err != nil {
				t.Fatalf("cannot read %q: %v", line, err)
			}
			total += d
		} else if line != "" && !strings.HasPrefix(line, "#") {
			segments++
			if info, err := os.Stat(filepath.Join(h.dir, filepath.Base(line))); err != nil || info.Size() == 0 {
				t.Errorf("segment %s is missing or empty: %v", line, err)
			}
		}
	}
	if !strings.Contains(string(playlist), "#EXT-X-ENDLIST") || segments < 2 || total < mediaSeconds-0.5 || total > mediaSeconds+0.5 {
		t.Errorf("wanted a finished playlist of about %d s in several segments, got %.2f s in %d:\n%s", mediaSeconds, total, segments, playlist)
	}
}
