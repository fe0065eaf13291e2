package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
)

// The Watch view in a real browser: what it plays, how it keeps near the live edge, and
// what it says when it cannot.
func TestBrowserWatch(t *testing.T) {
	needTools(t, "chromium", "ffmpeg")
	b := startBrowser(t, chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	t.Run("streams of ffmpeg are watched", b.testForeignStreams)
	t.Run("a stream that begins anew is started over", b.testRestart)
	t.Run("who paused is left alone", b.testPaused)
	t.Run("statistics end with the stream", b.testStatisticsEnd)
	t.Run("what waits for the browser is bounded", b.testQueueBound)
	t.Run("the picture goes on behind a gap", b.testGaps)
	t.Run("also when it had run dry", b.testGapAtEdge)
	t.Run("a slow watcher is skipped ahead", b.testSkips)
	t.Run("a stream is watched from its middle", b.testJoinedLate)
	t.Run("where to start is asked for", b.testStarts)
	t.Run("an init segment once more is no new stream", b.testRepeats)
	t.Run("a stream that begins byte by byte is followed", b.testSingleBytes)
	t.Run("the live edge is chased or jumped to", b.testEdge)
	t.Run("sound comes with one tap, keys do the rest", b.testKeyboard)
	t.Run("other formats are told with what plays them", b.testHints)
	t.Run("browsers with a managed media source, or none", b.testManaged)
	t.Run("wrong key is told in words", b.testWrongKey)
	t.Run("close codes are honoured", b.testCloseCodes)
	t.Run("stream without its beginning is told in words", b.testNoBeginning)
	t.Run("without a cache the next key frame is the first", b.testNextKeyFrame)
	t.Run("fields are checked", b.testFields)
	t.Run("pages of other origins are refused", b.testOrigins)
	t.Run("pages that hide show nothing", b.testHiddenOrigin)
	t.Run("the player's modules decide as they say", b.testModules)
	t.Run("other sites embed the player", b.testEmbed)
}

// webmArgs encode WebM as ffmpeg and browsers send it.
var webmArgs = []string{"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm", "-live", "1"}

var mp4Args = []string{"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof"}

// sendPieces publishes a stream in packets of n bytes.
func sendPieces(t *testing.T, publisher *websocket.Conn, stream []byte, n int) {
	t.Helper()
	for len(stream) > 0 {
		n := min(len(stream), n)
		sendPacket(t, publisher, stream[:n])
		stream = stream[n:]
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
			// All of it, for it comes at once.
			w := b.open(t, "http://"+s.addr+"/#channel="+c.name+"&key=key&view=watch&latency=all&reconnect=no")
			w.wait("a connection", `watch.dataset.state === 'waiting'`)
			sendPieces(t, publisher, stream, 3000)
			endPublisher(t, publisher)
			w.wait("the whole stream played to its end", `video.ended && video.currentTime > 1.8 && video.error === null`)
			w.wait("the type "+c.mime, "text('watch-type') === '"+c.mime+"'")
			if strings.HasPrefix(c.mime, "video/") {
				w.wait("pictures", `video.videoWidth === 192 && video.getVideoPlaybackQuality().totalVideoFrames >= 15`)
			}
			w.wait("the end in words", `watch.dataset.state === 'ended' && watch.dataset.code === '1000' && text('watch-status') === 'The stream ended.'`)
			w.wantNoErrors()
		})
	}
}

// A publisher may begin anew on its connection: anywhere in the bytes with the same kind
// of stream, at a packet's beginning with any.
func (b *browserProcess) testRestart(t *testing.T) {
	s := startServer(t)
	webm, mp4 := encodeWhole(t, webmArgs...), encodeWhole(t, mp4Args...)
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	sendPieces(t, publisher, webm, 3000)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&latency=all&reconnect=no")
	w.wait("the first stream", `watch.dataset.state === 'playing' && video.currentTime > 0.5`)
	// The second one shares a packet with what comes before it: a cluster of its own with
	// nothing in it, so that the first bytes are those of no file.
	sendPacket(t, publisher, append([]byte{0x1f, 0x43, 0xb6, 0x75, 0x80}, webm...))
	w.wait("a start over", `text('log').includes('began a new stream') && video.currentTime > 0.5`)
	sendPieces(t, publisher, mp4, 3000)
	w.wait("another kind of stream", `text('watch-type').startsWith('video/mp4')`)
	endPublisher(t, publisher)
	w.wait("its end", `watch.dataset.state === 'ended' && video.ended && video.currentTime > 1.8 && video.error === null`)
	if got := w.ask(`String(text('log').match(/began a new stream/g).length)`); got != "2" {
		t.Errorf("wanted the stream begun anew twice, got %s times", got)
	}
	w.wantNoErrors()
}

