package netfilter

import "fmt"

// Names of the variables, as they stand in error texts.
const (
	varPlayWhitelist  = "PLAY_WHITELIST"
	varMaxConnections = "MAX_IP_CONCURRENT_CONNECTIONS"
	varLimitWhitelist = "CONCURRENT_LIMIT_WHITELIST"
	varTrustedProxies = "TRUSTED_PROXIES"
	varProxyProtocol  = "PROXY_PROTOCOL"
)

// maxConnectionsLimit is the largest limit accepted: more than one machine can
// serve, so a larger number is a mistake.
const maxConnectionsLimit = 1_000_000

// Config is what the environment says about addresses. In the lists nil means
// that the variable is not set. A list that is not nil and has no entries is what
// cleanenv makes of a blank value: it was set, so it is an error.
type Config struct {
	// PlayWhitelist is who may receive or probe. Not set: everyone.
	PlayWhitelist []string `env:"PLAY_WHITELIST" env-separator:"," env-description:"addresses that may receive or probe: IPs or CIDRs (v4, v6) separated by commas, or * for everyone; not set: everyone"`

	// MaxIPConcurrentConnections is how many stream connections one address may
	// have open. 0: no limit.
	MaxIPConcurrentConnections int `env:"MAX_IP_CONCURRENT_CONNECTIONS" env-default:"4" min:"0" max:"1000000" env-description:"open stream connections allowed from one address; 0 is no limit"`

	// ConcurrentLimitWhitelist is who is exempt from the limit. Not set: nobody.
	ConcurrentLimitWhitelist []string `env:"CONCURRENT_LIMIT_WHITELIST" env-separator:"," env-description:"addresses that are not limited: IPs or CIDRs (v4, v6) separated by commas, or * for everyone; not set: nobody"`

	// TrustedProxies is who may say where a request comes from. Not set: nobody.
	TrustedProxies []string `env:"TRUSTED_PROXIES" env-separator:"," env-description:"proxies whose X-Forwarded-For and Forwarded headers say who the client is: IPs or CIDRs (v4, v6) separated by commas; not set: nobody is believed"`

	// ProxyProtocol is whether connections from TrustedProxies begin with a header
	// of the PROXY protocol. It needs TrustedProxies.
	ProxyProtocol bool `env:"PROXY_PROTOCOL" env-default:"false" env-description:"connections from TRUSTED_PROXIES, on both listeners, begin with a header of the PROXY protocol, v1 or v2, and are refused without one; connections from elsewhere never do"`
}

// Validate says whether New would accept the configuration. The text of an error
// begins with the variable's name and says which value is wrong and what is
// allowed; it is fit to be shown as it is.
func (c Config) Validate() error {
	_, err := New(c)
	return err
}

// checkProxyProtocol refuses a header that nobody is trusted with: everybody could
// send one then, and be who he likes.
func (c Config) checkProxyProtocol() error {
	if c.ProxyProtocol && c.TrustedProxies == nil {
		return fmt.Errorf("%s=YES needs %s: set it to the addresses of the proxies that send the header", varProxyProtocol, varTrustedProxies)
	}
	return nil
}

// checkLimit checks the range of MaxIPConcurrentConnections.
func (c Config) checkLimit() error {
	if n := c.MaxIPConcurrentConnections; n < 0 || n > maxConnectionsLimit {
		return fmt.Errorf("%s: %d is out of range; allowed: 0 (no limit) to %d", varMaxConnections, n, maxConnectionsLimit)
	}
	return nil
}
