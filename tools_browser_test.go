//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ws-stream-server/engine/wstest"
)

// What TOOLS.md says about browsers, in a real one. Players of others take every
// WebSocket message for media: they play a live stream across the server's heartbeat,
// pictures move, and what they are sent is looked at on its way. With ?heartbeat=ping a
// ping came and no TEXT; without it TEXT came, and mpegts.js gave up.
func TestToolsInABrowser(t *testing.T) {
	t.Parallel()
	slow(t)
	needTools(t, "chromium", "ffmpeg", "ffprobe")
	s := startServer(t)
	all := readTools(t)
	wire := startTap(t, s.addr)
	w := &shop{b: startBrowser(t), pages: startPages(t, all), addr: wire.addr}

	for _, player := range []string{"mpegts", "jsmpeg"} {
		title := map[string]string{"mpegts": "mpegts.js", "jsmpeg": "jsmpeg"}[player]
		all.get(t, title+": publish").start(t, atServer(s.addr, player)...)
	}
	playing := map[string]*window{
		"/mpegts/secret/receive?heartbeat=ping": w.open(t, "mpegts.js: play", "mpegts"),
		"/jsmpeg/secret/receive?heartbeat=ping": w.open(t, "jsmpeg: play", "jsmpeg"),
	}
	stumbles := w.open(t, "mpegts.js: play", "mpegts", "?heartbeat=ping", "")
	for _, p := range playing {
		p.wait("moving pictures", moving)
	}
	stumbles.wait("moving pictures before the heartbeat", moving)

	t.Run("snippets", func(t *testing.T) { w.testSnippets(t, s) })

	for path, p := range playing {
		wire.waitFor(t, path, wstest.Ping)
		more := p.ask("`state.time() > ${state.time() + 1} && state.pictures() >= ${state.pictures() + 5} && state.failed === ''`")
		p.wait("moving pictures after the heartbeat", more)
		if n := wire.count(path, wstest.Text); n != 0 {
			t.Errorf("%s: wanted no TEXT, the server sent %d", path, n)
		}
	}
	wire.waitFor(t, "/mpegts/secret/receive", wstest.Text)
	stumbles.wait("the player's complaint about TEXT", `state.failed.includes('Unsupported WebSocket message type: String')`)
}

// moving holds when pictures move.
const moving = `state.time() > 0.5 && state.pictures() >= 5 && state.failed === ''`

// testSnippets publishes and plays without any player.
func (w *shop) testSnippets(t *testing.T, s *server) {
	stream := dialMedia(t, s.addr, "/element/secret/publish", nil)
	sendPacket(t, stream, encodeSeconds(t, 4, "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-f", "webm", "-live", "1"))
	element := w.open(t, "A video element", "element")
	element.wait("moving pictures", moving)
	endPublisher(t, stream)

	early := startReceiver(t, s.addr, "/js/secret/receive", nil)
	base := "ws://" + w.addr + "/js/secret/"
	publisher := w.call(t, "JavaScript: publish", "publish('"+base+"publish')")
	watcher := w.call(t, "JavaScript: receive", "receive('"+base+"receive', document.querySelector('video'))")
	watcher.wait("moving pictures", moving)
	publisher.wait("an end", `(result.then((recorder) => recorder.stop()), state.failed === '')`)
	if info := mediaOf(t, bytes.Join(early.wantClose(t, websocket.StatusNormalClosure), nil)); info.codecs["vp8"] == 0 || info.codecs["opus"] == 0 {
		t.Errorf("wanted a recording in VP8 and Opus, ffprobe decodes %+v", info)
	}
}

// shop opens snippets of TOOLS.md.
type shop struct {
	b           *browserProcess
	pages, addr string // of the pages, and of the server
}

