package admin

import (
	"net"
	"sync"
)

// limited is a listener with so many connections at a time; one beyond waits to be
// accepted.
type limited struct {
	net.Listener
	places chan struct{} // holds a token for each connection
	closed chan struct{}
	once   sync.Once
}

func limit(l net.Listener, most int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placed{Conn: c, release: func() { <-l.places }}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	release func()
	once    sync.Once
}

func (c *placed) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}
