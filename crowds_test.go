package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// crowd keeps n connections from one address that say nothing, until the test's end:
// what the server closes is dialled again. It returns when all were connected once.
func crowd(t *testing.T, addr, from string, n int) {
	stop := make(chan struct{})
	var connected, over sync.WaitGroup
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	one := func() error {
		c, err := d.Dial("tcp", addr)
		connected.Done()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for {
			gone := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, c)
				close(gone)
			}()
			select {
			case <-stop:
				_ = c.Close()
				<-gone
				return nil
			case <-gone:
			}
			_ = c.Close()
			time.Sleep(100 * time.Millisecond) // its pace: the machine is needed for others
			if c, err = d.Dial("tcp", addr); err != nil {
				return err
			}
		}
	}
	for range n {
		connected.Add(1)
		over.Go(func() {
			if err := one(); err != nil {
				t.Errorf("the crowd: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		over.Wait()
	})
	connected.Wait()
}

// Publishers that wait for the coordinator hold up nobody: they have no place among the
// handshakes. Whatever the answer, the places are as many as before.
func TestASlowCoordinatorHoldsUpNobodyAtTheFrontDoor(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t, "MAX_HANDSHAKES=2", "HANDSHAKE_TIMEOUT_SECONDS=300")
	for range 3 {
		var waits []*asked
		var ids []string
		for _, channel := range []string{"a", "b", "c"} {
			waits = append(waits, ask(s, "/"+channel+"/key/publish"))
			ids = append(ids, c.WantMessage("PUBLISH-REQUEST").Get("Request-ID"))
		}
		if status, _, _ := s.get("/healthz"); status != 200 {
			t.Errorf("wanted 200 while publishers wait for the coordinator, got %d", status)
		}
		s.receive("cam", "key").Sync()
		for i, a := range waits {
			if i == 0 {
				c.Accept(ids[i], "a", "id-"+ids[i])
				a.want(t, 101).CloseHandshake(1000)
				c.WantMessage("PUBLISH-END")
				continue
			}
			c.Deny(ids[i], []string{"a", "b", "c"}[i])
			a.want(t, 403)
		}
	}
	silent(t, s.addr, "")
	s.receive("cam", "key").Sync() // there is a second place
	silent(t, s.addr, "")
	silent(t, s.addr, "")
	s.wantLog("MAX_HANDSHAKES") // and no third one
}

// However many connections one address opens, and opens again, and never says anything:
// who comes from another one is served, long before the first of them is timed out.
func TestOneAddressLocksNobodyOut(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "MAX_HANDSHAKES=10", "HANDSHAKE_TIMEOUT_SECONDS=300")
	crowd(t, s.addr, "127.0.9.9", 200) // 10 have a place, 160 wait, 30 are hung up
	s.wantLog("MAX_HANDSHAKES")
	start := time.Now()
	client := http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 5 {
		resp, err := client.Get("http://" + s.addr + "/healthz")
		if err != nil {
			t.Fatalf("wanted an answer to another address, got %v", err)
		}
		_ = resp.Body.Close()
		wstest.Dial(t, s.addr, "/cam/key/receive", wstest.From("127.0.9.1")).Sync()
	}
	t.Logf("10 newcomers served in %v", time.Since(start).Round(time.Millisecond))
}

// However the places are shared out among hostile addresses, each one below half of
// them, and however little these say: who comes from another address is served at once,
// and clients of theirs whose network is slow get in as well, if the address has no more
// than its share.
func TestSeveralAddressesLockNobodyOut(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	c := wstest.NewIdentity(t, "one")
	for i, hostile := range []int{2, 4, 32} {
		t.Run(fmt.Sprint(hostile, " addresses"), func(t *testing.T) {
			t.Parallel()
			const places = 64
			s, _ := startTLS(t, c, fmt.Sprint("MAX_HANDSHAKES=", places), "HANDSHAKE_TIMEOUT_SECONDS=300", "CONCURRENT_LIMIT_WHITELIST=*")
			slow := slowTLS(t, s.tlsAddr, fmt.Sprintf("127.0.11.%d", i+1), c)
			for h := range hostile {
				crowd(t, s.addr, fmt.Sprintf("127.0.%d.%d", 12+i, h+1), 3*places/hostile)
			}
			s.wantLog("MAX_HANDSHAKES")
			from := fmt.Sprintf("127.0.10.%d", i+1)
			for range 3 {
				wstest.Dial(t, s.addr, "/cam/key/receive", wstest.From(from)).Sync()
			}
			if err := <-slow; err != nil {
				t.Errorf("a slow client within its address's share: %v", err)
			}
		})
	}
}

// distant is a connection over a long way: what answers a write comes late.
type distant struct {
	net.Conn
	trip time.Duration
	sent bool
}

func (d *distant) Write(b []byte) (int, error) {
	d.sent = true
	return d.Conn.Write(b)
}

func (d *distant) Read(b []byte) (int, error) {
	if d.sent {
		d.sent = false
		time.Sleep(d.trip)
	}
	_ = d.SetDeadline(time.Now().Add(patience)) // for each step: many others connect meanwhile
	return d.Conn.Read(b)
}

// slowTLS asks for a page over TLS, and over a way so long that the request is there
// only after 3.2 s, later than who has more than its share may be. The answer comes by
// the channel that it returns.
func slowTLS(t *testing.T, addr, from string, id wstest.Identity) <-chan error {
	t.Helper()
	const trip = 1600 * time.Millisecond
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	cfg := id.Trust()
	cfg.ServerName = "127.0.0.1"
	answer := make(chan error, 1)
	go func() {
		time.Sleep(trip) // until the client knows that it is connected
		c := tls.Client(&distant{Conn: nc, trip: trip}, cfg)
		_, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if err == nil {
			_, err = http.ReadResponse(bufio.NewReader(c), nil)
		}
		answer <- err
	}()
	return answer
}

// Who asks for pages and does not take them has its places no longer than others need
// them.
func TestPagesThatAreNotTakenHoldUpNobody(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	s := startServer(t, "MAX_HANDSHAKES=4", "HANDSHAKE_TIMEOUT_SECONDS=300")
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.13.1")}}
	requests := strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 100)
	for range 4 {
		nc, err := d.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		for err == nil { // until the server is stuck in an answer, and reads no more requests
			_ = nc.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			_, err = io.WriteString(nc, requests)
		}
	}
	for range 3 {
		wstest.Dial(t, s.addr, "/cam/key/receive", wstest.From("127.0.13.2")).Sync()
	}
}
