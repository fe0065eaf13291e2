package engine

import (
	"bufio"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// twinTarget reads a path by PROTO.md's words (1.1), in the plainest way: cut at the
// slashes, decode each part once, compare.
func twinTarget(path string, idMax int) (target, bool) {
	if strings.Count(path, "/") != 3 || path[0] != '/' {
		return target{}, false
	}
	var parts []string
	for part := range strings.SplitSeq(path[1:], "/") {
		decoded := ""
		for part != "" {
			if part[0] != '%' {
				decoded, part = decoded+part[:1], part[1:]
				continue
			}
			if !twinEscape.MatchString(part) {
				return target{}, false
			}
			c := strings.IndexByte(twinHex, part[1]|0x20)*16 + strings.IndexByte(twinHex, part[2]|0x20)
			decoded, part = decoded+string([]byte{byte(c)}), part[3:]
		}
		parts = append(parts, decoded)
	}
	for _, id := range parts[:2] {
		if len(id) < 1 || len(id) > idMax || strings.Trim(id, twinLetters) != "" {
			return target{}, false
		}
	}
	k, ok := map[string]kind{"publish": publish, "receive": receive, "receive-clear-cache": receiveClearCache, "probe": probe}[parts[2]]
	return target{parts[0], parts[1], k}, ok
}

// twinHeartbeat reads a query by PROTO.md's words (1.4): whoever names the parameter
// once, as ping or text, has it so; without it TEXT is sent.
func twinHeartbeat(query string) (noText, ok bool) {
	var said []string
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if n, ok := twinForm(name); ok && n == "heartbeat" {
			v, _ := twinForm(value) // what cannot be read is neither of the two
			said = append(said, v)
		}
	}
	switch strings.Join(said, "&") {
	case "text":
		return false, true
	case "ping":
		return true, true
	}
	return false, len(said) == 0
}

// twinForm decodes a part of a query: a + is a blank, %XX a byte.
func twinForm(part string) (decoded string, ok bool) {
	for part != "" {
		switch {
		case part[0] == '+':
			decoded, part = decoded+" ", part[1:]
		case part[0] != '%':
			decoded, part = decoded+part[:1], part[1:]
		case !twinEscape.MatchString(part):
			return "", false
		default:
			c := strings.IndexByte(twinHex, part[1]|0x20)*16 + strings.IndexByte(twinHex, part[2]|0x20)
			decoded, part = decoded+string([]byte{byte(c)}), part[3:]
		}
	}
	return decoded, true
}

var (
	twinEscape = regexp.MustCompile(`^%[0-9A-Fa-f]{2}`)
	twinKey    = regexp.MustCompile(`^[0-9A-Za-z+/]{22}==$`)
	twinTokens = map[string]*regexp.Regexp{
		"websocket": regexp.MustCompile(`(^|,)[ \t]*websocket[ \t]*(,|$)`),
		"upgrade":   regexp.MustCompile(`(^|,)[ \t]*upgrade[ \t]*(,|$)`),
	}
)

