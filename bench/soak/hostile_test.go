//go:build soak && linux

package soak

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"ws-stream-server/engine/wstest"
)

// hostile is one life of a client that does not get as far as a WebSocket.
func (c *client) hostile() error {
	ch := c.round.pick(c.rng)
	trick := tricks[c.rng.IntN(len(tricks))]
	c.note(trick.name)
	c.round.doors <- struct{}{}
	err := func() error {
		defer func() { <-c.round.doors }()
		d := net.Dialer{Timeout: handshakePatience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.addr)}}
		addr := c.round.addr
		if trick.secure {
			addr = c.round.tlsAddr
		}
		nc, err := d.Dial("tcp", addr)
		if err != nil {
			return c.unlessStopping(wrongf("cannot connect: %v", err))
		}
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(handshakePatience))
		return trick.do(c, nc.(*net.TCPConn), ch)
	}()
	c.round.stats.hostile.Add(1)
	c.rest(c.between(0, 300))
	return err
}

func (c *client) unlessStopping(err error) error {
	if c.round.model.stopping.Load() {
		return nil
	}
	return err
}

// request is a handshake.
func request(ch *channel, kind string) string {
	return wstest.UpgradeRequest(fmt.Sprintf("/%s/%s/%s", ch.name, ch.key, kind))
}

// tricks are what hostile clients do.
var tricks = []struct {
	name   string
	secure bool
	do     func(c *client, nc *net.TCPConn, ch *channel) error
}{
	{"connects and goes", false, func(*client, *net.TCPConn, *channel) error { return nil }},
	{"connects to the TLS port and goes", true, func(*client, *net.TCPConn, *channel) error { return nil }},
	{"sends a part of a handshake and goes", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		r := request(ch, "receive")
		_, _ = io.WriteString(nc, r[:c.rng.IntN(len(r))])
		return nil
	}},
	{"sends a handshake and resets", false, func(_ *client, nc *net.TCPConn, ch *channel) error {
		_, _ = io.WriteString(nc, request(ch, "receive"))
		_ = nc.SetLinger(0)
		return nil
	}},
	{"sends a handshake and goes", false, func(_ *client, nc *net.TCPConn, ch *channel) error {
		_, _ = io.WriteString(nc, request(ch, "probe"))
		return nil
	}},
	{"sends a publisher's handshake and resets", false, publishAndGo},
	{"sends garbage", false, func(c *client, nc *net.TCPConn, _ *channel) error {
		return c.want(nc, "\x16\x03\x01 \x00\xff\r\n\r\n", "400")
	}},
	{"sends plain text to the TLS port", true, func(c *client, nc *net.TCPConn, ch *channel) error {
		return c.want(nc, request(ch, "receive"), "400")
	}},
	{"sends garbage to the TLS port", true, func(_ *client, nc *net.TCPConn, ch *channel) error {
		_, _ = nc.Write(bytes.Repeat([]byte{0x16, 3, 1, 0, 200, 7}, 50))
		_, _ = io.Copy(io.Discard, nc)
		return nil
	}},
	{"goes in the middle of the TLS handshake", true, func(c *client, nc *net.TCPConn, _ *channel) error {
		_ = nc.SetReadDeadline(time.Now().Add(c.between(0, 20)))
		_ = tls.Client(nc, c.round.trust).Handshake()
		_ = nc.SetLinger(0)
		return nil
	}},
	{"asks for a path that is none", false, func(c *client, nc *net.TCPConn, _ *channel) error {
		return c.want(nc, "GET /../%00/etc HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n", "404")
	}},
	{"asks without an upgrade", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		r := request(ch, "receive")
		return c.want(nc, strings.Replace(r, "Upgrade: websocket", "Connection: close", 1), "426")
	}},
	{"publishes without a body", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		return c.want(nc, "PUT /"+ch.name+"/"+ch.key+"/publish HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n", "411")
	}},
	{"receives with a body", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		return c.want(nc, "GET /"+ch.name+"/"+ch.key+"/receive HTTP/1.1\r\nHost: soak\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "400")
	}},
	{"asks for the header alone", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		return c.want(nc, "HEAD /"+ch.name+"/"+ch.key+"/receive HTTP/1.1\r\nHost: soak\r\n\r\n", "200")
	}},
	{"sends a header without an end", false, func(c *client, nc *net.TCPConn, ch *channel) error {
		return c.want(nc, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n", "431")
	}},
}

// publishAndGo begins a publisher of no packet, which is gone before it has begun.
func publishAndGo(c *client, nc *net.TCPConn, ch *channel) error {
	m := c.round.model
	s, _ := m.beginSession(ch, profiles[0])
	c.round.coordinator.begin(s)
	c.note("session %d", s.id)
	_, _ = io.WriteString(nc, request(ch, "publish"))
	if c.chance(2) {
		time.Sleep(c.between(0, 3))
	}
	s.over.Store(m.now())
	_ = nc.SetLinger(0)
	_ = nc.Close()
	m.endSession(s, false)
	return nil
}

// want sends bytes and fails unless the answer has this status. That it is lost
// behind what was not read is nobody's fault.
func (c *client) want(nc *net.TCPConn, send, status string) error {
	_, _ = io.WriteString(nc, send)
	b, _ := io.ReadAll(io.LimitReader(nc, 64<<10))
	if len(b) == 0 || bytes.HasPrefix(b, []byte("HTTP/1.1 "+status)) || bytes.HasPrefix(b, []byte("HTTP/1.0 "+status)) {
		return nil
	}
	return c.unlessStopping(wrongf("wanted %s, got %.100q", status, b))
}
