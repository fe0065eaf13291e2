package bench

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// sendQueues returns how many bytes the kernel holds that the clients of a server on
// 127.0.0.1 have not acknowledged, all connections together; false where there is no
// /proc to say so.
func sendQueues(addr string) (bytes int64, ok bool) {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, false
	}
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	local := fmt.Sprintf(":%04X", n)
	for line := range strings.Lines(string(b)) {
		// sl local_address rem_address st tx_queue:rx_queue …, in hexadecimal digits
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasSuffix(f[1], local) {
			continue
		}
		tx, _, _ := strings.Cut(f[4], ":")
		held, _ := strconv.ParseInt(tx, 16, 64)
		bytes += held
	}
	return bytes, true
}
