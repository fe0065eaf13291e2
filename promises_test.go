package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that PROMISES.md names exists, and every promise names one.
func TestPromisesAreShown(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("PROMISES.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]map[string]bool{} // by directory
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)\\w+)`")
	section, rows := "", map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section, rows[name] = name, 0
		}
		names := named.FindAllStringSubmatch(line, -1)
		if cells := strings.Split(line, "|"); len(cells) > 1 && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(line, "| promise ") {
			rows[section]++
			if len(cells) != 4 || len(named.FindAllString(cells[2], -1)) != strings.Count(cells[2], "`")/2 || len(names) == 0 {
				t.Errorf("PROMISES.md, line %d: wanted a promise and the tests that show it: %s", i+1, line)
			}
		}
		for _, m := range names {
			dir, name := m[1], m[2]
			if dir == "main" {
				dir = "."
			}
			if tests[dir] == nil {
				tests[dir] = testsIn(t, dir)
			}
			if !tests[dir][name] {
				t.Errorf("PROMISES.md, line %d: there is no %s in %s", i+1, name, dir)
			}
		}
	}
	for _, s := range []string{
		"Delivery, order and bytes", "Receivers that are slow", "Ends and close codes", "Bounds", "Who may publish and receive",
		"Hostile input", "Faults of the machine and of the coordinator", "The operator", "Shutdown",
	} {
		if rows[s] == 0 {
			t.Errorf("PROMISES.md promises nothing under %q", s)
		}
	}
	if readme, err := os.ReadFile("README.md"); err != nil || !strings.Contains(string(readme), "](PROMISES.md)") {
		t.Errorf("README.md does not lead to PROMISES.md, %v", err)
	}
}

// testsIn is the tests and fuzz targets in a directory, whatever their build tags.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no tests in %s, %v", dir, err)
	}
	found := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				found[fn.Name.Name] = true
			}
		}
	}
	return found
}
