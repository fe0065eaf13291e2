//go:build !windows

package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/lesismal/nbio"
)

// What the poller writes because a socket has room again counts as its work, all of it
// or a part; what somebody else writes does not.
func TestAFlushIsThePollersWork(t *testing.T) {
	srv := newServer(t, Config{})
	srv.drainers = []*drainer{newDrainer()}
	srv.reader = reader{srv: srv, gather: time.Millisecond, polling: []polling{newPolling(0)}}
	s := srv.newSession(target{channel: "cam", key: "key", kind: receive}, netip.MustParseAddrPort("127.0.0.1:1"))
	s.conn = &nbio.Conn{}
	s.unsent.Store(10)
	for _, c := range []struct {
		what    string
		writing uint32
		bytes   int
		counts  bool
	}{
		{"a part, out of a Write", 1, 1, false},
		{"a part, by the poller", 2, 4, true},
		{"the rest, by the poller", 2, 5, true},
	} {
		p := &srv.reader.polling[0]
		p.done = -1
		s.writing.Store(c.writing)
		s.written(c.bytes)
		if got := p.done >= 0; got != c.counts {
			t.Errorf("%s: counts is %v, wanted %v", c.what, got, c.counts)
		}
	}
}
