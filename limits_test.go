package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// Linux answers on all of 127.0.0.0/8, so each test has addresses of its own.

func requireLoopbackRange(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.99:0")
	if err != nil {
		wstest.Skip(t, "127.0.0.0/8 is not all local here")
	}
	_ = ln.Close()
}

func TestMistake05PlayWhitelistTakesSingleAddresses(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	for _, c := range []struct {
		list    string
		may     []string
		mustNot []string
	}{
		{"127.0.0.5", []string{"127.0.0.5"}, []string{"127.0.0.6", "127.0.0.50", "127.0.0.1"}},
		{"127.0.1.0/24", []string{"127.0.1.0", "127.0.1.200"}, []string{"127.0.2.1", "127.0.0.255"}},
		{" 127.0.0.5 , 127.0.1.0/24,::1", []string{"127.0.0.5", "127.0.1.9"}, []string{"127.0.0.6"}},
		{"127.0.1.77/24", []string{"127.0.1.1"}, []string{"127.0.2.77"}},
		{"::ffff:127.0.0.5", []string{"127.0.0.5"}, []string{"127.0.0.6"}},
		{"*", []string{"127.0.0.5", "127.3.4.5"}, nil},
		{"10.0.0.1,*", []string{"127.0.0.5"}, nil},
		{"", []string{"127.0.0.5", "127.3.4.5"}, nil},
		{"10.0.0.1", nil, []string{"127.0.0.1", "127.0.0.5"}},
		{"::/0", nil, []string{"127.0.0.1"}},
	} {
		t.Run(c.list, func(t *testing.T) {
			s := startServer(t, "PLAY_WHITELIST="+c.list)
			for _, ip := range c.may {
				for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
					wstest.Dial(t, s.addr, "/cam/key/"+kind, wstest.From(ip)).Sync()
				}
			}
			for _, ip := range c.mustNot {
				for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
					s.refuses(403, "/cam/key/"+kind, wstest.From(ip))
				}
				s.publish("pub-"+fmt.Sprint(len(ip)), "key", wstest.From(ip)).CloseHandshake(1000)
			}
		})
	}
}

func TestListsSeeIPv4BehindADualStackSocket(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "BIND_ADDRESS=", "PLAY_WHITELIST=127.0.0.1,127.0.0.5", "CONCURRENT_LIMIT_WHITELIST=127.0.0.5/32", "MAX_IP_CONCURRENT_CONNECTIONS=2")
	for range 5 {
		s.receive("cam", "key", wstest.From("127.0.0.5")).Sync()
	}
	s.receive("cam", "key", wstest.From("127.0.0.1")).Sync()
	s.receive("cam", "key", wstest.From("127.0.0.1")).Sync()
	s.refuses(429, "/cam/key/receive", wstest.From("127.0.0.1"))
	s.refuses(403, "/cam/key/receive", wstest.From("127.0.0.6"))
}

func TestMistake01LimitPerAddressIsHonoured(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	for _, c := range []struct {
		value string
		want  int
	}{{"", 4}, {"1", 1}, {"2", 2}, {"7", 7}} {
		s := startServer(t, "MAX_IP_CONCURRENT_CONNECTIONS="+c.value, "CONCURRENT_LIMIT_WHITELIST=")
		for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
			wantSlots(t, s, ip, c.want)
		}
	}
	s := startServer(t, "MAX_IP_CONCURRENT_CONNECTIONS=0", "CONCURRENT_LIMIT_WHITELIST=")
	for range 50 {
		s.receive("cam", "key", wstest.From("127.0.0.2")).Sync()
	}
}

// wantSlots fails unless exactly n stream connections can be open from ip, where
// none is open, or none soon.
func wantSlots(t *testing.T, s *server, ip string, n int) {
	t.Helper()
	s = s.on(t)
	var cs []*wstest.Conn
	for i := range n {
		kind := []string{"receive", "publish", "probe", "receive-clear-cache"}[i%4]
		cs = append(cs, s.dialSoon(fmt.Sprintf("/slots-%d/key-%d/%s", i, i, kind), wstest.From(ip)))
	}
	for range 3 {
		s.refuses(429, "/slots/key/receive", wstest.From(ip))
		s.refuses(429, "/slots/key/publish", wstest.From(ip))
	}
	for _, c := range cs {
		c.CloseHandshake(1000)
	}
}

