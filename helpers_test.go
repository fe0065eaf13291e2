package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// patience is how long a test waits for what must happen: longer than anything takes on a
// busy machine, for it is waited for in vain only where a test fails.
const patience = wstest.Timeout

// eventually fails unless cond becomes true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	inTime(t, patience, what, cond)
}

// inTime fails unless cond becomes true in the time that is promised for it.
func inTime(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("wanted within %v: %s", d, what)
		}
	}
}

// everyTick calls f every 20 ms until over is closed, or f fails. It returns the longest
// from one call's end to the next tick: how late on this machine comes what is due.
func everyTick(over <-chan struct{}, f func() error) (late time.Duration, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			return late, err
		}
		before := time.Now()
		select {
		case <-tick.C:
			late = max(late, time.Since(before))
		case <-over:
			return max(late, time.Since(before)), nil
		}
	}
}

// lateness measures how late this machine is until the function that it returns is called.
func lateness(t *testing.T) (late func() time.Duration) {
	over, result := make(chan struct{}), make(chan time.Duration, 1)
	late = sync.OnceValue(func() time.Duration {
		close(over)
		return <-result
	})
	t.Cleanup(func() { late() }) // for a test that fails before
	go func() {
		d, _ := everyTick(over, func() error { return nil })
		result <- d
	}()
	return late
}

// payload is n bytes that differ from place to place and from seed to seed.
func payload(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 42))
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = byte(r.Uint64())
	}
	return b
}

// packets is n different small packets.
func packets(n int) [][]byte {
	ps := make([][]byte, n)
	for i := range ps {
		ps[i] = fmt.Appendf(nil, "packet-%05d", i)
	}
	return ps
}

func sendAll(c *wstest.Conn, ps ...[]byte) {
	for _, p := range ps {
		c.Send(wstest.Binary, p)
	}
}

// freePort is a port that was free a moment ago, as settings are written.
func freePort(t *testing.T) string { return strconv.Itoa(wstest.FreePort(t)) }

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	// In one step, so that nobody reads half of it.
	tmp := name + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, name); err != nil {
		t.Fatal(err)
	}
}

func lines(s string) []string {
	var all []string
	for line := range strings.Lines(s) {
		if line = strings.TrimRight(line, "\n"); strings.TrimSpace(line) != "" {
			all = append(all, line)
		}
	}
	return all
}

func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

func from(s, word string) string {
	s = s[strings.Index(s, word):]
	return s[:min(len(s), 6000)]
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// logBuffer collects a process's output and can be waited on.
type logBuffer struct {
	mu   sync.Mutex
	cond *sync.Cond
	b    bytes.Buffer
	over bool
}

func newLogBuffer() *logBuffer {
	l := &logBuffer{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.Broadcast()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.cond.Broadcast()
}

func (l *logBuffer) waitFor(cond func(string) bool) bool {
	deadline := time.Now().Add(patience)
	timer := time.AfterFunc(patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cond.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !cond(l.b.String()) {
		if l.over || time.Now().After(deadline) {
			return cond(l.b.String())
		}
		l.cond.Wait()
	}
	return true
}

func numbered(i, n int) []byte { return wstest.Numbered(i, n) }

// follow reads numbered packets until the close frame. It returns the first and
// the last number, and the close code; an error for a gap, a repeat or a bad byte.
func follow(c *wstest.Conn, seen func(i int)) (first, last, code int, err error) {
	first, last = -1, -1
	for {
		m, err := c.NextWithin(patience)
		if err != nil {
			return first, last, 0, fmt.Errorf("after packet %d: %w", last, err)
		}
		switch m.Op {
		case wstest.Close:
			return first, last, m.Code(), nil
		case wstest.Text:
			continue
		}
		i, err := wstest.Number(m.Payload)
		if err != nil {
			return first, last, 0, err
		}
		if last >= 0 && i != last+1 {
			return first, last, 0, fmt.Errorf("wanted packet %d, got packet %d", last+1, i)
		}
		if first < 0 {
			first = i
		}
		last = i
		if seen != nil {
			seen(i)
		}
	}
}
