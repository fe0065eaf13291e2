package main

import (
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// marker is a secret that stands in no text of ours.
const marker = "o9Sesame7Zq"

// bare takes every variable of the settings out of the environment.
func bare(t *testing.T, variables []variable) {
	t.Helper()
	for _, v := range variables {
		if err := os.Unsetenv(v.name); err != nil {
			t.Fatal(err)
		}
	}
}

// wantFitToShow wants an error that is one line, begins with one of these words, and
// can be put on a terminal.
func wantFitToShow(t *testing.T, err error, given string, begins ...string) {
	t.Helper()
	line := err.Error()
	known := false
	for _, word := range begins {
		known = known || strings.HasPrefix(line, word)
	}
	if !known || strings.ContainsFunc(line, func(c rune) bool { return !unicode.IsPrint(c) }) || len([]rune(line)) > maxLine+1 {
		t.Fatalf("%q gives the line %q, want one that begins with %q", given, line, begins)
	}
	if strings.Contains(line, marker) {
		t.Fatalf("%q gives the line %q, which has the secret", given, line)
	}
}

// twinNormalise is what README.md says about numbers and booleans, in the plainest way.
func twinNormalise(v variable, raw string) (value string, ok bool) {
	value = strings.TrimSpace(raw)
	if value == "" {
		return "", true
	}
	if v.kind == reflect.Bool {
		value, ok = map[string]string{"yes": "true", "true": "true", "1": "true", "no": "false", "false": "false", "0": "false"}[strings.ToLower(value)]
		return value, ok
	}
	n, ok := new(big.Int).SetString("0"+value, 10)
	if !ok || strings.Trim(value, "0123456789") != "" || n.Cmp(big.NewInt(int64(v.min))) < 0 || n.Cmp(big.NewInt(int64(v.max))) > 0 {
		return "", false
	}
	return n.String(), true
}

// FuzzVariable draws one variable's value: no panic, numbers and booleans are read as
// their twin reads them, what is accepted is in normal form, and what is refused gives
// one line that can be shown.
func FuzzVariable(f *testing.F) {
	variables, dir := all(), f.TempDir()
	for i, v := range variables {
		var texts []string
		switch v.kind {
		case reflect.Int:
			texts = []string{"80", "0080", "-1", "0x10", "9223372036854775808", " 65536\t"}
		case reflect.Bool:
			texts = []string{"yes", " TRUE\t", "maybe", "\u017f"}
		case reflect.Slice:
			texts = []string{"10.0.0.1, ::1/128", ",", "*", "::ffff:10.0.0.1", "a,\x1b"}
		default:
			texts = []string{"", " ", "host.example", "a\x00b", "\x1b[31m", "\u202eabc", "\xff", "ws://user:" + marker + "@host", "ws://coordinator:8080/x"}
		}
		for _, raw := range texts {
			f.Add(uint8(i), raw)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, raw string) {
		if len(raw) > 4096 {
			return
		}
		v := variables[int(which)%len(variables)]
		value, err := v.normalise(raw)
		if v.kind == reflect.Int || v.kind == reflect.Bool {
			if want, ok := twinNormalise(v, raw); ok != (err == nil) || value != want {
				t.Fatalf("%s=%q: %q, %v, want %q, %t", v.name, raw, value, err, want, ok)
			}
		}
		if err != nil {
			if v.secret && len(raw) > 20 && strings.Contains(err.Error(), raw) {
				t.Fatalf("%s=%q gives the line %q", v.name, raw, err)
			}
			if v.secret || !strings.Contains(raw, marker) { // else the user's own value is shown to them
				wantFitToShow(t, err, raw, v.name)
			}
			return
		}
		if again, err := v.normalise(value); err != nil || again != value {
			t.Fatalf("%s=%q: %q becomes %q, %v", v.name, raw, value, again, err)
		}
		if v.secret && value != raw && value != "" {
			t.Fatalf("%s=%q became %q", v.name, raw, value)
		}
		bare(t, variables)
		if os.Setenv(v.name, raw) != nil {
			return
		}
		s, err := loadSettings(dir)
		if err != nil {
			if v.name == "CONTROL_BASE_URL" || !strings.Contains(raw, marker) {
				wantFitToShow(t, err, raw, v.name, "SSL_", "HTTP_PORT", "RECEIVER_LAG_MB", "MEMORY_LIMIT_MB")
			}
			return
		}
		// What guards is not taken for unset.
		if v.name == "PLAY_WHITELIST" && (len(s.Filter.PlayWhitelist) == 0) != (raw == "") {
			t.Fatalf("PLAY_WHITELIST=%q is taken as %q", raw, s.Filter.PlayWhitelist)
		}
		if v.name == "CONTROL_BASE_URL" && (s.Auth.ControlBaseURL == "") != (raw == "") {
			t.Fatalf("CONTROL_BASE_URL=%q is taken as %q", raw, s.Auth.ControlBaseURL)
		}
	})
}

// FuzzDotEnv draws what stands before and after a secret in the .env file: no panic,
// what is refused gives one line, and the secret is in no line.
func FuzzDotEnv(f *testing.F) {
	variables, dir := all(), f.TempDir()
	for _, before := range []string{
		"", "HTTP_PORT=8080", "export SSL_PORT = 8443 # TLS", "A='1\n2'", "HTTP_PORT=\"80", "HTTP_PORT=", "\ufeff# note", "=", "LOG_DEBUG: maybe",
		"X=$HTTP_PORT", "ID_MAX_LENGTH='", "{", "\x00", "PLAY_WHITELIST=,",
	} {
		for _, after := range []string{"", "HTTP_PORT=http", "LOG_DEBUG=$CONTROL_SECRET", "X=\"", "Y='1'\"", "=", "CONTROL_BASE_URL=ws://${CONTROL_SECRET}@host", "GOP_CACHE_SIZE_MB=1\r\n"} {
			f.Add(before, after)
		}
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if len(before)+len(after) > 4096 {
			return
		}
		text := before + "\nCONTROL_SECRET=" + marker + "\n" + after
		wantSizes(t, text)
		if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		bare(t, variables)
		s, err := loadSettings(dir)
		if err == nil {
			if before == "" && after == "" && s.Auth.ControlSecret != marker {
				t.Fatalf("the secret became %q", s.Auth.ControlSecret)
			}
			return
		}
		begins := []string{"cannot read the .env file: "}
		for _, v := range variables {
			begins = append(begins, v.name)
		}
		wantFitToShow(t, err, text, begins...)
	})
}
