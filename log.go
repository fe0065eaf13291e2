package main

import (
	"io"
	"log/slog"
	"unicode"
	"unicode/utf8"
)

// LOG_FORMAT's values.
const (
	logText = "text"
	logJSON = "json"
)

// newLogger writes lines in LOG_FORMAT, in which control characters are escaped.
func newLogger(w io.Writer, cfg settings) *slog.Logger {
	level := slog.LevelInfo
	if cfg.LogDebug {
		level = slog.LevelDebug
	}
	return slog.New(newLogHandler(w, cfg.LogFormat, level))
}

// newLogHandler returns the handler for one of LOG_FORMAT's values. Both show the same
// attributes with the same values: JSON's durations are text ("1.5s"), as slog's text
// handler has them, and not nanoseconds.
func newLogHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	if format != logJSON {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.NewJSONHandler(escaped{w}, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				return slog.String(a.Key, a.Value.Duration().String())
			}
			return a
		},
	})
}

// escaped is a writer of JSON lines in which every character that cannot be printed is
// written as \uXXXX. encoding/json leaves DEL, the C1 control characters and those that
// turn the direction of the text as they are; slog's text handler does not.
type escaped struct{ w io.Writer }

// Write takes one line with its line feed.
func (e escaped) Write(line []byte) (int, error) {
	end := len(line)
	if end > 0 && line[end-1] == '\n' {
		end--
	}
	for _, c := range line[:end] {
		if c < ' ' || c > '~' {
			if _, err := e.w.Write(append(escape(line[:end]), line[end:]...)); err != nil {
				return 0, err
			}
			return len(line), nil
		}
	}
	return e.w.Write(line)
}

// escape returns a copy of JSON text in which what cannot be printed is escaped. It can
// only stand inside a string there.
func escape(text []byte) []byte {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(text)+16)
	unit := func(c rune) { b = append(b, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15]) }
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		switch {
		case c == utf8.RuneError && n == 1:
			unit(c)
		case unicode.IsPrint(c):
			b = append(b, text[:n]...)
		case c > 0xffff: // a surrogate pair (RFC 8259, 7)
			c -= 0x10000
			unit(0xd800 | c>>10)
			unit(0xdc00 | c&0x3ff)
		default:
			unit(c)
		}
		text = text[n:]
	}
	return b
}
