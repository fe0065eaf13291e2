// Package page holds the test client that the server shows at "/": a page that
// publishes a camera, a screen or a generated pattern, that watches a channel, and
// that shows what the server does. Its player is also a view of its own at "/embed",
// for an iframe of any site, and a module that other pages may import. It is plain HTML,
// CSS and JavaScript modules, embedded as they are written: no build step, nothing fetched
// from anywhere else.
//
// The package knows nothing of HTTP. It maps exact paths to bytes; the caller
// answers requests and adds the headers, ContentSecurityPolicy among them.
package page

import (
	"bytes"
	"embed"
	"strings"
)

//go:embed static
var static embed.FS

// files maps every path that the page consists of to its file and its media
// type. The list is written out, so a file that was merely dropped into the
// folder is never served.
var files = map[string]struct{ name, contentType string }{
	"/":                {"index.html", html},
	embedPath:          {"embed.html", html},
	"/client/icon.svg": {"icon.svg", "image/svg+xml"},

	// The shell.
	"/client/style.css":     {"style.css", css},
	"/client/controls.css":  {"controls.css", css},
	"/client/theme.js":      {"theme.js", javaScript},
	"/client/main.js":       {"main.js", javaScript},
	"/client/dom.js":        {"dom.js", javaScript},
	"/client/connection.js": {"connection.js", javaScript},
	"/client/router.js":     {"router.js", javaScript},
	"/client/log.js":        {"log.js", javaScript},

	// Watch.
	"/client/watch.css":   {"watch.css", css},
	"/client/watch.js":    {"watch.js", javaScript},
	"/client/controls.js": {"controls.js", javaScript},
	"/client/embed.js":    {"embed.js", javaScript},

	// The player, which other pages may import.
	"/client/player.js":   {"player.js", javaScript},
	"/client/link.js":     {"link.js", javaScript},
	"/client/feed.js":     {"feed.js", javaScript},
	"/client/chase.js":    {"chase.js", javaScript},
	"/client/media.js":    {"media.js", javaScript},
	"/client/splitter.js": {"splitter.js", javaScript},

	// Publish.
	"/client/publish.css":  {"publish.css", css},
	"/client/publish.js":   {"publish.js", javaScript},
	"/client/publisher.js": {"publisher.js", javaScript},
	"/client/formats.js":   {"formats.js", javaScript},
	"/client/frame.js":     {"frame.js", javaScript},
	"/client/sources.js":   {"sources.js", javaScript},
	"/client/clock.js":     {"clock.js", javaScript},

	// Status.
	"/client/status.css": {"status.css", css},
	"/client/status.js":  {"status.js", javaScript},
	"/client/api.js":     {"api.js", javaScript},
	"/client/table.js":   {"table.js", javaScript},

	// Both, and Watch.
	"/client/plot.js": {"plot.js", javaScript},
}

// embedPath is the player on a page of its own, the only one that may be framed.
const embedPath = "/embed"

const (
	html       = "text/html; charset=utf-8"
	javaScript = "text/javascript; charset=utf-8"
	css        = "text/css; charset=utf-8"
)

// File returns what is served at path: the body, which is the caller's own copy,
// and its media type. Only exact paths match ("/", "/client/main.js", …); for
// any other ok is false. Any goroutine may call it.
func File(path string) (body []byte, contentType string, ok bool) {
	file, ok := files[path]
	if !ok {
		return nil, "", false
	}
	body, err := static.ReadFile("static/" + file.name)
	if err != nil {
		return nil, "", false
	}
	return body, file.contentType, true
}

// OperatorsFile is File for the operator's listener, where there are no streams: its "/"
// says so, and does not take that listener for a server to watch and publish at.
func OperatorsFile(path string) (body []byte, contentType string, ok bool) {
	body, contentType, ok = File(path)
	if path == "/" {
		body = bytes.Replace(body, []byte(`<html lang="en">`), []byte(`<html lang="en" data-streams="elsewhere">`), 1)
	}
	return body, contentType, ok
}

// Importable reports whether pages of other origins may import what is at path: the
// modules are the same for everybody and hold nothing secret, so the caller answers with
// Access-Control-Allow-Origin: *.
func Importable(path string) bool {
	return files[path].contentType == javaScript
}

// ContentSecurityPolicy returns the value of the Content-Security-Policy header
// that belongs on every file of the page but /embed. Scripts and styles come from the
// server only, never inline; the one thing the page may reach elsewhere is a
// WebSocket, because it can test any server; blob: is how Media Source
// Extensions are attached to a video; no text ever becomes markup or code.
func ContentSecurityPolicy() string { return policy("'none'") }

// ContentSecurityPolicyOf returns the header's value for the file at path. That of
// /embed allows every site to frame it; there is nothing to click there that could harm.
func ContentSecurityPolicyOf(path string) string {
	if path == embedPath {
		return policy("*")
	}
	return ContentSecurityPolicy()
}

func policy(frameAncestors string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"connect-src 'self' ws: wss:",
		"media-src blob: mediastream:",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors " + frameAncestors,
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
}
