package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// clean takes every variable of the settings out of the environment until the
// test ends, and gives the directory that loadSettings reads .env from.
func clean(t *testing.T) (dir string) {
	t.Helper()
	for _, v := range all() {
		t.Setenv(v.name, "") // puts the old value back at the end
		if err := os.Unsetenv(v.name); err != nil {
			t.Fatal(err)
		}
	}
	return t.TempDir()
}

func all() []variable { return variablesOf(reflect.TypeFor[settings]()) }

func dotEnv(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, dir string) settings {
	t.Helper()
	s, err := loadSettings(dir)
	if err != nil {
		t.Fatalf("loadSettings: %v", err)
	}
	return s
}

// wantRefused wants one line that begins as given and holds all the words.
func wantRefused(t *testing.T, dir, prefix string, words ...string) {
	t.Helper()
	_, err := loadSettings(dir)
	if err == nil {
		t.Fatalf("accepted, want a refusal that begins with %q", prefix)
	}
	line := err.Error()
	if !strings.HasPrefix(line, prefix) {
		t.Errorf("the error is %q, want it to begin with %q", line, prefix)
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("the error is %q, want %q in it", line, w)
		}
	}
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			t.Errorf("the error has a control character: %q", line)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := load(t, clean(t))
	e := s.Engine
	got := []any{
		e.HTTPPort, e.SSLPort, e.BindAddress, e.SSLCheckReloadSeconds, e.IDMaxLength, e.GOPCacheSizeMB,
		e.MaxMessageMB, e.ReceiverLagMB, e.MemoryLimitMB, e.SendBufferKB, e.GatherMS, e.MaxConnections, e.MaxHandshakes, e.MaxHeaderKB, e.HandshakeTimeoutSeconds, e.ShutdownSeconds, e.LogRequests, e.DisableTestClient, e.TLS(),
		s.LogDebug, s.LogFormat, s.RTMPChunkSize, s.rtmpChunkSizeSet,
	}
	want := []any{80, 443, "", 60, 128, 256, 64, 64, 0, 256, 10, 0, 1024, 16, 10, 0, true, false, false, false, "text", 128, false}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults are %v, want %v", got, want)
	}
}

// The defaults in the tags pass the same checks as a user's value, and survive
// the way through the normal form unchanged.
func TestDefaultsAreInNormalForm(t *testing.T) {
	for _, v := range all() {
		if got, err := v.normalise(v.def); err != nil || got != v.def {
			t.Errorf("%s: default %q becomes %q, %v", v.name, v.def, got, err)
		}
	}
}

func TestEveryVariableIsDescribedOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range all() {
		if seen[v.name] {
			t.Errorf("%s is there twice", v.name)
		}
		seen[v.name] = true
		if v.meaning == "" || strings.ContainsAny(v.meaning, "\n|") {
			t.Errorf("%s needs a meaning of one line without |, has %q", v.name, v.meaning)
		}
		if v.kind == reflect.Int && v.min > v.max {
			t.Errorf("%s: min %d is above max %d", v.name, v.min, v.max)
		}
	}
	for _, name := range []string{
		"HTTP_PORT", "BIND_ADDRESS", "SSL_PORT", "SSL_CERT", "SSL_KEY", "SSL_CHECK_RELOAD_SECONDS",
		"CONTROL_BASE_URL", "CONTROL_SECRET", "EXTERNAL_IP", "EXTERNAL_PORT", "EXTERNAL_SSL",
		"PLAY_WHITELIST", "MAX_IP_CONCURRENT_CONNECTIONS", "CONCURRENT_LIMIT_WHITELIST", "ID_MAX_LENGTH",
		"GOP_CACHE_SIZE_MB", "MAX_MESSAGE_MB", "RECEIVER_LAG_MB", "MEMORY_LIMIT_MB", "SEND_BUFFER_KB", "GATHER_MS", "MAX_CONNECTIONS", "MAX_HANDSHAKES", "MAX_HEADER_KB", "HANDSHAKE_TIMEOUT_SECONDS", "SHUTDOWN_SECONDS", "LOG_REQUESTS", "LOG_DEBUG", "LOG_FORMAT",
		"TRUSTED_PROXIES", "PROXY_PROTOCOL", "ALLOWED_ORIGINS", "ADMIN_ADDRESS", "ADMIN_TOKEN",
		"DISABLE_TEST_CLIENT", "RTMP_CHUNK_SIZE",
	} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestInts(t *testing.T) {
	for raw, want := range map[string]int{
		"1": 1, "8080": 8080, "65535": 65535, " 81\t": 81, "010": 10, "0000000000000000000000081": 81, "": 80, "  ": 80,
	} {
		dir := clean(t)
		t.Setenv("HTTP_PORT", raw)
		if got := load(t, dir).Engine.HTTPPort; got != want {
			t.Errorf("HTTP_PORT=%q gives %d, want %d", raw, got, want)
		}
	}
	for _, raw := range []string{
		"0", "65536", "99999", "-1", "+80", "0x50", "0b1", "0o17", "8_0", "80.0", "8e1", "80 81", "eighty", "٨٠",
		"9223372036854775808", "18446744073709551696", strings.Repeat("9", 400), "YES", "80;", `"80"`, "8\r0",
	} {
		dir := clean(t)
		t.Setenv("HTTP_PORT", raw)
		wantRefused(t, dir, "HTTP_PORT=", " is not allowed: a whole number from 1 to 65535")
	}
}

