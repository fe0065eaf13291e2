package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"ws-stream-server/engine/wstest"
)

// What the kernel says of a server.

// memory is the server's resident memory in bytes.
func (s *server) memory() int64 {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		wstest.Skip(s.t, "no /proc here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// descriptors is the number of files and sockets the server holds.
func (s *server) descriptors() int {
	s.t.Helper()
	e, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		wstest.Skip(s.t, "no /proc here: %v", err)
	}
	return len(e)
}

// inKernel is what the kernel holds for a client of the plain listener, in bytes, be
// its connection closed by the server; false where there is no /proc to say so.
func (s *server) inKernel(c *wstest.Conn) (held int64, ok bool) {
	s.t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, false
	}
	port := func(addr string) string {
		_, p, _ := net.SplitHostPort(addr)
		n, _ := strconv.Atoi(p)
		return fmt.Sprintf(":%04X", n)
	}
	local, remote := port(s.addr), port(c.LocalAddr().String())
	for line := range strings.Lines(string(b)) {
		// sl local_address rem_address st tx_queue:rx_queue …, in hexadecimal digits
		if f := strings.Fields(line); len(f) > 4 && strings.HasSuffix(f[1], local) && strings.HasSuffix(f[2], remote) {
			tx, _, _ := strings.Cut(f[4], ":")
			held, _ = strconv.ParseInt(tx, 16, 64)
		}
	}
	return held, true
}

// writes is how many writes the server has made so far, to sockets and elsewhere.
func (s *server) writes() (n int) {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		wstest.Skip(s.t, "no /proc here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if count, ok := strings.CutPrefix(line, "syscw: "); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return n
}

// processorTime is the CPU time the server has used.
func (s *server) processorTime() time.Duration {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		wstest.Skip(s.t, "no /proc here: %v", err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	sys, _ := strconv.Atoi(f[12])
	return time.Duration(user+sys) * 10 * time.Millisecond
}