func TestConcurrentLimitWhitelist(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	for _, c := range []struct{ list, free, limited string }{
		{"127.0.0.7", "127.0.0.7", "127.0.0.8"},
		{"127.0.9.0/24, 10.0.0.1", "127.0.9.9", "127.0.8.9"},
		{"::ffff:127.0.0.7", "127.0.0.7", "127.0.0.8"},
		{"*", "127.0.0.7", ""},
		{"", "", "127.0.0.1"},
	} {
		s := startServer(t, "CONCURRENT_LIMIT_WHITELIST="+c.list, "MAX_IP_CONCURRENT_CONNECTIONS=2")
		if c.free != "" {
			for range 8 {
				s.receive("cam", "key", wstest.From(c.free)).Sync()
			}
		}
		if c.limited != "" {
			wantSlots(t, s, c.limited, 2)
		}
	}
}

// end is a way for connections to end.
type end struct {
	name string
	do   func(o wstest.Option) // o is for the connections that end
}

// everyKindOfEnd is all of them, at a server that allows messages of 1 MiB and on
// which live publishes the channel of that name, without a cache.
func everyKindOfEnd(t *testing.T, s *server, live *wstest.Conn) []end {
	return []end{
		{"close handshake", func(o wstest.Option) { s.dialSoon("/a/k/receive", o).CloseHandshake(1000) }},
		{"publisher's close handshake", func(o wstest.Option) { s.dialSoon("/a/k/publish", o).CloseHandshake(1000) }},
		{"end of TCP", func(o wstest.Option) { s.dialSoon("/a/k/receive", o).Close() }},
		{"publisher's end of TCP", func(o wstest.Option) { s.dialSoon("/a/k/publish", o).Close() }},
		{"half-close", func(o wstest.Option) { c := s.dialSoon("/a/k/receive", o); c.CloseWrite(); c.WantGone() }},
		{"reset", func(o wstest.Option) { s.dialSoon("/a/k/receive", o).Reset() }},
		{"publisher's reset", func(o wstest.Option) { s.dialSoon("/a/k/publish", o).Reset() }},
		{"broken frame", func(o wstest.Option) {
			wantErrorClose(t, s.dialSoon("/a/k/receive", o, wstest.Pipelined(frame{Op: 7})), 1002)
		}},
		{"wrong key", func(o wstest.Option) { s.dialSoon("/live/wrong/receive", o).WantError(wrongKey, 1008) }},
		{"probe served", func(o wstest.Option) {
			p := s.dialSoon("/live/key/probe", o)
			p.Sync()
			live.Send(wstest.Binary, []byte("p"))
			p.WantPacket([]byte("p"))
			p.WantClose(1000)
			p.WantEOF()
		}},
		{"stream ended", func(o wstest.Option) {
			r := s.dialSoon("/b/k/receive", o)
			s.dialSoon("/b/k/publish").CloseHandshake(1000)
			r.WantClose(1000)
			r.WantEOF()
		}},
		{"message too large", func(o wstest.Option) {
			c := s.dialSoon("/a/k/publish", o, wstest.Pipelined(frame{Op: wstest.Binary, Declare: 1 << 30}))
			wantErrorClose(t, c, 1009)
		}},
		{"channel taken", func(o wstest.Option) { s.refuses(403, "/live/key/publish", o) }},
		{"bad path", func(o wstest.Option) { s.refuses(404, "/live/key/play", o) }},
		{"bad upgrade", func(o wstest.Option) {
			wstest.Handshake(t, s.addr, "/live/key/receive", o, wstest.Header("Sec-WebSocket-Version", "7"))
		}},
		{"gone before the answer", func(o wstest.Option) {
			c, _, _ := wstest.Open(s.addr, "/a/k/receive", o, wstest.Patience(time.Microsecond))
			if c != nil {
				c.Reset()
			}
		}},
		{"early receiver with the wrong key", func(o wstest.Option) {
			r := s.dialSoon("/c/wrong/receive", o)
			r.Sync()
			p := s.dialSoon("/c/key/publish")
			r.WantError(wrongKey, 1008)
			p.CloseHandshake(1000)
		}},
	}
}

