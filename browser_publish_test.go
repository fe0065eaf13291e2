package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// The Publish view in a real browser: what it sends is judged by what a receiver of
// the channel gets and by what ffmpeg makes of that.
func TestBrowserPublish(t *testing.T) {
	t.Parallel()
	needTools(t, "chromium", "ffmpeg", "ffprobe")
	b := startBrowser(t)
	t.Run("the clock is published, received and watched", b.testClock)
	t.Run("codec, slices and key pictures are chosen", b.testChoices)
	t.Run("who comes late decodes what a browser records", b.testLateJoiners)
	t.Run("a camera is published", b.testCamera)
	t.Run("the screen is published", b.testScreen)
	t.Run("a file is published", b.testFile)
	t.Run("a server comes back", b.testServerComesBack)
	t.Run("a backlog is dropped and the stream begins anew", b.testBacklog)
	t.Run("closes are obeyed", b.testCloses)
	t.Run("problems are told in words", b.testPublishProblems)
	t.Run("the page's own decisions", b.testDecisions)
}

// openPublish opens the view with the clock and small pictures chosen. The scripts run
// before the page.
func (b *browserProcess) openPublish(t *testing.T, addr string, before ...string) *window {
	t.Helper()
	w := b.open(t, "http://"+addr+"/#channel=cam&key=key&view=publish", before...)
	w.click("publish-source-clock")
	w.choose("publish-size", "320x180")
	w.choose("publish-fps", "15")
	w.choose("publish-backlog", "15") // a busy machine is behind for a while
	return w
}

// keepRecorded makes the page remember what its recorders brought, in order.
const keepRecorded = `(() => {
	const read = Blob.prototype.arrayBuffer;
	window.recorded = [];
	Blob.prototype.arrayBuffer = async function () {
		const bytes = await read.call(this);
		window.recorded.push(bytes.slice(0));
		return bytes;
	};
	return '';
})()`

const hashRecorded = `new Blob(window.recorded).arrayBuffer().then((all) => crypto.subtle.digest('SHA-256', all))
	.then((hash) => [...new Uint8Array(hash)].map((b) => b.toString(16).padStart(2, '0')).join(''))`

// wantRecorded fails unless these packets are what the page remembered to have recorded.
func (w *window) wantRecorded(packets [][]byte) {
	w.t.Helper()
	received := sha256.Sum256(bytes.Join(packets, nil))
	if got := w.ask(hashRecorded); got != hex.EncodeToString(received[:]) {
		w.t.Errorf("what was recorded is not what was received: %s and %x", got, received)
	}
}

func (b *browserProcess) testClock(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=16")
	early := startReceiver(t, s.addr, "/cam/key/receive", nil)

	publisher := b.openPublish(t, s.addr)
	publisher.ask(keepRecorded)
	publisher.wait("no link yet", `document.getElementById('publish-link-row').hidden`)
	publisher.click("publish-start")
	publisher.wait("on air", `publish.dataset.state === 'live' && number('publish-packets') >= 5 && number('publish-rate') > 0 && number('publish-runs') === 1`)
	publisher.wait("the preview", `document.getElementById('publish-video').videoWidth === 320`)
	publisher.wait("the plots in words", `['rate', 'backlog', 'pictures'].every((name) => document.getElementById('publish-plot-' + name).getAttribute('aria-label').includes('seconds: now '))`)

	link := publisher.ask(`document.getElementById('publish-link').value`)
	if want := "http://" + s.addr + "/#view=watch&channel=cam&key=key"; link != want {
		t.Errorf("the link to watch is %q, wanted %q", link, want)
	}
	watcher := b.open(t, link+"&reconnect=no")
	watcher.wantPlaying(320, 180)
	late := b.open(t, link+"&reconnect=no")
	late.wantPlaying(320, 180)
	for _, w := range []*window{watcher, late} {
		w.wait("the type", `text('watch-type') === 'video/webm;codecs="opus,vp8"' || text('watch-type') === 'video/webm;codecs="vp8,opus"'`)
	}
	publisher.pictures("publish")

	publisher.click("publish-stop")
	publisher.wait("a stopped publisher", `publish.dataset.state === 'idle' && text('publish-status') === 'Stopped.' && document.getElementById('publish-video').srcObject === null`)
	for _, w := range []*window{watcher, late} {
		w.wait("the end in words", `watch.dataset.state === 'ended' && watch.dataset.code === '1000' && text('watch-status') === 'The stream ended.'`)
	}

	// What the recorder made is what a receiver got, byte for byte, and can be decoded.
	packets := early.wantClose(t, websocket.StatusNormalClosure)
	publisher.wantRecorded(packets)
	wantRecording(t, packets, 320, "vp8", "opus")
	wantBeeps(t, bytes.Join(packets, nil))
	// And every watcher, and the page's own counters, have neither more nor less.
	count := func(view string) string {
		return fmt.Sprintf(`number('%s-packets') === %d && number('%s-bytes') === %d`, view, len(packets), view, len(bytes.Join(packets, nil)))
	}
	publisher.wait("all packets", count("publish"))
	watcher.wait("all packets", count("watch"))
	late.wait("all packets", count("watch"))
	for _, w := range []*window{publisher, watcher, late} {
		w.wantNoErrors()
	}
}

