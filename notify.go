package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// notifyTimeout bounds the sending of a message, which the manager's socket takes at
	// once unless the manager hangs.
	notifyTimeout = time.Second

	// stopSlack is how much more time for the end is asked for than it should take.
	stopSlack = 5 * time.Second
)

// notifier tells the service manager how the server is: sd_notify(3) of systemd. Without
// NOTIFY_SOCKET it does nothing.
type notifier struct {
	// Static after construction.
	log      *slog.Logger
	conn     net.Conn      // nil: nobody wants to know
	watchdog time.Duration // the manager wants to hear so often; 0: never

	ends atomic.Bool // the server goes away: the time for that watches over it now
}

// newNotifier reads what the service manager has put into the environment: beside the
// settings the only thing that is read there.
func newNotifier(log *slog.Logger) *notifier {
	n := &notifier{log: log}
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return n
	}
	conn, err := net.Dial("unixgram", address) // @ at the beginning: an abstract one
	if err != nil {
		log.Warn("cannot reach the service manager at NOTIFY_SOCKET", "error", err)
		return n
	}
	n.conn = conn
	if n.watchdog, err = watchdogInterval(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid()); err != nil {
		log.Warn("the service manager's watchdog is not fed", "error", err)
	}
	return n
}

// watchdogInterval reads WATCHDOG_USEC and WATCHDOG_PID (sd_watchdog_enabled(3)). 0: the
// manager expects nothing of this process.
func watchdogInterval(usec, pid string, self int) (time.Duration, error) {
	if usec == "" {
		return 0, nil
	}
	if pid != "" {
		if n, err := strconv.Atoi(pid); err != nil {
			return 0, errors.New("WATCHDOG_PID is not a number")
		} else if n != self {
			return 0, nil
		}
	}
	const most = uint64(24 * time.Hour / time.Microsecond)
	n, err := strconv.ParseUint(usec, 10, 64)
	if err != nil || n == 0 {
		return 0, errors.New("WATCHDOG_USEC is not a number above 0")
	}
	return time.Duration(min(n, most)) * time.Microsecond, nil
}

// ready tells that the server listens. From then on the watchdog is fed, as long as alive
// returns nil.
func (n *notifier) ready(alive func(context.Context) error) {
	n.send("READY=1\nSTATUS=version " + version + " serves")
	if n.conn != nil && n.watchdog > 0 {
		go n.feed(alive) // to the end of the process
	}
}

// feed feeds the watchdog at half of its time. An answer that is late has a second try
// before the time is over. While the server goes away its parts end, and are not asked.
func (n *notifier) feed(alive func(context.Context) error) {
	for range time.Tick(n.watchdog / 2) {
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), n.watchdog/4)
			var err error
			if !n.ends.Load() {
				err = alive(ctx)
			}
			cancel()
			if err == nil || n.ends.Load() {
				n.send("WATCHDOG=1")
				break
			}
			n.log.Warn("the server does not answer itself, the watchdog is not fed", "error", err)
		}
	}
}

// stopping tells that the server goes away, and how long that may take: the manager
// waits that long, if its own time-out is shorter.
func (n *notifier) stopping(atMost time.Duration) {
	n.ends.Store(true)
	n.send(fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=shutting down", (atMost + stopSlack).Microseconds()))
}

// send sends one message. One that does not arrive is logged.
func (n *notifier) send(message string) {
	if n.conn == nil {
		return
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(notifyTimeout))
	if _, err := n.conn.Write([]byte(message)); err != nil {
		n.log.Warn("cannot tell the service manager", "error", err)
	}
}
