package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"ws-stream-server/engine/page"
)

// The test client in a real browser: it publishes with MediaRecorder and watches
// with Media Source Extensions, and it says in words what went wrong. The page is
// driven as a user drives it, and judged by what it shows.
//
// With WS_SCREENSHOTS=dir the pictures that are taken on the way are kept there.
func TestBrowser(t *testing.T) {
	needTools(t, "chromium", "ffmpeg", "ffprobe")
	b := startBrowser(t)
	t.Run("pattern is published in one window and watched in others", b.testPattern)
	t.Run("camera is published", b.testCamera)
	t.Run("streams of ffmpeg are watched", b.testForeignStreams)
	t.Run("wrong key is told in words", b.testWrongKey)
	t.Run("refused handshake is told in words", b.testRefused)
	t.Run("stream without its beginning is told in words", b.testNoBeginning)
	t.Run("fields are checked", b.testFields)
	t.Run("pages of other origins are refused", b.testOrigins)
}

func (b *browserProcess) testPattern(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=16")
	early := startReceiver(t, s.addr, "/cam/key/receive", nil)

	publisher := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=publish")
	publisher.choose("publish-size", "320x180")
	publisher.choose("publish-fps", "15")
	publisher.click("publish-start")
	publisher.wait("on air", `publish.dataset.state === 'live' && number('publish-packets') >= 5`)

	watcher := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	watcher.wantPlaying(320, 180)
	late := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	late.wantPlaying(320, 180)
	for _, w := range []*window{watcher, late} {
		w.wait("the type", `text('watch-type') === 'video/webm;codecs="opus,vp8"' || text('watch-type') === 'video/webm;codecs="vp8,opus"'`)
		w.wait("closeness to the live edge", `number('watch-ahead') < 7`)
	}
	publisher.pictures("publish")
	watcher.pictures("watch")

	publisher.click("publish-stop")
	publisher.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
	for _, w := range []*window{watcher, late} {
		w.wait("the end in words", `watch.dataset.state === 'ended' && watch.dataset.code === '1000' && text('watch-status') === 'The stream ended.'`)
	}

	// What the recorder of the browser made can be decoded from what a receiver got.
	packets := early.wantClose(t, websocket.StatusNormalClosure)
	wantRecording(t, packets, 320, "vp8", "opus")
	// And the watcher got neither more nor less than that receiver.
	want := fmt.Sprintf(`number('watch-packets') === %d && number('watch-bytes') === %d`, len(packets), len(bytes.Join(packets, nil)))
	watcher.wait("all packets", want)
	late.wait("all packets", want)
	for _, w := range []*window{publisher, watcher, late} {
		w.wantNoErrors()
	}
}

func (b *browserProcess) testCamera(t *testing.T) {
	s := startServer(t)
	early := startReceiver(t, s.addr, "/cam/key/receive", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=publish")
	w.choose("publish-source", "camera")
	w.choose("publish-size", "320x180")
	w.choose("publish-fps", "15")
	w.choose("publish-format", "video/webm;codecs=vp9,opus")
	w.choose("publish-timeslice", "250")
	w.click("publish-start")
	w.wait("two seconds on air", `publish.dataset.state === 'live' && number('publish-packets') >= 8`)
	w.click("publish-stop")
	w.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
	wantRecording(t, early.wantClose(t, websocket.StatusNormalClosure), 0, "vp9", "opus")
	w.wantNoErrors()
}

// wantRecording decodes what a browser published: at least a second of it. Width 0
// is any.
func wantRecording(t *testing.T, packets [][]byte, width int, video, audio string) {
	t.Helper()
	info := probeMedia(t, bytes.Join(packets, nil))
	// Chromium's Opus frames last 60 ms.
	if info.codecs[video] < 10 || info.codecs[audio] < 15 || info.width == 0 || width != 0 && info.width != width {
		t.Errorf("wanted a second or more of %s and %s of width %d, ffprobe decodes %+v of %d packets", video, audio, width, info, len(packets))
	}
}

// The page finds out by itself what it is sent.
func (b *browserProcess) testForeignStreams(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=16")
	for _, c := range []struct {
		name, mime string
		encode     []string
	}{
		{"webm-vp9", `video/webm;codecs="vp9,opus"`, []string{"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm", "-live", "1"}},
		{"webm-vp8-vorbis", `video/webm;codecs="vp8,vorbis"`, []string{"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis", "-f", "webm", "-live", "1"}},
		{"mp4-h264", `video/mp4;codecs="avc1.42c00b,mp4a.40.2"`, []string{"-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-level", "1.1", "-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof"}},
		{"webm-sound-only", `audio/webm;codecs="opus"`, []string{"-vn", "-c:a", "libopus", "-f", "webm", "-live", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := encodeWhole(t, c.encode...)
			publisher := dialMedia(t, s.addr, "/"+c.name+"/key/publish", nil)
			w := b.open(t, "http://"+s.addr+"/#channel="+c.name+"&key=key")
			w.choose("watch-behind", "0") // all of it, for it comes at once
			w.click("watch-start")
			w.wait("a connection", `watch.dataset.state === 'waiting'`)
			for len(stream) > 0 {
				n := min(len(stream), 3000)
				sendPacket(t, publisher, stream[:n])
				stream = stream[n:]
			}
			endPublisher(t, publisher)
			w.wait("the whole stream played to its end", `video.ended && video.currentTime > 1.8 && video.error === null`)
			w.wait("the type "+c.mime, "text('watch-type') === '"+c.mime+"'")
			if strings.HasPrefix(c.mime, "video/") {
				w.wait("pictures", `video.videoWidth === 192 && video.getVideoPlaybackQuality().totalVideoFrames >= 15`)
			}
			w.wait("the end in words", `watch.dataset.state === 'ended'`)
			w.wantNoErrors()
		})
	}
}

// encodeWhole makes two seconds of a moving picture and a tone.
func encodeWhole(t *testing.T, encode ...string) []byte {
	t.Helper()
	return encodeSeconds(t, 2, encode...)
}

func encodeSeconds(t *testing.T, seconds int, encode ...string) []byte {
	t.Helper()
	args := append([]string{
		"-hide_banner", "-loglevel", "error", "-nostdin",
		"-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=192x108:rate=15:duration=%d", seconds),
		"-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:sample_rate=48000:duration=%d", seconds),
		"-pix_fmt", "yuv420p", "-g", "15", "-ac", "2",
	}, encode...)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(within(t, 2*mediaPatience), "ffmpeg", append(args, "-")...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffmpeg failed: %v; it says: %s", err, &errs)
	}
	return out.Bytes()
}

