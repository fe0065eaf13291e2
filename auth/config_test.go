package auth

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestConfigAccepts(t *testing.T) {
	for _, c := range []Config{
		{},
		{ControlBaseURL: "ws://coordinator"},
		{ControlBaseURL: "wss://coordinator/"},
		{ControlBaseURL: "WS://Coordinator.example:1"},
		{ControlBaseURL: "ws://192.0.2.1:65535/some/path"},
		{ControlBaseURL: "wss://[2001:db8::1]:8443"},
		{ControlSecret: "a secret without a coordinator"},
		{ExternalIP: "192.0.2.1"}, {ExternalIP: "2001:db8::1"}, {ExternalIP: "stream.example"}, {ExternalIP: "stream_1"},
		{ExternalPort: 1}, {ExternalPort: 65535},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	const allowedURL = "allowed is ws://HOST[:PORT] or wss://HOST[:PORT]"
	for _, url := range []string{
		"coordinator", "coordinator:8080", "//coordinator", "/ws/control/wss", ":", "ws:", "ws://", "ws:///path",
		"ws:coordinator", "http://coordinator", "https://coordinator", "wsss://coordinator",
		"ws://coordinator:", "ws://coordinator:0", "ws://coordinator:65536", "ws://coordinator:port", "ws://coordinator:-1",
		"ws://:8080", "ws://coordinator?", "ws://coordinator/?a=b", "ws://coordinator#", "ws://coordinator/#part",
		" ws://coordinator", "ws://coordinator ", "ws://co ordinator", "ws://coordinator\n", "ws://co\x00ordinator",
		"ws://%zz", "ws://[::1", "ws://coordinator/%zz", "ws://co%C2%A0ordinator",
	} {
		wantRefusal(t, Config{ControlBaseURL: url, ControlSecret: testSecret}, "CONTROL_BASE_URL "+quote(url)+": ", allowedURL)
	}
	for _, host := range []string{" ", "192.0.2.1 ", "a b", "a\nb", "a\r\nx-ssl-use: true", "\x7f", "http://host", "192.0.2.1:80", "[::1]", "300.1.1.1", "ho\u00a0st", strings.Repeat("a", 254)} {
		wantRefusal(t, Config{ExternalIP: host}, "EXTERNAL_IP "+quote(host)+": ", "allowed is an IP address or a host name")
	}
	wantRefusal(t, Config{ExternalPort: -1}, `EXTERNAL_PORT "-1": `, "allowed is 1 to 65535")
	wantRefusal(t, Config{ExternalPort: 65536}, `EXTERNAL_PORT "65536": `, "allowed is 1 to 65535")
}

func TestConfigErrorsHideThePassword(t *testing.T) {
	for url, shown := range map[string]string{
		"ws://user:" + testSecret + "@host":     `"ws://xxxxx@host"`,
		"ws://" + testSecret + "@host":          `"ws://xxxxx@host"`,
		"ws://u:" + testSecret + "%zz@host":     `"ws://xxxxx@host"`,
		"ws://u:" + testSecret + "//@b@host:x":  `"ws://xxxxx@host:x"`,
		"u:" + testSecret + "@host":             `"xxxxx@host"`,
		"u:" + testSecret + "//a@host":          `"xxxxx@host"`,
		"http://u:" + testSecret + "@host/path": `"http://xxxxx@host/path"`,
	} {
		wantRefusal(t, Config{ControlBaseURL: url}, "CONTROL_BASE_URL "+shown+": ", "allowed is")
	}
}

func quote(s string) string { return strconv.Quote(s) }

// wantRefusal wants one line from both ways in.
func wantRefusal(t *testing.T, c Config, prefix, allowed string) {
	t.Helper()
	err := c.Validate()
	if err == nil {
		t.Errorf("%+v is accepted", c)
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, prefix) || !strings.Contains(text, allowed) || strings.ContainsAny(text, "\r\n") || strings.Contains(text, testSecret) {
		t.Errorf("the error is %q, want %q … %q on one line and no secret", text, prefix, allowed)
	}
	if c.ControlBaseURL == "" {
		c.ControlBaseURL = "ws://coordinator"
	}
	if _, err := NewCoordinator(c, 80, nil); err == nil {
		t.Errorf("NewCoordinator accepts %+v", c)
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.Tag.Get("env") == "" || !strings.HasSuffix(f.Tag.Get("env-description"), ".") {
			t.Errorf("%s has no variable or no description", f.Name)
		}
	}
}
