package main

import (
	"debug/elf"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

func readText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantSettings(t *testing.T, file string, names []string) {
	t.Helper()
	known := map[string]bool{}
	for _, v := range all() {
		known[v.name] = true
	}
	if len(names) == 0 {
		t.Errorf("%s names no setting", file)
	}
	for _, name := range names {
		if !known[name] {
			t.Errorf("%s has %s, which is no setting", file, name)
		}
	}
}

// The unit sets nothing that is no setting, also where it is commented out, and is what
// the program expects of a manager.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	const file = "deploy/ws-stream-server.service"
	text := readText(t, file)
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^#?Environment=(.*)$`).FindAllStringSubmatch(text, -1) {
		for _, pair := range strings.Fields(line[1]) {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	wantSettings(t, file, names)
	for _, line := range []string{
		"Type=notify", "Restart=always", "DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "MemoryDenyWriteExecute=yes",
		"CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "SystemCallFilter=@system-service",
		"KillMode=mixed", "TimeoutStopSec=20", "WatchdogSec=60", "LimitNOFILE=1048576",
		"ExecStart=/usr/local/bin/ws-stream-server", "ExecStartPre=/usr/local/bin/ws-stream-server -check",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s has no line %q", file, line)
		}
	}
	if atMost := shutdownTimeout + flushTimeout + logFlush; atMost >= 10*time.Second {
		t.Errorf("10 s, which are promised, and TimeoutStopSec=20 are too short for %v", atMost)
	}
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	text := readText(t, "compose.yaml")
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Ports       []string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			Healthcheck struct{ Test []string }
			Ulimits     struct{ Nofile struct{ Soft, Hard int } }
		}
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	s, ok := file.Services["ws-stream-server"]
	if !ok || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Ulimits.Nofile.Hard < 1<<20 ||
		!slices.Equal(s.Healthcheck.Test, []string{"CMD", "/ws-stream-server", "-health"}) || !slices.Equal(s.Ports, []string{"80:" + s.Environment["HTTP_PORT"]}) {
		t.Errorf("compose.yaml says %+v", s)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:# )?([A-Z][A-Z_]+): `).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	wantSettings(t, "compose.yaml", names)
}

// The Dockerfile's own build command makes a binary that runs with nothing beside it, and
// whose health check works.
func TestDockerfileBuildsAStaticBinary(t *testing.T) {
	t.Parallel()
	text := readText(t, "Dockerfile")
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(text, -1) {
		for _, pair := range strings.Fields(line[1]) {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	wantSettings(t, "Dockerfile", names)
	for _, line := range []string{"FROM scratch", "USER 65532:65532", "EXPOSE 8080 8443", `ENTRYPOINT ["/ws-stream-server"]`} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the Dockerfile has no line %q", line)
		}
	}
	if !strings.Contains(text, `CMD ["/ws-stream-server", "-health"]`) {
		t.Error("the Dockerfile has no health check")
	}
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /ws-stream-server \.$`).FindStringSubmatch(text)
	if build == nil {
		t.Fatal("the Dockerfile has no build command")
	}
	if !strings.Contains(readText(t, "Makefile"), build[1]+" -o ws-stream-server .") {
		t.Error("the Makefile builds in another way than the Dockerfile")
	}
	binary := filepath.Join(t.TempDir(), "ws-stream-server")
	if out, err := exec.Command("sh", "-c", build[1]+` -o "$0" .`, binary).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build[1], err, out)
	}
	if runtime.GOOS != "linux" {
		return
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	libraries, _ := f.ImportedLibraries()
	if len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("the binary is not static: %v", libraries)
	}
	port := freePort(t)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Dir, cmd.Env = filepath.Dir(binary), []string{"HTTP_PORT=" + port, "BIND_ADDRESS=127.0.0.1"}
		return cmd
	}
	log := newLogBuffer()
	server := run()
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	eventually(t, "the health check says that all is well", func() bool { return run("-health").Run() == nil })
	if c, err := net.Dial("tcp", "127.0.0.1:"+port); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

// Every target's recipe can be read by make, and stands in the help.
func TestMakefile(t *testing.T) {
	t.Parallel()
	text := readText(t, "Makefile")
	targets := strings.Fields(regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindStringSubmatch(text)[1])
	for _, want := range []string{"fmt", "lint", "test", "bench", "build", "run", "check", "docker", "soak", "fuzz", "clean", "help"} {
		if !slices.Contains(targets, want) || !regexp.MustCompile(`(?m)^`+want+`:.* ## .`).MatchString(text) {
			t.Errorf("the Makefile has no target %s with a word about it", want)
		}
	}
	if out, err := exec.Command("make", append([]string{"-n"}, targets...)...).CombinedOutput(); err != nil {
		t.Errorf("make -n: %v\n%s", err, out)
	}
}
