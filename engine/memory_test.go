package engine

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"

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

// In a container it is the cgroup's memory that counts, unless the machine has less, or Go
// was told less.
func TestMemoryLimitOfACgroup(t *testing.T) {
	has := func(n uint64) memlimit.Provider { return func() (uint64, error) { return n, nil } }
	none := func() (uint64, error) { return 0, memlimit.ErrNoCgroup }
	unlimited := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	broken := func() (uint64, error) { return 0, errors.New("unreadable") }
	for _, c := range []struct {
		what           string
		configured     int
		runtime        int64
		cgroup, system memlimit.Provider
		want           int64
	}{
		{"a cgroup with less than the machine", 0, math.MaxInt64, has(500 * mib), has(8000 * mib), 400 * mib},
		{"a cgroup with more than the machine", 0, math.MaxInt64, has(16000 * mib), has(8000 * mib), 6400 * mib},
		{"a cgroup without a limit", 0, math.MaxInt64, unlimited, has(8000 * mib), 6400 * mib},
		{"no cgroup", 0, math.MaxInt64, none, has(8000 * mib), 6400 * mib},
		{"a cgroup, and a machine that says nothing", 0, math.MaxInt64, has(500 * mib), broken, 400 * mib},
		{"GOMEMLIMIT below it", 0, 300 * mib, has(500 * mib), has(8000 * mib), 300 * mib},
		{"GOMEMLIMIT above it", 0, 450 * mib, has(500 * mib), has(8000 * mib), 400 * mib},
		{"nothing known", 0, math.MaxInt64, broken, broken, math.MaxInt64},
		{"a setting", 100, math.MaxInt64, has(500 * mib), has(8000 * mib), 100 * mib},
		{"a setting above GOMEMLIMIT", 100, 90 * mib, has(500 * mib), has(8000 * mib), 90 * mib},
	} {
		if got := memoryLimit(c.configured, c.runtime, c.cgroup, c.system); got != c.want {
			t.Errorf("%s: %d bytes, wanted %d", c.what, got, c.want)
		}
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
