//go:build !windows

package main

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A server that stands still, as on a machine that has no time for it or that is being
// moved, comes back to clients whose time at a crowded front door is over. That was not
// theirs: all get in.
func TestAServerThatStoodStillHangsUpNobody(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	const clients = 1000 // from 100 addresses, twice as many as there are places
	s := startServer(t, "MAX_HANDSHAKES=50", "HANDSHAKE_TIMEOUT_SECONDS=3", "CONCURRENT_LIMIT_WHITELIST=*", "LOG_REQUESTS=NO")
	signal := func(sig syscall.Signal) {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
	const still = 3500 * time.Millisecond // longer than a place may be had, and than a handshake may take
	signal(syscall.SIGSTOP)
	var knocked [clients][]*net.TCPConn
	inParts(clients, func(first, last int) { knocked[first] = knock(t, s.addr, first, last) })
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 3 {
			signal(syscall.SIGCONT)
			time.Sleep(20 * time.Millisecond) // in the middle of it
			signal(syscall.SIGSTOP)
			time.Sleep(still)
		}
		signal(syscall.SIGCONT)
	}()
	h := newHerd()
	defer h.leave()
	inParts(clients, func(first, _ int) { enter(t, knocked[first], h) })
	<-over
	if n := len(h.all()); n != clients {
		t.Errorf("%d clients got in, wanted %d", n, clients)
	}
	s.wantLog("MAX_HANDSHAKES")
}
