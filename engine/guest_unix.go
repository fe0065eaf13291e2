//go:build !windows

package engine

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// readNow reads what is there without waiting, whatever the deadline is; 0: nothing, or
// an error. Called by who reads.
func readNow(c net.Conn, b []byte) (n int) {
	withDescriptor(c, func(fd int) {
		var err error
		if n, err = unix.Read(fd, b); err != nil {
			n = 0
		}
	})
	return n
}

// writeNow writes what there is room for without waiting, whatever the deadline is. It
// returns how much that is. Called by who writes.
func writeNow(c net.Conn, b []byte) (n int) {
	withDescriptor(c, func(fd int) {
		var err error
		if n, err = unix.Write(fd, b); err != nil {
			n = 0
		}
	})
	return n
}

// inline has urgent bytes read like others: else one of them would look unread for ever.
func inline(c net.Conn) {
	withDescriptor(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
}

// takes reports whether a client's socket has room for more. Any goroutine.
func takes(c net.Conn) bool { return polled(c, unix.POLLOUT) }

// polled asks the kernel for one of poll's events; false if it cannot tell.
func polled(c net.Conn, event int16) (yes bool) {
	withDescriptor(c, func(fd int) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, 0)
		yes = n > 0 && err == nil
	})
	return yes
}

// withDescriptor calls f with the descriptor of a connection that is open and has one.
func withDescriptor(c net.Conn, f func(fd int)) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
