//go:build linux && !race

package engine

import (
	"syscall"
	"unsafe"
)

// writeSocket writes what a socket takes at once and returns how much that was; 0
// also for an error.
//
// Go's scheduler is not told: it would give the processor to somebody else when a
// write takes more than 20 µs, as one of 64 KiB does, and the drainer would have to
// wait to get one back.
func writeSocket(fd int, b []byte) int {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n)
		case syscall.EINTR:
		default:
			return 0
		}
	}
}
