package engine

import (
	"math"
	"strings"
	"testing"
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
	if got == math.MaxInt64 {
		t.Log("how much memory this machine has is not known")
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
