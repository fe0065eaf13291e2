package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Config is who decides about publishers, and what the coordinator is told about us.
type Config struct {
	ControlBaseURL string `env:"CONTROL_BASE_URL" env-description:"Coordinator that decides who may publish, as ws://HOST[:PORT] or wss://HOST[:PORT]; not set: stand-alone, every key is accepted."`
	ControlSecret  string `env:"CONTROL_SECRET" secret:"true" env-description:"Secret shared with the coordinator; it signs the token of the control connection; not set: no token is sent."`
	ExternalIP     string `env:"EXTERNAL_IP" env-description:"Address under which others reach this server when it is behind NAT or a proxy; not set: the coordinator takes the one it sees."`
	ExternalPort   int    `env:"EXTERNAL_PORT" min:"1" max:"65535" env-description:"Port under which others reach this server when it is behind NAT or a proxy; not set: SSL_PORT with EXTERNAL_SSL, else HTTP_PORT."`
	ExternalSSL    bool   `env:"EXTERNAL_SSL" env-default:"false" env-description:"Whether others reach this server with TLS (wss://)."`
}

// Validate returns nil or an error of one line: the variable, the bad value
// quoted, what is allowed. No secret is in it.
func (c Config) Validate() error {
	if c.ControlBaseURL != "" {
		if _, err := parseBaseURL(c.ControlBaseURL); err != nil {
			return fmt.Errorf("CONTROL_BASE_URL %q: %w; allowed is ws://HOST[:PORT] or wss://HOST[:PORT]",
				withoutUserinfo(c.ControlBaseURL), err)
		}
	}
	if c.ExternalIP != "" && !isHost(c.ExternalIP) {
		return fmt.Errorf("EXTERNAL_IP %q: allowed is an IP address or a host name", c.ExternalIP)
	}
	if c.ExternalPort < 0 || c.ExternalPort > 65535 {
		return fmt.Errorf("EXTERNAL_PORT \"%d\": allowed is 1 to 65535", c.ExternalPort)
	}
	return nil
}

// parseBaseURL accepts what names a coordinator and nothing else. Its errors
// do not repeat the value: it may contain a password.
func parseBaseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if u.Scheme != "ws" && u.Scheme != "wss" {
		return nil, errors.New("the scheme is not ws or wss")
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return nil, errors.New("it has a user name or a password")
	}
	if u.Opaque != "" || u.Hostname() == "" || strings.ContainsFunc(u.Host, isBlank) {
		return nil, errors.New("there is no valid host")
	}
	// url.Parse takes an IPv6 address without brackets for a name and a port.
	if strings.HasPrefix(u.Host, "[") != strings.Contains(u.Hostname(), ":") || !isHost(u.Hostname()) {
		return nil, errors.New("there is no valid host")
	}
	if strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the port is empty")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("the port is not 1 to 65535")
		}
	}
	if strings.ContainsAny(raw, "?#") {
		return nil, errors.New("it has a query or a fragment")
	}
	return u, nil
}

// withoutUserinfo masks what stands before the last @: also in a text that is no URL.
func withoutUserinfo(raw string) string {
	at := strings.LastIndexByte(raw, '@')
	if at < 0 {
		return raw
	}
	scheme, _, _ := strings.Cut(raw[:at], "//")
	if strings.Index(scheme, ":") != len(scheme)-1 {
		return "xxxxx" + raw[at:]
	}
	return scheme + "//xxxxx" + raw[at:]
}

// isHost tells whether s is an IP address or looks like a host name (letters,
// digits, hyphens, dots; underscores, as container networks use them). A name
// whose last part is a number is a mistyped address (RFC 1123, section 2.1).
func isHost(s string) bool {
	if strings.ContainsFunc(s, isBlank) || len(s) > 253 {
		return false
	}
	if isIP(s) {
		return true
	}
	s = strings.TrimSuffix(s, ".") // the root
	if strings.Trim(s[strings.LastIndexByte(s, '.')+1:], "0123456789") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r))
	})
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isBlank(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }
