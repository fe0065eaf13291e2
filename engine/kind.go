package engine

import (
	"net/url"
	"strings"
)

// kind is what a client wants of a channel.
type kind uint8

const (
	publish kind = iota
	receive
	receiveClearCache
	probe
)

var kindNames = [...]string{publish: "publish", receive: "receive", receiveClearCache: "receive-clear-cache", probe: "probe"}

func (k kind) String() string { return kindNames[k] }

// target is what a stream's path names.
type target struct {
	channel, key string
	kind         kind
}

// parseTarget reads /{CHANNEL}/{KEY}/{KIND} as it stands in the request line,
// without the query. Each part is decoded once after the path is split, so that
// an encoded slash never separates. CHANNEL and KEY are 1 to idMax of
// A-Z a-z 0-9 - _.
func parseTarget(escapedPath string, idMax int) (target, bool) {
	parts := strings.Split(escapedPath, "/")
	if len(parts) != 4 || parts[0] != "" {
		return target{}, false
	}
	for i, p := range parts {
		u, err := url.PathUnescape(p)
		if err != nil {
			return target{}, false
		}
		parts[i] = u
	}
	t := target{channel: parts[1], key: parts[2]}
	if !validID(t.channel, idMax) || !validID(t.key, idMax) {
		return target{}, false
	}
	for k, name := range kindNames {
		if parts[3] == name {
			t.kind = kind(k)
			return t, true
		}
	}
	return target{}, false
}

// parseHeartbeat reads what a query says of heartbeats: heartbeat=ping asks for pings
// alone and no TEXT (noText), heartbeat=text for what is usual. Anything else, and a second
// one, is refused; all other parameters are ignored, broken ones too.
func parseHeartbeat(query string) (noText, ok bool) {
	found := false
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err != nil || n != "heartbeat" {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil || found || value != "ping" && value != "text" {
			return false, false
		}
		found, noText = true, value == "ping"
	}
	return noText, true
}

func validID(s string, idMax int) bool {
	if len(s) == 0 || len(s) > idMax {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
