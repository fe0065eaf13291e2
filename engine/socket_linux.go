package engine

import (
	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// hungUp reports whether the client has shut down its sending side: all it will
// ever send has arrived then. nbio closes such a connection as soon as the event is
// handled, whatever is unread. Called on the poller.
func hungUp(c *nbio.Conn) bool {
	c.Lock() // nbio closes under it: the number is still ours
	defer c.Unlock()
	if closed, _ := c.IsClosed(); closed {
		return false
	}
	p := []unix.PollFd{{Fd: int32(c.Hash()), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return n > 0 && err == nil
}

// inKernel returns how many bytes the kernel holds that the client has not
// acknowledged, 0 when the connection is closed. Any goroutine.
func inKernel(c *nbio.Conn) int64 {
	c.Lock() // nbio closes under it: the number is still ours
	defer c.Unlock()
	if closed, _ := c.IsClosed(); closed {
		return 0
	}
	n, err := unix.IoctlGetInt(c.Hash(), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return int64(n)
}
