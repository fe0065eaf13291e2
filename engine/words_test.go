package engine

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Only sameKey compares keys, and it does so in constant time: nowhere else does a key
// stand beside == or != or in a switch.
func TestKeysAreComparedInConstantTime(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	isKey := func(e ast.Expr) bool {
		s, ok := e.(*ast.SelectorExpr)
		return ok && s.Sel.Name == "key"
	}
	calls := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if isKey(n.X) || isKey(n.Y) {
					t.Errorf("%v: a key beside %s", set.Position(n.Pos()), n.Op)
				}
			case *ast.SwitchStmt:
				if n.Tag != nil && isKey(n.Tag) {
					t.Errorf("%v: a switch over a key", set.Position(n.Pos()))
				}
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok && fn.Name == "sameKey" {
					calls++
				}
				if fn, ok := n.Fun.(*ast.SelectorExpr); ok && fn.Sel.Name == "ConstantTimeCompare" {
					calls++
				}
			}
			return true
		})
	}
	if calls < 3 { // live, waiting, and the comparison itself
		t.Errorf("sameKey and subtle.ConstantTimeCompare are called %d times", calls)
	}
}

// PROTO.md's table has every close code that the server sends on its own.
func TestPROTOListsEveryCloseCode(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "PROTO.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d{4}) \| [^|]+ \| [^|]+ \|$`).FindAllStringSubmatch(string(text), -1) {
		listed[row[1]] = true
	}
	for r, c := range closings {
		if c.code != 0 && !listed[strconv.Itoa(int(c.code))] {
			t.Errorf("%v: PROTO.md does not list %d", reason(r), c.code)
		}
	}
	if len(listed) < 10 {
		t.Errorf("PROTO.md lists %d codes", len(listed))
	}
}
