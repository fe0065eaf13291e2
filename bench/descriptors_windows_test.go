package bench

import (
	"errors"
	"math"
	"net"
)

// descriptors has no limit here.
func descriptors() int { return math.MaxInt }

// park cannot be done here.
func park(c *net.TCPConn) (fd int, err error) {
	_ = c.Close()
	return -1, errors.New("a socket has no second descriptor on Windows")
}

func unpark(int) {}