func TestMistake07SlotsComeBackOnEveryKindOfEnd(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", "MAX_IP_CONCURRENT_CONNECTIONS=2", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=1", "GOP_CACHE_SIZE_MB=0")
	live := s.publish("live", "key")
	for i, c := range everyKindOfEnd(t, s, live) {
		t.Run(c.name, func(t *testing.T) {
			live.Sync() // a sign of life: all of them may take longer than a minute
			ip := fmt.Sprintf("127.0.3.%d", i+1)
			for range 6 {
				c.do(wstest.From(ip))
			}
			wantSlots(t, s, ip, 2)
		})
	}
}

func TestPagesDoNotTakeSlots(t *testing.T) {
	t.Parallel()
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	var idle []*http.Transport
	for range 5 { // five kept connections
		tr := &http.Transport{}
		idle = append(idle, tr)
		s.getFrom("http://"+s.addr+"/healthz", tr)
		s.getFrom("http://"+s.addr+"/", tr)
	}
	for range 3 { // and three that never finish their handshake
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		_, _ = nc.Write([]byte("GET /cam/key/receive HTTP/1.1\r\n"))
	}
	wantSlots(t, s, "127.0.0.1", 1)
	c := s.dialSoon("/cam/key/receive")
	if status, _, _ := s.get("/healthz"); status != 200 {
		t.Errorf("/healthz with every slot taken: wanted 200, got %d", status)
	}
	c.CloseHandshake(1000)
	for _, tr := range idle {
		tr.CloseIdleConnections()
	}
}

func TestRacingHandshakesDoNotPassTheLimit(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=")
	for round := range 5 {
		ip := fmt.Sprintf("127.0.4.%d", round+1)
		var (
			mu     sync.Mutex
			wg     sync.WaitGroup
			status = map[int]int{}
			start  = make(chan struct{})
		)
		for range 24 {
			wg.Go(func() {
				<-start
				c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.From(ip))
				mu.Lock()
				defer mu.Unlock()
				if c != nil {
					c.On(t)
				}
				if err != nil {
					status[-1]++
				} else {
					status[resp.Status]++
				}
			})
		}
		close(start)
		wg.Wait()
		if status[101] != 4 || status[429] != 20 {
			t.Fatalf("wanted 4 upgrades and 20 times 429, got %v", status)
		}
	}
}

func TestMistake07SlotsSurviveChurn(t *testing.T) {
	t.Parallel()
	heavy(t)
	requireLoopbackRange(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "LOG_REQUESTS=NO")
	deadline := time.Now().Add(4 * time.Second)
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			for i := 0; time.Now().Before(deadline); i++ {
				kind := []string{"receive", "publish", "probe", "receive-clear-cache", "nonsense"}[i%5]
				c, _, _ := wstest.Open(s.addr, fmt.Sprintf("/churn/k%d/%s", (w+i)%2, kind), wstest.From(fmt.Sprintf("127.0.5.%d", w%3+1)))
				if c == nil {
					continue
				}
				switch (i + w) % 4 {
				case 0:
					c.Reset()
				case 1:
					c.Close()
				case 2:
					_ = c.SendRawE([]byte{0xff, 0xff, 0xff})
					_, _ = c.NextE()
					c.Close()
				case 3:
					_ = c.SendE(wstest.Close, wstest.ClosePayload(1000, ""))
					_, _ = c.NextE()
					c.Reset()
				}
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		wantSlots(t, s, fmt.Sprintf("127.0.5.%d", i+1), 4)
	}
}
