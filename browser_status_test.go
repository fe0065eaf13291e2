package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ws-stream-server/engine/wstest"
)

// The Status view in a real browser, against a real server with its admin listener
// and real sessions: it shows them, and ends the one that its buttons name.
func TestBrowserStatus(t *testing.T) {
	t.Parallel()
	needTools(t, "chromium")
	b := startBrowser(t)
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "ADMIN_TOKEN="+adminToken, "SLOW_RECEIVER=skip",
		"GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=2", "RECEIVER_LAG_MB=8", "SEND_BUFFER_KB=32")
	t.Run("a public address says how to get it", func(t *testing.T) {
		w := b.open(t, "http://"+s.addr+"/#view=status")
		w.wait("the way in words", `status.dataset.state === 'elsewhere' && text('status-how').includes('ADMIN_ADDRESS=127.0.0.1:9090')
			&& text('status-how').includes('http://127.0.0.1:9090/#view=status') && !document.querySelector('#status-how a') && document.getElementById('status-body').hidden`)
	})
	t.Run("sessions are shown and ended", func(t *testing.T) { b.testStatus(t, s) })
}

// void is a mebibyte and more that may stand between the elements of WebM, and tells nothing.
var void = append([]byte{0xec, 0x01, 0, 0, 0, 0, 0x10, 0, 0}, make([]byte, 1<<20)...)

