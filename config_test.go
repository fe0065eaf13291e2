package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
)

// defaults is the table of the documentation: every variable and its default.
var defaults = []struct{ name, value string }{
	{"HTTP_PORT", "80"}, {"BIND_ADDRESS", ""}, {"SSL_PORT", "443"}, {"SSL_CERT", ""}, {"SSL_KEY", ""},
	{"SSL_CHECK_RELOAD_SECONDS", "60"}, {"CONTROL_BASE_URL", ""}, {"CONTROL_SECRET", ""},
	{"EXTERNAL_IP", ""}, {"EXTERNAL_PORT", ""}, {"EXTERNAL_SSL", "NO"}, {"PLAY_WHITELIST", ""},
	{"MAX_IP_CONCURRENT_CONNECTIONS", "4"}, {"CONCURRENT_LIMIT_WHITELIST", ""}, {"ID_MAX_LENGTH", "128"},
	{"GOP_CACHE_SIZE_MB", "256"}, {"MAX_MESSAGE_MB", "64"}, {"RECEIVER_LAG_MB", "64"}, {"MEMORY_LIMIT_MB", "0"},
	{"SEND_BUFFER_KB", "256"}, {"GATHER_MS", "10"},
	{"TRUSTED_PROXIES", ""}, {"PROXY_PROTOCOL", "NO"}, {"ALLOWED_ORIGINS", ""},
	{"MAX_CONNECTIONS", "0"}, {"MAX_HANDSHAKES", "1024"}, {"MAX_HEADER_KB", "16"}, {"HANDSHAKE_TIMEOUT_SECONDS", "10"},
	{"ADMIN_ADDRESS", ""}, {"ADMIN_TOKEN", ""},
	{"SHUTDOWN_SECONDS", "0"}, {"LOG_REQUESTS", "YES"}, {"LOG_DEBUG", "NO"}, {"LOG_FORMAT", "text"}, {"DISABLE_TEST_CLIENT", "NO"}, {"RTMP_CHUNK_SIZE", "128"},
}

// wantsOneLine fails unless the start failed with exit code 2 and exactly one
// line, which names the variable and its value.
func wantsOneLine(t *testing.T, e ended, name, value string) {
	t.Helper()
	if e.code != 2 {
		t.Errorf("%s=%q: wanted exit code 2, got %d; output:\n%s", name, value, e.code, tail(e.out))
		return
	}
	if l := lines(e.out); len(l) != 1 {
		t.Errorf("%s=%q: wanted one line, got %d:\n%s", name, value, len(l), tail(e.out))
	}
	if _, entry, ok := strings.Cut(value, ","); ok {
		value = entry // of a list the bad entry is enough
	}
	if !strings.Contains(e.out, name) || !strings.Contains(e.out, value) {
		t.Errorf("%s=%q: wanted the variable and its value in the line, got %q", name, value, e.out)
	}
}

func TestValuesOutOfRangeStopTheStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		values []string
	}{
		{"HTTP_PORT", []string{"0", "-1", "65536", "abc", "80.5", "99999999999999999999", "0x50", "8080x", "127.0.0.1:80"}},
		{"SSL_PORT", []string{"0", "-1", "65536", "abc"}},
		{"BIND_ADDRESS", []string{"300.1.1.1", "1.2.3.4:80", "not an address", "10.0.0.0/8", "[::1]:80", "[]", "[127.0.0.1]", "127.0.0.1%lo", "::%", " "}},
		{"SSL_CHECK_RELOAD_SECONDS", []string{"-1", "abc", "1.5", "99999999999999999999"}},
		{"CONTROL_BASE_URL", []string{"http://a.example", "https://a.example", "a.example", "a.example:80", "ws://", "ws:", "ws:///path", "://x", "ws://a:99999", "ws://a:port", "ws//a", "nonsense", "ws://a b", "ws://[::1", "ws://a:0", "ws://::1", "ws://1.2.3.4.5", "ws://-", "ws://a..b", "ws://a?q=1", "ws://a#f", " "}},
		{"EXTERNAL_PORT", []string{"0", "-1", "65536", "abc"}},
		{"EXTERNAL_SSL", []string{"maybe", "2", "YESNO"}},
		{"PLAY_WHITELIST", []string{"300.0.0.1", "10.0.0.0/33", "foo", "::1/129", "1.2.3", "1.2.3.4/", "1.2.3.4-1.2.3.9", "127.0.0.1,foo", "1.2.3.4;5.6.7.8", "**", " ", ","}},
		{"SSL_CERT", []string{" "}},
		{"CONCURRENT_LIMIT_WHITELIST", []string{"300.0.0.1", "10.0.0.0/33", "foo", "::1/129", "127.0.0.1,foo"}},
		{"TRUSTED_PROXIES", []string{"300.0.0.1", "10.0.0.0/33", "proxy.example", "*", "10.0.0.1,*", "0.0.0.0/0", "127.0.0.1,foo", "127.0.0.1:80", ","}},
		{"PROXY_PROTOCOL", []string{"maybe", "v2"}},
		{"ALLOWED_ORIGINS", []string{"example.org", "https://", "https://example.org/", "https://a.example,https://b.example/page", "https://*.example.org", "https://a.example?x", "https://user@a.example", "//a.example", "https:a.example", "null", "https://a.example:", "https://a.example:0", "https://a.example:65536", "https://[::1", "https://bücher.example", ","}},
		{"MAX_IP_CONCURRENT_CONNECTIONS", []string{"-1", "abc", "1.5", "99999999999999999999"}},
		{"ID_MAX_LENGTH", []string{"0", "-1", "abc", "99999999999999999999"}},
		{"GOP_CACHE_SIZE_MB", []string{"-1", "abc", "1.5", "99999999999999999999", "9223372036854775807", "17592186044416"}},
		{"MAX_MESSAGE_MB", []string{"0", "-1", "abc", "99999999999999999999", "9223372036854775807", "17592186044416"}},
		{"RECEIVER_LAG_MB", []string{"-1", "abc", "0", "63", "99999999999999999999", "9223372036854775807"}},
		{"MEMORY_LIMIT_MB", []string{"-1", "abc", "1", "63", "255", "99999999999999999999"}},
		{"SEND_BUFFER_KB", []string{"-1", "abc", "0.5", "65537", "99999999999999999999"}},
		{"GATHER_MS", []string{"-1", "abc", "0.5", "1001"}},
		{"MAX_CONNECTIONS", []string{"-1", "abc", "1.5", "1000001", "99999999999999999999"}},
		{"MAX_HANDSHAKES", []string{"-1", "abc", "1000001"}},
		{"MAX_HEADER_KB", []string{"0", "4", "-1", "abc", "1025"}},
		{"HANDSHAKE_TIMEOUT_SECONDS", []string{"0", "-1", "abc", "0.5", "301"}},
		{"ADMIN_ADDRESS", []string{"9090", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "::1:9090", "300.0.0.1:9090", "http://127.0.0.1:9090", ":9090", "0.0.0.0:9090", "[::]:9090", "192.0.2.1:9090", " "}},
		{"SHUTDOWN_SECONDS", []string{"-1", "abc", "0.5", "301"}},
		{"LOG_REQUESTS", []string{"maybe", "2", "YESS"}},
		{"LOG_DEBUG", []string{"maybe", "2"}},
		{"LOG_FORMAT", []string{"xml", "jsonl", "text json"}},
		{"DISABLE_TEST_CLIENT", []string{"maybe", "2"}},
		{"RTMP_CHUNK_SIZE", []string{"abc", "-5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range c.values {
				wantsOneLine(t, runServer(t, c.name+"="+v), c.name, v)
			}
		})
	}
}

