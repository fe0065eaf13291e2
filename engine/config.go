package engine

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// mib is one MiB in bytes: sizes are set in MiB.
const mib = 1 << 20

// Config is the engine's settings, as they are read from the environment.
type Config struct {
	HTTPPort    int    `env:"HTTP_PORT" env-default:"80" min:"1" max:"65535" env-description:"port of the plain listener"`
	BindAddress string `env:"BIND_ADDRESS" env-description:"address both listeners bind; none: all interfaces"`

	SSLPort               int    `env:"SSL_PORT" env-default:"443" min:"1" max:"65535" env-description:"port of the TLS listener"`
	SSLCert               string `env:"SSL_CERT" env-description:"PEM file with the certificate chain; set together with SSL_KEY it turns the TLS listener on"`
	SSLKey                string `env:"SSL_KEY" env-description:"PEM file with the private key"`
	SSLCheckReloadSeconds int    `env:"SSL_CHECK_RELOAD_SECONDS" env-default:"60" min:"1" max:"86400" env-description:"seconds between two checks of SSL_CERT and SSL_KEY for a change"`

	AllowedOrigins []string `env:"ALLOWED_ORIGINS" env-separator:"," env-description:"web pages that may open streams, by their origin: entries like https://example.org or http://example.org:8080 separated by commas, or * for everyone; not set: everyone; clients that are no browsers send no origin and are always served"`

	IDMaxLength    int    `env:"ID_MAX_LENGTH" env-default:"128" min:"1" max:"1024" env-description:"longest CHANNEL and KEY, in characters"`
	GOPCacheSizeMB int    `env:"GOP_CACHE_SIZE_MB" env-default:"256" min:"0" max:"1048576" env-description:"cache of one channel in MiB; a packet counts its frame plus 64 bytes; 0 turns caching off"`
	GOPCacheMode   string `env:"GOP_CACHE_MODE" env-default:"full" oneof:"full,keyframe" env-description:"what a receiver that comes late is given of a stream whose container is known (WebM, fragmented MP4, FLV, MPEG-TS): full: all that the cache has and that can be decoded; keyframe: the init segment and the newest key frame, and the cache then holds no more than that"`
	MaxMessageMB   int    `env:"MAX_MESSAGE_MB" env-default:"64" min:"1" max:"1024" env-description:"largest message a publisher may send, in MiB"`
	ReceiverLagMB  int    `env:"RECEIVER_LAG_MB" env-default:"64" min:"1" max:"1048576" env-description:"what a channel may keep beyond its cache for receivers that are behind, in MiB; not below MAX_MESSAGE_MB"`

	SlowReceiver string `env:"SLOW_RECEIVER" env-default:"close" oneof:"close,skip" env-description:"what becomes of a receiver that falls behind the cache, of a stream whose container is known: close: it is closed (4008) once RECEIVER_LAG_MB is used up; skip: when half of that is, it jumps to the newest key frame"`

	MemoryLimitMB int `env:"MEMORY_LIMIT_MB" env-default:"0" min:"0" max:"67108864" env-description:"memory of the process in MiB: four fifths of it are for caches, messages and unsent bytes of all channels together; caches are cut when it is short; 0: four fifths of what the cgroup or the machine has; else not below 64, nor 4 times MAX_MESSAGE_MB"`
	SendBufferKB  int `env:"SEND_BUFFER_KB" env-default:"256" min:"0" max:"65536" env-description:"what the kernel may hold for one client and not have sent yet, in KiB; what is under way to the client comes on top; 0: as much as the kernel likes; on Linux only"`

	GatherMS int `env:"GATHER_MS" env-default:"10" min:"0" max:"1000" env-description:"longest rest between two writes to receivers where packets come fast, so that they are written together, in milliseconds; where events come fast a poller waits as long, 2 ms at most, before it reads; 0: neither"`

	MaxConnections          int `env:"MAX_CONNECTIONS" env-default:"0" min:"0" max:"1000000" env-description:"stream connections allowed in total; one beyond gets 503; 0 is no limit"`
	MaxHandshakes           int `env:"MAX_HANDSHAKES" env-default:"1024" min:"0" max:"1000000" env-description:"connections that are no stream connections yet, allowed at a time: in the handshake, or asking for pages; while there are so many, who comes waits, 16 times as many at most, and the addresses that wait take turns; 0 is no limit"`
	MaxHeaderKB             int `env:"MAX_HEADER_KB" env-default:"16" min:"5" max:"1024" env-description:"largest request header with its request line, in KiB"`
	HandshakeTimeoutSeconds int `env:"HANDSHAKE_TIMEOUT_SECONDS" env-default:"10" min:"1" max:"300" env-description:"time for the TLS handshake and then for the request's header, each, in seconds"`

	ShutdownSeconds int `env:"SHUTDOWN_SECONDS" env-default:"0" min:"0" max:"300" env-description:"time over which SIGTERM closes the receivers, in random order, while publishers go on, so that they do not all come back at once, in seconds; 0: all at once"`

	LogRequests       bool `env:"LOG_REQUESTS" env-default:"true" env-description:"one log line per request and per session's beginning and end"`
	DisableTestClient bool `env:"DISABLE_TEST_CLIENT" env-default:"false" env-description:"answer / with name and version instead of the test client"`
}

