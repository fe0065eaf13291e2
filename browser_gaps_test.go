package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"
	"testing"
)

// What a player gets of a server that left something out: a receiver that was slow is
// moved on to a later key frame, perhaps with the init segment once more; one that joins
// late gets the init segment and the stream from some key frame on.

// clusterArgs encode WebM in which each cluster begins with a key frame: one a second.
var clusterArgs = append([]string{"-cluster_time_limit", "60000", "-cluster_size_limit", "10000000"}, webmArgs...)

// cutStream is a stream of which parts can be left out.
type cutStream struct {
	head  []byte   // what comes before the first unit
	init  []byte   // what of it a decoder needs
	units [][]byte // clusters, or moofs with their mdats; each begins with a key frame
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// cutWebM cuts WebM whose clusters are of known size, as ffmpeg writes it into a pipe.
func cutWebM(t *testing.T, b []byte) (c cutStream) {
	t.Helper()
	vint := func(b []byte) int { return bits.LeadingZeros8(b[0]) + 1 }
	for at := 0; at < len(b); {
		idLength := vint(b[at:])
		sizeLength := vint(b[at+idLength:])
		whole := idLength + sizeLength
		id := binary.BigEndian.Uint32(b[at:])
		if id != 0x18538067 { // the Segment is stepped into
			var size [8]byte
			copy(size[8-sizeLength:], b[at+idLength:][:sizeLength])
			size[8-sizeLength] &= 0xff >> sizeLength
			whole += int(binary.BigEndian.Uint64(size[:]))
		}
		element := b[at : at+whole]
		at += whole
		switch id {
		case 0x1f43b675: // Cluster
			c.units = append(c.units, element)
			continue
		case 0x1a45dfa3, 0x18538067, 0x1549a966, 0x1654ae6b: // EBML, Segment, Info, Tracks
			c.init = append(c.init, element...)
		}
		c.head = b[:at]
	}
	return c
}

// cutMP4 cuts fragmented MP4.
func cutMP4(t *testing.T, b []byte) (c cutStream) {
	t.Helper()
	for at := 0; at < len(b); {
		box := b[at:][:binary.BigEndian.Uint32(b[at:])]
		at += len(box)
		switch string(box[4:8]) {
		case "moof":
			c.units = append(c.units, box)
		case "mdat":
			c.units[len(c.units)-1] = joined(c.units[len(c.units)-1], box)
		case "ftyp", "moov":
			c.head = b[:at]
		}
	}
	c.init = c.head
	return c
}

// tenSeconds is a stream in units of a second each, of either kind.
func tenSeconds(t *testing.T, kind string) (c cutStream) {
	t.Helper()
	if kind == "webm" {
		c = cutWebM(t, encodeSeconds(t, 10, clusterArgs...))
	} else {
		c = cutMP4(t, encodeSeconds(t, 10, mp4Args...))
	}
	if len(c.units) != 10 {
		t.Fatalf("%s: wanted ten units of a second each, got %d", kind, len(c.units))
	}
	return c
}

// asRecorded makes WebM of ffmpeg like that of recorders in browsers: clusters of unknown
// size, and no word of how long a picture lasts.
func (c cutStream) asRecorded() cutStream {
	for _, part := range []*[]byte{&c.head, &c.init} {
		*part = bytes.Replace(*part, []byte{0x23, 0xe3, 0x83}, []byte{0xec, 0x86, 0x83}, 1) // DefaultDuration becomes Void
	}
	for i, cluster := range c.units {
		sizeLength := bits.LeadingZeros8(cluster[4]) + 1
		c.units[i] = joined(cluster[:4], []byte{0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, cluster[4+sizeLength:])
	}
	return c
}

// noteShown notes the time of each picture that the page's video shows, in seconds of the
// stream, and what it connects to; and when it asked first, and had the first picture.
const noteShown = `
	const shown = [], asked = [];
	let askedAt, shownAt;
	addEventListener('loadstart', ({ target }) => {
		const note = (now, { mediaTime }) => {
			shownAt ??= performance.now();
			shown.push(mediaTime);
			target.requestVideoFrameCallback(note);
		};
		target.requestVideoFrameCallback(note);
	}, { capture: true, once: true });
	globalThis.WebSocket = class extends WebSocket {
		constructor(url) {
			super(url);
			askedAt ??= performance.now();
			asked.push(url);
		}
	};`

// What the server left out, the picture goes over: in the page and in the player for
// other sites, for each kind of stream, with the init segment once more or without.
func (b *browserProcess) testGaps(t *testing.T) {
	s := startServer(t)
	var windows []*window
	for _, kind := range []string{"webm", "mp4"} {
		c := tenSeconds(t, kind)
		if kind == "webm" {
			c = c.asRecorded()
		}
		publisher := dialMedia(t, s.addr, "/"+kind+"/key/publish", nil)
		for _, path := range []string{"/#view=watch&", "/embed#"} {
			if kind == "webm" && path == "/embed#" {
				continue // it is the same player
			}
			w := b.open(t, "http://"+s.addr+path+"latency=all&reconnect=no&key=key&channel="+kind, noteShown)
			w.wait("a connection", `(watch ?? document.body).dataset.state === 'waiting'`)
			windows = append(windows, w)
		}
		sendPieces(t, publisher, joined(c.head, c.units[0]), 3000)
		sendPieces(t, publisher, c.units[4], 3000)
		sendPieces(t, publisher, c.init, 3000)
		sendPieces(t, publisher, joined(c.units[8:]...), 3000)
		endPublisher(t, publisher)
	}
	for _, w := range windows {
		w.wait("the end of the stream", `document.querySelector('video').ended && document.querySelector('video').currentTime > 9.5 && document.querySelector('video').error === null`)
		// A busy machine may drop pictures, but not all of them.
		w.wait("pictures of what came, and of nothing else", `shown.some((time) => time < 1) && shown.some((time) => time >= 8)
			&& shown.every((time) => [0, 4, 8, 9].includes(Math.floor(time + 0.01)))`)
		w.wantNoErrors()
		if w.ask(`String(watch !== null)`) == "true" {
			w.wait("the skips in the panel", `number('watch-skips') === 2 && /^2 \([5-7]\.\d s\)$/.test(text('watch-skips')) && text('log').match(/skipped [23]\./g)?.length === 2`)
			w.wait("no new stream", `!text('log').includes('began a new stream')`)
		}
	}
}

// A receiver that ran dry goes on as soon as there is something later.
func (b *browserProcess) testGapAtEdge(t *testing.T) {
	s := startServer(t)
	c := tenSeconds(t, "webm")
	publisher := dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch", noteShown)
	sendPacket(t, publisher, joined(c.head, c.units[0]))
	w.wait("a stall", `number('watch-stalls') === 1 && watch.dataset.state === 'buffering' && video.currentTime > 0.5`)
	sendPacket(t, publisher, c.init)
	sendPacket(t, publisher, c.units[5])
	w.wait("the picture behind the gap", `number('watch-skips') === 1 && shown.some((time) => time >= 5) && video.currentTime > 5.3`)
	w.wait("nothing of what was left out", `shown.every((time) => time < 1.01 || time > 4.99) && !text('log').includes('began a new stream')`)
	w.wantNoErrors()
}

// The clock of a stream that began long ago starts where its first picture is.
func (b *browserProcess) testJoinedLate(t *testing.T) {
	s := startServer(t)
	old := cutWebM(t, encodeSeconds(t, 2, append([]string{"-output_ts_offset", "100"}, clusterArgs...)...))
	middle := tenSeconds(t, "mp4")
	for _, c := range []struct {
		channel string
		stream  []byte
		from    int // seconds
	}{
		{"old", joined(old.init, joined(old.units...)), 100},
		{"middle", joined(middle.init, joined(middle.units[7:]...)), 7},
	} {
		sendPieces(t, dialMedia(t, s.addr, "/"+c.channel+"/key/publish", nil), c.stream, 10_000)
		w := b.open(t, "http://"+s.addr+"/#channel="+c.channel+"&key=key&view=watch", noteShown)
		w.wait("its first pictures", fmt.Sprintf(`watch.dataset.state === 'playing' && video.currentTime > %d.3 && shown.length > 0 && shown[0] > %[1]d - 0.01 && shown[0] < %[1]d + 1`, c.from))
		w.wait("no skip", `number('watch-skips') === 0`)
		w.wantNoErrors()
	}
}

// What a receiver begins with is asked for in the address, if somebody chose.
func (b *browserProcess) testStarts(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch&start=keyframe", noteShown,
		`const copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); };`)
	address := "ws://" + s.addr + "/cam/key/receive"
	w.wait("what the link says", `asked.length === 1 && asked[0] === '`+address+`?start=keyframe' && document.getElementById('watch-from').value === 'keyframe'`)
	w.choose("watch-from", "live")
	w.wait("what was chosen", `asked.length === 2 && asked[1] === '`+address+`?start=live' && watch.dataset.state === 'waiting'`)
	w.click("copy-link")
	w.click("copy-embed")
	w.wait("it in the links", `copied.length === 2 && copied[0].endsWith('#view=watch&channel=cam&key=key&start=live') && copied[1].includes('/embed#channel=cam&key=key&start=live"')`)
	w.choose("watch-from", "")
	w.wait("nothing for no choice", `asked.length === 3 && asked[2] === '`+address+`'`)
	w.wantNoErrors()
	for start, want := range map[string]string{"full": "?start=full", "elsewhere": ""} {
		embedded := b.open(t, "http://"+s.addr+"/embed#channel=cam&key=key&start="+start, noteShown)
		embedded.wait("the same in the embedded one", `asked.length === 1 && asked[0] === '`+address+want+`'`)
	}
}

// What the server left out is no new stream, an init segment that stands for one is.
func (b *browserProcess) testRepeats(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/")
	for _, kind := range []string{"webm", "mp4"} {
		c := tenSeconds(t, kind)
		other := bytes.Clone(c.init)
		other[len(other)-3] ^= 1
		first := joined(c.head, c.units[0], c.units[1])
		for _, r := range []struct {
			what     string
			in, want []byte
			begins   []int
		}{
			{"a gap", joined(first, c.units[5]), joined(first, c.units[5]), []int{0}},
			{"gaps with the init segment", joined(first, c.init, c.units[3], c.head, c.units[5]), joined(first, c.units[3], c.units[5]), []int{0}},
			{"two init segments before the first picture", joined(c.init, c.head, c.units[5]), joined(c.init, c.units[5]), []int{0}},
			{"a clock that begins anew", joined(first, c.init, c.units[1]), joined(first, c.init, c.units[1]), []int{0, len(first)}},
			{"another init segment", joined(first, other, c.units[5]), joined(first, other, c.units[5]), []int{0, len(first)}},
		} {
			encode := base64.StdEncoding.EncodeToString
			wrong := w.ask(fmt.Sprintf(`(async () => {
				const { Splitter } = await import('/client/splitter.js');
				const [stream, want] = ['%s', '%s'].map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
				const wrong = [];
				for (const step of [1, 7, 1000, stream.length]) {
					const splitter = new Splitter();
					const out = [], begins = [];
					for (let at = 0; at < stream.length; at += step) {
						for (const piece of splitter.push(stream.slice(at, at + step))) {
							if (piece.begins) begins.push(out.length);
							for (const byte of piece.bytes) out.push(byte);
						}
					}
					if (JSON.stringify(begins) !== '%s' || out.length !== want.length || !out.every((byte, i) => byte === want[i])) wrong.push([step, begins, out.length]);
				}
				return wrong;
			})().then(JSON.stringify, String)`, encode(r.in), encode(r.want), bytes.ReplaceAll(fmt.Append(nil, r.begins), []byte(" "), []byte(","))))
			if wrong != "[]" {
				t.Errorf("%s, %s: wrong are (bytes a packet, beginnings, length): %s", kind, r.what, wrong)
			}
		}
	}
}

// A publisher may send the beginning of a stream byte by byte. To look at all of it for each, or to
// copy it, would hold the page for minutes.
func (b *browserProcess) testSingleBytes(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/")
	const bytes = 1_000_000 // of Tracks, nearly as many as are kept
	got := w.ask(fmt.Sprintf(`(async () => {
		const { Splitter } = await import('/client/splitter.js');
		const splitter = new Splitter();
		splitter.push(new Uint8Array([0x1a, 0x45, 0xdf, 0xa3, 0x80, 0x18, 0x53, 0x80, 0x67, 0xff, 0x16, 0x54, 0xae, 0x6b, 0x10, 0x10, 0, 0]));
		let length = 0;
		for (let i = 0; i < %d; i++) for (const piece of splitter.push(new Uint8Array(1))) length += piece.bytes.length;
		return length;
	})().then(String, String)`, bytes))
	if got != fmt.Sprint(bytes) {
		t.Errorf("of the splitter come %s bytes, wanted %d", got, bytes)
	}
	got = w.ask(`(async () => {
		const { Feed } = await import('/client/feed.js');
		const feed = new Feed(document.createElement('video'), { latency: { target: 0, far: 0 }, queueBytes: 1 << 30 });
		let problem = 'none';
		feed.addEventListener('problem', (event) => (problem = event.detail.problem));
		feed.push(new Uint8Array([0x1a, 0x45, 0xdf, 0xa3, 0x80, 0x18, 0x53, 0x80, 0x67, 0xff]));
		for (let i = 0; i < 100_000; i++) feed.push(new Uint8Array([i % 2 ? 0x80 : 0xec])); // empty elements
		feed.push(new Uint8Array(1 << 20));
		return problem;
	})().then(String, String)`)
	if got != "The stream's codecs are not named in its first megabyte." {
		t.Errorf("of the feed comes %q", got)
	}
}