func TestMistake13MalformedGuardsFailClosed(t *testing.T) {
	t.Parallel()
	for _, e := range []string{"CONTROL_SECRET= ", "CONTROL_SECRET=\t", "CONTROL_BASE_URL=ws://user:word@a.example"} {
		name, _, _ := strings.Cut(e, "=")
		if end := runServer(t, e); end.code != 2 || len(lines(end.out)) != 1 || !strings.Contains(end.out, name) || strings.Contains(end.out, "word@") {
			t.Errorf("%q: wanted exit code 2 and one line, got %d:\n%s", e, end.code, tail(end.out))
		}
	}
	for _, e := range []string{
		"CONTROL_BASE_URL=coordinator.example", "CONTROL_BASE_URL=http://coordinator.example",
		"PLAY_WHITELIST=10.0.0.0/99", "CONCURRENT_LIMIT_WHITELIST=everyone",
	} {
		name, value, _ := strings.Cut(e, "=")
		wantsOneLine(t, runServer(t, e), name, value)
		wantsOneLine(t, runServer(t, ".env:"+e), name, value)
	}
	// A secret or an address that would break the request's header.
	if e := runServer(t, "CONTROL_BASE_URL=ws://127.0.0.1:1", "EXTERNAL_IP=a\r\nx-evil: 1"); e.code != 2 || len(lines(e.out)) != 1 {
		t.Errorf("EXTERNAL_IP with a line break: wanted exit code 2 and one line, got %d:\n%s", e.code, tail(e.out))
	}
}

func TestContradictionsStopTheStart(t *testing.T) {
	t.Parallel()
	cert, key := wstest.NewIdentity(t, "one").Files(t, t.TempDir())
	wantsOneLine(t, runServer(t, "SSL_CERT="+cert), "SSL_KEY", "")
	wantsOneLine(t, runServer(t, "SSL_KEY="+key), "SSL_CERT", "")
	wantsOneLine(t, runServer(t, "MAX_MESSAGE_MB=65"), "RECEIVER_LAG_MB", "64")
	wantsOneLine(t, runServer(t, "RECEIVER_LAG_MB=7", "MAX_MESSAGE_MB=8"), "RECEIVER_LAG_MB", "7")
	wantsOneLine(t, runServer(t, "MEMORY_LIMIT_MB=127", "MAX_MESSAGE_MB=32"), "MEMORY_LIMIT_MB", "127")
	wantsOneLine(t, runServer(t, "PROXY_PROTOCOL=YES"), "PROXY_PROTOCOL", "TRUSTED_PROXIES")
	port := freePort(t)
	wantsOneLine(t, runServer(t, "SSL_CERT="+cert, "SSL_KEY="+key, "HTTP_PORT="+port, "SSL_PORT="+port), "SSL_PORT", port)
}

func TestBadCertificatesStopTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := wstest.NewIdentity(t, "one").Files(t, dir)
	_, otherKey := wstest.NewIdentity(t, "two").Files(t, t.TempDir())
	broken := filepath.Join(dir, "broken.pem")
	writeFile(t, broken, "-----BEGIN CERTIFICATE-----\nnonsense\n")
	for _, c := range []struct{ name, cert, key, names string }{
		{"no such certificate", filepath.Join(dir, "none.pem"), key, "none.pem"},
		{"no such key", cert, filepath.Join(dir, "none.pem"), "none.pem"},
		{"broken certificate", broken, key, "SSL_CERT"},
		{"broken key", cert, broken, "SSL_"},
		{"another's key", cert, otherKey, "SSL_"},
		{"a directory", dir, key, dir},
	} {
		e := runServer(t, "SSL_CERT="+c.cert, "SSL_KEY="+c.key, "SSL_PORT="+freePort(t))
		if e.code != 2 || len(lines(e.out)) != 1 || !strings.Contains(e.out, c.names) {
			t.Errorf("%s: wanted exit code 2 and one line with %q, got %d:\n%s", c.name, c.names, e.code, tail(e.out))
		}
	}
}

func TestBooleans(t *testing.T) {
	t.Parallel()
	for value, on := range map[string]bool{
		"YES": true, "yes": true, "Yes": true, "true": true, "TRUE": true, "1": true,
		"NO": false, "no": false, "False": false, "0": false, "": false,
	} {
		t.Run("DISABLE_TEST_CLIENT="+value, func(t *testing.T) {
			s := startServer(t, "DISABLE_TEST_CLIENT="+value, "LOG_DEBUG="+value, "EXTERNAL_SSL="+value)
			if _, body, _ := s.get("/"); (len(body) < 200) != on {
				t.Errorf("wanted the test client disabled: %v, got %d bytes", on, len(body))
			}
		})
	}
}

