package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// A receiver that neither speaks nor takes anything is not alive, however little
// it is behind.
func TestStalledReceiverIsDroppedAfterAMinute(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	pub := s.publish("cam", "key", wstest.From("127.0.6.1"))
	stalled := s.receive("cam", "key", wstest.From("127.0.6.2"), wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	start := time.Now()
	for i := range 60 { // 15 MiB: within what is kept
		pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
	}
	// Its slot is the sign: nobody reads from the connection.
	for {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.From("127.0.6.2"))
		if c != nil {
			c.Close()
			break
		}
		if err != nil || resp.Status != 429 {
			t.Fatalf("wanted 429 while it is held, got %v, %v", resp, err)
		}
		if time.Since(start) > 90*time.Second {
			t.Fatal("wanted a stalled receiver dropped after 60 s, it is still there after 90 s")
		}
		_ = pub.SendE(wstest.Text, []byte("h"))
		time.Sleep(500 * time.Millisecond)
	}
	if d := time.Since(start); d < silence-2*time.Second {
		t.Errorf("wanted it dropped after 60 s, got %v", d)
	}
}

// After the end of a stream a receiver that takes nothing is let go after 30 s.
func TestReceiverThatTakesNothingAfterTheEnd(t *testing.T) {
	t.Parallel()
	slow(t)
	s := startServer(t, "CONCURRENT_LIMIT_WHITELIST=", "MAX_IP_CONCURRENT_CONNECTIONS=1")
	stalled := s.receive("cam", "key", wstest.From("127.0.7.2"), wstest.ReceiveBuffer(2048))
	stalled.StopReading()
	slowly := s.receive("cam", "key", wstest.From("127.0.7.3"), wstest.ReceiveBuffer(256<<10))
	leaver := s.receive("cam", "key", wstest.From("127.0.7.4"), wstest.ReceiveBuffer(2048))
	pub := s.publish("cam", "key", wstest.From("127.0.7.1"))
	const n = 40
	for i := range n {
		pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
	}
	eventually(t, "the kernel holds something for one that is about to leave", func() bool {
		held, ok := s.inKernel(leaver)
		return held > 0 || !ok
	})
	leaver.CloseWrite() // the server closes, the kernel goes on
	start := time.Now()
	pub.CloseHandshake(1000)
	done := make(chan error, 1)
	go func() {
		for i := range n {
			m, err := slowly.NextE()
			if err != nil || len(m.Payload) != 256<<10 {
				done <- fmt.Errorf("slow but steady receiver: wanted packet %d, got %v, %v after %v", i, m, err, time.Since(start))
				return
			}
			time.Sleep(time.Second)
		}
		if m, err := slowly.NextE(); err != nil || m.Code() != 1000 {
			done <- fmt.Errorf("slow but steady receiver: wanted CLOSE 1000, got %v, %v", m, err)
			return
		}
		if _, err := slowly.NextE(); !errors.Is(err, io.EOF) {
			done <- fmt.Errorf("slow but steady receiver: wanted the end, got %v", err)
			return
		}
		done <- nil
	}()
	for {
		c, resp, err := wstest.Open(s.addr, "/cam/key/receive", wstest.From("127.0.7.2"))
		if c != nil {
			c.Close()
			break
		}
		if err != nil || resp.Status != 429 {
			t.Fatalf("wanted 429 while it is held, got %v, %v", resp, err)
		}
		if time.Since(start) > 55*time.Second {
			t.Fatal("wanted it closed after 30 s, it is still there after 55 s")
		}
		time.Sleep(500 * time.Millisecond)
	}
	if d := time.Since(start); d < 28*time.Second {
		t.Errorf("wanted it closed after 30 s, got %v", d)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	eventually(t, "the kernel holds nothing for one that left 40 s ago and took nothing since", func() bool {
		held, _ := s.inKernel(leaver)
		return held == 0
	})
}

// trickle reads a few KiB a second for a while, and nothing else: no pong, no text.
// tick is called all the time.
func trickle(c *wstest.Conn, d time.Duration, tick func()) error {
	b := make([]byte, 1400)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_ = c.TCP().SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c.TCP(), b); err != nil {
			return err
		}
		tick()
	}
	return nil
}

// Taking is life, and progress, however slow: also when so little is taken that
// the kernel does not think it worth telling for minutes.
func TestTakingAFewKilobytesASecondIsLife(t *testing.T) {
	t.Parallel()
	slow(t)
	for name, c := range map[string]struct {
		ended bool
		d     time.Duration
	}{
		"live":          {false, 75 * time.Second},
		"after the end": {true, 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			rec := s.receive("cam", "key", wstest.ReceiveBuffer(8<<10))
			pub := s.publish("cam", "key")
			for i := range 50 {
				pub.Send(wstest.Binary, payload(256<<10, uint64(i)))
			}
			if c.ended {
				pub.CloseHandshake(1000)
			}
			alive := func() {
				if !c.ended {
					pub.SendText("h")
				}
			}
			if err := trickle(rec, c.d, alive); err != nil {
				t.Fatalf("the receiver was cut: %v; the server's log ends:\n%s", err, tail(s.logs()))
			}
			if !c.ended {
				pub.CloseHandshake(1000)
			}
			_ = rec.TCP().SetReadDeadline(time.Now().Add(patience))
			rest, err := io.ReadAll(rec.TCP())
			if err != nil || !bytes.HasSuffix(rest, []byte("\x88\x0e\x03\xe8stream ended")) {
				t.Errorf("wanted the rest and CLOSE 1000, got %d bytes that end in %q, %v", len(rest), rest[max(0, len(rest)-20):], err)
			}
		})
	}
}
