package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

// closer is a server that closes its receivers with one code after another, and then
// says that the key is wrong.
type closer struct {
	*httptest.Server
	t      *testing.T
	stream []byte
	codes  []websocket.StatusCode

	serving sync.WaitGroup
	calls   atomic.Int32
}

func startCloser(t *testing.T, stream []byte, codes ...websocket.StatusCode) *closer {
	t.Helper()
	c := &closer{t: t, stream: stream, codes: codes}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(func() {
		c.Close()
		c.serving.Wait() // upgraded connections are none that Close knows
	})
	return c
}

func (c *closer) receive(w http.ResponseWriter, r *http.Request) {
	c.serving.Add(1)
	defer c.serving.Done()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		c.t.Errorf("cannot accept: %v", err)
		return
	}
	defer func() { _ = conn.CloseNow() }()
	call := int(c.calls.Add(1)) - 1
	if call >= len(c.codes) {
		_ = conn.Write(r.Context(), websocket.MessageText, []byte("ERROR: Invalid streaming key"))
		_ = conn.Close(websocket.StatusPolicyViolation, "invalid streaming key")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), mediaPatience)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte("h")); err != nil {
		c.t.Errorf("cannot send h: %v", err)
	}
	if _, answer, err := conn.Read(ctx); err != nil || string(answer) != "h" {
		c.t.Errorf("wanted h for an answer, got %q, %v", answer, err)
	}
	if err := conn.Write(ctx, websocket.MessageBinary, c.stream); err != nil {
		c.t.Errorf("cannot send the stream: %v", err)
	}
	_ = conn.Close(c.codes[call], "")
}

// The player comes back after what may pass, and not after what does not.
func (b *browserProcess) testCloseCodes(t *testing.T) {
	s := startServer(t)
	c := startCloser(t, encodeSeconds(t, 1, webmArgs...), 4008, websocket.StatusTryAgainLater, websocket.StatusNormalClosure)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&host="+c.Listener.Addr().String())
	w.wait("no connection to another server by a link alone", `watch.dataset.state === 'idle'`)
	w.click("watch-start")
	w.wait("the last word", `watch.dataset.state === 'failed' && watch.dataset.code === '1008' && text('watch-status').includes('The key was not accepted.')`)
	for _, words := range []string{
		"too slow: the network or this machine cannot keep up with the stream. Connecting again …",
		"The server is too busy. Try again later. Connecting again in ",
		"The stream ended. Waiting for the next one.",
	} {
		w.wait("the words "+words, `text('log').includes(`+fmt.Sprintf("%q", words)+`)`)
	}
	if calls := c.calls.Load(); calls != 4 {
		t.Errorf("wanted four connections, got %d", calls)
	}
	w.wantHosts(s.addr, c.Listener.Addr().String())
}

