package bench

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/frame"
)

// sockets is the connections of a baseline.
type sockets struct {
	l      net.Listener
	id     *identity // connections speak TLS; nil: plain
	frame  []byte    // the packet as a receiver gets it; only the stamp changes
	header int       // bytes of frame before the packet

	conns   []net.Conn // the server's ends
	serving sync.WaitGroup
}

func listen(b *testing.B, s *stage, id *identity, size int) *sockets {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	n := frame.HeaderSize(size)
	k := &sockets{l: l, id: id, frame: make([]byte, n+size), header: n}
	frame.PutHeader(k.frame, frame.Binary, size)
	s.later(func() {
		_ = l.Close()
		for _, c := range k.conns {
			hangUp(c)
		}
		k.serving.Wait()
	})
	return k
}

// pair returns both ends of a new connection.
func (k *sockets) pair() (client, server net.Conn, err error) {
	client, err = net.DialTimeout("tcp", k.l.Addr().String(), patience)
	if err != nil {
		return nil, nil, err
	}
	if server, err = k.l.Accept(); err != nil {
		hangUp(client)
		return nil, nil, err
	}
	if k.id != nil {
		client, server, err = secure(client, server, k.id)
		if err != nil {
			hangUp(client)
		}
	}
	k.conns = append(k.conns, server)
	return client, server, err
}

// secure does a TLS handshake between the two ends of a connection.
func secure(client, server net.Conn, id *identity) (c, s net.Conn, err error) {
	cc, ss := tls.Client(client, id.trust), tls.Server(server, id.config)
	_ = cc.SetDeadline(time.Now().Add(patience))
	_ = ss.SetDeadline(time.Now().Add(patience))
	done := make(chan error, 1)
	go func() { done <- ss.Handshake() }()
	err = errors.Join(cc.Handshake(), <-done)
	_ = cc.SetDeadline(time.Time{})
	_ = ss.SetDeadline(time.Time{})
	return cc, ss, err
}

// floorServer writes to one socket after the other.
type floorServer struct{ *sockets }

func startFloor(b *testing.B, s *stage, id *identity, size int) broadcaster {
	return floorServer{listen(b, s, id, size)}
}

func (f floorServer) receive() (net.Conn, []byte, error) {
	client, _, err := f.pair()
	return client, nil, err
}

func (f floorServer) publish(seq uint64, timed bool) error {
	putStamp(f.frame[f.header:], seq, timed)
	for _, c := range f.conns {
		if _, err := c.Write(f.frame); err != nil {
			return err
		}
	}
	return nil
}

// goroutineServer has a goroutine and a queue for each receiver.
type goroutineServer struct {
	*sockets
	queues []chan []byte
}

func startGoroutines(b *testing.B, s *stage, id *identity, size int) broadcaster {
	g := &goroutineServer{sockets: listen(b, s, id, size)}
	s.later(func() {
		for _, q := range g.queues {
			close(q)
		}
	})
	return g
}

func (g *goroutineServer) receive() (net.Conn, []byte, error) {
	client, server, err := g.pair()
	if err != nil {
		return nil, nil, err
	}
	queue := make(chan []byte, 256)
	g.queues = append(g.queues, queue)
	g.serving.Go(func() {
		var err error
		for f := range queue {
			if err == nil { // later ones are thrown away: nobody waits for a client
				_, err = server.Write(f)
			}
		}
	})
	return client, nil, nil
}

func (g *goroutineServer) publish(seq uint64, timed bool) error {
	f := append([]byte(nil), g.frame...) // the queues keep it
	putStamp(f[g.header:], seq, timed)
	for _, q := range g.queues {
		q <- f
	}
	return nil
}
