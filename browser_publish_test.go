package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
	t.Run("a camera is published", b.testCamera)
	t.Run("a file is published", b.testFile)
	t.Run("a server comes back", b.testServerComesBack)
	t.Run("a backlog is dropped and the stream begins anew", b.testBacklog)
	t.Run("closes are obeyed", b.testCloses)
	t.Run("problems are told in words", b.testPublishProblems)
	t.Run("the page's own decisions", b.testDecisions)
}

// openPublish opens the view with the clock and small pictures chosen.
func (b *browserProcess) openPublish(t *testing.T, addr string) *window {
	t.Helper()
	w := b.open(t, "http://"+addr+"/#channel=cam&key=key&view=publish")
	w.click("publish-source-clock")
	w.choose("publish-size", "320x180")
	w.choose("publish-fps", "15")
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

// A file is published as it is, or in another size, and its end is the stream's.
func (b *browserProcess) testFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "film.webm")
	writeFile(t, file, string(encodeWhole(t, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm")))
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

// A server is killed and comes back: publisher and watcher go on by themselves, with
// the beginning of a new stream.
func (b *browserProcess) testServerComesBack(t *testing.T) {
	s := startServer(t)
	publisher := b.openPublish(t, s.addr)
	publisher.click("publish-start")
	publisher.wait("on air", `publish.dataset.state === 'live' && number('publish-packets') >= 3`)
	watcher := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=watch")
	watcher.wantPlaying(320, 180)

	s.expects = true
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.done
	publisher.wait("the loss in words", `['waiting', 'connecting'].includes(publish.dataset.state) && text('log').includes('The connection was lost. Connecting again in')`)
	_, port, _ := net.SplitHostPort(s.addr)
	again := startServer(t, "HTTP_PORT="+port)
	early := startReceiver(t, again.addr, "/cam/key/receive", nil)
	publisher.wait("a fresh recorder on air", `publish.dataset.state === 'live' && number('publish-runs') === 2`)
	early.waitFor(t, 3)
	watcher.wantPlaying(320, 180)
	publisher.click("publish-stop")
	publisher.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
	wantRecording(t, early.wantClose(t, websocket.StatusNormalClosure), 320, "vp8", "opus")
}

// unreadServer is a server whose first publisher is accepted and never read, until
// it lets go; later ones are read.
type unreadServer struct {
	*httptest.Server
	letGo  chan struct{}
	first  chan error  // how the first connection ended, after all that came
	second chan []byte // the messages of the second connection
	answer chan string // what it answered to a heartbeat
}

func startUnreadServer(t *testing.T) *unreadServer {
	t.Helper()
	u := &unreadServer{letGo: make(chan struct{}), first: make(chan error, 1), second: make(chan []byte, 100), answer: make(chan string, 1)}
	accepted := make(chan bool, 100)
	u.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		conn.SetReadLimit(-1)
		accepted <- true
		if len(accepted) == 1 {
			<-u.letGo
			u.first <- readAll(r.Context(), conn)
			return
		}
		u.readPublisher(r.Context(), conn)
	}))
	t.Cleanup(u.Close)
	return u
}

func readAll(ctx context.Context, conn *websocket.Conn) error {
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return err
		}
	}
}

func (u *unreadServer) readPublisher(ctx context.Context, conn *websocket.Conn) {
	if conn.Write(ctx, websocket.MessageText, []byte("h")) != nil {
		return
	}
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageText {
			offer(u.answer, string(data))
		} else {
			offer(u.second, data)
		}
	}
}

func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

