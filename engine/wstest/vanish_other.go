//go:build !linux

package wstest

// Vanish fails the test: only Linux has socket filters that need no privileges.
func (c *Conn) Vanish() {
	c.t.Helper()
	c.t.Fatalf("%s: cannot vanish here", c.name)
}

// Vanish is Conn's.
func (c *HTTP) Vanish() {
	c.t.Helper()
	c.t.Fatalf("%s: cannot vanish here", c.name)
}
