package wstest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// ports counts up from a random number: neighbours look at different ports, and nobody gets
// one twice.
var ports atomic.Uint32

func init() { ports.Store(rand.Uint32N(20000)) }

// FreePort returns a port of 127.0.0.1 that was free a moment ago, outside the range
// from which Linux takes the clients' ports, and another one each time.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + int(ports.Add(1)%20000)
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
