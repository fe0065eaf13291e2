package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// logLines collects what a logger writes.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns the lines since the last take.
func (l *logLines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSpace(l.b.String())
	l.b.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// want fails unless one line was written with this word, or none for "".
func (l *logLines) want(t *testing.T, word string) {
	t.Helper()
	lines := l.take()
	if word == "" && len(lines) > 0 || word != "" && (len(lines) != 1 || !strings.Contains(lines[0], word)) {
		t.Errorf("the log has %q, wanted one line with %q, or none for none", lines, word)
	}
}

// failing is a listener whose Accept returns these errors, one after the other, and
// then that it is closed.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return nil, &net.OpError{Op: "accept", Err: net.ErrClosed}
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: err}
}

// Whatever accept meets, the server goes on accepting; only a closed listener ends it.
func TestNoErrorEndsTheAcceptLoop(t *testing.T) {
	log := &logLines{}
	short := &shortage{log: slog.New(slog.NewTextHandler(log, nil)), now: func() int64 { return 0 }}
	l := &failing{errs: []error{syscall.ECONNABORTED, syscall.EPERM, syscall.ENOBUFS, syscall.EMFILE}}
	start := time.Now()
	if c, err := (tireless{l, short}).Accept(); c != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returns %v, %v", c, err)
	}
	if len(l.errs) != 0 {
		t.Errorf("%d errors were not met", len(l.errs))
	}
	if took := time.Since(start); took < 4*acceptPause {
		t.Errorf("four attempts that fail take %v: that spins", took)
	}
	log.want(t, "cannot accept connections for now")
}

// The log hears of a shortage once, when it begins, and once when it is over: when
// nobody has met it for a while, and what was missing is there.
func TestAShortageIsToldOnce(t *testing.T) {
	var now int64
	log := &logLines{}
	s := &shortage{log: slog.New(slog.NewTextHandler(log, nil)), now: func() int64 { return now }}
	yes, no := func() bool { return true }, func() bool { return false }
	s.look(yes)
	log.want(t, "")
	for range 1000 {
		s.met(syscall.EMFILE)
		s.look(yes)
		now += int64(calmTime) - 1
		s.look(yes) // not yet
	}
	log.want(t, "no file descriptors are left")
	now += int64(calmTime)
	s.look(no)
	log.want(t, "")
	now += int64(calmTime) - 1
	s.look(yes) // looked at a moment ago
	log.want(t, "")
	now++
	s.look(yes)
	log.want(t, "newcomers are served again")
	now += int64(calmTime)
	s.look(yes)
	log.want(t, "")
	s.met(&net.OpError{Op: "accept", Err: syscall.ENFILE})
	log.want(t, "no file descriptors are left")
}
