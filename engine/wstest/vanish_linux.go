package wstest

import (
	"net"

	"golang.org/x/sys/unix"
)

// Vanish makes the client's host vanish, as far as the server can tell: nothing that
// arrives from now on reaches the client's TCP, so nothing is acknowledged or
// answered, neither with data nor with a reset. Needs no privileges: it is a socket
// filter that lets nothing through. The client must not send any more.
func (c *Conn) Vanish() {
	c.t.Helper()
	if err := vanish(c.tcp); err != nil {
		c.t.Fatalf("%s: cannot vanish: %v", c.name, err)
	}
}

// Vanish is Conn's.
func (c *HTTP) Vanish() {
	c.t.Helper()
	if err := vanish(c.tcp); err != nil {
		c.t.Fatalf("%s: cannot vanish: %v", c.name, err)
	}
}

func vanish(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	program := unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]}
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}); e != nil {
		return e
	}
	return err
}
