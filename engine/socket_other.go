//go:build !linux && !windows

package engine

import (
	"net"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// hungUp is not needed: with kqueue nbio closes nothing that is unread.
func hungUp(*nbio.Conn) bool { return false }

// leftUnread is not known here: what a publisher sent before a reset may be lost.
func leftUnread(*nbio.Conn) bool { return false }

// boundUnsent does nothing: elsewhere no option bounds what a write takes and leaves
// the window alone.
func boundUnsent(*nbio.Conn, int) {}

// boundAfterlife does nothing: the system decides how long it goes on sending.
func boundAfterlife(*nbio.Conn, time.Duration) {}

// acknowledged is not known here: what the system has taken counts as taken.
func acknowledged(*nbio.Conn) (acked uint64, held int64) { return 0, 0 }

// unread is not known here: a heartbeat may go to a publisher that is gone.
func unread(*nbio.Conn) int64 { return 0 }

// brings reports whether bytes that came on a connection that is not handed over, or its
// end, wait to be read. Any goroutine.
func brings(c net.Conn, _ uint64) bool { return polled(c, unix.POLLIN) }

// waited is not known here: what is read has just come.
func waited(net.Conn) time.Duration { return 0 }

// inKernel is not known here: what a client has not taken when the wait for its
// close ends may be lost.
func inKernel(*nbio.Conn) int64 { return 0 }
