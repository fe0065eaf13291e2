package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ws-stream-server/engine/wstest"
)

// Players of others take every WebSocket message for media. In a real browser they
// play a live stream across the server's heartbeat: pictures move, and what they are
// sent is looked at on its way. With ?heartbeat=ping a ping came and no TEXT; without
// it TEXT came, and mpegts.js gave up.
func TestStockPlayersInABrowser(t *testing.T) {
	t.Parallel()
	slow(t)
	needTools(t, "chromium", "ffmpeg")
	s := startServer(t)
	wire := startTap(t, s.addr)
	pages := httptest.NewServer(http.FileServer(http.Dir("testdata/players")))
	t.Cleanup(pages.Close)
	b := startBrowser(t)

	h264 := []string{"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv"}
	mpeg1 := []string{"-c:v", "mpeg1video", "-b:v", "200k", "-bf", "0", "-c:a", "mp2", "-f", "mpegts"}
	open := func(player, query string) *window {
		stream := "ws://" + wire.addr + "/" + player + "/key/receive" + query
		return b.open(t, pages.URL+"/?player="+player+"&url="+url.QueryEscape(stream))
	}
	publishLive(t, s, "mpegts", h264...)
	publishLive(t, s, "jsmpeg", mpeg1...)
	playing := map[string]*window{
		"/mpegts/key/receive?heartbeat=ping": open("mpegts", "?heartbeat=ping"),
		"/jsmpeg/key/receive?heartbeat=ping": open("jsmpeg", "?heartbeat=ping"),
	}
	stumbles := open("mpegts", "")
	stumbles.wait("moving pictures before the heartbeat", `state.time() > 0.5 && state.pictures() >= 5`)

	for path, w := range playing {
		w.wait("moving pictures", `state.time() > 0.5 && state.pictures() >= 5`)
		wire.waitFor(t, path, wstest.Ping)
		seen := w.ask("`state.time() > ${state.time() + 1} && state.pictures() >= ${state.pictures() + 5} && state.failed === ''`")
		w.wait("moving pictures after the heartbeat", seen)
		if n := wire.count(path, wstest.Text); n != 0 {
			t.Errorf("%s: wanted no TEXT, the server sent %d", path, n)
		}
	}
	wire.waitFor(t, "/mpegts/key/receive", wstest.Text)
	stumbles.wait("the player's complaint about TEXT", `state.failed.includes('Unsupported WebSocket message type: String')`)
}

// publishLive has ffmpeg publish a moving picture and a tone, in real time, until the
// test's end; the stream is cut wherever a read ends.
func publishLive(t *testing.T, s *server, channel string, encode ...string) {
	t.Helper()
	publisher := dialMedia(t, s.addr, "/"+channel+"/key/publish", nil)
	ctx := within(t, 4*mediaPatience)
	cmd := exec.CommandContext(ctx, "ffmpeg", append(append([]string{
		"-hide_banner", "-loglevel", "error", "-nostdin",
		"-re", "-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-g", "25",
	}, encode...), "-flush_packets", "1", "-")...)
	errs := &syncBuffer{}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("cannot start ffmpeg: %v", err)
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		piece := make([]byte, 4000)
		for {
			n, err := out.Read(piece)
			if n > 0 && publisher.Write(ctx, websocket.MessageBinary, piece[:n]) != nil || err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-published
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: ffmpeg says: %s", channel, &errs.b)
		}
	})
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
	if _, err := http.ReadResponse(r, nil); err != nil {
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
