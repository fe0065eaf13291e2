//go:build unix

package main

import (
	"math"
	"syscall"
)

// descriptors is how many files this process may have open.
func descriptors() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return int(min(uint64(r.Cur), math.MaxInt32)) //nolint:unconvert // an int64 on FreeBSD
}