func TestBools(t *testing.T) {
	for raw, want := range map[string]bool{
		"YES": true, "yes": true, "Yes": true, "TRUE": true, "true": true, "tRuE": true, "1": true, " YES ": true,
		"NO": false, "no": false, "FALSE": false, "False": false, "0": false, "": true,
	} {
		dir := clean(t)
		t.Setenv("LOG_REQUESTS", raw) // its default is YES
		if got := load(t, dir).Engine.LogRequests; got != want {
			t.Errorf("LOG_REQUESTS=%q gives %v, want %v", raw, got, want)
		}
	}
	for _, raw := range []string{"2", "on", "off", "y", "n", "t", "f", "YES NO", "ja", "-1", "00"} {
		dir := clean(t)
		t.Setenv("LOG_REQUESTS", raw)
		wantRefused(t, dir, "LOG_REQUESTS=", " is not allowed: YES or NO")
	}
}

func TestLists(t *testing.T) {
	v := variable{name: "LIST", kind: reflect.Slice}
	for raw, want := range map[string]string{
		"": "", "10.0.0.1": "10.0.0.1", " 10.0.0.1 , ::1/128 ": "10.0.0.1,::1/128", "a,,b,": "a,b", "*": "*",
	} {
		if got, err := v.normalise(raw); err != nil || got != want {
			t.Errorf("normalise(%q) is %q, %v, want %q", raw, got, err, want)
		}
	}
	// Were this "unset", a list that guards would stand open.
	for _, raw := range []string{",", " , ,", "  "} {
		if _, err := v.normalise(raw); err == nil {
			t.Errorf("normalise(%q) is accepted", raw)
		}
	}
}

func TestChoices(t *testing.T) {
	for raw, want := range map[string]string{"text": "text", "JSON": "json", " Json\t": "json", "": "text"} {
		dir := clean(t)
		t.Setenv("LOG_FORMAT", raw)
		if got := load(t, dir).LogFormat; got != want {
			t.Errorf("LOG_FORMAT=%q gives %q, want %q", raw, got, want)
		}
	}
	for _, raw := range []string{"xml", "text,json", "jſon", " ", "te\nxt"} {
		dir := clean(t)
		t.Setenv("LOG_FORMAT", raw)
		wantRefused(t, dir, "LOG_FORMAT=", " is not allowed: ")
	}
	dir := clean(t)
	t.Setenv("LOG_FORMAT", "xml")
	wantRefused(t, dir, "LOG_FORMAT=xml is not allowed: text or json")
}

func TestErrorShowsTheValueSafely(t *testing.T) {
	for raw, want := range map[string]string{
		"99999":                  "HTTP_PORT=99999 is not allowed: a whole number from 1 to 65535",
		"8\n0":                   `HTTP_PORT="8\n0" is not allowed: a whole number from 1 to 65535`,
		"a b":                    `HTTP_PORT="a b" is not allowed: a whole number from 1 to 65535`,
		"\x1b[31mred":            `HTTP_PORT="\x1b[31mred" is not allowed: a whole number from 1 to 65535`,
		"\xff":                   `HTTP_PORT="\xff" is not allowed: a whole number from 1 to 65535`,
		strings.Repeat("7", 101): "HTTP_PORT=" + strings.Repeat("7", 100) + "… is not allowed: a whole number from 1 to 65535",
	} {
		dir := clean(t)
		t.Setenv("HTTP_PORT", raw)
		_, err := loadSettings(dir)
		if err == nil || err.Error() != want {
			t.Errorf("HTTP_PORT=%q gives %v, want %q", raw, err, want)
		}
	}
}

