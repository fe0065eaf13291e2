package bench

import (
	"bytes"
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
	addr  string
	trust *tls.Config // receivers speak TLS; nil: plain
	plain string      // address for publishers: TLS is measured on receivers only
}

// startOurs starts a server with a cache of so many MiB. Its receivers speak TLS if
// id is not nil.
func startOurs(b *testing.B, s *stage, id *identity, cacheMB int, change ...func(*engine.Config, *engine.Options)) *ours {
	b.Helper()
	filter, err := netfilter.New(netfilter.Config{MaxIPConcurrentConnections: 0})
	if err != nil {
		b.Fatal(err)
	}
	cfg := engine.Config{
		HTTPPort: freePort(b), BindAddress: "127.0.0.1", IDMaxLength: 128,
		GOPCacheSizeMB: cacheMB, MaxMessageMB: 64, ReceiverLagMB: 64, GatherMS: 10,
	}
	o := &ours{plain: loopback(cfg.HTTPPort)}
	o.addr = o.plain
	if id != nil {
		cfg.SSLPort, cfg.SSLCheckReloadSeconds = freePort(b), 60
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
func (o *ours) publisher(b *testing.B, s *stage, channel string, size int) *publisher {
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
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, nil, err
	}
	if trust != nil {
		c = tls.Client(c, trust)
	}
	early, err := shake(c, addr, path)
	if err != nil {
		hangUp(c)
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, early, nil
}

// shake does the handshake of a WebSocket.
func shake(c net.Conn, addr, path string) (early []byte, err error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, addr)
	if err != nil {
		return nil, fmt.Errorf("cannot send the handshake: %w", err)
	}
	buf, n := make([]byte, 2<<10), 0
	for n < len(buf) {
		m, err := c.Read(buf[n:])
		if err != nil {
			return nil, fmt.Errorf("cannot read the answer: %w", err)
		}
		n += m
		answer, early, found := bytes.Cut(buf[:n], []byte("\r\n\r\n"))
		switch {
		case !found:
		case !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")):
			return nil, fmt.Errorf("refused: %q", answer)
		default:
			return early, c.SetDeadline(time.Time{})
		}
	}
	return nil, fmt.Errorf("no end of the answer: %q", buf)
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
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*net.TCPConn)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func freePort(b *testing.B) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
