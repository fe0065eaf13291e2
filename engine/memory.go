package engine

import (
	"fmt"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// leastMemory is the smallest memory limit, in MiB: a process that serves nobody has
// some 15.
const leastMemory = 64

// MemoryLimit returns the memory that the process is to have, in bytes:
// MEMORY_LIMIT_MB, or four fifths of what the cgroup allows or, if that is less, of
// what the machine has; math.MaxInt64 where that is not known; not more than Go's own
// limit (GOMEMLIMIT).
func (c Config) MemoryLimit() int64 {
	return memoryLimit(c.MemoryLimitMB, debug.SetMemoryLimit(-1) /* only asks */, memlimit.FromCgroup, memlimit.FromSystem)
}

func memoryLimit(configuredMB int, runtime int64, cgroup, system memlimit.Provider) int64 {
	if configuredMB > 0 {
		return min(int64(configuredMB)*mib, runtime)
	}
	n, err := memlimit.ApplyFallback(cgroup, system)()
	if err != nil || n == 0 || n > math.MaxInt64 {
		return runtime
	}
	if machine, err := system(); err == nil && machine > 0 {
		n = min(n, machine) // a cgroup may allow more than there is
	}
	return min(int64(n)/5*4, runtime)
}

// checkMemory refuses a limit with which no message of the largest size could come
// in: put together it takes up to twice its size, and then as much again in the ring.
func (c Config) checkMemory() error {
	least := max(leastMemory, 4*c.MaxMessageMB)
	if c.MemoryLimitMB == 0 || c.MemoryLimitMB >= least {
		return nil
	}
	return fmt.Errorf("MEMORY_LIMIT_MB=%d is too small with MAX_MESSAGE_MB=%d: set MEMORY_LIMIT_MB to %d at least, or to 0", c.MemoryLimitMB, c.MaxMessageMB, least)
}

// checkMemoryLimit says at the start if MAX_MESSAGE_MB promises too much. Where
// MEMORY_LIMIT_MB is set that is refused, see checkMemory; but the machine, or
// GOMEMLIMIT, may have less than that.
func (srv *Server) checkMemoryLimit() {
	limit, least := srv.cfg.MemoryLimit(), 4*int64(srv.cfg.MaxMessageMB)*mib
	if limit < least {
		srv.log.Warn("there is less memory than a message of MAX_MESSAGE_MB may need: lower it",
			"MAX_MESSAGE_MB", srv.cfg.MaxMessageMB, "memory_mib", limit/mib, "needed_mib", least/mib)
	}
}