func (b *browserProcess) testBacklog(t *testing.T) {
	// Noise makes many bits, and the sockets of two systems have to be filled first.
	file := filepath.Join(t.TempDir(), "noise.webm")
	writeFile(t, file, string(encodeWhole(t, "-vf", "noise=alls=100:allf=t", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "4M", "-c:a", "libopus", "-f", "webm")))
	s := startServer(t)
	u := startUnreadServer(t)
	w := b.openPublish(t, s.addr)
	w.choose("host", strings.TrimPrefix(u.URL, "http://"))
	w.click("publish-source-file")
	w.do("choose a file", chromedp.SetUploadFiles(chromedp.ID("publish-file"), []string{file}))
	w.choose("publish-bitrate", "10000000")
	w.choose("publish-size", "640x360")
	w.choose("publish-backlog", "1")
	w.click("publish-start")
	w.wait("a backlog", `publish.dataset.state === 'live' && number('publish-waiting') > 0`)
	w.wait("the drop in words, and a new beginning", `text('log').includes('were waiting and are dropped') && publish.dataset.state === 'live' && number('publish-runs') === 2`)
	var beginning []byte
	for len(beginning) < 4 { // the first slice may be a single byte
		select {
		case message := <-u.second:
			beginning = append(beginning, message...)
		case <-time.After(mediaPatience):
			t.Fatalf("only % x came on the second connection", beginning)
		}
	}
	if !bytes.HasPrefix(beginning, []byte{0x1a, 0x45, 0xdf, 0xa3}) {
		t.Errorf("the second connection does not begin with an init segment: % x", beginning[:4])
	}
	select {
	case text := <-u.answer:
		if text != "h" {
			t.Errorf("the heartbeat was answered with %q", text)
		}
	case <-time.After(mediaPatience):
		t.Fatal("the heartbeat was not answered")
	}
	// The first connection was cut: what still waited in the browser never comes.
	close(u.letGo)
	select {
	case err := <-u.first:
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			t.Errorf("the first connection was not cut but closed after all it had: %v", err)
		}
	case <-time.After(mediaPatience):
		t.Error("the first connection was not ended")
	}
	w.click("publish-stop")
	w.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
}

// What a close code asks for is done: stay away, or come back.
func (b *browserProcess) testCloses(t *testing.T) {
	s := startServer(t)
	codes := make(chan int, 10)
	closing := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		conn.SetReadLimit(-1)
		if _, _, err := conn.Read(r.Context()); err != nil {
			return
		}
		select {
		case code := <-codes:
			_ = conn.Close(websocket.StatusCode(code), "because")
		default:
			_ = readAll(r.Context(), conn)
		}
	}))
	t.Cleanup(closing.Close)
	w := b.openPublish(t, s.addr)
	w.choose("host", strings.TrimPrefix(closing.URL, "http://"))
	for _, c := range []struct {
		code  int
		words string
	}{{4000, "stopped from the server"}, {4002, "The operator of the server ended"}, {1009, "larger than the server allows"}} {
		codes <- c.code
		w.click("publish-start")
		w.wait(fmt.Sprintf("the end with %d", c.code), fmt.Sprintf(`publish.dataset.state === 'failed' && publish.dataset.code === '%d' && text('publish-status').includes(%q)`, c.code, c.words))
	}
	codes <- 1001
	w.click("publish-start")
	w.wait("another try", `text('log').includes('The server is going away. Connecting again in') && publish.dataset.state === 'live' && number('publish-runs') === 2`)
	w.click("publish-stop")
	w.wait("a stopped publisher", `publish.dataset.state === 'idle'`)
	w.wantNoErrors()
}

func (b *browserProcess) testPublishProblems(t *testing.T) {
	s := startServer(t)
	dialMedia(t, s.addr, "/cam/key/publish", nil)
	w := b.openPublish(t, s.addr)
	w.choose("channel", "not allowed")
	w.click("publish-start")
	w.wait("the channel's problem", `text('channel-problem').includes('only letters') && publish.dataset.state === 'idle'`)
	w.choose("channel", "cam")
	w.click("publish-start")
	w.wait("the refusal in words", `publish.dataset.state === 'failed' && text('publish-status').includes('already has a publisher')`)
	w.wait("the list of what it may be", `text('publish-status').includes('Possible causes')`)
}

