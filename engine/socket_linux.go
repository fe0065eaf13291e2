package engine

import (
	"net"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// hungUp reports whether the client has shut down its sending side: all it will
// ever send has arrived then. nbio closes such a connection as soon as the event is
// handled, whatever is unread. Any goroutine.
func hungUp(c *nbio.Conn) (yes bool) {
	whileOpen(c, func(fd int) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 0)
		yes = n > 0 && err == nil
	})
	return yes
}

// leftUnread reports whether the client has shut down its sending side, or was reset, and
// bytes of it wait to be read: neither takes them away here. Any goroutine.
func leftUnread(c *nbio.Conn) bool { return unread(c) > 0 && hungUp(c) }

// boundUnsent bounds what the kernel takes for a client and has not sent yet, in
// bytes: it takes no more once there is that much, and tells that there is room when
// half of it is sent. 0 leaves it to the kernel. What is under way, sent and not
// acknowledged, is bounded by the client's window and net.ipv4.tcp_wmem: to bound
// that too would bound the throughput to distant clients. Called before the hand-over.
func boundUnsent(c *nbio.Conn, most int) {
	if most > 0 {
		_ = unix.SetsockoptInt(c.Hash(), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, most)
	}
}

// boundAfterlife has the kernel forget what it holds for a client that takes nothing
// for so long, once the connection is closed. Any goroutine.
func boundAfterlife(c *nbio.Conn, d time.Duration) {
	whileOpen(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// acknowledged returns how many bytes the client has acknowledged since the connection
// began, 0 if the kernel does not tell, and how many it holds that the client has not;
// nothing when the connection is closed. Any goroutine.
func acknowledged(c *nbio.Conn) (acked uint64, held int64) {
	held = inKernel(c) // first: what is acknowledged between the two is counted later
	open := false
	whileOpen(c, func(fd int) {
		open = true
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked = info.Bytes_acked
		}
	})
	if !open {
		return 0, 0
	}
	return acked, held
}

// unread returns how many bytes of the client wait to be read, 0 when the connection
// is closed. Any goroutine.
func unread(c *nbio.Conn) int64 { return queued(c, unix.SIOCINQ) }

// brings reports whether more came on a connection that is not handed over than these
// bytes, which were read, or its end. Any goroutine.
func brings(c net.Conn, read uint64) (yes bool) {
	withDescriptor(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.Bytes_received > read // the end counts as a byte
	})
	return yes
}

// waited returns how long ago the last bytes came on a connection that is not handed over.
// Any goroutine.
func waited(c net.Conn) (ago time.Duration) {
	withDescriptor(c, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			ago = time.Duration(info.Last_data_recv) * time.Millisecond
		}
	})
	return ago
}

// inKernel returns how many bytes the kernel holds that the client has not
// acknowledged, 0 when the connection is closed. Any goroutine.
func inKernel(c *nbio.Conn) int64 { return queued(c, unix.SIOCOUTQ) }

// queued asks the kernel for the bytes in one of a socket's queues; 0 when the
// connection is closed.
func queued(c *nbio.Conn, queue uint) (n int64) {
	whileOpen(c, func(fd int) {
		if bytes, err := unix.IoctlGetInt(fd, queue); err == nil {
			n = int64(bytes)
		}
	})
	return n
}