func (b *browserProcess) testWrongKey(t *testing.T) {
	s := startServer(t)
	dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=wrong&view=watch")
	w.wait("the refusal in words", `watch.dataset.state === 'failed' && watch.dataset.code === '1008' && text('watch-status').includes('The key was not accepted.') && text('watch-status').includes('Invalid streaming key')`)
	w.wait("a way to try again", `!document.getElementById('watch-start').disabled`)
	w.pictures("wrong-key")
	w.wantNoErrors()
}

func (b *browserProcess) testRefused(t *testing.T) {
	s := startServer(t)
	dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=publish")
	w.click("publish-start")
	w.wait("the refusal in words", `publish.dataset.state === 'failed' && text('publish-status').includes('already has a publisher')`)
}

// A receiver that joins after the cache was cleared has no beginning.
func (b *browserProcess) testNoBeginning(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=0")
	stream := encodeWhole(t, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm", "-live", "1")
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	sendPacket(t, publisher, stream[:6000])
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	w.wait("a connection", `watch.dataset.state === 'waiting'`)
	// The watcher joins the channel after its handshake, when it likes.
	for at := 6000; at < len(stream) && w.ask(`watch.dataset.state`) == "waiting"; at += 500 {
		sendPacket(t, publisher, stream[at:min(at+500, len(stream))])
	}
	w.wait("the reason in words", `watch.dataset.state === 'failed' && text('watch-status').includes('beginning of the stream')`)
	w.wantNoErrors()
}

func (b *browserProcess) testFields(t *testing.T) {
	s := startServer(t)
	for _, path := range []string{"/", "/client/main.js"} {
		if status, _, header := s.get(path); status != http.StatusOK || header.Get("Content-Security-Policy") != page.ContentSecurityPolicy() {
			t.Errorf("%s: wanted 200 and the page's policy, got %d and %v", path, status, header)
		}
	}
	w := b.open(t, "http://"+s.addr+"/")
	w.wait("the server's own address", fmt.Sprintf(`document.getElementById('host').value === %q && document.getElementById('scheme').value === 'ws'`, s.addr))
	w.choose("channel", "not allowed")
	w.click("watch-start")
	w.wait("both problems", `text('channel-problem').includes('only letters') && text('key-problem') === 'Key is missing.' && watch.dataset.state === 'idle'`)
	w.choose("channel", "cam")
	w.choose("key", "k_-1")
	w.wait("no problem", `document.getElementById('channel-problem').hidden && document.getElementById('key-problem').hidden`)
	w.click("watch-start")
	w.wait("a connection", `watch.dataset.state === 'waiting'`)
	w.click("watch-stop")
	w.wait("a stop", `watch.dataset.state === 'idle' && text('watch-status') === 'Stopped.'`)
	w.choose("host", "127.0.0.1:1/x")
	w.click("watch-start")
	w.wait("a problem with the host", `!document.getElementById('host-problem').hidden`)
	if leak := w.ask(`String(location.search + document.cookie + localStorage.length)`); leak != "0" {
		t.Errorf("the page keeps something outside the fragment: %q", leak)
	}
	w.wantNoErrors()
}

// What a browser says of a page's origin decides, also of the server's own page.
func (b *browserProcess) testOrigins(t *testing.T) {
	home := startServer(t)
	w := b.open(t, "http://"+home.addr+"/#channel=cam&key=key")
	for _, c := range []struct{ allowed, state string }{
		{"http://" + home.addr, "waiting"}, {"https://" + home.addr, "failed"}, {"http://example.org", "failed"},
	} {
		s := startServer(t, "ALLOWED_ORIGINS="+c.allowed)
		w.choose("host", s.addr)
		w.click("watch-start")
		w.wait("the state "+c.state, `watch.dataset.state === '`+c.state+`'`)
		if c.state == "waiting" {
			w.click("watch-stop")
			w.wait("a stop", `watch.dataset.state === 'idle'`)
		} else if !strings.Contains(s.logs(), "status=403") {
			t.Errorf("%s: wanted a 403 in the log, got:\n%s", c.allowed, s.logs())
		}
	}
}

// A stream larger than the browser's own buffer, sent much faster than it plays:
// the player makes room, waits or skips, and never gives up.
func TestBrowserWithSmallBuffer(t *testing.T) {
	needTools(t, "chromium", "ffmpeg", "ffprobe")
	const seconds = 40
	stream := encodeSeconds(t, seconds, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1500k", "-minrate", "1500k", "-maxrate", "1500k",
		"-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "500")
	if len(stream) < 2<<20 {
		t.Fatalf("the stream is only %d bytes, too small for this test", len(stream))
	}
	b := startBrowser(t, chromedp.Flag("mse-video-buffer-size-limit-mb", "1"))
	s := startServer(t, "GOP_CACHE_SIZE_MB=64")
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	for rest := stream; len(rest) > 0; {
		n := min(len(rest), 20_000)
		sendPacket(t, publisher, rest[:n])
		rest = rest[n:]
	}

	live := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	live.wait("the live edge", fmt.Sprintf(`number('watch-bytes') === %d && number('watch-queued') === 0 && video.currentTime > %d && number('watch-held') < 36`, len(stream), seconds-8))
	all := b.open(t, "http://"+s.addr+"/#channel=cam&key=key")
	all.choose("watch-behind", "0")
	all.click("watch-start")
	all.wait("a full buffer", fmt.Sprintf(`watch.dataset.state === 'playing' && number('watch-bytes') === %d && number('watch-queued') > 0`, len(stream)))
	all.wait("a faster clock", `(video.playbackRate = 8) === 8`)
	endPublisher(t, publisher)
	for _, w := range []*window{live, all} {
		w.wait("the whole stream played to its end", fmt.Sprintf(`video.ended && video.currentTime > %d - 0.5 && watch.dataset.state === 'ended'`, seconds))
		w.wantNoErrors()
	}
	// One of them skipped, the other did not.
	live.wait("a jump", `text('log').includes('skipped')`)
	all.wait("no jump", `!text('log').includes('skipped')`)
}

// The browser.

// browserProcess is one Chromium, shared by the tests of this file.
type browserProcess struct {
	ctx context.Context
}

// syncBuffer keeps what Chromium says until it is wanted.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// startBrowser starts Chromium without a screen; more are further flags.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) *browserProcess {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "ws-stream-server-browser")
	if err != nil {
		t.Fatal(err)
	}
	said := &syncBuffer{}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.CombinedOutput(io.Writer(said)),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
	}
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage",
		"use-fake-device-for-media-stream", "use-fake-ui-for-media-stream",
		// A window that nobody looks at must not be slowed down.
		"disable-background-timer-throttling", "disable-renderer-backgrounding", "disable-backgrounding-occluded-windows",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	options = append(options, chromedp.Flag("autoplay-policy", "no-user-gesture-required"))

	options = append(options, more...)

	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		stop() // ends Chromium and waits for it
		// Its helpers may write into the profile for a moment longer.
		for range 50 {
			if os.RemoveAll(profile) == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	started := make(chan error, 1)
	go func() { started <- chromedp.Do(ctx) }()
	select {
	case err = <-started:
	case <-time.After(mediaPatience):
		err = fmt.Errorf("no answer after %v", mediaPatience)
	}
	if err != nil {
		said.mu.Lock()
		defer said.mu.Unlock()
		t.Fatalf("cannot start Chromium: %v; it says:\n%s", err, &said.b)
	}
	return &browserProcess{ctx: ctx}
}

// window is one window that shows the page.
type window struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string // what the browser's console complained about
}

