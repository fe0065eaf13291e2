package engine

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"ws-stream-server/netfilter"
)

// localHeader is a header of the PROXY protocol, version 2, that says: this connection
// is the proxy's own (LOCAL, and no addresses).
const localHeader = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// AskHealth asks the server that runs with these settings on this machine for /healthz,
// on the plain listener, which is always there. It returns nil when the answer is 200,
// within ctx. filter says whether the server wants the PROXY protocol from this machine.
func AskHealth(ctx context.Context, cfg Config, filter *netfilter.Filter) error {
	_, err := askHealth(ctx, cfg, filter, func(netip.AddrPort) {})
	return err
}

// askHealth is AskHealth. It tells as whom it asks before it does.
func askHealth(ctx context.Context, cfg Config, filter *netfilter.Filter, as func(netip.AddrPort)) (dialled bool, err error) {
	c, err := dialHealth(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	request := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ws-stream-server\r\nConnection: close\r\n\r\n"
	if own, ok := c.LocalAddr().(*net.TCPAddr); ok {
		addr := netip.AddrPortFrom(own.AddrPort().Addr().Unmap(), own.AddrPort().Port())
		as(addr)
		if filter.OwesHeader(addr.Addr()) {
			request = localHeader + request
		}
	}
	if _, err := c.Write([]byte(request)); err != nil {
		return true, fmt.Errorf("cannot ask %s: %w", c.RemoteAddr(), err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return true, fmt.Errorf("%s does not answer: %w", c.RemoteAddr(), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return true, fmt.Errorf("%s answers %s", c.RemoteAddr(), resp.Status)
	}
	return true, nil
}

// dialHealth connects to the plain listener. One that listens everywhere is reached on
// the loopback, which on a machine without IPv4 has an IPv6 address only.
func dialHealth(ctx context.Context, cfg Config) (c net.Conn, err error) {
	hosts := []string{bindHost(cfg.BindAddress)}
	if ip, err := netip.ParseAddr(hosts[0]); hosts[0] == "" || err == nil && ip.IsUnspecified() {
		hosts = []string{"127.0.0.1", "::1"}
	}
	var d net.Dialer
	var first error
	for _, host := range hosts {
		if c, err = d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(cfg.HTTPPort))); err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("cannot connect: %w", first)
}
