package main

import (
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// The tests of this package know nothing of the server but its binary: each one
// starts a server of its own, with an environment of its own, and speaks to it
// over sockets. The binary is the test binary, started again: so it is built with
// -race when the tests are.

const (
	childVariable    = "WS_STREAM_SERVER_CHILD"
	shutdownVariable = "WS_STREAM_SERVER_CHILD_SHUTDOWN" // its shutdownTimeout, if that is another
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "1" {
		shutdownTimeout = shutdownTimeOf(os.Getenv(shutdownVariable))
		_ = os.Unsetenv(childVariable)
		_ = os.Unsetenv(shutdownVariable)
		os.Exit(run(os.Args[1:]))
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && !given("test.parallel") && !given("test.fuzz") {
		_ = f.Value.Set("24") // most of these tests wait most of the time, some for their turn (heavy)
	}
	os.Exit(m.Run())
}

func given(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// heavy is held by tests that load the machine, so that they run one at a time.
var heavyMu sync.Mutex

func heavy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		wstest.Skip(t, "loads the machine")
	}
	heavyMu.Lock()
	t.Cleanup(heavyMu.Unlock)
}

func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		wstest.Skip(t, "waits for a minute or so")
	}
}

// server is one running server process.
type server struct {
	t       *testing.T
	addr    string // plain listener
	tlsAddr string // TLS listener, "" without SSL_CERT
	admin   string // the operator's listener, "" without ADMIN_ADDRESS
	dir     string // its working directory
	cmd     *exec.Cmd
	log     *logBuffer
	done    chan struct{} // closed when the process has ended
	expects bool          // the test itself waits for the end

	shutdownTime time.Duration // its shutdownTimeout
}

// anyAdmin, as ADMIN_ADDRESS, stands for a free port of 127.0.0.1.
const anyAdmin = "any"

// startServer starts a server with these variables and waits until it serves. An
// item that begins with ".env:" is a line of the .env file, one that begins with
// "ulimit:" says how many descriptors it may have. At the test's end the server must
// stop on SIGTERM, with exit code 0, having logged no panic and no race.
func startServer(t *testing.T, env ...string) *server {
	t.Helper()
	s := launch(t, env...)
	if !s.serves() {
		t.Fatalf("the server does not serve with %q; its log:\n%s", env, s.logs())
	}
	return s
}

// launch is startServer for a server of which /healthz cannot be asked like that: it
// waits until the server says that it has started. All that the start logs is here then.
func launch(t *testing.T, env ...string) *server {
	t.Helper()
	var s *server
	for range 5 {
		var taken bool
		s, taken = tryServer(t, env)
		if !taken {
			break
		}
	}
	if s == nil {
		t.Fatal("no free port after 5 tries")
	}
	t.Cleanup(s.stop)
	return s
}

// startSmall starts a server that keeps as little of a channel as it can with a cache: 1
// MiB, and as much for receivers that are behind.
func startSmall(t *testing.T) *server {
	t.Helper()
	return startServer(t, "GOP_CACHE_SIZE_MB=1", "RECEIVER_LAG_MB=1", "MAX_MESSAGE_MB=1")
}

// tryServer is launch with one try. Only the server's own log tells whether it has its
// ports: at them somebody else's server may answer.
func tryServer(t *testing.T, env []string) (_ *server, taken bool) {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), log: newLogBuffer(), done: make(chan struct{})}
	var file []string
	var descriptors string
	given := map[string]string{}
	for _, e := range env {
		if line, ok := strings.CutPrefix(e, ".env:"); ok {
			file = append(file, line)
			continue
		}
		if n, ok := strings.CutPrefix(e, "ulimit:"); ok {
			descriptors = n
			continue
		}
		name, value, _ := strings.Cut(e, "=")
		given[name] = value
	}
	if file != nil {
		writeFile(t, filepath.Join(s.dir, ".env"), strings.Join(file, "\n")+"\n")
	}
	def := func(name, value string) {
		if _, ok := given[name]; !ok {
			given[name] = value
		}
	}
	def("HTTP_PORT", freePort(t))
	def("BIND_ADDRESS", "127.0.0.1")
	def("CONCURRENT_LIMIT_WHITELIST", "127.0.0.0/8")
	host := given["BIND_ADDRESS"]
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	s.addr = net.JoinHostPort(host, given["HTTP_PORT"])
	if given["SSL_CERT"] != "" {
		def("SSL_PORT", freePort(t))
		s.tlsAddr = net.JoinHostPort(host, given["SSL_PORT"])
	}
	if given["ADMIN_ADDRESS"] == anyAdmin {
		given["ADMIN_ADDRESS"] = net.JoinHostPort("127.0.0.1", freePort(t))
	}
	s.admin = given["ADMIN_ADDRESS"]
	s.shutdownTime = shutdownTimeOf(given[shutdownVariable])
	s.cmd = child(s.dir, given, s.log)
	if descriptors != "" {
		script := "ulimit -n " + descriptors + ` && exec "$0"`
		s.cmd.Path, s.cmd.Args = "/bin/sh", []string{"sh", "-c", script, s.cmd.Path}
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("cannot start the server: %v", err)
	}
	go func() {
		_ = s.cmd.Wait()
		s.log.end()
		close(s.done)
	}()
	if s.log.waitFor(func(log string) bool { return strings.Contains(log, "started") }) {
		return s, false
	}
	if strings.Contains(s.logs(), "in use") {
		return nil, true
	}
	_ = s.cmd.Process.Kill()
	t.Fatalf("the server does not start with %q; its log:\n%s", env, s.logs())
	return nil, false
}