// wantBeeps fails unless the stream has a sound that can be heard.
func wantBeeps(t *testing.T, stream []byte) {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(within(t, mediaPatience), "ffmpeg", "-hide_banner", "-nostdin", "-i", "-", "-vn", "-af", "volumedetect", "-f", "null", "-")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stream), &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffmpeg cannot decode the sound: %v; it says: %s", err, &errs)
	}
	found := regexp.MustCompile(`max_volume: (-?[0-9.]+) dB`).FindStringSubmatch(errs.String())
	if found == nil {
		t.Fatalf("ffmpeg does not tell the loudness; it says: %s", &errs)
	}
	if loudest, _ := strconv.ParseFloat(found[1], 64); loudest < -40 {
		t.Errorf("the sound is silent: %v dB at most", loudest)
	}
}

func (b *browserProcess) testChoices(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct {
		name, format, slice, key string
		codec, sound             string
	}{
		{"vp8-short", "video/webm;codecs=vp8,opus", "50", "1", "vp8", "opus"},
		{"vp9-long", "video/webm;codecs=vp9,opus", "1000", "1", "vp9", "opus"},
		{"h264-mp4", "video/mp4;codecs=avc1.42E01E,opus", "100", "1", "h264", "opus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			early := startReceiver(t, s.addr, "/"+c.name+"/key/receive", nil)
			w := b.openPublish(t, s.addr)
			w.ask(keepRecorded)
			w.choose("channel", c.name)
			w.choose("publish-format", c.format)
			w.choose("publish-timeslice", c.slice)
			w.choose("publish-key", c.key)
			w.wait("the hint about MP4", fmt.Sprintf(`document.getElementById('publish-hint').hidden === %v`, c.codec != "h264"))
			w.click("publish-start")
			w.wait("four seconds on air", `publish.dataset.state === 'live' && number('publish-time') >= 4`)
			w.click("publish-stop")
			w.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
			packets := early.wantClose(t, websocket.StatusNormalClosure)
			w.wantRecorded(packets)
			found := probePictures(t, bytes.Join(packets, nil))
			if want := []string{c.codec, c.sound}; !slices.Contains(found.codecs, want[0]) || !slices.Contains(found.codecs, want[1]) || len(found.codecs) != 2 || found.width != 320 {
				t.Errorf("wanted %s and %s of width 320, got %q of %d", c.codec, c.sound, found.codecs, found.width)
			}
			// A busy machine makes slices and intervals longer, never shorter.
			if slice, _ := strconv.Atoi(c.slice); len(packets) > int(found.seconds)*1000/slice+3 {
				t.Errorf("%d packets in %.1f s, which is more than one in %d ms", len(packets), found.seconds, slice)
			}
			if longest := 1 + found.longestPicture + 0.2; found.longestKey > longest {
				t.Errorf("%.2f s between two key pictures, wanted %.2f s at most; found %+v", found.longestKey, longest, found)
			}
			w.wantNoErrors()
		})
	}
}

// pictures is what ffprobe tells about a stream without knowing its format.
type pictures struct {
	codecs         []string
	width          int
	seconds        float64 // from the first to the last picture
	longestPicture float64 // seconds from one picture to the next, at most
	longestKey     float64 // seconds from one key picture to the next, or to the end
}