func TestEmptyValuesAreDefaults(t *testing.T) {
	t.Parallel()
	var env []string
	for _, d := range defaults {
		if d.name != "HTTP_PORT" && d.name != "BIND_ADDRESS" {
			env = append(env, d.name+"=")
		}
	}
	s := startServer(t, env...)
	for range 4 {
		s.receive("cam", "key").Sync()
	}
	s.refuses(429, "/cam/key/receive")
}

func TestExtremesThatAreAllowed(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{
		{"SSL_PORT=1"}, {"SSL_PORT=65535"}, {"EXTERNAL_PORT=1"}, {"EXTERNAL_PORT=65535"}, {"SSL_CHECK_RELOAD_SECONDS=1"},
		{"MAX_IP_CONCURRENT_CONNECTIONS=0"}, {"MAX_IP_CONCURRENT_CONNECTIONS=1000000"}, {"ID_MAX_LENGTH=1"},
		{"MAX_CONNECTIONS=1"}, {"MAX_CONNECTIONS=1000000", "MAX_HANDSHAKES=1"}, {"MAX_HANDSHAKES=0", "MAX_HEADER_KB=5"},
		{"MAX_HEADER_KB=1024", "HANDSHAKE_TIMEOUT_SECONDS=300"},
		{"GOP_CACHE_SIZE_MB=0"}, {"GOP_CACHE_SIZE_MB=4096"}, {"MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1"},
		{"SEND_BUFFER_KB=0"}, {"SEND_BUFFER_KB=1"}, {"SEND_BUFFER_KB=65536"},
		{"PLAY_WHITELIST=*", "CONCURRENT_LIMIT_WHITELIST=*"}, {"PLAY_WHITELIST= 127.0.0.0/8 , ::1 ,10.1.2.3"},
		{"CONTROL_SECRET=no-coordinator"}, {"EXTERNAL_IP=10.0.0.1"}, {"RTMP_CHUNK_SIZE=4096"},
	} {
		s := startServer(t, env...)
		s.receive("c", "k").Sync()
	}
}

func TestRTMPChunkSizeIsMentionedOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, "RTMP_CHUNK_SIZE=4096")
	s.receive("c", "k").Sync()
	s.wantLogs(1, "RTMP_CHUNK_SIZE")
	s = startServer(t)
	if strings.Contains(s.logs(), "RTMP_CHUNK_SIZE") {
		t.Errorf("wanted nothing about RTMP_CHUNK_SIZE when it is not set, got:\n%s", s.logs())
	}
}

func TestDotEnvFile(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := startServer(t, "HTTP_PORT="+port, // the environment wins
		".env:HTTP_PORT=1", ".env:# a comment", ".env:", ".env:DISABLE_TEST_CLIENT=YES", ".env:ID_MAX_LENGTH=\"3\"", ".env:SOMETHING_ELSE=x", ".env:LOG_DEBUG=")
	if _, body, _ := s.get("/"); len(body) > 200 {
		t.Errorf("wanted DISABLE_TEST_CLIENT from the file, got %d bytes", len(body))
	}
	s.receive("abc", "abc").Sync()
	s.refuses(404, "/abcd/abc/receive")

	s = startServer(t, "DISABLE_TEST_CLIENT=NO", ".env:DISABLE_TEST_CLIENT=YES")
	if _, body, _ := s.get("/"); len(body) < 200 {
		t.Errorf("wanted the environment to win over the file, got %q", body)
	}
	wantsOneLine(t, runServer(t, ".env:MAX_MESSAGE_MB=nonsense"), "MAX_MESSAGE_MB", "nonsense")
	wantsOneLine(t, runServer(t, ".env:MAX_MESSAGE_MB=1", "MAX_MESSAGE_MB=nonsense"), "MAX_MESSAGE_MB", "nonsense")
	doubled := []string{".env:A0=xx"} // 2 to the power of 60 bytes, once replaced
	for i := range 60 {
		doubled = append(doubled, fmt.Sprintf(".env:A%d=$A%d$A%d", i+1, i, i))
	}
	for name, bad := range map[string][]string{"broken": {".env:this is no setting"}, "growing": doubled} {
		if e := runServer(t, bad...); e.code != 2 || len(lines(e.out)) != 1 || !strings.Contains(e.out, ".env") {
			t.Errorf("%s .env: wanted exit code 2 and one line that names it, got %d:\n%s", name, e.code, e.out)
		}
	}
}

