package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestDotEnv(t *testing.T) {
	dir := clean(t)
	dotEnv(t, dir, "\ufeff# shared by several programs\r\n"+
		"HTTP_PORT=8080\r\nexport SSL_PORT = 8443 # TLS\r\nLOG_REQUESTS=NO\r\nOTHER_PROGRAM=1\r\n"+
		"ID_MAX_LENGTH='64'\nGOP_CACHE_SIZE_MB=\nLOG_DEBUG: yes\nMAX_MESSAGE_MB=2\nRECEIVER_LAG_MB=3")
	t.Setenv("MAX_MESSAGE_MB", "1")  // the environment wins
	t.Setenv("RECEIVER_LAG_MB", "")  // also with nothing, which means the default
	t.Setenv("LOG_REQUESTS", " YES") // and before the file's value is looked at
	s := load(t, dir)
	got := []any{
		s.Engine.HTTPPort, s.Engine.SSLPort, s.Engine.LogRequests, s.Engine.IDMaxLength,
		s.Engine.GOPCacheSizeMB, s.LogDebug, s.Engine.MaxMessageMB, s.Engine.ReceiverLagMB,
	}
	if want := []any{8080, 8443, true, 64, 256, true, 1, 64}; !reflect.DeepEqual(got, want) {
		t.Errorf("settings are %v, want %v", got, want)
	}
	if _, ok := os.LookupEnv("OTHER_PROGRAM"); ok {
		t.Error("a variable that is not ours went from the file into the environment")
	}
}

func TestDotEnvValueIsCheckedToo(t *testing.T) {
	dir := clean(t)
	dotEnv(t, dir, "HTTP_PORT=http\n")
	wantRefused(t, dir, "HTTP_PORT=http is not allowed")
	t.Setenv("HTTP_PORT", "8080") // hides it
	load(t, dir)
}

func TestBadDotEnvIsNamedWithoutItsContent(t *testing.T) {
	for text, line := range map[string]string{
		"sesame":                           "line 1 ",
		"HTTP_PORT=80\n\n# note\nsesame\n": "line 4 ",
		"HTTP_PORT=80\nCONTROL_SECRET=\"sesame\nX=1\n": "line 2 ",
		"A='1\n2'\nB=3\nopen sesame=1\nC-D=2\n":        "line 5 ",
		"=sesame\n":                                    "line 1 ",
		"{\"CONTROL_SECRET\": \"sesame\"}":             "line 1 ",
		strings.Repeat("SECRET=sesame\n", maxDotEnv/8): "larger than",
		"CONTROL_SECRET=se\x00same":                    "CONTROL_SECRET",
		// It came into another variable's value.
		"CONTROL_SECRET=sesame\nLOG_DEBUG=$CONTROL_SECRET":                      "LOG_DEBUG ",
		"CONTROL_SECRET=sesame\nCONTROL_BASE_URL=ws://${CONTROL_SECRET}@host\n": "CONTROL_BASE_URL ",
		"HTTP_PORT=\"80\nCONTROL_SECRET=sesame\nEXTERNAL_IP=\"":                 "HTTP_PORT ",
		"PLAY_WHITELIST='10.0.0.1,\nCONTROL_SECRET=sesame\n'":                   "PLAY_WHITELIST ",
		// It stands behind another setting, on its line.
		"HTTP_PORT=8080 CONTROL_SECRET=sesame":                   "HTTP_PORT ",
		"ALLOWED_ORIGINS=https://a,CONTROL_SECRET=sesame":        "ALLOWED_ORIGINS ",
		"CONTROL_BASE_URL=http//host;control_secret: sesame":     "CONTROL_BASE_URL ",
		"CONTROL_BASE_URL='ws://a:b@host CONTROL_SECRET=sesame'": "CONTROL_BASE_URL ",
	} {
		dir := clean(t)
		dotEnv(t, dir, text)
		_, err := loadSettings(dir)
		if err == nil {
			t.Errorf("%.40q is accepted", text)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, line) || strings.Contains(msg, "same") || strings.Contains(msg, "\n") {
			t.Errorf("%.40q gives %q, want %q and nothing of the file", text, msg, line)
		}
	}
}

func TestDotEnvThatCannotBeRead(t *testing.T) {
	dir := clean(t)
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, "cannot read the .env file: ")
}
