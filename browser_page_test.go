package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ws-stream-server/engine/page"
)

func (b *browserProcess) testWrongKey(t *testing.T) {
	s := startServer(t)
	dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=wrong&view=watch")
	w.wait("the refusal in words", `watch.dataset.state === 'failed' && watch.dataset.code === '1008' && text('watch-status').includes('The key was not accepted.') && text('watch-status').includes('Invalid streaming key')`)
	w.wait("no second try by itself", `!text('log').includes('again')`)
	w.wait("a way to try again", `!document.getElementById('watch-start').disabled`)
	w.wantNoErrors()
}

// A stream that was published without its beginning is of no container that is known.
func (b *browserProcess) testNoBeginning(t *testing.T) {
	s := startServer(t)
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	w.wait("a connection", `watch.dataset.state === 'waiting'`)
	sendPieces(t, publisher, encodeWhole(t, webmArgs...)[6000:], 500)
	w.wait("the reason in words", `watch.dataset.state === 'failed' && text('watch-status').includes('beginning of the stream')`)
	w.wantNoErrors()
}

// Where there is no cache a watcher begins with the next key frame.
func (b *browserProcess) testNextKeyFrame(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=0")
	stream := encodeSeconds(t, 8, webmArgs...)
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	sendPieces(t, publisher, stream[:len(stream)/2], 500)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	w.wait("a connection", `watch.dataset.state === 'waiting'`)
	s.wantLog(`"session begins" channel=cam kind=receive`)
	sendPieces(t, publisher, stream[len(stream)/2:], 500)
	w.wait("a picture of the second half", `video.videoWidth === 192 && video.readyState >= 2 && video.currentTime > 2 && video.buffered.start(0) > 2`)
	w.wantNoErrors()
}

func (b *browserProcess) testFields(t *testing.T) {
	s := startServer(t)
	for _, path := range []string{"/", "/client/main.js"} {
		if status, _, header := s.get(path); status != http.StatusOK || header.Get("Content-Security-Policy") != page.ContentSecurityPolicy() || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: wanted 200 and the page's policy, got %d and %v", path, status, header)
		}
	}
	w := b.open(t, "http://"+s.addr+"/")
	w.wait("the server's own address", fmt.Sprintf(`document.getElementById('host').value === %q && document.getElementById('scheme').value === 'ws'`, s.addr))
	w.wait("no problem yet", `document.getElementById('channel-problem').hidden`)
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
	w.wait("the theme to be chosen", `(document.getElementById('theme').click(), document.documentElement.dataset.theme === 'dark' && localStorage.theme === 'dark')`)
	w.wait("the system's theme again", `(document.getElementById('theme').click(), document.documentElement.dataset.theme === undefined)`)
	if leak := w.ask(`String(location.search + document.cookie + localStorage.length)`); leak != "0" {
		t.Errorf("the page keeps something outside the fragment: %q", leak)
	}
	w.wantNoErrors()
}

// What a browser says of a page's origin decides, also of the server's own page.
func (b *browserProcess) testOrigins(t *testing.T) {
	home := startServer(t)
	w := b.open(t, "http://"+home.addr+"/#channel=cam&key=key&reconnect=no")
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
		} else {
			s.wantLog("status=403")
		}
	}
}

// Without TLS, and where the page does not want to be named, a browser says of a <video>
// nothing but that it is a browser.
func (b *browserProcess) testHiddenOrigin(t *testing.T) {
	s := startServer(t, "ALLOWED_ORIGINS=http://good.example")
	_, port, _ := net.SplitHostPort(s.addr)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><meta name="referrer" content="no-referrer">
			<body data-ready="true"><video src="http://media.example:%s/cam/key/receive"></video>`, port)
	}))
	t.Cleanup(evil.Close)
	w := b.open(t, strings.Replace(evil.URL, "127.0.0.1", "evil.example", 1))
	w.wait("no stream", `document.querySelector('video').error !== null`)
	s.wantLine("method=GET status=403", `refusal="Forbidden: pages of this origin may not connect"`)
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
	sendPieces(t, publisher, stream, 20_000)

	live := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&reconnect=no")
	live.wait("the live edge", fmt.Sprintf(`number('watch-bytes') === %d && number('watch-queued') === 0 && video.currentTime > %d && number('watch-held') < 36`, len(stream), seconds-8))
	all := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&latency=all&reconnect=no")
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
