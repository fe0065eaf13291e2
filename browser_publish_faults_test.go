package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// The Publish view when something is wrong: the server, the network, what was chosen.

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
	runs := publisher.ask(`String(number('publish-runs'))`)
	publisher.wait("the loss in words", `['waiting', 'connecting'].includes(publish.dataset.state) && text('log').includes('The connection was lost. Connecting again in')`)
	_, port, _ := net.SplitHostPort(s.addr)
	again := startServer(t, "HTTP_PORT="+port)
	early := startReceiver(t, again.addr, "/cam/key/receive", nil)
	publisher.wait("a fresh recorder on air", `publish.dataset.state === 'live' && number('publish-runs') > `+runs)
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
	w.ask(keepLocks)
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
	w.wait("a screen that may go dark again", `window.locks.length === 5 && window.locks.every((lock) => lock.released)`)
	w.wantNoErrors()
}

// keepLocks makes the page remember what keeps its screen on.
const keepLocks = `(() => {
	const request = WakeLock.prototype.request;
	window.locks = [];
	WakeLock.prototype.request = async function (kind) {
		const lock = await request.call(this, kind);
		window.locks.push(lock);
		return lock;
	};
	return '';
})()`

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
	needTools(t, "chromium", "ffmpeg")
	b := startBrowser(t, chromedp.Flag("use-fake-ui-for-media-stream", "deny"), chromedp.Flag("autoplay-policy", "document-user-activation-required"), chromedp.Flag("host-resolver-rules", "MAP page.example 127.0.0.1"))
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
	b.testAutoplay(t, s)
}

// Where a browser does not let a page begin with sound, the player begins without it;
// where it does not let it begin at all, it says so.
func (b *browserProcess) testAutoplay(t *testing.T, s *server) {
	sendPieces(t, dialMedia(t, s.addr, "/cam/key/publish", nil), encodeWhole(t, webmArgs...), 3000)
	w := b.open(t, "http://"+s.addr+"/")
	play := func(refused string) string {
		return w.ask(`import('/client/player.js').then(({ Player }) => new Promise((resolve) => {
			const video = document.createElement('video'), play = video.play;
			video.play = () => (` + refused + `) ? Promise.reject(new DOMException('', 'NotAllowedError')) : play.call(video);
			const player = new Player(video, { url: 'ws://' + location.host + '/cam/key/receive' });
			player.addEventListener('state', ({ detail: { state, words } }) => {
				if (!['playing', 'blocked'].includes(state)) return;
				resolve([state, words, video.muted].join('|'));
				player.destroy();
			});
			player.start();
		}))`)
	}
	if got := play(`false`); got != "playing|Playing.|true" {
		t.Errorf("wanted it to play without sound, got %q", got)
	}
	if got := play(`true`); got != "blocked|The browser wants a click before it plays.|true" {
		t.Errorf("wanted it to ask for a click, got %q", got)
	}
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
