package main

import (
	"fmt"
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
	s := startServer(t, "ADMIN_ADDRESS="+anyAdmin, "ADMIN_TOKEN="+adminToken)
	t.Run("a public address says how to get it", func(t *testing.T) {
		w := b.open(t, "http://"+s.addr+"/#view=status")
		w.wait("the way in words", `status.dataset.state === 'elsewhere' && text('status-how').includes('ADMIN_ADDRESS=127.0.0.1:9090')
			&& text('status-how').includes('http://127.0.0.1:9090/#view=status') && !document.querySelector('#status-how a') && document.getElementById('status-body').hidden`)
	})
	t.Run("sessions are shown and ended", func(t *testing.T) { b.testStatus(t, s) })
}

// withMedia adds to the server's answers what it can tell of a known container. The
// packets of this test are no media.
const withMedia = `
	const ask = fetch;
	globalThis.fetch = async (path, options) => {
		const answer = await ask(path, options);
		if (!answer.ok || options.method !== 'GET') return answer;
		const told = await answer.json();
		for (const channel of told.channels ?? []) if (channel.live) Object.assign(channel, { container: 'webm', codecs: ['vp9', 'opus'], width: 1280, height: 720, key_frame_seconds: 2 });
		for (const session of told.sessions ?? []) if (session.kind === 'receive') session.skips = 3;
		return new Response(JSON.stringify(told), answer);
	};`

func (b *browserProcess) testStatus(t *testing.T, s *server) {
	patience := wstest.Patience(mediaPatience)
	publisher := s.publish("cam", "key", patience)
	s.receive("cam", "key", patience)   // reads nothing: its socket fills up, and then it is behind
	s.receive("later", "key", patience) // waits
	reader := s.receive("cam", "key", patience)
	ended := make(chan string, 1)
	go func() { ended <- endOf(reader) }()
	sendAll(publisher, packets(4)...)
	w := b.open(t, "http://"+s.admin+"/#view=status", withMedia)
	w.wait("the server", `status.dataset.state === 'live' && text('status-ready') === 'Yes' && number('status-publishers') === 1 && number('status-receivers') === 3 && number('status-waiting') === 1`)
	w.wait("the channels", `cell('status-channels', 'cam', 'live') === 'live' && cell('status-channels', 'cam', 'receivers') === '2' && cell('status-channels', 'later', 'live') === 'waits'`)
	w.wait("the media of those that have some", `cell('status-channels', 'cam', 'type') === 'WebM · vp9, opus · 1280×720 · key frame every 2.0 s' && cell('status-channels', 'later', 'type') === '–'`)
	for range 12 {
		publisher.Send(wstest.Binary, payload(1<<20, 7))
	}
	w.wait("a slow receiver", `document.querySelector('#status-slowest tbody tr') && number('status-lag') > 1 && text('status-lagging').endsWith(' on cam')`)
	w.wait("the plots in words", `['received', 'sent', 'receivers', 'lag'].every((name) => document.getElementById('status-plot-' + name).getAttribute('aria-label').includes('seconds: now '))`)
	w.hit("the channel's name", "#status-channels tr[data-key=cam] .link")
	w.wait("the channel's sessions", `document.querySelectorAll('#status-sessions tbody tr').length === 3`)
	w.wait("the skips of its receivers", `document.querySelectorAll('#status-sessions td[data-name=lag_seconds]').values().some((cell) => cell.textContent.endsWith(' s · 3 skips'))`)
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