// child is the command that runs the test binary as the server.
func child(dir string, env map[string]string, out io.Writer, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	// Without atexit_sleep_ms a server with the race detector sleeps for 1 s before it ends.
	cmd.Env = []string{childVariable + "=1", "GORACE=exitcode=66 atexit_sleep_ms=0"}
	if procs := os.Getenv("GOMAXPROCS"); procs != "" { // the server is what is tested with it
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+procs)
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// serves waits until a server that has started answers.
func (s *server) serves() bool {
	deadline := time.Now().Add(patience)
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for time.Now().Before(deadline) {
		resp, err := client.Get("http://" + s.addr + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK && s.running() {
				return true
			}
		}
		select {
		case <-s.done:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

func (s *server) running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// logs is everything the server wrote so far, to both streams.
func (s *server) logs() string { return s.log.String() }

// wantLog waits until the log contains every one of these, in any order.
func (s *server) wantLog(words ...string) {
	s.t.Helper()
	if !s.log.waitFor(func(log string) bool { return containsAll(log, words...) }) {
		s.t.Fatalf("wanted %q in the log, got:\n%s", words, s.logs())
	}
}

// wantLine waits until a line of the log has all of the words.
func (s *server) wantLine(words ...string) {
	s.t.Helper()
	if !s.log.waitFor(func(log string) bool {
		return slices.ContainsFunc(strings.Split(log, "\n"), func(line string) bool { return containsAll(line, words...) })
	}) {
		s.t.Fatalf("wanted a line with %q in the log, got:\n%s", words, s.logs())
	}
}

func containsAll(s string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// signal sends a signal to the server.
func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("cannot signal the server: %v", err)
	}
}

// wait waits for the server's end and returns its exit code.
func (s *server) wait() int {
	s.t.Helper()
	s.expects = true
	most := patience + s.shutdownTime
	select {
	case <-s.done:
	case <-time.After(most):
		s.t.Fatalf("the server still runs after %v; its log ends:\n%s", most, tail(s.logs()))
	}
	return s.cmd.ProcessState.ExitCode()
}

// wantStop sends SIGTERM and fails unless the server ends in order.
func (s *server) wantStop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != 0 {
		s.t.Errorf("wanted exit code 0, got %d", code)
	}
}

// stop is the end of every test.
func (s *server) stop() {
	if !s.expects {
		if s.running() {
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
		} else {
			s.t.Errorf("the server died during the test: %v", s.cmd.ProcessState)
		}
		select {
		case <-s.done:
			if code := s.cmd.ProcessState.ExitCode(); code != 0 {
				s.t.Errorf("wanted exit code 0 after SIGTERM, got %v", s.cmd.ProcessState)
			}
		case <-time.After(patience):
			s.t.Errorf("the server still runs %v after SIGTERM", patience)
		}
	}
	if s.running() {
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	log := s.logs()
	for _, bad := range []string{"panic", "DATA RACE", "fatal error"} {
		if strings.Contains(log, bad) {
			s.t.Errorf("%q in the server's log:\n%s", bad, from(log, bad))
			return
		}
	}
	if s.t.Failed() {
		s.t.Logf("the server's log ends:\n%s", tail(log))
	}
}

// ended is the result of a server that was expected to stop by itself.
type ended struct {
	code int
	out  string
}

// runServer starts a server that must stop by itself, with exactly these
// variables, and returns how it did.
func runServer(t *testing.T, env ...string) ended {
	t.Helper()
	return runServerArgs(t, nil, env...)
}

func runServerArgs(t *testing.T, args []string, env ...string) ended {
	t.Helper()
	vars, dir := map[string]string{}, t.TempDir()
	var file []string
	for _, e := range env {
		if line, ok := strings.CutPrefix(e, ".env:"); ok {
			file = append(file, line)
			continue
		}
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	if file != nil {
		writeFile(t, filepath.Join(dir, ".env"), strings.Join(file, "\n")+"\n")
	}
	if _, ok := vars["BIND_ADDRESS"]; !ok {
		vars["BIND_ADDRESS"] = "127.0.0.1"
	}
	if _, ok := vars["HTTP_PORT"]; !ok {
		vars["HTTP_PORT"] = freePort(t)
	}
	log := newLogBuffer()
	cmd := child(dir, vars, log, args...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start the server: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // ProcessState has the exit code
	}()
	select {
	case <-done:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-done
		t.Errorf("%q %q: wanted the server to stop by itself, it runs; its log ends:\n%s", args, env, tail(log.String()))
		return ended{-1, log.String()}
	}
	if strings.Contains(log.String(), "panic") || strings.Contains(log.String(), "goroutine ") {
		t.Errorf("%q %q: a panic:\n%s", args, env, log.String())
	}
	return ended{cmd.ProcessState.ExitCode(), log.String()}
}
