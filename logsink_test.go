package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	busy chan struct{} // told of a write that has begun, if there is room; may be nil
	got  bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.busy <- struct{}{}:
	default:
	}
	<-g.open
	return g.got.Write(b)
}

func TestLogSinkKeepsOrderAndNeverWaits(t *testing.T) {
	g := &gate{open: make(chan struct{}), busy: make(chan struct{}, 1)}
	s := newLogSink(g, logText)
	line := func(i int) string { return fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", 1000)) }
	const n = 5 * logBacklog / 1000
	_, _ = io.WriteString(s, line(0))
	<-g.busy
	for i := 1; i < n; i++ { // would block here for ever
		_, _ = io.WriteString(s, line(i))
	}
	close(g.open)
	s.Close()
	lines := strings.SplitAfter(strings.TrimSuffix(g.got.String(), "\n"), "\n")
	kept := lines[:len(lines)-1]
	for i, l := range kept {
		if l != line(i) {
			t.Fatalf("line %d is %.40q", i, l)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, fmt.Sprintf("lines=%d", n-len(kept))) || len(kept) == 0 || len(kept) == n {
		t.Errorf("%d of %d lines were kept, and the last one is %q", len(kept), n, last)
	}
}

// The sink's own line has the form of the others.
func TestLogSinkSpeaksJSON(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	s := newLogSink(g, logJSON)
	_, _ = s.Write(bytes.Repeat([]byte("x"), logBacklog+1))
	close(g.open)
	s.Close()
	if line := wantJSONLines(t, g.got.String())[0]; line["level"] != "WARN" || line["lines"] != 1.0 {
		t.Errorf("the sink says %v", line)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("nobody is there") }

func TestLogSinkSurvivesItsWriter(t *testing.T) {
	s := newLogSink(broken{}, logText)
	_, _ = io.WriteString(s, "a line\n")
	s.Close()
	_, _ = io.WriteString(s, "after the end\n")
}

// A server whose standard output is a pipe that nobody reads, or whose reader has
// gone, serves on.
func TestServesWhenNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]bool{"nobody reads": false, "the reader has gone": true} {
		t.Run(name, func(t *testing.T) {
			s, r := startUnread(t)
			if gone {
				_ = r.Close()
			}
			// Each round logs some 500 bytes; a pipe holds 64 KiB.
			for range 300 {
				c := wstest.Dial(t, s.addr, "/cam/key/receive")
				c.CloseHandshake(1000)
				c.Close()
			}
			s.wantStop()
		})
	}
}

// startUnread starts a server whose standard output is a pipe, and returns its other end,
// of which nothing is read once the server has started.
func startUnread(t *testing.T) (*server, *os.File) {
	t.Helper()
	for range 5 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		port := freePort(t)
		s := &server{t: t, addr: "127.0.0.1:" + port, log: newLogBuffer(), done: make(chan struct{})}
		s.cmd = child(t.TempDir(), map[string]string{"HTTP_PORT": port, "BIND_ADDRESS": "127.0.0.1", "CONCURRENT_LIMIT_WHITELIST": "*"}, w)
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		t.Cleanup(func() { _ = s.cmd.Process.Kill() })
		go func() {
			defer close(s.done)
			_ = s.cmd.Wait()
		}()
		_ = r.SetReadDeadline(time.Now().Add(patience))
		start := ""
		for lines := bufio.NewScanner(r); !strings.Contains(start, "started") && lines.Scan(); {
			start += lines.Text() + "\n"
		}
		switch {
		case strings.Contains(start, "started"):
			return s, r
		case !strings.Contains(start, "in use"):
			t.Fatalf("the server does not start:\n%s", start)
		}
	}
	t.Fatal("no free port after 5 tries")
	return nil, nil
}
