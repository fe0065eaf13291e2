package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The environment is read in two places only: the settings, and what the service manager
// has put there.
func TestWhoReadsTheEnvironment(t *testing.T) {
	may := []string{"settings.go", "notify.go", "engine/wstest/skip.go"}
	found := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" { // as the go command; tests build programs in there
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "bench") {
			return err
		}
		text, err := os.ReadFile(name)
		if regexp.MustCompile(`\b(os|syscall)\.(Getenv|LookupEnv|Environ|ExpandEnv)\b`).Match(text) {
			found++
			if !slices.Contains(may, filepath.ToSlash(name)) {
				t.Errorf("%s reads the environment", name)
			}
		}
		return err
	})
	if err != nil || found != len(may) {
		t.Errorf("%d files read the environment, wanted %v; %v", found, may, err)
	}
}

// Imports point one way: main → engine/admin → engine → ring, auth, netfilter; those three
// import nothing of ours. A package may use what stands below it in a
// folder of its own.
// nbio stays in the engine, in few files.
func TestImportsPointOneWay(t *testing.T) {
	const module = "ws-stream-server"
	allowed := map[string][]string{
		".":         {"engine", "ring", "auth", "netfilter"},
		"engine":    {"ring", "auth", "netfilter"},
		"ring":      nil,
		"auth":      nil,
		"netfilter": nil,
		"bench":     {"engine", "ring", "auth", "netfilter"},
	}
	nbio := map[string]bool{}
	read := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") { // as the go command
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		read++
		name = filepath.ToSlash(name)
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		house, _, _ := strings.Cut(path.Dir(name), "/")
		may, known := allowed[house]
		if !known {
			t.Errorf("%s stands in a folder that is not part of the plan", name)
		}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if strings.HasPrefix(p, "github.com/lesismal/nbio") {
				nbio[name] = true
				if house != "engine" && house != "bench" {
					t.Errorf("%s imports %s: nbio stays in the engine", name, p)
				}
			}
			ours, found := strings.CutPrefix(p, module+"/")
			if !found {
				continue
			}
			to, _, _ := strings.Cut(ours, "/")
			if to != house && !slices.Contains(may, to) {
				t.Errorf("%s imports %s", name, p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 20 || len(nbio) == 0 {
		t.Errorf("read %d files, %d with nbio: too few to mean anything", read, len(nbio))
	}
	if len(nbio) > 8 {
		t.Errorf("nbio's types appear in %d files: %v", len(nbio), nbio)
	}
}

// What reads what clients send works on bytes alone: no files, sockets, clocks or locks, and
// nothing of ours. A package of the standard library that is not here is to be thought about.
func TestParsersArePure(t *testing.T) {
	may := []string{"bytes", "cmp", "encoding/binary", "errors", "fmt", "math", "math/bits", "slices", "strings", "unicode/utf8"}
	for _, folder := range []string{"engine/body", "engine/frame", "engine/media"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			read++
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				if p, err := strconv.Unquote(i.Path.Value); err != nil || !slices.Contains(may, p) {
					t.Errorf("%s imports %s", name, i.Path.Value)
				}
			}
		}
		if read == 0 {
			t.Errorf("there is nothing in %s", folder)
		}
	}
}
