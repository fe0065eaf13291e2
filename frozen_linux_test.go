package main

import (
	"crypto/tls"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		const clients = 800 // from 100 addresses, twice as many as there are places; as many as may wait
		s := startServer(t, "MAX_HANDSHAKES=50", "HANDSHAKE_TIMEOUT_SECONDS=3", "CONCURRENT_LIMIT_WHITELIST=*", "LOG_REQUESTS=NO")
		var knocked [clients][]*net.TCPConn
		h := newHerd()
		defer h.leave()
		s.standStill(20*time.Millisecond, func() {
			inParts(clients, func(first, last int) { knocked[first] = knock(t, s.addr, first, last) })
		}, func() {
			inParts(clients, func(first, _ int) { enter(t, knocked[first], h) })
		}, func() bool { return true })
		if n := len(h.all()); n != clients {
			t.Errorf("%d clients got in, wanted %d", n, clients)
		}
		s.wantLog("MAX_HANDSHAKES")
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		id := wstest.NewIdentity(t, "one")
		s, _ := startTLS(t, id, "MAX_HANDSHAKES=2", "HANDSHAKE_TIMEOUT_SECONDS=3")
		cfg := id.Trust()
		cfg.ServerName = "127.0.0.1"
		var clients []*turned
		s.standStill(time.Millisecond, func() {
			for i := range 6 { // three times as many as there are places
				d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 8, byte(1+i))}}
				nc, err := d.Dial("tcp", s.tlsAddr)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = nc.Close() })
				clients = append(clients, &turned{TCPConn: nc.(*net.TCPConn)})
			}
		}, func() {
			var in sync.WaitGroup
			for _, nc := range clients {
				in.Go(func() {
					defer nc.state.Store(turnedOver)
					c := tls.Client(nc, cfg)
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
		}, func() bool {
			return !slices.ContainsFunc(clients, func(c *turned) bool { return !c.waits() })
		})
	})
}

// turned is a client's connection that knows whose turn it is.
type turned struct {
	*net.TCPConn
	state atomic.Uint64 // twice the bytes that were read, and 1 while it reads; or turnedOver
}

const turnedOver = math.MaxUint64

func (c *turned) Read(b []byte) (int, error) {
	c.state.Add(1)
	n, err := c.TCPConn.Read(b)
	c.state.Add(uint64(2*n) - 1)
	return n, err
}

// waits reports whether the client has nothing to do before the server does something.
func (c *turned) waits() (yes bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	_ = raw.Control(func(fd uintptr) {
		state := c.state.Load() // first: what comes meanwhile is the server's doing
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = state == turnedOver || err != nil || state&1 == 1 && info.Bytes_received <= state/2
	})
	return yes
}

// standStill stops the server while clients knock, and has it go on for moments, too short
// for all of them, until enter returns: they are in. It goes on only when turn reports
// that all clients wait for it.
func (s *server) standStill(moment time.Duration, knock, enter func(), turn func() bool) {
	const still = 3500 * time.Millisecond // longer than a place may be had, and than a handshake may take
	signal := func(sig syscall.Signal) {
		if err := s.cmd.Process.Signal(sig); err != nil {
			s.t.Errorf("%v: %v", sig, err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	knock()
	in := make(chan struct{})
	go func() {
		defer close(in)
		enter()
	}()
	for round := 0; ; round++ {
		eventually(s.t, "the clients have done what they can", turn)
		signal(syscall.SIGCONT)
		select {
		case <-in:
			return
		case <-time.After(moment): // in the middle of it
		}
		signal(syscall.SIGSTOP)
		if round < 3 {
			time.Sleep(still)
		}
	}
}