// The decisions of the player, without a video.
func (b *browserProcess) testModules(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/")
	run := func(what, script string) {
		t.Helper()
		if wrong := w.ask(`(async () => {` + script + `})().then(JSON.stringify, String)`); wrong != "[]" {
			t.Errorf("%s, wrong are: %s", what, wrong)
		}
	}
	run("what names a server", `
		const { hostProblem } = await import('/client/link.js');
		const good = ['example.org', 'example.org:8080', '127.0.0.1:1', '[::1]:8080', '[::1]', 'a_b-c.example', 'bücher.example', '例え.jp:443'];
		const bad = ['', 'a b', 'user@example.org', 'user:pass@example.org', 'javascript:alert(1)', 'example.org/x', 'example.org?x', 'example.org#x', 'a\\\\b',
			'$(id).example', '\x60id\x60.example', 'a;id', 'a&id', "a'id", 'a"id', 'a|id', '%65xample.org', 'a:99999', '[::1', 'ws://example.org'];
		return [...good.filter((host) => hostProblem(host) !== ''), ...bad.filter((host) => hostProblem(host) === '')];`)
	run("a codec's name without an end", `
		const { sniff } = await import('/client/media.js');
		const size = (n) => [0x10 | (n >>> 24), (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
		const id = new Uint8Array(1 << 20).fill(0x41);
		id.set([0x56, 0x5f]); // "V_"
		const head = [0x1a, 0x45, 0xdf, 0xa3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255,
			0x16, 0x54, 0xae, 0x6b, ...size(id.length + 10), 0xae, ...size(id.length + 5), 0x86, ...size(id.length)];
		const bytes = new Uint8Array(head.length + id.length);
		bytes.set(head);
		bytes.set(id, head.length);
		const { problem } = sniff(bytes);
		return problem.includes('V_AAA') && problem.length < 200 ? [] : [problem.length];`)
	run("when to come back", `
		const { retryDelay } = await import('/client/link.js');
		const opened = true, retry = true;
		return [
			[{ code: 1008, retry: false, opened }, 0, undefined], [{ code: 4000, retry: false, opened }, 0, undefined],
			[{ code: 4008, retry, opened }, 0, 0], [{ code: 4008, retry, opened }, 1, 2000],
			[{ code: 1000, retry, opened }, 0, 600], [{ code: 1001, retry, opened }, 0, 1000], [{ code: 1013, retry, opened }, 2, 4000],
			[{ code: 1006, retry, opened: false }, 9, 15000],
		].filter(([close, attempt, want]) => retryDelay(close, attempt, () => 0.5) !== want);`)
	run("how to stay near the live edge", `
		const { chase } = await import('/client/chase.js');
		const near = (a, b) => a === b || Math.abs(a - b) < 1e-9;
		return [
			[{ behind: 1.5, rate: 1 }, 1, undefined], [{ behind: 1.7, rate: 1 }, 1, undefined],
			[{ behind: 2.5, rate: 1 }, 1.05, undefined], [{ behind: 1.6, rate: 1.05 }, 1.023, undefined], [{ behind: 1.4, rate: 1.05 }, 1, undefined],
			[{ behind: 7.9, rate: 1 }, 1.08, undefined], [{ behind: 8.1, rate: 1.08 }, 1, 1.5],
			[{ behind: 90, rate: 1, target: 0, far: 0 }, 1, undefined],
		].filter(([state, rate, jump]) => {
			const got = chase({ target: 1.5, far: 8, ...state });
			return !near(got.rate, rate) || got.jump !== jump;
		});`)
	run("where a gap is", `
		const { before, place, playable } = await import('/client/chase.js');
		const pairs = [[2, 5], [8, 9], [12, 13]];
		const ranges = { length: 3, start: (i) => pairs[i][0], end: (i) => pairs[i][1] };
		return [
			[playable(ranges, 0), 5], [playable(ranges, 4), 3], [playable(ranges, 6), 2], [playable(ranges, 13), 0], [playable({ length: 0 }, 0), 0],
			[before(ranges, 0.5), 12.5], [before(ranges, 1.5), 8.5], [before(ranges, 4), 3], [before(ranges, 9), 2], [before({ length: 0 }, 1), 0],
			[place(ranges, 1, 0.5), { inside: false, left: 0, next: 2 }], [place(ranges, 3, 0.5), { inside: true, left: 1.5, next: 8 }],
			[place(ranges, 4.5, 0.5), { inside: false, left: 0, next: 8 }], [place(ranges, 12, 0.5), { inside: true, left: 0.5 }], [place(ranges, 12.5, 0.5), { inside: false, left: 0 }],
		].filter(([got, want]) => JSON.stringify(got) !== JSON.stringify(want));`)
	for name, encode := range map[string][]string{"webm": webmArgs, "mp4": mp4Args} {
		stream := base64.StdEncoding.EncodeToString(encodeSeconds(t, 1, encode...))
		run("where a stream of "+name+" begins anew", `
			const { Splitter } = await import('/client/splitter.js');
			const one = Uint8Array.from(atob('`+stream+`'), (c) => c.charCodeAt(0));
			const two = new Uint8Array([...one, ...one]);
			const wrong = [];
			for (const step of [1, 7, 1000, one.length - 1, two.length]) {
				const splitter = new Splitter();
				const out = [], begins = [];
				for (let at = 0; at < two.length; at += step) {
					for (const piece of splitter.push(two.slice(at, at + step))) {
						if (piece.begins) begins.push(out.length);
						for (const byte of piece.bytes) out.push(byte);
					}
				}
				if (String(begins) !== '0,' + one.length || out.length !== two.length || !out.every((byte, i) => byte === two[i])) wrong.push([step, begins, out.length]);
			}
			return wrong;`)
	}
	run("what codecs are called", `
		const { sniff } = await import('/client/media.js');
		const box = (type, ...parts) => { const body = parts.flat(); const size = body.length + 8;
			return [size >>> 24, size >>> 16 & 255, size >>> 8 & 255, size & 255, ...[...type].map((c) => c.charCodeAt(0)), ...body]; };
		const movie = (entry) => new Uint8Array([...box('ftyp', [0, 0, 0, 0]), ...box('moov', box('trak', box('mdia', box('minf', box('stbl', box('stsd', [0, 0, 0, 0, 0, 0, 0, 1], entry))))))]);
		const zeros = (n) => new Array(n).fill(0);
		const video = (type, config, bytes) => movie(box(type, zeros(78), box(config, bytes)));
		const sound = (...descriptors) => movie(box('mp4a', zeros(28), box('esds', zeros(4), ...descriptors)));
		return [
			[video('avc1', 'avcC', [1, 0x64, 0, 0x1f]), 'video/mp4;codecs="avc1.64001f"'],
			// The example of ISO/IEC 14496-15, annex E: Main profile at level 3.1.
			[video('hev1', 'hvcC', [1, 1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, ...zeros(10)]), 'video/mp4;codecs="hev1.1.6.L93.B0"'],
			[video('hvc1', 'hvcC', [1, 0x22, 0x20, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 150, ...zeros(10)]), 'video/mp4;codecs="hvc1.2.4.H150.90"'],
			[video('av01', 'av1C', [0x81, 0x04, 0x0c, 0]), 'video/mp4;codecs="av01.0.04M.08"'],
			[video('vp09', 'vpcC', [1, 0, 0, 0, 0, 21, 0x82]), 'video/mp4;codecs="vp09.00.21.08"'],
			[sound([3, 0x80, 0x80, 0x80, 25, 0, 1, 0, 4, 17, 0x40, ...zeros(12), 5, 2, 0x12, 0x10]), 'audio/mp4;codecs="mp4a.40.2"'],
			[sound([3, 25, 0, 1, 0, 4, 17, 0x40, ...zeros(12), 5, 2, 0x2b, 0x11]), 'audio/mp4;codecs="mp4a.40.5"'],
			[sound([3, 21, 0, 1, 0, 4, 13, 0x6b, ...zeros(12)]), 'audio/mp4;codecs="mp4a.6b"'],
		].map(([bytes, want]) => [sniff(bytes)?.mime, want]).filter(([got, want]) => got !== want);`)
	w.wantNoErrors()
}