func probePictures(t *testing.T, stream []byte) (found pictures) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(within(t, mediaPatience), "ffprobe", "-v", "error", "-of", "json", "-show_entries", "stream=codec_name,width:packet=codec_type,pts_time,flags", "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stream), &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("ffprobe cannot read the stream of %d bytes: %v; it says: %s", len(stream), err, &errs)
	}
	var told struct {
		Streams []struct {
			Codec string `json:"codec_name"`
			Width int    `json:"width"`
		} `json:"streams"`
		Packets []struct {
			Type  string `json:"codec_type"`
			At    string `json:"pts_time"`
			Flags string `json:"flags"`
		} `json:"packets"`
	}
	if err := json.Unmarshal(out.Bytes(), &told); err != nil {
		t.Fatalf("cannot understand ffprobe: %v\n%s", err, &out)
	}
	for _, stream := range told.Streams {
		found.codecs = append(found.codecs, stream.Codec)
		found.width = max(found.width, stream.Width)
	}
	first, last, key := -1.0, 0.0, 0.0
	for _, packet := range told.Packets {
		if packet.Type != "video" {
			continue
		}
		at, _ := strconv.ParseFloat(packet.At, 64)
		if first < 0 {
			first, last, key = at, at, at
		}
		found.longestPicture = max(found.longestPicture, at-last)
		found.longestKey = max(found.longestKey, at-key)
		if strings.Contains(packet.Flags, "K") {
			key = at
		}
		last = at
	}
	found.seconds = last - first
	return found
}

func (b *browserProcess) testCamera(t *testing.T) {
	s := startServer(t)
	early := startReceiver(t, s.addr, "/cam/key/receive", nil)
	w := b.openPublish(t, s.addr)
	w.click("publish-source-camera")
	w.choose("publish-format", "video/webm;codecs=vp9,opus")
	w.choose("publish-timeslice", "250")
	w.click("publish-start")
	w.wait("two seconds on air", `publish.dataset.state === 'live' && number('publish-packets') >= 8`)
	w.click("publish-stop")
	w.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
	wantRecording(t, early.wantClose(t, websocket.StatusNormalClosure), 0, "vp9", "opus")
	w.wantNoErrors()
}

// The screen is published until somebody ends the sharing in the browser.
func (b *browserProcess) testScreen(t *testing.T) {
	s := startServer(t)
	early := startReceiver(t, s.addr, "/cam/key/receive", nil)
	w := b.openPublish(t, s.addr)
	w.click("publish-source-screen")
	w.click("publish-start")
	w.wait("a second on air", `publish.dataset.state === 'live' && number('publish-time') > 1 && number('publish-packets') >= 5`)
	w.wait("the preview", `document.getElementById('publish-video').videoWidth > 0`)
	w.ask(`(document.getElementById('publish-video').srcObject.getTracks().forEach((track) => track.dispatchEvent(new Event('ended'))), '')`)
	w.wait("the end in words", `publish.dataset.state === 'idle' && text('publish-status') === 'The source ended.'`)
	info := probeMedia(t, bytes.Join(early.wantClose(t, websocket.StatusNormalClosure), nil))
	if info.codecs["vp8"] < 5 || info.width == 0 {
		t.Errorf("wanted pictures of the screen, ffprobe decodes %+v", info)
	}
	w.wantNoErrors()
}

// A file is published as it is, or in another size, and its end is the stream's.
func (b *browserProcess) testFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "film.webm")
	writeFile(t, file, string(encodeSeconds(t, 4, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm")))
	s := startServer(t)
	for _, c := range []struct {
		size  string
		width int
	}{{"", 192}, {"320x180", 320}} {
		early := startReceiver(t, s.addr, "/cam/key/receive", nil)
		w := b.openPublish(t, s.addr)
		w.click("publish-source-file")
		w.choose("publish-size", c.size)
		w.click("publish-start")
		w.wait("a wish for a file", `publish.dataset.state === 'failed' && text('publish-status') === 'Choose a file first.'`)
		w.do("choose a file", chromedp.SetUploadFiles(chromedp.ID("publish-file"), []string{file}))
		w.click("publish-loop") // off
		w.click("publish-start")
		w.wait("the end of the file", `publish.dataset.state === 'idle' && text('publish-status') === 'The source ended.'`)
		packets := early.wantClose(t, websocket.StatusNormalClosure)
		wantRecording(t, packets, c.width, "vp8", "opus")
		wantBeeps(t, bytes.Join(packets, nil))
		w.wantNoErrors()
	}
}
