//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command is a recipe at work.
type command struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	said *syncBuffer
	done chan struct{} // closed when it has ended; then cmd.ProcessState may be read
}

// start runs a recipe at the server, from the repository's root.
func (k *kitchen) start(t *testing.T, r recipe, more ...string) *command {
	t.Helper()
	for _, file := range []string{"video.mp4", "recording.webm", "recording.mkv"} {
		more = append(more, " "+file, " "+filepath.Join(k.dir, file))
	}
	return r.start(t, append(more, atServer(k.s.addr, k.channel)...)...)
}

// start runs a recipe until its end, or the test's, with these words replaced, each
// followed by what takes its place.
func (r recipe) start(t *testing.T, replace ...string) *command {
	t.Helper()
	c := &command{t: t, name: r.title, said: &syncBuffer{}, done: make(chan struct{})}
	c.cmd = exec.Command("sh", "-c", strings.NewReplacer(replace...).Replace(r.code))
	c.cmd.Env = append(os.Environ(), "SDL_VIDEODRIVER=dummy", "SDL_AUDIODRIVER=dummy")
	c.cmd.Stdout, c.cmd.Stderr = c.said, c.said
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("%s: cannot start: %v", r.title, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		c.signal(syscall.SIGKILL)
		<-c.done
		if t.Failed() {
			t.Logf("%s says:\n%s", r.title, tail(c.says()))
		}
	})
	return c
}

// signal sends a signal to everything that the command has started.
func (c *command) signal(sig syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, sig) }

func (c *command) says() string {
	c.said.mu.Lock()
	defer c.said.mu.Unlock()
	return c.said.b.String()
}

func (c *command) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// wantRunning fails if the command has ended.
func (c *command) wantRunning() {
	c.t.Helper()
	if c.over() {
		c.t.Fatalf("%s: it ended too early, with exit code %d", c.name, c.cmd.ProcessState.ExitCode())
	}
}

// wantEnd waits until the command ends by itself, in order.
func (c *command) wantEnd() {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(mediaPatience):
		c.t.Fatalf("%s: wanted an end within %v", c.name, mediaPatience)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Fatalf("%s: wanted exit code 0, got %d", c.name, code)
	}
}