// open shows a snippet with its address replaced by the server's and a channel.
func (w *shop) open(t *testing.T, title, channel string, more ...string) *window {
	t.Helper()
	query := url.Values{"title": {title}, "replace": append(more, atServer(w.addr, channel)...)}
	return w.b.open(t, w.pages+"/?"+query.Encode())
}

// call shows a snippet and calls its function.
func (w *shop) call(t *testing.T, title, expression string) *window {
	t.Helper()
	return w.b.open(t, w.pages+"/?"+url.Values{"title": {title}, "call": {expression}}.Encode())
}

// startPages serves testdata/players until the test's end.
func startPages(t *testing.T, all tools) string {
	t.Helper()
	index, err := os.ReadFile("testdata/players/index.html")
	if err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir("testdata/players"))
	pages := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			files.ServeHTTP(rw, r)
			return
		}
		recipe := all[r.FormValue("title")]
		code := strings.NewReplacer(r.Form["replace"]...).Replace(recipe.code)
		if recipe.language == "js" {
			code = "<script>\n" + code + "</script>"
		}
		_, _ = io.WriteString(rw, strings.Replace(string(index), "<!-- snippet -->", code, 1))
	}))
	t.Cleanup(pages.Close)
	return pages.URL
}

// tap is a way to the server that counts the frames that come back, for each path.
type tap struct {
	addr string // static

	mu     sync.Mutex // guards what follows
	cond   *sync.Cond
	frames map[string]map[byte]int // by path and opcode
}

// startTap listens until the test's end.
func startTap(t *testing.T, server string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{addr: l.Addr().String(), frames: map[string]map[byte]int{}}
	w.cond = sync.NewCond(&w.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.carry(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait() // both ends are gone: browser and server ended before
	})
	return w
}

// carry connects one client with the server.
func (w *tap) carry(client net.Conn, server string) {
	defer func() { _ = client.Close() }()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		return // the client sees it
	}
	defer func() { _ = conn.Close() }()
	request := bufio.NewReader(client)
	line, err := request.ReadString('\n')
	_, path, ok := strings.Cut(line, " ")
	if err != nil || !ok {
		return
	}
	path, _, _ = strings.Cut(path, " ")
	go func() {
		_, _ = io.Copy(conn, io.MultiReader(strings.NewReader(line), request))
		_ = conn.Close()
	}()
	_ = w.look(path, bufio.NewReader(io.TeeReader(conn, client)))
}

// look counts frames until the connection's end.
func (w *tap) look(path string, r *bufio.Reader) error {
	switch resp, err := http.ReadResponse(r, nil); {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusSwitchingProtocols: // it has no frames
		_, err := io.Copy(io.Discard, r)
		return err
	}
	for {
		head, err := r.Peek(2)
		if err != nil {
			return err
		}
		op, size, more := head[0]&0xF, int(head[1]), 0
		switch size {
		case 126:
			more = 2
		case 127:
			more = 8
		}
		if head, err = r.Peek(2 + more); err != nil {
			return err
		}
		if more > 0 {
			size = int(binary.BigEndian.Uint64(append(make([]byte, 8-more), head[2:]...)))
		}
		if _, err := r.Discard(2 + more + size); err != nil {
			return err
		}
		w.mu.Lock()
		if w.frames[path] == nil {
			w.frames[path] = map[byte]int{}
		}
		w.frames[path][op]++
		w.cond.Broadcast()
		w.mu.Unlock()
	}
}

// count is how many frames with this opcode were sent to clients of a path.
func (w *tap) count(path string, op byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frames[path][op]
}

// waitFor returns once there was a frame with this opcode.
func (w *tap) waitFor(t *testing.T, path string, op byte) {
	t.Helper()
	deadline := time.Now().Add(mediaPatience)
	timer := time.AfterFunc(mediaPatience, w.cond.Broadcast)
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.frames[path][op] == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%s: wanted a frame with opcode %d within %v, got %v", path, op, mediaPatience, w.frames[path])
		}
		w.cond.Wait()
	}
}