func TestFirstBadVariableIsReportedInTheOrderOfTheHelp(t *testing.T) {
	dir := clean(t)
	t.Setenv("RTMP_CHUNK_SIZE", "0")
	t.Setenv("LOG_REQUESTS", "maybe")
	t.Setenv("GOP_CACHE_SIZE_MB", "-1")
	for range 5 {
		wantRefused(t, dir, "GOP_CACHE_SIZE_MB=-1 ")
	}
}

func TestContradictions(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"RECEIVER_LAG_MB": {"RECEIVER_LAG_MB": "8", "MAX_MESSAGE_MB": "9"},
		"SSL_CERT":        {"SSL_CERT": "cert.pem"},
		"SSL_KEY":         {"SSL_KEY": "key.pem"},
		"SSL_PORT":        {"SSL_CERT": "cert.pem", "SSL_KEY": "key.pem", "SSL_PORT": "80"},
		"BIND_ADDRESS":    {"BIND_ADDRESS": "300.1.1.1"},
		"PLAY_WHITELIST":  {"PLAY_WHITELIST": "10.0.0.0/33"},
		// Whatever guards something fails closed.
		"CONTROL_BASE_URL":           {"CONTROL_BASE_URL": "http//nowhere"},
		"CONCURRENT_LIMIT_WHITELIST": {"CONCURRENT_LIMIT_WHITELIST": "everyone"},
		"TRUSTED_PROXIES":            {"TRUSTED_PROXIES": "*"},
		"PROXY_PROTOCOL":             {"PROXY_PROTOCOL": "YES"},
		"ALLOWED_ORIGINS":            {"ALLOWED_ORIGINS": "example.org"},
		"ADMIN_ADDRESS":              {"ADMIN_ADDRESS": "0.0.0.0:9090"},
		"ADMIN_TOKEN":                {"ADMIN_TOKEN": "tiny"},
	} {
		dir := clean(t)
		for k, v := range env {
			t.Setenv(k, v)
		}
		wantRefused(t, dir, name)
	}
}

func TestRTMPChunkSize(t *testing.T) {
	dir := clean(t)
	t.Setenv("RTMP_CHUNK_SIZE", "128")
	if !load(t, dir).rtmpChunkSizeSet {
		t.Error("RTMP_CHUNK_SIZE=128 does not count as set")
	}
	t.Setenv("RTMP_CHUNK_SIZE", "")
	if load(t, dir).rtmpChunkSizeSet {
		t.Error("an empty RTMP_CHUNK_SIZE counts as set")
	}
	for _, raw := range []string{"0", "16777216", "big"} {
		t.Setenv("RTMP_CHUNK_SIZE", raw)
		wantRefused(t, dir, "RTMP_CHUNK_SIZE="+raw, "a whole number from 1 to 16777215")
	}
}

func TestSecretIsTakenByteForByteAndNeverShown(t *testing.T) {
	i := slices.IndexFunc(all(), func(v variable) bool { return v.name == "CONTROL_SECRET" })
	if i < 0 || !all()[i].secret {
		t.Fatal("CONTROL_SECRET has no secret tag")
	}
	dir := clean(t)
	t.Setenv("CONTROL_SECRET", " open sesame ")
	t.Setenv("CONTROL_BASE_URL", "ws://coordinator:8080")
	load(t, dir)
	if got := os.Getenv("CONTROL_SECRET"); got != " open sesame " {
		t.Errorf("CONTROL_SECRET became %q", got)
	}
	v := variable{name: "CONTROL_SECRET", kind: reflect.String, secret: true}
	if _, err := v.normalise("ses\x00ame"); err == nil || strings.Contains(err.Error(), "ame ") || !strings.HasPrefix(err.Error(), "CONTROL_SECRET is not") {
		t.Errorf("the error is %v", err)
	}
}

