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
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// rawCoordinator accepts TCP connections and does with each what the test says.
func rawCoordinator(t *testing.T, serve func(nc net.Conn)) (url string, dials func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			wg.Go(func() { serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, nc := range open {
			_ = nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "ws://" + ln.Addr().String(), func() int { return int(n.Load()) }
}

func acceptUpgrade(nc net.Conn) error {
	req, err := http.ReadRequest(bufio.NewReader(nc))
	if err != nil {
		return err
	}
	sum := acceptKey(req.Header.Get("Sec-WebSocket-Key"))
	_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", sum)
	return err
}

func TestMistake12HostileCoordinators(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(nc net.Conn){
		"drops at once":           func(nc net.Conn) { _ = nc.Close() },
		"drops after the upgrade": func(nc net.Conn) { _ = acceptUpgrade(nc); _ = nc.Close() },
		"hangs in the handshake":  func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) },
		"answers 401": func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"))
			_ = nc.Close()
		},
		"answers 200": func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
			_ = nc.Close()
		},
		"redirects": func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"))
			_ = nc.Close()
		},
		"speaks nonsense": func(nc net.Conn) { _, _ = nc.Write(payload(1000, 1)); _ = nc.Close() },
		"endless headers": func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n"))
			for {
				if _, err := nc.Write([]byte("X: " + strings.Repeat("y", 1000) + "\r\n")); err != nil {
					return
				}
			}
		},
		"wrong accept key": func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"))
			_, _ = io.Copy(io.Discard, nc)
		},
		"masked frames": func(nc net.Conn) {
			_ = acceptUpgrade(nc)
			_, _ = nc.Write(wstest.Bytes(frame{Op: wstest.Text, Payload: []byte("HEARTBEAT\n")}))
			_, _ = io.Copy(io.Discard, nc)
		},
		"declares a huge message": func(nc net.Conn) {
			_ = acceptUpgrade(nc)
			_, _ = nc.Write(wstest.Bytes(frame{Op: wstest.Text, Unmasked: true, Declare: 1 << 50}))
			_, _ = io.Copy(io.Discard, nc)
		},
		"not UTF-8": func(nc net.Conn) {
			_ = acceptUpgrade(nc)
			_, _ = nc.Write(wstest.Bytes(frame{Op: wstest.Text, Unmasked: true, Payload: []byte("PUBLISH-ACCEPT\n\xff\xfe")}))
			_, _ = io.Copy(io.Discard, nc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, dials := rawCoordinator(t, serve)
			s := startServer(t, "CONTROL_BASE_URL="+url)
			eventually(t, "the coordinator is dialled", func() bool { return dials() > 0 })
			start := time.Now()
			cpu := s.processorTime()
			resp := wstest.Handshake(t, s.addr, "/cam/key/publish")
			// A link that is up but silent may keep the request for 20 s.
			if resp.Status != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("wanted 503 with Retry-After, got %v", resp)
			}
			s.receive("cam", "key").Sync()
			if d := time.Since(start); d < 2500*time.Millisecond {
				time.Sleep(2500*time.Millisecond - d)
			}
			seconds := time.Since(start).Seconds()
			// 1 s, 2 s, 4 s: within 2.5 s there is room for two or three dials.
			if n := dials(); float64(n) > 2+seconds {
				t.Errorf("wanted reconnections after 1 s, 2 s, 4 s, got %d dials in %.1f s", n, seconds)
			}
			if used := s.processorTime() - cpu; used > 2*time.Second {
				t.Errorf("wanted the server idle, it used %v of CPU", used)
			}
			if m := s.memory(); m > 500<<20 {
				t.Errorf("wanted little memory used, got %d MiB", m>>20)
			}
		})
	}
}

func TestMistake13CoordinatorWithABadCertificateIsNotTrusted(t *testing.T) {
	t.Parallel()
	c := wstest.NewIdentity(t, "nobody knows me")
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	url, _ := rawCoordinator(t, func(nc net.Conn) {
		if acceptUpgrade(tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{pair}})) == nil {
			asked.Add(1)
		}
		_ = nc.Close()
	})
	s := startServer(t, "CONTROL_BASE_URL="+strings.Replace(url, "ws:", "wss:", 1), "CONTROL_SECRET=s")
	time.Sleep(300 * time.Millisecond)
	s.refuses(503, "/cam/key/publish")
	if asked.Load() != 0 {
		t.Error("wanted a coordinator with a bad certificate refused, the token went to it")
	}
}
