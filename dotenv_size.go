package main

import (
	"regexp"
	"strings"
	"unicode"
)

// What godotenv replaces in a value: references, and in double quotes escapes before them.
var (
	reference      = regexp.MustCompile(`\$\(?\{?([A-Z0-9_]+)`)
	backslashed    = regexp.MustCompile(`\\.`)
	needlessEscape = regexp.MustCompile(`\\([^$])`)
)

// dotEnvSize returns how many bytes the values of a .env file have together at most, once
// each $NAME is replaced, or some number above maxDotEnvValues. Unless sizes is nil it
// gets the largest size of each variable. It goes through the file as godotenv does, which
// has no bound of its own, up to what godotenv refuses.
func dotEnvSize(text string, sizes map[string]int) (total int) {
	if sizes == nil {
		sizes = map[string]int{}
	}
	last := map[string]int{} // what a reference is replaced by
	for text = strings.ReplaceAll(text, "\r\n", "\n"); ; {
		name, value, rest, ok := nextDotEnv(text)
		if !ok || total > maxDotEnvValues {
			return total
		}
		size := len(string([]rune(value))) // godotenv's way: what is no UTF-8 grows
		for _, m := range reference.FindAllStringSubmatch(value, -1) {
			size += last[m[1]]
		}
		last[name], text = size, rest
		sizes[name] = max(sizes[name], size)
		total += size
	}
}

// nextDotEnv returns the next entry of a .env file, and what follows it. Nothing
// in the value is replaced yet; where nothing would be it has no $. ok is false at the end, or
// where a quotation mark is missing.
func nextDotEnv(text string) (name, value, rest string, ok bool) {
	for {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
		if !strings.HasPrefix(text, "#") {
			break
		}
		_, after, _ := strings.Cut(text, "\n")
		text = after
	}
	if text == "" {
		return "", "", "", false
	}
	text = strings.TrimLeftFunc(text, isBlank)
	if after, found := strings.CutPrefix(text, "export"); found && strings.IndexFunc(after, isBlank) == 0 {
		text = strings.TrimLeftFunc(after, isBlank)
	}
	if at := strings.IndexAny(text, "=:"); at >= 0 {
		name, text = strings.TrimRightFunc(text[:at], unicode.IsSpace), text[at+1:]
	}
	text = strings.TrimLeftFunc(text, isBlank)
	if text == "" || text[0] != '"' && text[0] != '\'' {
		end := strings.IndexAny(text, "\n\r")
		if end < 0 {
			end = len(text)
		}
		return name, text[:end], text[end:], true
	}
	for end := 1; end < len(text); end++ {
		if text[end] == text[0] && text[end-1] != '\\' {
			value = strings.Trim(text[:end], text[:1])
			if text[0] == '"' {
				value = expandEscapes(value)
			} else {
				value = strings.ReplaceAll(value, "$", "-")
			}
			return name, value, text[end+1:], true
		}
	}
	return "", "", "", false
}

// expandEscapes is godotenv's: \n and \r become line ends, and any other backslash
// goes, unless it is before a $. Two of them become one, which can end a reference.
func expandEscapes(value string) string {
	value = backslashed.ReplaceAllStringFunc(value, func(match string) string {
		switch match {
		case `\n`:
			return "\n"
		case `\r`:
			return "\r"
		}
		return match
	})
	return needlessEscape.ReplaceAllString(value, "$1")
}

// isBlank is godotenv's isSpace.
func isBlank(r rune) bool { return strings.ContainsRune("\t\v\f\r \u0085\u00a0", r) }
