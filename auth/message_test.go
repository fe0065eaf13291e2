package auth

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParseMessage(t *testing.T) {
	for text, want := range map[string]message{
		"":                               {"", map[string]string{}},
		"\n\n":                           {"", map[string]string{}},
		"HEARTBEAT":                      {"HEARTBEAT", map[string]string{}},
		" heartBeat \r\n":                {"HEARTBEAT", map[string]string{}},
		"A\nRequest-Id:1":                {"A", map[string]string{"request-id": "1"}},
		"A\nREQUEST-ID :\t 1 \r\nb: c":   {"A", map[string]string{"request-id": "1", "b": "c"}},
		"A\nurl: ws://x:1":               {"A", map[string]string{"url": "ws://x:1"}},
		"A\nb: 1\nb: 2":                  {"A", map[string]string{"b": "2"}},
		"A\nb:":                          {"A", map[string]string{"b": ""}},
		"A\nno colon\n: no name\nb: 1":   {"A", map[string]string{"b": "1"}},
		"A\nb: 1\n\nc: the body":         {"A", map[string]string{"b": "1"}},
		"A\r\nb: 1\r\n\r\nc: the body":   {"A", map[string]string{"b": "1"}},
		"A\n\nb: the body\n\nand more":   {"A", map[string]string{}},
		"A\nb: \xff\x00":                 {"A", map[string]string{"b": "\xff\x00"}},
		"A\n \t \nb: after no parameter": {"A", map[string]string{"b": "after no parameter"}},
	} {
		if got := parseMessage(text); got.typ != want.typ || !maps.Equal(got.params, want.params) {
			t.Errorf("%q is %q %q, want %q %q", text, got.typ, got.params, want.typ, want.params)
		}
	}
}

func TestMessagesAsWritten(t *testing.T) {
	r := Request{Channel: "cam", Key: "k", Addr: netip.MustParseAddr("::ffff:192.0.2.1")}
	for got, want := range map[string]string{
		formatMessage(typeHeartbeat):                     "HEARTBEAT\n",
		publishRequest("1", r):                           "PUBLISH-REQUEST\nRequest-ID: 1\nStream-Channel: cam\nStream-Key: k\nUser-IP: 192.0.2.1\n",
		publishEnd("cam", "s"):                           "PUBLISH-END\nStream-Channel: cam\nStream-ID: s\n",
		publishEnd("c\r\nStream-ID: x\n\n", "\xffs\x00"): "PUBLISH-END\nStream-Channel: c??Stream-ID: x??\nStream-ID: ?s?\n",
	} {
		if got != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
	}
	for addr, want := range map[netip.Addr]string{
		{}:                                  "",
		netip.MustParseAddr("2001:db8::1"):  "2001:db8::1",
		netip.MustParseAddr("fe80::1%eth0"): "fe80::1",
	} {
		if got := parseMessage(publishRequest("1", Request{Addr: addr})).get("user-ip"); got != want {
			t.Errorf("User-IP of %v is %q, want %q", addr, got, want)
		}
	}
}

// twinMessage reads a message by PROTO.md's words (2.2), line by line.
func twinMessage(text string) message {
	m := message{params: map[string]string{}}
	for i, line := range strings.Split(text, "\n") {
		switch colon := strings.IndexByte(line, ':'); {
		case i == 0:
			m.typ = strings.ToUpper(strings.TrimSpace(line))
		case line == "" || line == "\r":
			return m // the body
		case colon >= 0 && strings.TrimSpace(line[:colon]) != "":
			m.params[strings.ToLower(strings.TrimSpace(line[:colon]))] = strings.TrimSpace(line[colon+1:])
		}
	}
	return m
}

// wantOneLineEach wants a message of our own of these lines, whatever its values are:
// text that any other reader of lines takes for the same.
func wantOneLineEach(t *testing.T, text string, names ...string) {
	t.Helper()
	if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
		t.Fatalf("wrote %q", text)
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	if len(lines) != strings.Count(text, "\n") || len(lines) != len(names) || lines[0] != names[0] {
		t.Fatalf("wrote %q, want the lines %q", text, names)
	}
	for i, line := range lines[1:] {
		if !strings.HasPrefix(line, names[i+1]+": ") {
			t.Fatalf("wrote %q, want the lines %q", text, names)
		}
	}
}

// FuzzMessage draws a message and values: the message is read as its twin reads it;
// what is written is read as the same; no value makes a line of its own.
func FuzzMessage(f *testing.F) {
	f.Add("publish-accept\r\nRequest-Id: 1\r\nStream-Channel:cam\r\n\r\nbody", "value", "cam")
	f.Add("\n:\n::\n \r\r\n", "a\r\nStream-Key: b", "\u2028Stream-ID: *")
	f.Add("A\xff\nb\xff:\xff", "\xff", "\u0085\v\f\x1c")
	f.Fuzz(func(t *testing.T, text, value, other string) {
		m := parseMessage(text)
		if want := twinMessage(text); m.typ != want.typ || !maps.Equal(m.params, want.params) {
			t.Fatalf("%q is %q %q, want %q %q", text, m.typ, m.params, want.typ, want.params)
		}
		params := make([]param, 0, len(m.params)+1)
		want := make(map[string]string)
		for name, value := range m.params {
			if name == "" || strings.ContainsAny(name+value, "\n") || value != strings.TrimSpace(value) {
				t.Fatalf("%q has the parameter %q: %q", text, name, value)
			}
			params = append(params, param{name, value})
			want[name] = sanitise(value)
		}
		params = append(params, param{paramStreamID, value})
		want["stream-id"] = strings.TrimSpace(sanitise(value))
		written := formatMessage(m.typ, params...)
		again := parseMessage(written)
		if again.typ != m.typ || !maps.Equal(again.params, want) {
			t.Fatalf("%q came back as %q %q, want %q %q", written, again.typ, again.params, m.typ, want)
		}
		wantOneLineEach(t, publishRequest(value, Request{Channel: other, Key: value}), typePublishRequest, paramRequestID, paramChannel, paramKey, paramUserIP)
		wantOneLineEach(t, publishEnd(value, other), typePublishEnd, paramChannel, paramStreamID)
		if m := parseMessage(publishEnd(value, other)); len(m.params) != 2 || m.get(paramChannel) != strings.TrimSpace(sanitise(value)) {
			t.Fatalf("the end of %q came back as %q", value, m.params)
		}
	})
}
