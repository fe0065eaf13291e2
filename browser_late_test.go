package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"ws-stream-server/engine/wstest"
)

// noisyClock makes the pictures of the clock dear, so that a cache is soon full, and keeps
// the page's recorders.
const noisyClock = `
	const { prototype } = CanvasRenderingContext2D, { fillRect } = prototype;
	prototype.fillRect = function (x, y, width, height) {
		fillRect.call(this, x, y, width, height);
		if (width !== 320 || height !== 180) return;
		const picture = this.createImageData(width, height);
		new Uint32Array(picture.data.buffer).forEach((_, i, pixels) => { pixels[i] = 0xff000000 | (Math.random() * 0x1000000); });
		this.putImageData(picture, x, y);
	};
	const recorders = [];
	globalThis.MediaRecorder = class extends MediaRecorder {
		constructor(stream, options) { super(stream, { ...options, ...globalThis.instead }); recorders.push(this); }
	};`

// What a browser records is joined when its beginning has long left the cache, and at a
// moment when nothing more comes: what is decoded, and shown, is what the cache gave.
func (b *browserProcess) testLateJoiners(t *testing.T) {
	s := startServer(t, "GOP_CACHE_SIZE_MB=1")
	for _, c := range []struct{ name, format, start, instead string }{
		{"vp8", "video/webm;codecs=vp8,opus", "keyframe", ""},
		{"vp9", "video/webm;codecs=vp9,opus", "full", ""},
		{"av1", "video/webm;codecs=av1,opus", "full", ""},
		{"h264", "video/mp4;codecs=avc1.42E01E,opus", "keyframe", ""},
		{"h264-matroska", "video/mp4;codecs=avc1.42E01E,opus", "", "video/x-matroska;codecs=avc1,opus"}, // which browsers do not play
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.on(t)
			whole := startReceiver(t, s.addr, "/"+c.name+"/key/receive", nil)
			script := noisyClock
			if c.instead != "" {
				script = fmt.Sprintf("globalThis.instead = { mimeType: %q };", c.instead) + script
			}
			p := b.openPublish(t, s.addr, script)
			p.choose("channel", c.name)
			p.choose("publish-format", c.format)
			p.choose("publish-bitrate", "5000000")
			p.choose("publish-key", "2")
			p.click("publish-start")
			for quarter := range 5 { // more than the cache by a quarter
				whole.waitForBytes(t, (quarter+1)<<18)
			}
			// Some pictures behind a key frame, and 2 s are long before the next one: right behind
			// one there is no sound in the cache yet, and Chromium shows nothing before it has both.
			startReceiver(t, s.addr, "/"+c.name+"/key/receive?start=live", nil).waitForBytes(t, 3<<15)
			p.ask(`(recorders.at(-1).pause(), '')`)

			joiners := map[string]*joiner{
				"full":     s.join(c.name, "?start=full"),
				"keyframe": s.join(c.name, "?start=keyframe"),
			}
			live := wstest.Dial(t, s.addr, "/"+c.name+"/key/receive?start=live")
			joiners["live"] = &joiner{Conn: live}
			var w *window
			if c.start != "" {
				w = b.open(t, "http://"+s.addr+"/#channel="+c.name+"&key=key&view=watch&reconnect=no&start="+c.start, noteShown)
				w.wait("a picture out of the cache", `shown.length > 0`)
				t.Logf("the first picture is there %s ms after the page has asked for the stream", w.ask(`(shownAt - askedAt).toFixed()`))
			}
			if state := p.ask(`recorders.at(-1).state`); state != "paused" {
				t.Errorf("the recorder is %s, wanted it to wait for the picture", state)
			}
			p.ask(`(recorders.at(-1).resume(), '')`)
			joiners["live"].got = live.Next().Payload // the next key frame has come
			if w != nil {
				w.wait("the pictures after that", `watch.dataset.state === 'playing' && shown.at(-1) > shown[0] + 1`)
			} else {
				whole.waitForBytes(t, 12<<18) // and some pictures after that
			}
			p.click("publish-stop")
			p.wait("a stopped publisher", `publish.dataset.state === 'idle'`)

			stream := bytes.Join(whole.wantClose(t, websocket.StatusNormalClosure), nil)
			got := map[string][]byte{}
			for start, j := range joiners {
				rest, err := takeAll(j.Conn)
				if err != nil {
					t.Fatalf("%s: %v", start, err)
				}
				got[start] = append(j.got, rest...)
			}
			at, pictures := wantParts(t, stream, got)
			t.Logf("of %d bytes they start at %v; pictures: %v", len(stream), at, pictures)
			if at["full"] == 0 || at["full"] > at["keyframe"] || at["keyframe"] >= at["live"] {
				t.Errorf("they start at %v", at)
			}
			p.wantNoErrors()
			if w == nil {
				return
			}
			// The page has joined a moment later, perhaps when one more key frame was there.
			first, _ := strconv.ParseFloat(w.ask(`String(shown[0])`), 64)
			if earliest := firstPicture(t, got[c.start]); first < earliest-0.01 {
				t.Errorf("the first picture that the page has shown is of %.3f s, and %s begins at %.3f s", first, c.start, earliest)
			}
			w.wantNoErrors()
		})
	}
}

// firstPicture returns when the first picture of a stream is to be shown, in seconds.
func firstPicture(t *testing.T, stream []byte) (at float64) {
	t.Helper()
	out, complaints := runFFmpeg(t, "ffprobe", stream, "-select_streams v:0 -show_entries packet=pts_time -of csv=p=0 -")
	first, _, _ := strings.Cut(string(out), "\n")
	if _, err := fmt.Sscan(strings.TrimRight(first, ",\r "), &at); err != nil {
		t.Fatalf("ffprobe tells no time in %q: %v; it says: %s", first, err, complaints)
	}
	return at
}
