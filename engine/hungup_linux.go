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