func (b *browserProcess) testStatus(t *testing.T, s *server) {
	patience := wstest.Patience(mediaPatience)
	publisher := s.publish("cam", "key", patience)
	s.receive("cam", "key", patience, wstest.ReceiveBuffer(4096)) // reads nothing: its socket fills up, and then it is behind
	s.receive("later", "key", patience)                           // waits
	reader := s.receive("cam", "key", patience)
	ended := make(chan string, 1)
	go func() { ended <- endOf(reader) }()
	stream, err := os.ReadFile("engine/media/testdata/chromium-vp8-opus.webm")
	if err != nil {
		t.Fatal(err)
	}
	const second, third = 4045, 8589 // where clusters begin with the next key frames
	sendAll(publisher, stream[:second])
	w := b.open(t, "http://"+s.admin+"/#view=status")
	w.wait("the server", `status.dataset.state === 'live' && text('status-ready') === 'Yes' && number('status-publishers') === 1 && number('status-receivers') === 3 && number('status-waiting') === 1`)
	w.wait("the channels", `cell('status-channels', 'cam', 'live') === 'live' && cell('status-channels', 'cam', 'receivers') === '2' && cell('status-channels', 'later', 'live') === 'waits'`)
	w.wait("the media of those that have some", `cell('status-channels', 'cam', 'type') === 'WebM · opus, vp8 · 160×120' && cell('status-channels', 'later', 'type') === '–'`)
	sendAll(publisher, void, void, stream[second:third], void, void, stream[third:], void)
	w.wait("how often a key frame comes", `cell('status-channels', 'cam', 'type').startsWith('WebM · opus, vp8 · 160×120 · key frame every ')`)
	w.wait("a slow receiver", `document.querySelector('#status-slowest tbody tr') && number('status-lag') > 1 && text('status-lagging').endsWith(' on cam')`)
	w.wait("the plots in words", `['received', 'sent', 'receivers', 'lag'].every((name) => document.getElementById('status-plot-' + name).getAttribute('aria-label').includes('seconds: now '))`)
	w.hit("the channel's name", "#status-channels tr[data-key=cam] .link")
	w.wait("the channel's sessions", `document.querySelectorAll('#status-sessions tbody tr').length === 3`)
	// The slow one is now too far behind, and still has the second key frame before it and
	// the third one to jump to.
	sendAll(publisher, void, void)
	w.wait("the skip of that receiver", `document.querySelectorAll('#status-sessions td[data-name=lag_seconds]').values().some((cell) => cell.textContent.endsWith(' · 1 skip'))`)
	w.pictures("status")

	// There are no streams at this address: none is watched or published there by mistake.
	w.click("tab-watch")
	w.click("watch-start")
	w.wait("a wish for the server", `document.getElementById('host').value === '' && text('host-problem') === 'Server is missing.' && watch.dataset.state === 'idle'`)
	w.choose("host", s.addr)
	link := w.ask(`import('/client/router.js').then(({ linkTo }) => linkTo('/', { scheme: 'ws', host: document.getElementById('host').value, view: 'watch', channel: 'cam', key: 'key' }))`)
	if want := "http://" + s.addr + "/#view=watch&channel=cam&key=key"; link != want {
		t.Errorf("wanted the link %s, got %s", want, link)
	}
	w.pictures("watch-at-the-operators")
	w.click("tab-status")

	// Without the token nothing is ended; with it, and two presses, that session is.
	id := w.ask(`[...document.querySelectorAll('#status-sessions tbody tr')].find((row) => row.innerText.includes('` + reader.LocalAddr().String() + `')).dataset.key`)
	end := "#status-sessions tr[data-key='" + id + "'] .two-press"
	w.hit("the button", end)
	w.do("press it again, so soon that it is a double click", chromedp.DoubleClick(end))
	w.wait("a question", `document.querySelector("`+end+`").textContent === 'Really end?' && status.dataset.state === 'live'`)
	w.hit("it again", end)
	w.wait("a wish for the token", `status.dataset.state === 'token' && !document.getElementById('status-token-form').hidden`)
	w.choose("status-token", "a token from a text, with “quotes”")
	w.click("status-use")
	w.wait("what a token is", `text('status-status').includes('visible characters of ASCII only') && !document.getElementById('status-token-form').hidden`)
	w.choose("status-token", adminToken)
	w.click("status-use")
	w.wait("the status again", `status.dataset.state === 'live' && document.getElementById('status-token-form').hidden`)
	w.hit("the button once", end)
	w.hit("it again", end)
	w.wait("the end in the log", `text('log').includes('ended the session of `+reader.LocalAddr().String()+`') && document.querySelectorAll('#status-sessions tbody tr').length === 2`)
	if got := <-ended; got != "close 4002" {
		t.Errorf("the session that was ended saw %q", got)
	}
	w.wait("the reason", `text('status-ends').includes('operator')`)

	w.hit("the channel's button once", "#status-channels tr[data-key=cam] .two-press")
	w.hit("it again", "#status-channels tr[data-key=cam] .two-press")
	if got := endOf(publisher); got != "close 4002" {
		t.Errorf("the publisher of the channel that was ended saw %q", got)
	}
	w.wait("no channel of that name", `cell('status-channels', 'cam', 'live') === undefined && number('status-publishers') === 0`)
	for i := range 201 {
		s.receive(fmt.Sprint("many", i), "key", patience)
	}
	w.wait("the first of many channels", `text('status-channel-count') === '0 live of 202; the first 200' && document.querySelectorAll('#status-channels tbody tr').length === 200`)
	w.hit("a channel's name", "#status-channels tr[data-key=later] .link")
	for range 100 {
		s.receive("later", "key", patience)
	}
	w.wait("the first of many sessions", `document.querySelectorAll('#status-sessions tbody tr').length === 100 && text('status-open-count') === 'the 100 slowest of 101'`)
	if where := w.ask(`location.href + ' ' + document.cookie + ' ' + JSON.stringify(localStorage)`); strings.Contains(where, adminToken) {
		t.Errorf("the token stands where it must not: %s", where)
	}
	w.wantOnlyErrors("401")
}

// endOf reads a client to its end: "close" with its code, or what else it was.
func endOf(c *wstest.Conn) string {
	for {
		m, err := c.NextFrame(mediaPatience)
		if err != nil {
			return err.Error()
		}
		if m.Op == wstest.Close {
			return fmt.Sprintf("close %d", m.Code())
		}
	}
}

// hit clicks what a selector names, as a user does, with the mouse.
func (w *window) hit(what, selector string) {
	w.t.Helper()
	w.do("press "+what, chromedp.Click(selector))
}

// wantOnlyErrors fails if the browser complained of something without this word.
func (w *window) wantOnlyErrors(word string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, complaint := range w.errors {
		if !strings.Contains(complaint, word) {
			w.t.Errorf("the browser's console: %s", complaint)
		}
	}
}
