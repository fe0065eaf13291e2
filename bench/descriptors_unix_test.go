//go:build !windows

package bench

import (
	"math"
	"net"
	"syscall"
)

// descriptors returns how many files and sockets this process may have open. Go has
// raised the soft limit to the hard one.
func descriptors() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxInt
	}
	return int(min(r.Cur, math.MaxInt32))
}

// park closes a client's connection, but keeps a second descriptor of its socket:
// for the server it is still there, and of Go's memory nothing is left. The
// descriptor must go back with unpark.
func park(c *net.TCPConn) (fd int, err error) {
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(s uintptr) { fd, err = syscall.Dup(int(s)) }); e != nil {
		return -1, e
	}
	return fd, err
}

// unpark ends a connection that park kept.
func unpark(fd int) { _ = syscall.Close(fd) }
