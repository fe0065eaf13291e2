package main

import (
	"fmt"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
)

// Which pages may open streams. How origins are read is tested in the engine.

func origin(o string) wstest.Option { return wstest.Header("Origin", o) }

func TestAllowedOrigins(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "ALLOWED_ORIGINS=https://example.org, HTTP://Player.example.org:8080", "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", "MAX_IP_CONCURRENT_CONNECTIONS=4")
	kinds := []string{"publish", "receive", "receive-clear-cache", "probe"}
	for i, o := range []string{"https://example.org", "HTTPS://EXAMPLE.ORG:443", "http://player.example.org:8080", ""} {
		for _, kind := range kinds {
			var opts []wstest.Option
			if o != "" { // without the header nobody asks
				opts = append(opts, origin(o))
			}
			path := fmt.Sprintf("/cam%d-%s/key/%s", i, kind, kind)
			wstest.Dial(t, s.addr, path, opts...).CloseHandshake(1000)
			s.tlsDial(t, strings.Replace(path, "cam", "tls", 1), id, opts...).CloseHandshake(1000)
		}
	}
	for _, o := range []string{
		"http://example.org", "https://example.org:8443", "https://www.example.org", "https://example.org.evil.example", "https://evil.example",
		"http://" + s.addr, "https://" + s.tlsAddr, // the server's own page is no exception
		"null", "*", "https://example.org https://evil.example", "file://",
	} {
		for _, kind := range kinds {
			s.refuses(403, "/cam/key/"+kind, origin(o), direct)
		}
	}
	s.refuses(403, "/cam/key/receive", origin("https://example.org"), wstest.AddHeader("Origin", "https://evil.example"))
	s.refuses(403, "/cam/key/receive", wstest.Header("Origin", ""))
	// The refused took no place, and pages are for everybody.
	wantSlots(t, s, "127.0.8.1", 4)
	if r := wstest.Handshake(t, s.addr, "/healthz", origin("https://evil.example")); r.Status != 200 {
		t.Errorf("/healthz: wanted 200, got %v", r)
	}
}

func TestEveryOriginIsAllowedByDefault(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"", "*", "https://example.org,*"} {
		s := startServer(t, "ALLOWED_ORIGINS="+list)
		for i, o := range []string{"https://example.org", "https://evil.example", "null", "garbage"} {
			s.receive(fmt.Sprintf("cam%d", i), "key", origin(o)).Sync()
		}
	}
}

// The origin is looked at before lists and coordinator: a foreign page learns nothing
// and asks nobody anything.
func TestAForeignOriginIsRefusedFirst(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "ALLOWED_ORIGINS=https://example.org", "PLAY_WHITELIST=10.0.0.1")
	acceptAll(c)
	if r := s.refuses(403, "/cam/key/receive", origin("https://evil.example")); !strings.Contains(r.Body, "origin") {
		t.Errorf("wanted the origin named, got %q", r.Body)
	}
	s.refuses(403, "/cam/key/publish", origin("https://evil.example"))
	if r := s.refuses(403, "/cam/key/receive", origin("https://example.org")); !strings.Contains(r.Body, "may not play") {
		t.Errorf("wanted the address refused, got %q", r.Body)
	}
	s.publish("cam", "key", origin("https://example.org")).Sync()
	if n := count(c, "PUBLISH-REQUEST"); n != 1 {
		t.Errorf("wanted one question, got %d", n)
	}
}