func TestHelpPrintsEveryVariable(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-h"}, {"--help"}, {"-help"}} {
		e := runServerArgs(t, args)
		if e.code != 0 {
			t.Errorf("%v: wanted exit code 0, got %d", args, e.code)
		}
		for _, d := range defaults {
			i := strings.Index(e.out, d.name)
			if i < 0 {
				t.Errorf("%v: wanted %s in the help", args, d.name)
				continue
			}
			if about := e.out[i:min(len(e.out), i+400)]; !strings.Contains(about, d.value) {
				t.Errorf("%v: wanted the default %q of %s, got %q", args, d.value, d.name, about)
			}
		}
	}
	if e := runServerArgs(t, []string{"-h"}, "HTTP_PORT=nonsense", ".env:SSL_PORT=nonsense"); e.code != 0 || !strings.Contains(e.out, "GOP_CACHE_SIZE_MB") {
		t.Errorf("-h with a bad environment: wanted the help, got %d:\n%s", e.code, tail(e.out))
	}
	if e := runServerArgs(t, []string{"-no-such-flag"}); e.code != 2 {
		t.Errorf("-no-such-flag: wanted exit code 2, got %d:\n%s", e.code, tail(e.out))
	}
}

func TestMistake15WhenItCannotListenItSaysSoAndFails(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	cert, key := wstest.NewIdentity(t, "one").Files(t, t.TempDir())
	for _, c := range []struct {
		env   []string
		words []string // of one line: the setting, and what it says
	}{
		{[]string{"HTTP_PORT=" + port}, []string{"HTTP_PORT", port, "in use"}},
		{[]string{"SSL_PORT=" + port, "SSL_CERT=" + cert, "SSL_KEY=" + key}, []string{"SSL_PORT", port, "in use"}},
		{[]string{"BIND_ADDRESS=192.0.2.1"}, []string{"BIND_ADDRESS", "192.0.2.1"}},
	} {
		e := runServer(t, c.env...)
		said := false
		for _, l := range lines(e.out) {
			said = said || containsAll(l, c.words...)
		}
		if e.code != 1 || !said {
			t.Errorf("%v: wanted exit code 1 and a line with %q, got %d:\n%s", c.env, c.words, e.code, tail(e.out))
		}
		if strings.Contains(e.out, "started") {
			t.Errorf("%v: wanted no word of a start, got:\n%s", c.env, tail(e.out))
		}
	}
}

func TestMistake15BindAddressMayBeIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		wstest.Skip(t, "no IPv6 here")
	}
	_ = ln.Close()
	s := startServer(t, "BIND_ADDRESS=::1", "PLAY_WHITELIST=::1", "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=3")
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Send(wstest.Binary, []byte("p"))
	r.WantPacket([]byte("p"))
	s.receive("cam", "key").WantPacket([]byte("p"))
	s.refuses(429, "/cam/key/receive")
}

func TestAllInterfacesIsTheDefault(t *testing.T) {
	t.Parallel()
	s := startServer(t, "BIND_ADDRESS=")
	_, port, _ := net.SplitHostPort(s.addr)
	for _, host := range []string{"127.0.0.1", "127.0.0.77"} {
		wstest.Dial(t, net.JoinHostPort(host, port), "/cam/key/receive").Sync()
	}
	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = ln.Close()
		wstest.Dial(t, "[::1]:"+port, "/cam/key/receive").Sync()
	}
}

// The working directory's .env is a file of the user's; nothing else may appear there.
func TestServerWritesNoFiles(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.publish("cam", "key").CloseHandshake(1000)
	if e, err := os.ReadDir(s.dir); err != nil || len(e) != 0 {
		t.Errorf("wanted an empty working directory, got %v, %v", e, err)
	}
}