// A browser that gives no camera, each for another reason.
func TestBrowserWithoutCamera(t *testing.T) {
	t.Parallel()
	needTools(t, "chromium")
	b := startBrowser(t, chromedp.Flag("use-fake-ui-for-media-stream", "deny"), chromedp.Flag("host-resolver-rules", "MAP page.example 127.0.0.1"))
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/#channel=cam&key=key&view=publish")
	w.click("publish-source-camera")
	w.click("publish-start")
	w.wait("the denial in words", `publish.dataset.state === 'failed' && text('publish-status').includes('may not use the camera')`)
	w.wait("a way to try again", `!document.getElementById('publish-start').disabled`)
	w.wantNoErrors()

	// A page that did not come over https, nor from localhost.
	_, port, _ := net.SplitHostPort(s.addr)
	foreign := b.open(t, "http://page.example:"+port+"/#channel=cam&key=key&view=publish")
	foreign.click("publish-source-camera")
	foreign.wait("the hint", `!document.getElementById('publish-hint').hidden && text('publish-hint').includes('https://')`)
	foreign.click("publish-start")
	foreign.wait("the reason in words", `publish.dataset.state === 'failed' && text('publish-status').includes('only to pages that were loaded over https://')`)
	foreign.wantNoErrors()
}

// Decisions that are functions are asked as such.
func (b *browserProcess) testDecisions(t *testing.T) {
	s := startServer(t)
	w := b.open(t, "http://"+s.addr+"/")
	for _, c := range []struct{ what, ask, want string }{
		{"pauses", `import('/client/publisher.js').then(({ pause }) => [0, 1, 2, 3, 4, 50].map((n) => pause(n, 0.5)).join())`, "1000,2000,4000,8000,10000,10000"},
		{"the chance in pauses", `import('/client/publisher.js').then(({ pause }) => [pause(0, 0), pause(0, 0.999) < 1500].join())`, "500,true"},
		{"a backlog by age", `import('/client/publisher.js').then(({ Backlog }) => {
			const backlog = new Backlog(2, 1e6);
			backlog.add(1000, 0);
			backlog.add(1000, 1000);
			const look = (waiting, now) => { const { seconds, full } = backlog.look(waiting, now); return seconds + ' ' + full; };
			return [look(2000, 1500), look(2000, 2100), look(1000, 2100), look(1, 3500), look(0, 9000)].join();
		})`, "1.5 false,2.1 true,1.1 false,2.5 true,0 false"},
		{"a backlog by size", `import('/client/publisher.js').then(({ Backlog }) => {
			const backlog = new Backlog(2, 4e6);
			backlog.add(3e6, 0);
			return [backlog.look(2e6, 0).full, backlog.look(2e6 + 1, 0).full, new Backlog(1, 1000).maxBytes].join();
		})`, "false,true,262144"},
		{"a lost device", `import('/client/sources.js').then(({ sourceProblem }) => sourceProblem('camera', new DOMException('', 'NotFoundError')))`, "There is no camera."},
		{"formats", `import('/client/formats.js').then(({ recordingFormats }) => {
			const only = (...types) => ({ isTypeSupported: (type) => types.includes(type) });
			const recorder = only('video/webm;codecs=vp8,opus', 'video/webm;codecs=vp9,opus');
			return recordingFormats(recorder, only('video/webm;codecs="vp9,opus"')).map((format) => format.name).join() + recordingFormats(undefined, recorder).length;
		})`, "VP9 in WebM0"},
		{"a scale", `import('/client/plot.js').then(({ niceCeiling }) => [0, 0.07, 1, 1.01, 27, 99, 1234].map(niceCeiling).map((n) => +n.toPrecision(3)).join())`, "1,0.08,1,1.5,30,100,1500"},
	} {
		if got := w.ask(c.ask); got != c.want {
			t.Errorf("%s: wanted %q, got %q", c.what, c.want, got)
		}
	}
}
