package bench

import (
	"context"
	"crypto/tls"
	"fmt"
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

// ours is the server, in this process.
type ours struct {
	srv   *engine.Server
	addr  string
	trust *tls.Config // receivers speak TLS; nil: plain
	plain string      // address for publishers: TLS is measured on receivers only
}

// startOurs starts a server with a cache of so many MiB. Its receivers speak TLS if
// id is not nil.
func startOurs(b testing.TB, s *stage, id *identity, cacheMB int, change ...func(*engine.Config, *engine.Options)) *ours {
	b.Helper()
	filter, err := netfilter.New(netfilter.Config{MaxIPConcurrentConnections: 0})
	if err != nil {
		b.Fatal(err)
	}
	cfg := engine.Config{
		HTTPPort: wstest.FreePort(b), BindAddress: "127.0.0.1", IDMaxLength: 128,
		GOPCacheSizeMB: cacheMB, MaxMessageMB: 64, ReceiverLagMB: 64, SendBufferKB: 256, GatherMS: 10,
		MaxHandshakes: 1024, MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10,
	}
	o := &ours{plain: loopback(cfg.HTTPPort)}
	o.addr = o.plain
	if id != nil {
		cfg.SSLPort, cfg.SSLCheckReloadSeconds = wstest.FreePort(b), 60
		cfg.SSLCert, cfg.SSLKey = id.certFile, id.keyFile
		o.addr, o.trust = loopback(cfg.SSLPort), id.trust
	}
	opts := engine.Options{Version: "bench", Log: slog.New(slog.DiscardHandler), Filter: filter, Auth: auth.AcceptAll()}
	for _, f := range change {
		f(&cfg, &opts)
	}
	srv, err := engine.New(cfg, opts)
	if err != nil {
		b.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		b.Fatal(err)
	}
	o.srv = srv
	s.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			s.tb.Errorf("cannot shut the server down: %v", err)
		}
	})
	return o
}

// receive connects a receiver to a channel.
func (o *ours) receive(channel string) (net.Conn, []byte, error) {
	return dial(o.addr, "/"+channel+"/key/receive", o.trust)
}

// publisher connects a publisher of packets of size bytes to a channel.
func (o *ours) publisher(b testing.TB, s *stage, channel string, size int) *publisher {
	b.Helper()
	c, _, err := dial(o.plain, "/"+channel+"/key/publish", nil)
	if err != nil {
		b.Fatal(err)
	}
	s.later(func() { _ = c.Close() })
	return newPublisher(c, size)
}

// oneChannel is a channel of ours with a publisher.
type oneChannel struct {
	*ours
	pub *publisher
}

func (c oneChannel) receive() (net.Conn, []byte, error)   { return c.ours.receive("bench") }
func (c oneChannel) publish(seq uint64, timed bool) error { return c.pub.publish(seq, timed) }

// startChannel starts a server with one channel that has a publisher.
func startChannel(b *testing.B, s *stage, id *identity, cacheMB, size int) oneChannel {
	b.Helper()
	o := startOurs(b, s, id, cacheMB)
	return oneChannel{o, o.publisher(b, s, "bench", size)}
}

// publisher is a client that publishes packets of one size.
type publisher struct {
	conn  net.Conn
	frame []byte // masked; only the stamp changes
	at    int    // where the payload begins
}

func newPublisher(c net.Conn, size int) *publisher {
	f := wstest.Frame{Op: wstest.Binary, Payload: make([]byte, size)}.AppendTo(nil)
	return &publisher{conn: c, frame: f, at: len(f) - size}
}

func (p *publisher) publish(seq uint64, timed bool) error {
	key, stamp := p.frame[p.at-4:p.at], p.frame[p.at:p.at+stampSize]
	putStamp(stamp, seq, timed)
	for i := range stamp {
		stamp[i] ^= key[i&3]
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := p.conn.Write(p.frame)
	return err
}

// dial opens a WebSocket, over TLS unless trust is nil, and returns it with the
// bytes that came behind the answer.
func dial(addr, path string, trust *tls.Config) (net.Conn, []byte, error) {
	opts := []wstest.Option{wstest.Patience(patience)}
	if trust != nil {
		opts = append(opts, wstest.TLS(trust))
	}
	c, refusal, err := wstest.Open(addr, path, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if c == nil {
		return nil, nil, fmt.Errorf("%s: refused: %v", path, refusal)
	}
	conn, early := c.Raw()
	return conn, early, nil
}

// hangUp ends a connection with a reset, which leaves nothing behind in the kernel:
// thousands that wait for their last packets would use up the ports. Any goroutine.
func hangUp(c net.Conn) {
	tcp := tcpOf(c)
	_ = tcp.SetLinger(0)
	_ = tcp.Close()
}

// tcpOf returns the connection below TLS.
func tcpOf(c net.Conn) *net.TCPConn {
	if h, ok := c.(*httpConn); ok {
		c = h.Conn
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*net.TCPConn)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