// open opens an address in a window of its own and waits until the page is ready.
func (b *browserProcess) open(t *testing.T, url string) *window {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	w := &window{t: t, ctx: ctx}
	w.step("open a window", chromedp.Do(ctx)) // the window lives as long as this context
	console := chromedp.Console(ctx)
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.Type == "error" || m.Type == "warning" || m.Type == chromedp.ConsoleException {
				w.mu.Lock()
				w.errors = append(w.errors, fmt.Sprintf("%s: %s", m.Type, m.Text))
				w.mu.Unlock()
			}
		}
	}()
	w.do("open "+url, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(url))
	w.wait("the page", `document.body?.dataset.ready === 'true'`)
	return w
}

func (w *window) step(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("cannot %s: %v", what, err)
	}
}

func (w *window) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
	defer cancel()
	w.step(what, chromedp.Do(ctx, actions...))
}

// names are the words that the conditions of these tests may use.
const names = `
const watch = document.getElementById('watch'), publish = document.getElementById('publish');
const video = document.getElementById('watch-video');
const text = (id) => document.getElementById(id).textContent;
const number = (id) => Number(document.getElementById(id).dataset.value ?? NaN);
`

// wait waits in the page until a condition holds. The page's policy forbids code
// made of strings, so the loop is part of what is evaluated.
func (w *window) wait(what, condition string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
	defer cancel()
	script := `new Promise((resolve) => {` + names + `
		const look = () => { if (` + condition + `) resolve(true); else setTimeout(look, 50); };
		look();
	})`
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Fatalf("wanted %s: %v; the console says %q; the page shows:\n%s", what, err, w.errors,
		w.ask(`document.body.innerText + '\nvideo: ' + [video.currentTime, video.readyState, video.paused, video.ended, video.error?.message].join(' ')`))
}

