package main

import (
	"fmt"
	"strings"
	"testing"
)

// wantSizes fails if a value of a .env file is larger than dotEnvSize says.
func wantSizes(t *testing.T, text string) {
	t.Helper()
	sizes := map[string]int{}
	if dotEnvSize(text, sizes) > maxDotEnvValues {
		return
	}
	vars, _ := parseDotEnv(text)
	for name, value := range vars {
		if size := sizes[name]; len(value) > size {
			t.Errorf("%q has %d bytes, and dotEnvSize says %d", name, len(value), size)
		}
	}
}

// A .env file whose variables refer to each other is small, whatever they would grow to.
func TestDotEnvThatGrows(t *testing.T) {
	doubled := func(entry string) string { // 2 to the power of 60 bytes
		var b strings.Builder
		b.WriteString("A0=xx\n")
		for i := range 60 {
			b.WriteString(strings.NewReplacer("NEW", fmt.Sprint("A", i+1), "OLD", fmt.Sprint("A", i)).Replace(entry))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"plain":              doubled("NEW=$OLD$OLD\n"),
		"braces":             doubled("NEW=${OLD}-${OLD}\n"),
		"quoted":             doubled("NEW=\"$OLD$OLD\"\n"),
		"one line":           doubled("NEW=\"$OLD$OLD\" "),
		"several lines":      doubled("NEW=\"$OLD\n$OLD\"\r\n"),
		"escaped":            doubled("NEW=\"$\\OLD$\\OLD\"\n"),
		"ended by an escape": doubled("NEW=\"$OLD\\\\0$OLD\\\\0\"\n"),
		"exported":           doubled("export NEW = $OLD$OLD # twice\n"),
		"colons":             doubled("NEW: $OLD$OLD\n"),
		"itself":             "A=xx\n" + strings.Repeat("A=$A$A\n", 60),
		"a broken end":       doubled("NEW=$OLD$OLD\n") + "=",
		"of many a large":    "A=" + strings.Repeat("x", 1<<12) + "\n" + strings.Repeat("B=$A$A$A$A$A$A$A$A\n", 40),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dotEnv(t, dir, text)
			bare(t, all())
			if _, err := loadSettings(dir); err == nil || !strings.Contains(err.Error(), "with $NAME replaced, are larger than 1048576 bytes") {
				t.Errorf("wanted it refused, got %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"single quotes": doubled("NEW='$OLD$OLD'\n"),
		"nobody's name": strings.Repeat("A=$NOBODY$NOBODY\n", 1000),
		"a base":        "A=" + strings.Repeat("x", 1000) + "\n" + strings.Repeat("B=$A\n", 500),
	} {
		t.Run(name, func(t *testing.T) {
			wantSizes(t, text)
			dir := t.TempDir()
			dotEnv(t, dir, text)
			bare(t, all())
			if _, err := loadSettings(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
