package main

import (
	"io"
	"net"
	"net/http"
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
	d := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
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
		wstest.Dial(t, s.addr, "/cam/key/receive", wstest.From("127.0.9.1"), wstest.Patience(60*time.Second)).Sync()
	}
	t.Logf("10 newcomers served in %v", time.Since(start).Round(time.Millisecond))
}