// A pause holds when the publisher begins anew, and when another one comes.
func (b *browserProcess) testPaused(t *testing.T) {
	s := startServer(t)
	webm := encodeWhole(t, webmArgs...)
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	sendPieces(t, publisher, webm, 3000)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&latency=all",
		`addEventListener('play', () => { window.plays = (window.plays ?? 0) + 1; }, true);`)
	w.wait("a playing picture", `watch.dataset.state === 'playing' && window.plays === 1`)
	w.press("k")
	w.wait("a pause", `video.paused && watch.dataset.state === 'paused'`)
	sendPieces(t, publisher, webm, 3000)
	w.wait("a start over", `text('log').includes('began a new stream') && video.buffered.length > 0 && watch.dataset.state === 'paused'`)
	endPublisher(t, publisher)
	w.wait("the end", `text('log').includes('The stream ended. Waiting for the next one.')`)
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), webm, 3000)
	w.wait("the next stream", fmt.Sprintf(`number('watch-bytes') === %d && video.buffered.length > 0 && watch.dataset.state === 'paused'`, 3*len(webm)))
	w.press("k")
	w.wait("it to play when it is told to, and not before", `watch.dataset.state === 'playing' && !video.paused && window.plays === 2`)
	w.wantNoErrors()
}

// Once there is nothing to tell, the timer of the statistics is gone.
func (b *browserProcess) testStatisticsEnd(t *testing.T) {
	s := startServer(t)
	sendPieces(t, dialMedia(t, s.addr, "/flv/key/publish", nil), encodeSeconds(t, 1, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ar", "44100", "-f", "flv"), 3000)
	publisher := dialMedia(t, s.addr, "/webm/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#key=key", `
		const timers = globalThis.timers = new Set(), set = setInterval, clear = clearInterval;
		globalThis.setInterval = (f, ms) => { const timer = set(f, ms); if (ms === 500) timers.add(timer); return timer; };
		globalThis.clearInterval = (timer) => { timers.delete(timer); clear(timer); };`)
	before := w.ask(`String(timers.size)`)
	w.choose("channel", "flv")
	w.click("watch-start")
	w.wait("a stream that cannot be played, and no timer", `watch.dataset.state === 'failed' && timers.size === `+before)
	w.click("watch-again") // off
	w.choose("channel", "webm")
	w.click("watch-start")
	w.wait("a connection", `watch.dataset.state === 'waiting' && timers.size > `+before)
	sendPieces(t, publisher, encodeSeconds(t, 1, webmArgs...), 3000)
	endPublisher(t, publisher)
	w.wait("a stream played to its end, and no timer", `watch.dataset.state === 'ended' && video.ended && number('watch-bytes') > 0 && timers.size === `+before)
	w.wantNoErrors()
}

// A player that is sent more than it may keep gives up, in words, and keeps nothing.
func (b *browserProcess) testQueueBound(t *testing.T) {
	s := startServer(t)
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), encodeWhole(t, webmArgs...), 3000)
	w := b.open(t, "http://"+s.addr+"/")
	got := w.ask(`import('/client/player.js').then(({ Player }) => new Promise((resolve) => {
		const player = new Player(document.createElement('video'), { url: 'ws://' + location.host + '/cam/key/receive', queueBytes: 4000 });
		player.addEventListener('error', (event) => resolve([event.detail.words, player.state, player.stats.queued].join('|')));
		player.start();
	}))`)
	if want := "Far more arrives than is played; the player gave up.|failed|0"; got != want {
		t.Errorf("wanted %q, got %q", want, got)
	}
	w.wantNoErrors()
}