// TLS reports whether the TLS listener is on.
func (c Config) TLS() bool { return c.SSLCert != "" && c.SSLKey != "" }

// ClientPort returns the port of ours that clients reach, with TLS or without.
func (c Config) ClientPort(secure bool) int {
	if secure {
		return c.SSLPort
	}
	return c.HTTPPort
}

// ShutdownTime returns how long Shutdown closes receivers one after the other, before it
// ends everybody else.
func (c Config) ShutdownTime() time.Duration { return time.Duration(c.ShutdownSeconds) * time.Second }

// Validate checks what the types of the fields cannot: addresses, files, and
// settings that contradict each other. The error begins with the variable's name
// and says what is allowed.
func (c Config) Validate() error {
	if err := checkBindAddress(c.BindAddress); err != nil {
		return err
	}
	if _, err := newOrigins(c.AllowedOrigins); err != nil {
		return err
	}
	if c.ReceiverLagMB < c.MaxMessageMB {
		return fmt.Errorf("RECEIVER_LAG_MB=%d is below MAX_MESSAGE_MB=%d: set RECEIVER_LAG_MB to %d at least, or MAX_MESSAGE_MB to %d at most", c.ReceiverLagMB, c.MaxMessageMB, c.MaxMessageMB, c.ReceiverLagMB)
	}
	if err := c.checkMemory(); err != nil {
		return err
	}
	switch {
	case c.SSLCert != "" && c.SSLKey == "":
		return fmt.Errorf("SSL_CERT=%q is set and SSL_KEY is not: set both or none", c.SSLCert)
	case c.SSLCert == "" && c.SSLKey != "":
		return fmt.Errorf("SSL_KEY=%q is set and SSL_CERT is not: set both or none", c.SSLKey)
	case !c.TLS():
		return nil
	case c.SSLPort == c.HTTPPort:
		return fmt.Errorf("SSL_PORT=%d is the same as HTTP_PORT: the two listeners need different ports", c.SSLPort)
	}
	for _, f := range []struct{ name, path string }{{"SSL_CERT", c.SSLCert}, {"SSL_KEY", c.SSLKey}} {
		if _, err := os.ReadFile(f.path); err != nil {
			return fmt.Errorf("%s=%q cannot be read (%w): a PEM file is needed", f.name, f.path, err)
		}
	}
	if _, err := tls.LoadX509KeyPair(c.SSLCert, c.SSLKey); err != nil {
		return fmt.Errorf("SSL_CERT=%q and SSL_KEY=%q cannot be used together (%w): a PEM certificate and its private key are needed", c.SSLCert, c.SSLKey, err)
	}
	return nil
}

// checkBindAddress accepts an IP address, IPv6 also in brackets or with a zone, or
// a name that resolves.
func checkBindAddress(a string) error {
	host := bindHost(a)
	if ip, err := netip.ParseAddr(host); a == "" || err == nil && (host == a || ip.Is6()) {
		return nil
	}
	if strings.Trim(host, "0123456789.") != "" && !strings.ContainsAny(host, " \t:/[]%") {
		if _, err := net.LookupHost(host); err == nil {
			return nil
		}
	}
	return fmt.Errorf("BIND_ADDRESS=%q is not an address of this machine: an IP address (v4 or v6) or a name that resolves to one is needed", a)
}

// bindHost returns the host to listen on, without the brackets of IPv6.
func bindHost(a string) string {
	if strings.HasPrefix(a, "[") && strings.HasSuffix(a, "]") {
		return a[1 : len(a)-1]
	}
	return a
}

// listenAddress joins BIND_ADDRESS and a port.
func (c Config) listenAddress(port int) string {
	return net.JoinHostPort(bindHost(c.BindAddress), strconv.Itoa(port))
}
