package admin

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Whoever tries tokens stands in the log and in the metrics, whatever is asked for; the
// token that was tried does not.
func TestWrongTokensAreToldOf(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0", aToken, slowServer())
	const guess = "Bearer abcdefghijklmnopq"
	l.wants(401, "DELETE", "/api/v1/channels/cam", "Authorization", guess)
	l.wants(200, "GET", "/healthz", "Authorization", guess)
	l.wants(403, "GET", "/healthz", "Authorization", guess, "Host", "evil.example")
	l.wants(200, "GET", "/healthz")
	l.wants(401, "DELETE", "/api/v1/channels/cam")
	if _, body := l.wants(200, "GET", "/metrics", "Authorization", bearer); !strings.Contains(body, "\nwsstream_admin_wrong_tokens_total 3\n") {
		t.Errorf("wanted 3 wrong tokens, got\n%s", body)
	}
	l.Close()
	log := l.log.String()
	if strings.Count(log, "wrong token") != 1 || !strings.Contains(log, "address=127.0.0.1:") || strings.Contains(log, "abcdefgh") {
		t.Errorf("wanted one line with the address and without what was tried, got\n%s", log)
	}
	bare := listen(t, "127.0.0.1:0", "", slowServer())
	bare.wants(200, "GET", "/metrics", "Authorization", guess)
	bare.Close()
	if log := bare.log.String(); strings.Contains(log, "wrong token") {
		t.Errorf("where no token is set none is wrong, got\n%s", log)
	}
}

func TestTheLogTellsOfWrongTokensOnceAMinute(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	w := &wrongTokens{log: slog.New(slog.NewTextHandler(&log, nil))}
	start := time.Now()
	for _, after := range []time.Duration{0, time.Second, wrongEvery - 1, wrongEvery, 2*wrongEvery - 1, 3 * wrongEvery} {
		w.note(request("127.0.0.1"), start.Add(after))
	}
	var said []string
	for line := range strings.Lines(log.String()) {
		_, n, _ := strings.Cut(strings.TrimSpace(line), "requests=")
		said = append(said, n)
	}
	if got := strings.Join(said, " "); got != "1 3 2" {
		t.Errorf("wanted lines for 1, 3 and 2 requests, got %q", got)
	}
}