const (
	twinHex     = "0123456789abcdef"
	twinLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// FuzzTarget draws request targets: the path that names a stream, and what the query
// says of heartbeats, are read as their twins read them, also after they went through
// net/http's reader of requests.
func FuzzTarget(f *testing.F) {
	for _, path := range []string{
		"/cam/key/publish", "/a/b/receive", "/-/_/receive-clear-cache?x=/y", "/%63am/k%65y/%70robe", "/%2563am/key/receive",
		"/cam/%6b%2fey/receive", "//key/receive", "/cam/key/receive/", "/./cam/key/receive", "/cam/key/receive%00", "/c%/k/probe",
		"/cam/key%zz/receive", "/%ff/key/receive", "/\xc3\xa4/key/receive", "/cam/key/receive#x", "/cam/key/probe?#%zz", "cam/key/probe",
		"/cam/key/receive?heartbeat=ping", "/cam/key/receive?a=b&h%65artbeat=%70ing&%zz", "/cam/key/receive?heartbeat=text&heartbeat=text",
		"/cam/key/receive?heartbeat", "/cam/key/receive?heartbeat=ping;x", "/cam/key/receive?heartbeat=+ping", "/cam/key/receive?heartbeat=%zz&Heartbeat=ping",
	} {
		f.Add(path, uint16(3))
		f.Add(path, uint16(128))
	}
	f.Fuzz(func(t *testing.T, uri string, idMax uint16) {
		path, query, _ := strings.Cut(uri, "?")
		want, ok := twinTarget(path, int(idMax))
		if got, gotOK := parseTarget(path, int(idMax)); gotOK != ok || gotOK && got != want {
			t.Fatalf("%q, at most %d: %v %t, want %v %t", path, idMax, got, gotOK, want, ok)
		}
		noText, allowed := twinHeartbeat(query)
		if got, gotOK := parseHeartbeat(query); got != noText || gotOK != allowed {
			t.Fatalf("%q: %t %t, want %t %t", query, got, gotOK, noText, allowed)
		}
		if !strings.HasPrefix(uri, "/") || strings.ContainsFunc(uri, notInALine) {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + uri + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil {
			if ok {
				t.Fatalf("%q names a stream and is refused: %v", uri, err)
			}
			return
		}
		if got, gotOK := parseTarget(r.URL.EscapedPath(), int(idMax)); gotOK != ok || gotOK && got != want {
			t.Fatalf("%q through net/http: %v %t, want %v %t", uri, got, gotOK, want, ok)
		}
		if got, gotOK := parseHeartbeat(r.URL.RawQuery); got != noText || gotOK != allowed {
			t.Fatalf("%q through net/http: %t %t, want %t %t", uri, got, gotOK, noText, allowed)
		}
	})
}

// notInALine: what ends the target of a request line, or the line.
func notInALine(r rune) bool { return r <= ' ' || r == 0x7f }

// twinUpgrade judges a handshake by RFC 6455, 4.2.1, as one pattern for each header.
// Blanks around the values are gone already.
func twinUpgrade(method, upgrade, connection, version, key string, keys int) (status int) {
	token := func(list, word string) bool {
		return twinTokens[word].MatchString(strings.Map(lower, list))
	}
	switch {
	case method != "GET":
		return http.StatusBadRequest
	case !token(upgrade, "websocket"), !token(connection, "upgrade"), version != "13":
		return http.StatusUpgradeRequired
	case keys != 1, !twinKey.MatchString(key):
		return http.StatusBadRequest
	}
	return 0
}

// lower is lower case for ASCII letters, and nothing else: ſ is no s.
func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// FuzzUpgrade draws a handshake's headers: what is accepted is what the RFC asks for,
// and the answer to it is one that the client accepts.
func FuzzUpgrade(f *testing.F) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	f.Add("GET", "websocket", "Upgrade", "13", key, uint8(1))
	f.Add("GET", "h2c, WebSocket", "keep-alive\t,  UPGRADE", "13", "AAAAAAAAAAAAAAAAAAAAAB==", uint8(1))
	f.Add("GET", "websocket/13", "upgrade;q=1", "13.0", key, uint8(2))
	f.Add("POST", "websocket,", ",upgrade", "8, 13", "AAAAAAAAAAAAAAAAAAAAAAA=", uint8(0))
	f.Add("GET", "web\u017focket", "Upgrade", "13", key, uint8(1))
	f.Add("GET", "websocket\u00a0", "\u0085upgrade", "013", "AAAAAAAAAAAAAAAAAAAAAA", uint8(1))
	f.Fuzz(func(t *testing.T, method, upgrade, connection, version, key string, keys uint8) {
		keys %= 3
		if strings.ContainsFunc(method, notInALine) || strings.ContainsAny(upgrade+connection+version+key, "\r\n") {
			return // other headers, or none
		}
		text := method + " /cam/key/publish HTTP/1.1\r\nHost: a\r\nUpgrade: " + upgrade + "\r\nConnection: " + connection +
			"\r\nSec-WebSocket-Version: " + version + "\r\n" + strings.Repeat("Sec-WebSocket-Key: "+key+"\r\n", int(keys)) + "\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return // refused before we see it
		}
		blank := func(s string) string { return strings.Trim(s, " \t") }
		want := twinUpgrade(method, blank(upgrade), blank(connection), blank(version), blank(key), int(keys))
		accept, status, line := checkUpgrade(r)
		if status != want {
			t.Fatalf("%q: %d %q, want %d", text, status, line, want)
		}
		if (status == 0) != (len(accept) == 28) || (status == 0) != (line == "") || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q: accept %q, line %q", text, accept, line)
		}
		if blank(key) == "dGhlIHNhbXBsZSBub25jZQ==" && status == 0 && accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Fatalf("the RFC's own example is answered with %q", accept)
		}
	})
}
