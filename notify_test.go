package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serviceManager is the other end of NOTIFY_SOCKET.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newServiceManager(t *testing.T, address string) *serviceManager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &serviceManager{t, conn}
}

// next is the next message.
func (m *serviceManager) next() string {
	m.t.Helper()
	b := make([]byte, 4096)
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatalf("wanted a message: %v", err)
	}
	return string(b[:n])
}

// want wants a line in the next message that is not about the watchdog.
func (m *serviceManager) want(line string) string {
	m.t.Helper()
	message := m.next()
	for message == "WATCHDOG=1" {
		message = m.next()
	}
	if !strings.Contains("\n"+message+"\n", "\n"+line+"\n") {
		m.t.Errorf("wanted %q, got %q", line, message)
	}
	return message
}

// shortTemp is a directory whose name leaves room in a socket's address.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ws")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestTheServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"path": filepath.Join(shortTemp(t), "notify"), "abstract": fmt.Sprintf("@ws-stream-server-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newServiceManager(t, address)
			s := startServer(t, "NOTIFY_SOCKET="+address, "WATCHDOG_USEC=400000", "SHUTDOWN_SECONDS=1", "LOG_REQUESTS=YES")
			m.want("READY=1")
			requests := strings.Count(s.logs(), "msg=request")
			for range 3 {
				if got := m.next(); got != "WATCHDOG=1" {
					t.Errorf("wanted the watchdog fed, got %q", got)
				}
			}
			r := s.receive("cam", "key")
			s.signal(syscall.SIGTERM)
			message := m.want("STOPPING=1")
			if m.next() != "WATCHDOG=1" {
				t.Error("wanted the watchdog fed while receivers are closed")
			}
			r.WantClose(1001)
			if code := s.wait(); code != 0 {
				t.Errorf("wanted exit code 0, got %d", code)
			}
			_, rest, _ := strings.Cut(message, "EXTEND_TIMEOUT_USEC=")
			digits, _, _ := strings.Cut(rest, "\n")
			if usec, err := strconv.Atoi(digits); err != nil || usec < 10_000_000 || usec > 30_000_000 {
				t.Errorf("wanted to be given the time of the shutdown, got %q", message)
			}
			if n := strings.Count(s.logs(), "msg=request") - requests; n > 2 {
				t.Errorf("wanted no line for what it asks itself, got %d:\n%s", n, tail(s.logs()))
			}
		})
	}
}

// Without the manager's variables nothing happens, and with bad ones it serves.
func TestServesWithoutAServiceManager(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{
		{"WATCHDOG_USEC=1000"}, {"NOTIFY_SOCKET=/none/notify"}, {"NOTIFY_SOCKET=" + strings.Repeat("x", 300)},
	} {
		s := startServer(t, env...)
		s.receive("cam", "key").Sync()
		if said := strings.Contains(s.finalLog(), "cannot reach the service manager"); said != (len(env[0]) > 0 && strings.HasPrefix(env[0], "NOTIFY")) {
			t.Errorf("%.40v: the log: %s", env, s.logs())
		}
	}
	address := filepath.Join(shortTemp(t), "notify")
	m := newServiceManager(t, address)
	s := startServer(t, "NOTIFY_SOCKET="+address, "WATCHDOG_USEC=nonsense")
	m.want("READY=1")
	_ = m.conn.Close()
	_ = os.Remove(address)
	s.receive("cam", "key").Sync()
	if log := s.finalLog(); !containsAll(log, "the service manager's watchdog is not fed", "cannot tell the service manager") {
		t.Errorf("the log: %s", log)
	}
}

func TestNotReadyBeforeItListens(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	address := filepath.Join(shortTemp(t), "notify")
	m := newServiceManager(t, address)
	if e := runServer(t, "HTTP_PORT="+port, "NOTIFY_SOCKET="+address); e.code != 1 {
		t.Errorf("wanted exit code 1, got %d: %s", e.code, e.out)
	}
	_ = m.conn.SetReadDeadline(time.Now())
	if n, err := m.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("wanted no word, got %d bytes", n)
	}
}

// The watchdog is fed only while the server is alive, and again when it is.
func TestTheWatchdogIsFedOnlyWhileTheServerIsAlive(t *testing.T) {
	address := filepath.Join(shortTemp(t), "notify")
	m := newServiceManager(t, address)
	conn, err := net.Dial("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	log := newLogBuffer()
	n := &notifier{log: slog.New(newLogHandler(log, logText, slog.LevelInfo)), conn: conn, watchdog: 40 * time.Millisecond}
	var asked atomic.Int64
	n.ready(func(ctx context.Context) error {
		if i := asked.Add(1); i > 3 && i <= 8 {
			<-ctx.Done()
			return errors.New("poller 0 is stuck")
		}
		return nil
	})
	m.want("READY=1")
	for range 3 {
		_ = m.next()
	}
	if m.next() != "WATCHDOG=1" || asked.Load() < 9 {
		t.Errorf("fed after %d questions, of which the 4th to the 8th have no answer", asked.Load())
	}
	if said := bytes.Count([]byte(log.String()), []byte("poller 0 is stuck")); said != 5 {
		t.Errorf("wanted 5 lines of the log to say why, got %d:\n%s", said, log)
	}
	n.stopping(0)
}

func TestWatchdogInterval(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		ok        bool
	}{
		{"", "", 0, true}, {"", "x", 0, true}, {"30000000", "", 30 * time.Second, true}, {"30000000", "7", 30 * time.Second, true},
		{"30000000", "8", 0, true}, {"1", "7", time.Microsecond, true}, {"18446744073709551615", "7", 24 * time.Hour, true},
		{"0", "7", 0, false}, {"-1", "7", 0, false}, {"ten", "7", 0, false}, {"30000000", "self", 0, false},
	} {
		if got, err := watchdogInterval(c.usec, c.pid, 7); got != c.want || (err == nil) != c.ok {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, %v", c.usec, c.pid, got, err)
		}
	}
}
