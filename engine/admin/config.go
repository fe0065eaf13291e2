package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"ws-stream-server/engine"
)

// leastToken is the shortest ADMIN_TOKEN, in characters: 16 random ones of 64 have 96
// bits.
const leastToken = 16

// Config is the settings of the operator's listener, as they are read from the
// environment.
type Config struct {
	Address string `env:"ADMIN_ADDRESS" env-description:"host and port of the operator's listener (metrics, health, JSON, profiles), like 127.0.0.1:9090 or [::1]:9090; without a host: all interfaces; an address that is not loopback needs ADMIN_TOKEN; none: no such listener"`
	Token   string `env:"ADMIN_TOKEN" secret:"true" env-description:"what the operator's listener wants to be told for changes and profiles, and for nearly everything on an address that is not loopback; at least 16 characters, visible ones of ASCII"`
}

// Validate checks what the types of the fields cannot. The error begins with the
// variable's name and says what is allowed; the token is not in it.
func (c Config) Validate() error {
	if err := checkToken(c.Token); err != nil {
		return err
	}
	if c.Address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || !listenable(host) {
		return fmt.Errorf("ADMIN_ADDRESS=%q is not allowed: an address of this machine and a port from 1 to 65535, like 127.0.0.1:9090 or [::1]:9090", c.Address)
	}
	if c.Token == "" && !loopback(host) {
		return fmt.Errorf("ADMIN_ADDRESS=%q is not allowed without ADMIN_TOKEN: other machines may reach it; set ADMIN_TOKEN, or an address like 127.0.0.1:9090", c.Address)
	}
	return nil
}

// Apart refuses a port that the server's other listeners have.
func (c Config) Apart(e engine.Config) error {
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil { // none is set
		return nil
	}
	taken := func(name string) error {
		return fmt.Errorf("ADMIN_ADDRESS=%q has the port of %s: the operator's listener needs another", c.Address, name)
	}
	switch n, _ := strconv.Atoi(port); {
	case n == e.HTTPPort:
		return taken("HTTP_PORT")
	case n == e.SSLPort && e.TLS():
		return taken("SSL_PORT")
	}
	return nil
}

// checkToken accepts what a client can put into an Authorization header, or nothing.
func checkToken(token string) error {
	if token == "" {
		return nil
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return errors.New("ADMIN_TOKEN is not allowed: visible characters of ASCII only, no spaces")
		}
	}
	if len(token) < leastToken {
		return fmt.Errorf("ADMIN_TOKEN is too short: %d characters at least", leastToken)
	}
	return nil
}

// listenable accepts an IP address, IPv6 also with a zone, a name that resolves, or
// nothing.
func listenable(host string) bool {
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return true
	}
	if strings.Trim(host, "0123456789.") == "" || strings.ContainsAny(host, " \t:/[]%") {
		return false
	}
	_, err := net.LookupHost(host)
	return err == nil
}

// loopback reports whether only this machine reaches a listener there. Of names it is
// "localhost" only: what others stand for may change.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.EqualFold(host, "localhost")
	}
	return ip.Unmap().IsLoopback()
}
