package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"ws-stream-server/engine/wstest"
)

// logFormats is what LOG_FORMAT may be, for tests that hold in both.
var logFormats = []string{logText, logJSON}

// wantJSONLines wants a log of JSON objects, one a line, each with a time, a level and a
// message.
func wantJSONLines(t *testing.T, log string) (all []map[string]any) {
	t.Helper()
	for _, line := range lines(log) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q is no JSON object: %v", line, err)
		}
		for _, name := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
			if word, ok := object[name].(string); !ok || word == "" {
				t.Errorf("%q has no %s", line, name)
			}
		}
		all = append(all, object)
	}
	return all
}

// odd is characters that must not reach a terminal: C0, DEL, C1, a line separator, one
// that turns the text's direction, one beyond the basic plane. The last ones may.
const odd = "a\x00\x1b[31m\r\n\t\x7f\u0085\u009b\u2028\u202e\U000e0001\"\\é\u4e16\U0001f600"

func TestLogEscapesWhatCannotBePrinted(t *testing.T) {
	for _, format := range logFormats {
		var b bytes.Buffer
		log := slog.New(newLogHandler(&b, format, slog.LevelInfo))
		log.Info(odd, "value", odd, "bytes", "\xff\xc3", "error", errors.New(odd))
		line := strings.TrimSuffix(b.String(), "\n")
		if line == b.String() || strings.ContainsFunc(line, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%s: a raw character in %q", format, b.String())
		}
		if !strings.Contains(line, "é\u4e16\U0001f600") {
			t.Errorf("%s: what can be printed is escaped: %q", format, line)
		}
		if format != logJSON {
			continue
		}
		object := wantJSONLines(t, line)[0]
		for _, name := range []string{"msg", "value", "error"} {
			if object[name] != odd {
				t.Errorf("%s is %q, wanted %q", name, object[name], odd)
			}
		}
	}
}

// The same attributes with the same values in both formats.
func TestLogFormatsShowTheSame(t *testing.T) {
	shown := func(format string) string {
		var b bytes.Buffer
		slog.New(newLogHandler(&b, format, slog.LevelInfo)).Info("ends", "channel", "cam", "count", 7, "tls", true,
			"after", 1500*time.Millisecond, "addr", netip.MustParseAddrPort("[::1]:80"), "error", errors.New("gone"))
		return b.String()
	}
	object := wantJSONLines(t, shown(logJSON))[0]
	for _, name := range []string{"level", "msg", "channel", "count", "tls", "after", "addr", "error"} {
		if want := fmt.Sprintf(" %s=%v", name, object[name]); !strings.Contains(strings.TrimSpace(shown(logText))+" ", want+" ") {
			t.Errorf("JSON has%s, text has %s", want, shown(logText))
		}
	}
}

// The log of a whole life, with everything that the server says of itself, is JSON to
// the last line.
func TestJSONLogOfAWholeLife(t *testing.T) {
	t.Parallel()
	cert, key := wstest.NewIdentity(t, "one").Files(t, t.TempDir())
	c, s := startCoordinated(t, "LOG_FORMAT=JSON", "LOG_DEBUG=YES", "RTMP_CHUNK_SIZE=128", "MAX_CONNECTIONS=1000000",
		"SSL_CERT="+cert, "SSL_KEY="+key, "SSL_CHECK_RELOAD_SECONDS=1")
	acceptAll(c)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	s.receive("cam", "other").WantError(wrongKey, 1008)
	s.refuses(404, "/cam/key/nothing")
	writeFile(t, cert, "nonsense")
	s.wantLog("certificate not reloaded")
	c.DropLink()
	c.WantLink()
	wantErrorClose(t, pub, 1013)
	r.WantClose(1000)
	log := s.finalLog()
	said := map[any]bool{}
	for _, object := range wantJSONLines(t, log) {
		said[object["msg"]] = true
		if object["msg"] == "session ends" && (object["channel"] != "cam" || object["reason"] == "") {
			t.Errorf("a session's end has lost its attributes: %v", object)
		}
	}
	for _, msg := range []string{"listening", "started", "request", "session begins", "session ends", "shutting down", "sessions ended", "stopped", "RTMP_CHUNK_SIZE has no effect on WebSocket"} {
		if !said[msg] {
			t.Errorf("the log has no line %q:\n%s", msg, tail(log))
		}
	}
}
