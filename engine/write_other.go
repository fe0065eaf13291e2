//go:build !windows && (!linux || race)

package engine

import (
	"errors"
	"syscall"
)

// writeSocket writes what a socket takes at once and returns how much that was; 0
// also for an error. The race detector sees that b is read.
func writeSocket(fd int, b []byte) int {
	for {
		n, err := syscall.Write(fd, b)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0)
		}
	}
}
