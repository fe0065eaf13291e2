package auth

import (
	"strings"
	"unicode"
)

// Message types and parameter names.
const (
	typeHeartbeat      = "HEARTBEAT"
	typeError          = "ERROR"
	typePublishRequest = "PUBLISH-REQUEST"
	typePublishAccept  = "PUBLISH-ACCEPT"
	typePublishDeny    = "PUBLISH-DENY"
	typePublishEnd     = "PUBLISH-END"
	typeStreamKill     = "STREAM-KILL"

	paramRequestID    = "Request-ID"
	paramChannel      = "Stream-Channel"
	paramKey          = "Stream-Key"
	paramStreamID     = "Stream-ID"
	paramUserIP       = "User-IP"
	paramErrorCode    = "Error-Code"
	paramErrorMessage = "Error-Message"
)

// message is one control message as it was received; the body is dropped.
type message struct {
	typ    string            // upper case, trimmed; may be empty
	params map[string]string // trimmed values by lower-case name; the last one of a name counts
}

// get returns the value of a parameter, empty when it is missing.
func (m message) get(name string) string { return m.params[strings.ToLower(name)] }

// parseMessage takes any text: what is no parameter is skipped.
func parseMessage(text string) message {
	first, rest, _ := strings.Cut(text, "\n")
	m := message{
		typ:    strings.ToUpper(strings.TrimSpace(first)),
		params: make(map[string]string),
	}
	for line := range strings.SplitSeq(rest, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break // the body
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if ok && name != "" {
			m.params[name] = strings.TrimSpace(value)
		}
	}
	return m
}

type param struct{ name, value string }

// formatMessage returns the text of a message. Control characters in a value,
// which could forge another parameter, become question marks: no valid channel,
// key or ID contains one.
func formatMessage(typ string, params ...param) string {
	var b strings.Builder
	b.WriteString(typ)
	b.WriteByte('\n')
	for _, p := range params {
		b.WriteString(p.name)
		b.WriteString(": ")
		b.WriteString(sanitise(p.value))
		b.WriteByte('\n')
	}
	return b.String()
}

// sanitise also makes the value valid UTF-8, as a TEXT frame must be.
func sanitise(value string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, value)
}

func publishRequest(id string, r Request) string {
	var ip string
	if r.Addr.IsValid() {
		ip = r.Addr.Unmap().WithZone("").String()
	}
	return formatMessage(typePublishRequest,
		param{paramRequestID, id},
		param{paramChannel, r.Channel},
		param{paramKey, r.Key},
		param{paramUserIP, ip},
	)
}

func publishEnd(channel, streamID string) string {
	return formatMessage(typePublishEnd,
		param{paramChannel, channel},
		param{paramStreamID, streamID},
	)
}
