//go:build !windows

package main

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// A server that stands still, as on a machine that has no time for it or that is being
// moved, comes back to clients whose time at a crowded front door is over. That was not
// theirs: all get in.
func TestAServerThatStoodStillHangsUpNobody(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		const clients = 1000 // from 100 addresses, twice as many as there are places
		s := startServer(t, "MAX_HANDSHAKES=50", "HANDSHAKE_TIMEOUT_SECONDS=3", "CONCURRENT_LIMIT_WHITELIST=*", "LOG_REQUESTS=NO")
		var knocked [clients][]*net.TCPConn
		h := newHerd()
		defer h.leave()
		s.standStill(func() {
			inParts(clients, func(first, last int) { knocked[first] = knock(t, s.addr, first, last) })
		}, func() {
			inParts(clients, func(first, _ int) { enter(t, knocked[first], h) })
		})
		if n := len(h.all()); n != clients {
			t.Errorf("%d clients got in, wanted %d", n, clients)
		}
		s.wantLog("MAX_HANDSHAKES")
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		const clients = 6 // three times as many as there are places
		id := wstest.NewIdentity(t, "one")
		s, _ := startTLS(t, id, "MAX_HANDSHAKES=2", "HANDSHAKE_TIMEOUT_SECONDS=3")
		cfg := id.Trust()
		cfg.ServerName = "127.0.0.1"
		var all []*tls.Conn
		s.standStill(func() {
			for i := range clients {
				d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 8, byte(1+i))}}
				nc, err := d.Dial("tcp", s.tlsAddr)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = nc.Close() })
				all = append(all, tls.Client(nc, cfg))
			}
		}, func() {
			var in sync.WaitGroup
			for _, c := range all {
				in.Go(func() {
					_, err := io.WriteString(c, wstest.UpgradeRequest("/cam/key/receive")) // after the handshake
					if err == nil {
						err = readTo(c, "\r\n\r\n")
					}
					if err != nil {
						t.Errorf("wanted 101, got %v", err)
					}
				})
			}
			in.Wait()
		})
	})
}

// standStill stops the server while clients knock, has it go on for some moments, too
// short for all of them, and then for good; enter returns when they are in.
func (s *server) standStill(knock, enter func()) {
	const still = 3500 * time.Millisecond // longer than a place may be had, and than a handshake may take
	signal := func(sig syscall.Signal) {
		if err := s.cmd.Process.Signal(sig); err != nil {
			s.t.Errorf("%v: %v", sig, err)
		}
	}
	signal(syscall.SIGSTOP)
	knock()
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
	enter()
	<-over
}