// What is a little behind is caught up with, what is far behind skips.
func (b *browserProcess) testEdge(t *testing.T) {
	s := startServer(t)
	near, far := encodeSeconds(t, 5, webmArgs...), encodeSeconds(t, 14, webmArgs...)
	sendPieces(t, dialMedia(t, s.addr, "/near/key/publish", nil), near, 10_000)
	sendPieces(t, dialMedia(t, s.addr, "/far/key/publish", nil), far, 10_000)

	chasing := b.open(t, "http://"+s.addr+"/#channel=near&key=key&view=watch")
	jumping := b.open(t, "http://"+s.addr+"/#channel=far&key=key&view=watch")
	chasing.wait("a faster clock, a little", `video.playbackRate > 1 && video.playbackRate <= 1.08`)
	jumping.wait("a jump", `text('log').includes('skipped') && video.currentTime > 11`)
	chasing.wait("the clock's own speed near the edge", `video.playbackRate === 1 && video.currentTime > 3`)
	chasing.wait("no jump", `!text('log').includes('skipped')`)
	jumping.wait("the clock's own speed", `video.playbackRate === 1`)
	// Nothing more comes: it runs dry, which the panel shows.
	chasing.wait("a stall", `number('watch-stalls') >= 1 && watch.dataset.state === 'buffering'`)
	// The last pictures need not have been shown when it stalls: the rest may be a tenth.
	for plot, now := range map[string]string{
		"buffer": `now 0\.\d s, lowest .*, highest [1-9]`, "behind": `now [1-9]`, "rate": `now \d+ kbit.s`, "stalls": `now \d+ ms`, "dropped": `now \d+,`,
	} {
		chasing.wait("the plot of "+plot+" in words", `/, last 120 seconds: `+now+`/.test(document.getElementById('plot-`+plot+`').ariaLabel)`)
	}
	chasing.wantNoErrors()
}

// Everything can be done without a mouse; the unmute button is pressed with it.
func (b *browserProcess) testKeyboard(t *testing.T) {
	s := startServer(t)
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), encodeSeconds(t, 14, webmArgs...), 10_000)
	w := b.open(t, "http://"+s.addr+"/")
	focus := func(what, id string) {
		t.Helper()
		w.wait("the focus on "+what, `document.activeElement.id === '`+id+`'`)
	}
	w.press(kb.Tab)
	focus("the link to the content", "skip")
	w.press(kb.Tab)
	focus("the tabs", "tab-watch")
	w.press(kb.ArrowRight)
	focus("the next tab", "tab-publish")
	w.wait("the Publish view", `document.getElementById('watch').hidden && !publish.hidden && location.hash === '#view=publish'`)
	w.press(kb.ArrowRight)
	focus("the last tab", "tab-status")
	w.wait("the Status view without the fields of a stream", `!document.getElementById('status').hidden && document.getElementById('connection-card').hidden`)
	w.press(kb.ArrowRight)
	focus("the first tab again", "tab-watch")
	w.press(kb.Tab + kb.Tab + kb.Tab + kb.Tab)
	focus("the channel", "channel")
	w.press("cam" + kb.Tab + "key" + kb.Enter)
	w.wait("a playing picture", `watch.dataset.state === 'playing' && video.muted`)

	w.wait("the offer of sound", `document.querySelector('.unmute').offsetParent !== null`)
	w.do("unmute", chromedp.Click(chromedp.CSS(".unmute")))
	w.wait("sound, and no further offer", `!video.muted && video.volume > 0 && document.querySelector('.unmute').hidden`)
	w.press("m")
	w.wait("silence", `video.muted && watch.dataset.state !== 'failed'`)
	w.press("k")
	w.wait("a pause", `video.paused && watch.dataset.state === 'paused'`)
	w.press("l")
	w.wait("the live edge", `!video.paused && video.currentTime > 11`)
	w.wait("the fields to be left alone", `document.getElementById('key').value === 'key'`)
	w.wantHosts(s.addr)
	w.wantOnlyErrors("404") // Status has asked for what only the operator's address has
	w.wantTouchable()
}