// A page of another origin shows the player in an iframe, and imports it as a module.
func (b *browserProcess) testEmbed(t *testing.T) {
	s := startServer(t)
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), encodeSeconds(t, 3, webmArgs...), 3000)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><body>
			<iframe src="http://%[1]s/embed#channel=cam&key=key&latency=constructor" allow="autoplay; fullscreen" width="640" height="360"></iframe>
			<video id="v" muted playsinline></video>
			<script type="module">
				import { Player } from "http://%[1]s/client/player.js";
				const { dataset } = document.body;
				addEventListener("message", (event) => { if (event.origin === "http://%[1]s" && event.data.state === "playing") dataset.framed = "true"; });
				const player = new Player(document.getElementById("v"), { url: "ws://%[1]s/cam/key/receive", latency: "low" });
				player.addEventListener("state", (event) => { dataset.imported = event.detail.state; });
				player.addEventListener("stats", (event) => { dataset.bytes = event.detail.bytes; });
				player.start();
				window.player = player;
				dataset.ready = "true";
			</script>`, s.addr)
	}))
	t.Cleanup(other.Close)
	w := b.open(t, other.URL)
	w.wait("the frame to play", `document.body.dataset.framed === 'true'`)
	w.wait("the module to play", `document.getElementById('v').currentTime > 0.5 && Number(document.body.dataset.bytes) > 1000`)
	w.wait("an empty video after the end", `(player.destroy(), !document.getElementById('v').hasAttribute('src'))`)
	w.wantHosts(s.addr, strings.TrimPrefix(other.URL, "http://"))
	w.wantNoErrors()

	// The page itself, where things are clicked, may not be framed.
	for path, want := range map[string]string{"/embed": "frame-ancestors *", "/": "frame-ancestors 'none'"} {
		if _, _, header := s.get(path); !strings.Contains(header.Get("Content-Security-Policy"), want) {
			t.Errorf("%s: wanted %s, got %q", path, want, header.Get("Content-Security-Policy"))
		}
	}
	incomplete := b.open(t, "http://"+s.addr+"/embed#channel=cam")
	incomplete.wait("what is missing", `document.body.dataset.state === 'failed' && text('state').includes('Key is missing.') && document.querySelector('.note').offsetParent !== null`)
	incomplete.wantNoErrors()
}
