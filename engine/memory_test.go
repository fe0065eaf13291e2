package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"ws-stream-server/auth"
)

// The limit is what was set, or a part of what there is.
func TestMemoryLimit(t *testing.T) {
	if got := (Config{MemoryLimitMB: 100}).MemoryLimit(); got != 100*mib {
		t.Errorf("100 MiB were set, got %d bytes", got)
	}
	got := Config{}.MemoryLimit()
	if got < leastMemory*mib {
		t.Errorf("of what the machine has: %d bytes", got)
	}
	if runtime.GOOS == "linux" {
		if most := installed(t) / 5 * 4; got > most {
			t.Errorf("of what the machine has: %d bytes, four fifths of it are %d", got, most)
		}
	} else if got == math.MaxInt64 {
		t.Log("how much memory this machine has is not known")
	}
}

// installed is how much memory Linux says the machine has, in bytes.
func installed(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("no MemTotal in /proc/meminfo:\n%s", b)
	return 0
}

// A small machine, or a small GOMEMLIMIT, may have no room for the largest message: the
// log says so, once.
func TestLittleMemoryForAMessageIsSaid(t *testing.T) {
	before := debug.SetMemoryLimit(4*64*mib - 1)
	defer debug.SetMemoryLimit(before)
	for message, want := range map[int]int{64: 1, 63: 0} {
		var log bytes.Buffer
		srv, err := New(Config{BindAddress: "127.0.0.1", MaxMessageMB: message, ReceiverLagMB: 64, MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10},
			Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Auth: auth.AcceptAll()})
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(log.String(), "less memory than a message of MAX_MESSAGE_MB"); got != want {
			t.Errorf("MAX_MESSAGE_MB=%d: wanted the warning %d times, got:\n%s", message, want, log.String())
		}
	}
}

func TestMemoryLimitHasRoomForAMessage(t *testing.T) {
	for _, c := range []struct {
		limit, message int
		ok             bool
	}{
		{0, 1024, true}, {64, 1, true}, {63, 1, false}, {64, 16, true}, {64, 17, false}, {4096, 1024, true}, {4095, 1024, false},
	} {
		err := Config{MemoryLimitMB: c.limit, MaxMessageMB: c.message}.checkMemory()
		if (err == nil) != c.ok || err != nil && !strings.HasPrefix(err.Error(), "MEMORY_LIMIT_MB=") {
			t.Errorf("MEMORY_LIMIT_MB=%d, MAX_MESSAGE_MB=%d: %v", c.limit, c.message, err)
		}
	}
}