// wantTouchable checks the narrowest phone: nothing sticks out, and what is touched is
// large enough for a finger.
func (w *window) wantTouchable() {
	w.t.Helper()
	for _, view := range []string{"watch", "publish", "status"} {
		w.do("narrow the window", chromedp.EmulateViewport(360, 780))
		w.click("tab-" + view)
		if view == "publish" {
			w.click("publish-source-file")
		}
		w.wait("boxes beside their words", `[...document.querySelectorAll('label.check')].filter((e) => e.offsetParent !== null).every((e) => {
			const label = e.getBoundingClientRect(), box = e.firstElementChild.getBoundingClientRect();
			return Math.abs(label.top + label.bottom - box.top - box.bottom) < 4;
		})`)
		w.wait("a page as wide as the window", `innerWidth === 360 && document.documentElement.scrollWidth <= 360`)
		small := w.ask(`[...document.querySelectorAll('button, select, input:not([type=range], [type=checkbox], [type=radio], [type=file]), label.check')]
			.filter((e) => e.offsetParent !== null && e.getBoundingClientRect().height < 44)
			.map((e) => (e.id || e.className) + ' ' + e.getBoundingClientRect().height).join(', ')`)
		if small != "" {
			w.t.Errorf("%s: wanted 44 pixels for a finger, got %s", view, small)
		}
	}
}

// What browsers do not play is told with the commands that do.
func (b *browserProcess) testHints(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/#key=key")
	for _, c := range []struct {
		channel, name string
		encode        []string
	}{
		{"ts", "MPEG-TS", []string{"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-f", "mpegts"}},
		{"flv", "FLV", []string{"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ar", "44100", "-f", "flv"}},
	} {
		sendPieces(t, dialMedia(t, s.addr, "/"+c.channel+"/key/publish", nil), encodeSeconds(t, 1, c.encode...), 1880)
		w.choose("channel", c.channel)
		w.click("watch-start")
		w.wait("the name of "+c.name, `watch.dataset.state === 'failed' && text('watch-status').startsWith('The stream is `+c.name+`, which browsers do not play')`)
		for _, command := range []string{
			"ffplay -fflags nobuffer http://" + s.addr + "/" + c.channel + "/key/receive",
			"mpv --profile=low-latency http://" + s.addr + "/" + c.channel + "/key/receive",
			"ws://" + s.addr + "/" + c.channel + "/key/receive?heartbeat=ping",
		} {
			w.wait("the command "+command, `text('watch-elsewhere').includes(`+fmt.Sprintf("%q", command)+`)`)
		}
	}
	// An address may have a query of its own.
	address := "ws://" + s.addr + "/flv/key/receive?start=full"
	command := w.ask(`(async () => {
		const { Player } = await import('/client/player.js');
		const player = new Player(document.createElement('video'), { url: '` + address + `' });
		const error = new Promise((done) => player.addEventListener('error', done));
		player.start();
		return (await error).detail.commands.at(-1);
	})().then(String, String)`)
	if !strings.Contains(command, `url: "`+address+`&heartbeat=ping" `) {
		t.Errorf("the command for %s is %s", address, command)
	}
	w.wantNoErrors()
}

// iPhones have the managed kind of media source only; old browsers have none.
func (b *browserProcess) testManaged(t *testing.T) {
	s := startServer(t)
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), encodeWhole(t, webmArgs...), 3000)
	address := "http://" + s.addr + "/#channel=cam&key=key&view=watch"
	w := b.open(t, address, `globalThis.ManagedMediaSource = class ManagedMediaSource extends MediaSource {}; delete globalThis.MediaSource;`)
	w.wait("a playing picture", `typeof MediaSource === 'undefined' && watch.dataset.state === 'playing' && video.disableRemotePlayback`)
	w.wantNoErrors()
	none := b.open(t, address, `delete globalThis.MediaSource; delete globalThis.ManagedMediaSource;`)
	none.wait("the reason in words", `watch.dataset.state === 'failed' && text('watch-status').includes('no Media Source Extensions')`)
	none.wantNoErrors()
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
