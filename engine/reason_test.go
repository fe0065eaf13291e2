package engine

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"ws-stream-server/engine/wstest"
)

// Every reason has what the wire and the log need, and no two share a label.
func TestEveryReasonIsComplete(t *testing.T) {
	seen := map[string]reason{}
	for r := range reasons {
		c := closings[r]
		if c.label == "" {
			t.Errorf("reason %d has no label", r)
		}
		if other, taken := seen[c.label]; taken {
			t.Errorf("reasons %d and %d share the label %q", other, r, c.label)
		}
		seen[c.label] = r
		if len(c.text) > 123 || !utf8.ValidString(c.text) {
			t.Errorf("%v: the close frame's text is too long or no UTF-8 (RFC 6455, 5.5)", r)
		}
		if c.code == 0 && (c.text != "" || c.fault != "") {
			t.Errorf("%v: has a text, and no code to carry it", r)
		}
		// Whoever is told why in a close frame is told by a status, too.
		if (c.code == 0) != (c.status == 0) || c.status != 0 && (http.StatusText(c.status) == "" || c.complete && c.status != 200 && c.status != 503) {
			t.Errorf("%v: has the code %d and the status %d", r, c.code, c.status)
		}
		standard := c.code >= 1000 && c.code <= 1014 && c.code != 1004 && c.code != 1005 && c.code != 1006
		if ours := c.code >= 4000 && c.code <= 4099; c.code != 0 && !standard && !ours {
			t.Errorf("%v: %d may not stand in a close frame", r, c.code)
		}
	}
}

// A violation keeps the code that the codec gave it.
func TestViolationsKeepTheirCode(t *testing.T) {
	for _, code := range []uint16{1002, 1007, 1009} {
		if r := ofCloseCode(code); closings[r].code != code {
			t.Errorf("%d became %v with %d", code, r, closings[r].code)
		}
	}
}

// Every session that is closed counts once, by its first reason.
func TestEndsAreCounted(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB, c.ReceiverLagMB, c.MaxMessageMB = 1, 1, 1 })
	pub := s.publish("cam", "key")
	packet := numbered(0, 100)
	pub.Send(wstest.Binary, packet)
	pub.Sync()

	s.receive("cam", "key").CloseHandshake(1000)
	s.receive("cam", "key").Reset()
	guess := s.receive("cam", "guess")
	guess.WantError("Invalid streaming key", 1008)
	guess.Close()
	probe := s.dial("/cam/key/probe")
	probe.WantPacket(packet)
	probe.WantClose(1000)
	probe.WantEOF()
	wrong := s.receive("cam", "key")
	wrong.WantPacket(packet)
	wrong.Send(7, nil)
	wrong.WantError("Protocol error", 1002)
	wrong.Close()
	waits := s.receive("nobody", "key")

	slow := s.receive("cam", "key", wstest.ReceiveBuffer(4096))
	ss := s.stall(pub, slow)
	for i := 0; ss.ending.Load() == 0; i++ {
		pub.Send(wstest.Binary, numbered(i, 32<<10))
		pub.Sync()
	}
	slow.Close()
	last := s.receive("cam", "key")
	pub.CloseHandshake(1000)
	for last.Next().Op != wstest.Close {
		continue
	}
	last.WantEOF()
	waits.Close()
	eventually(t, "all are closed", func() bool { return s.roster.size() == 0 })

	want := map[string]int64{
		"client_closed": 2, "client_gone": 2, "stream_ended": 1, "probe_done": 1,
		"wrong_key": 1, "protocol_error": 1, "slow_receiver": 1,
	}
	got := s.Ends()
	if len(got) != int(reasons)-1 {
		t.Errorf("%d reasons are counted, wanted %d, also those at zero: %v", len(got), reasons-1, got)
	}
	var logged []string
	for _, a := range s.ends.logAttrs() {
		logged = append(logged, a.String())
	}
	if words := "client_closed=2 client_gone=2 stream_ended=1 probe_done=1 wrong_key=1 protocol_error=1 slow_receiver=1"; strings.Join(logged, " ") != words {
		t.Errorf("the log would say %q, wanted %q", logged, words)
	}
	maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, wanted %v", got, want)
	}
}
