package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// The test client in a real browser: what the tests of its views share. The page is
// driven as a user drives it, and judged by what it shows.
//
// With WS_SCREENSHOTS=dir the pictures that are taken on the way are kept there.

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

// encodeWhole makes two seconds of a moving picture and a tone.
func encodeWhole(t *testing.T, encode ...string) []byte {
	t.Helper()
	return encodeSeconds(t, 2, encode...)
}

// encoded keeps what was encoded: several tests want the same.
var encoded sync.Map

// encodeSeconds makes some seconds of it. The bytes are for reading only.
func encodeSeconds(t *testing.T, seconds int, encode ...string) []byte {
	t.Helper()
	key := fmt.Sprint(seconds, encode)
	if stream, ok := encoded.Load(key); ok {
		return stream.([]byte)
	}
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
	encoded.Store(key, out.Bytes())
	return out.Bytes()
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

// browserMu is held by the test that has the browser: several at a time, beside all
// other tests, would play and record so late that nothing could be said of them.
var browserMu sync.Mutex

// startBrowser starts Chromium without a screen; more are further flags.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) *browserProcess {
	t.Helper()
	browserMu.Lock()
	t.Cleanup(browserMu.Unlock)
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
	hosts  []string // whom the page asked for anything
}

// open opens an address in a window of its own and waits until the page is ready. The
// scripts run before it.
func (b *browserProcess) open(t *testing.T, address string, before ...string) *window {
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
	w.step("watch the network", chromedp.Listen(ctx, w.noteRequest))
	for _, script := range before {
		w.do("prepare the page", chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, cdpage.AddScriptToEvaluateOnNewDocument, cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: script})
			return err
		}))
	}
	w.do("open "+address, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(address))
	w.wait("the page", `document.body?.dataset.ready === 'true'`)
	return w
}

// noteRequest notes the host of whatever the page asks for.
func (w *window) noteRequest(event any) {
	var asked string
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		asked = e.Request.URL
	case *network.EventWebSocketCreated:
		asked = e.URL
	}
	u, err := url.Parse(asked)
	if err != nil || u.Host == "" { // blob: and data: go nowhere
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.hosts, u.Host) {
		w.hosts = append(w.hosts, u.Host)
	}
}

// wantHosts fails if the page asked others than these.
func (w *window) wantHosts(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(want)
	got := slices.Sorted(slices.Values(w.hosts))
	if !slices.Equal(got, want) {
		w.t.Errorf("wanted requests to %v only, got %v", want, got)
	}
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
const status = document.getElementById('status');
const cell = (table, row, name) => document.querySelector('#' + table + ' tr[data-key="' + row + '"] td[data-name="' + name + '"]')?.textContent;
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
		w.ask(`document.body.innerText + '\nvideo: ' + [video?.currentTime, video?.readyState, video?.paused, video?.ended, video?.error?.message].join(' ')`))
}

// ask evaluates an expression that is a string, or a promise of one.
func (w *window) ask(expression string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, mediaPatience)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(() => {`+names+`return `+expression+`})()`, chromedp.EvalAwaitPromise))
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

// press presses keys as a user does, one after another; kb names those without a letter.
func (w *window) press(keys string) {
	w.t.Helper()
	w.do(fmt.Sprintf("press %q", keys), chromedp.KeyEvent(keys))
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
// checks that nothing sticks out at the side, of the window or of what it stands in.
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
			w.wait("buttons within what they stand in", `[...document.querySelectorAll('.button:not(.quiet)')].every((button) =>
				button.getBoundingClientRect().right <= button.parentElement.getBoundingClientRect().right + 0.5)`)
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
