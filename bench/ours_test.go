package bench

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

// ours is the server in this process, with one channel that has a publisher.
type ours struct {
	addr  string
	pub   *wstest.Conn
	frame []byte // owned by publish
	conns []*wstest.Conn
}

const patience = 30 * time.Second

func startOurs(b *testing.B, change ...func(*engine.Options)) *ours {
	b.Helper()
	filter, err := netfilter.New(netfilter.Config{MaxIPConcurrentConnections: 0})
	if err != nil {
		b.Fatal(err)
	}
	port := freePort(b)
	opts := engine.Options{Version: "bench", Log: slog.New(slog.DiscardHandler), Filter: filter, Auth: auth.AcceptAll()}
	for _, f := range change {
		f(&opts)
	}
	srv, err := engine.New(engine.Config{
		HTTPPort: port, BindAddress: "127.0.0.1", IDMaxLength: 128,
		GOPCacheSizeMB: 0, MaxMessageMB: 64, ReceiverLagMB: 64, DrainRestMS: 10,
	}, opts)
	if err != nil {
		b.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		b.Fatal(err)
	}
	s := &ours{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	s.pub = wstest.Dial(b, s.addr, "/bench/key/publish")
	b.Cleanup(func() {
		s.pub.Close()
		for _, c := range s.conns {
			c.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	return s
}

// receive's connection is read raw: what the server sends beside packets comes
// every 20 s only.
func (s *ours) receive(b *testing.B) net.Conn {
	c := wstest.Dial(b, s.addr, "/bench/key/receive")
	c.Sync() // it is live: the pong was read
	s.conns = append(s.conns, c)
	return c.TCP()
}

func (s *ours) publish(b *testing.B, packet []byte) {
	if s.frame == nil {
		s.frame = wstest.Frame{Op: wstest.Binary, Payload: packet}.AppendTo(nil)
	}
	if err := s.pub.SendRawE(s.frame); err != nil {
		b.Fatal(err)
	}
}

func freePort(b *testing.B) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