// ask evaluates an expression that is a string.
func (w *window) ask(expression string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(() => {`+names+`return `+expression+`})()`))
	if err != nil {
		return "the page does not answer: " + err.Error()
	}
	return answer
}

// click clicks a button as a user does, with the mouse.
func (w *window) click(id string) {
	w.t.Helper()
	w.do("click "+id, chromedp.Click(chromedp.ID(id)))
}

// choose sets a field as a user does: the page hears of it.
func (w *window) choose(id, value string) {
	w.t.Helper()
	script := fmt.Sprintf(`(() => {
		const field = document.getElementById(%q);
		field.value = %q;
		field.dispatchEvent(new Event('input', {bubbles: true}));
		field.dispatchEvent(new Event('change', {bubbles: true}));
		return field.value;
	})()`, id, value)
	ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil || got != value {
		w.t.Fatalf("cannot choose %q in %s: it is %q, %v", value, id, got, err)
	}
}

// wantPlaying waits until the picture has the size, the clock runs and pictures
// are decoded, over more than a second.
func (w *window) wantPlaying(width, height int) {
	w.t.Helper()
	w.wait("a playing picture", fmt.Sprintf(`watch.dataset.state === 'playing' && video.videoWidth === %d && video.videoHeight === %d`, width, height))
	before := w.ask(`video.currentTime + ' && video.getVideoPlaybackQuality().totalVideoFrames > 5 + ' + video.getVideoPlaybackQuality().totalVideoFrames`)
	w.wait("a second more", `video.currentTime > 1 + `+before)
	w.wait("the numbers", `number('watch-pictures') > 5 && number('watch-held') > 0 && number('watch-rate') > 0`)
}

// wantNoErrors fails if the page's policy, or anything else, made the browser complain.
func (w *window) wantNoErrors() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, complaint := range w.errors {
		w.t.Errorf("the browser's console: %s", complaint)
	}
}

// pictures takes screenshots as a wide window and as a phone, light and dark, and
// checks that nothing sticks out at the side.
func (w *window) pictures(name string) {
	w.t.Helper()
	dir := os.Getenv("WS_SCREENSHOTS")
	if dir == "" {
		dir = w.t.TempDir()
	}
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			w.do("dress the page",
				chromedp.EmulateViewport(width, 800),
				chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
					_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					})
					return err
				}))
			w.wait("a page as wide as the window", fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth`, width))
			ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			if err != nil || len(picture) < 10_000 {
				w.t.Fatalf("cannot take a picture: %d bytes, %v", len(picture), err)
			}
			file := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			if err := os.WriteFile(file, picture, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.do("undress the page", chromedp.EmulateViewport(1280, 800))
}