func TestArguments(t *testing.T) {
	for word, want := range map[string]task{
		"-h": taskHelp, "-help": taskHelp, "--help": taskHelp, "-version": taskVersion, "--version": taskVersion,
		"-check": taskCheck, "--check": taskCheck, "-health": taskHealth, "--health": taskHealth,
	} {
		if got, err := parseArguments([]string{word}); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", word, got, err, want)
		}
	}
	if got, err := parseArguments(nil); got != taskServe || err != nil {
		t.Errorf("no argument: %v, %v", got, err)
	}
	for _, args := range [][]string{{"-port"}, {""}, {"-h", "x\ny"}, {"--"}, {"-"}, {"start"}, {"check"}, {"---check"}, {"-Check"}} {
		if got, err := parseArguments(args); got != taskServe || err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v", args, got, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if code := answer(taskHelp, &out); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	text := out.String()
	for _, v := range all() {
		if !strings.Contains(text, "\n  "+v.name+" (default: "+v.shownDefault()) || !strings.Contains(text, v.meaning+"\n") {
			t.Errorf("-h does not describe %s", v.name)
		}
	}
	for _, word := range []string{"LOG_REQUESTS (default: YES)", "HTTP_PORT (default: 80; 1 to 65535)", "LOG_FORMAT (default: text; text or json)", "\n  -version ", "\n  -check ", "\n  -health "} {
		if !strings.Contains(text, word) {
			t.Errorf("-h does not have %q:\n%s", word, text)
		}
	}
	out.Reset()
	if code := answer(taskVersion, &out); code != exitOK || out.String() != "ws-stream-server "+version+"\n" {
		t.Errorf("-version: %d, %q", code, out.String())
	}
}

// README.md's table names every variable once, with the default of its tag; a number's
// row says "min to max" as well, a choice's what there is to choose from.
func TestREADMETable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	table, ranges, rest := make(map[string]string), make(map[string][]string), make(map[string]string)
	inRow := regexp.MustCompile(`\b\d+ to \d+\b`)
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([^|]*?) \\|(.*)").FindAllStringSubmatch(string(text), -1) {
		if _, twice := table[row[1]]; twice {
			t.Errorf("README.md has %s twice", row[1])
		}
		table[row[1]] = strings.Trim(row[2], "`")
		ranges[row[1]], rest[row[1]] = inRow.FindAllString(row[3], -1), row[3]
	}
	for _, v := range all() {
		def, ok := table[v.name]
		if !ok {
			t.Errorf("README.md does not have %s", v.name)
		} else if def != v.shownDefault() {
			t.Errorf("README.md says the default of %s is %q, the tag %q", v.name, def, v.shownDefault())
		}
		if want := fmt.Sprintf("%d to %d", v.min, v.max); v.kind == reflect.Int && !slices.Equal(ranges[v.name], []string{want}) {
			t.Errorf("README.md says the range of %s is %q, the tags %q", v.name, ranges[v.name], want)
		}
		if v.oneOf != nil && !strings.Contains(rest[v.name], "`"+strings.Join(v.oneOf, "` or `")+"`") {
			t.Errorf("README.md does not say what %s may be: %q", v.name, v.oneOf)
		}
		delete(table, v.name)
	}
	for name := range table {
		t.Errorf("README.md has %s, which is no setting", name)
	}
}

// Two settings on one line, in the environment: the secret is in neither's error.
func TestASecretBehindAnotherSettingIsNotShown(t *testing.T) {
	for name, value := range map[string]string{
		"HTTP_PORT":       "8080 CONTROL_SECRET=hunter2",
		"ALLOWED_ORIGINS": "https://a,CONTROL_SECRET=hunter2",
		"LOG_DEBUG":       "YES;CONTROL_SECRET:hunter2",
		"BIND_ADDRESS":    "127.0.0.1 CONTROL_SECRET=hunter2",
		"PLAY_WHITELIST":  "10.0.0.1,CONTROL_SECRET=hunter2",
	} {
		dir := clean(t)
		t.Setenv(name, value)
		_, err := loadSettings(dir)
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.HasPrefix(err.Error(), name+" is not allowed: it has CONTROL_SECRET in it") {
			t.Errorf("%s=%s gives %v", name, value, err)
		}
	}
}
