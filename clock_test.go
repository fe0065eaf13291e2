package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wallClock is where the program asks for the time of day, and why a clock that jumps
// does no harm there. A time.Time of time.Now has the monotonic clock's reading as well,
// and Sub, Since, Before, After, Compare and deadlines go by that.
var wallClock = map[string]string{
	"notify.go send":                        "monotonic: a deadline",
	"auth/coordinator.go abandon":           "monotonic: subtracted from the tick of a ticker",
	"auth/dial.go run":                      "monotonic: time.Since",
	"engine/server.go New":                  "monotonic: Server.now is the time since then",
	"engine/upgrade.go upgrade":             "monotonic: a deadline",
	"engine/proxied.go meet":                "monotonic: a deadline",
	"engine/pollers_windows.go beforeWrite": "monotonic: a deadline",
	"engine/accept.go toNBIO":               "monotonic: a deadline",
	"engine/gate.go change":                 "monotonic: Sub",
	"engine/gate.go returned":               "monotonic: Sub",
	"engine/front.go refuseBody":            "monotonic: a deadline",
	"engine/gate.go track":                  "monotonic: Sub",
	"engine/gate.go stepped":                "monotonic: Sub",
	"engine/guest.go move":                  "monotonic: a deadline",
	"engine/guest.go Read":                  "monotonic: time.Since",
	"engine/guest.go SetReadDeadline":       "monotonic: Sub",
	"engine/guest.go SetWriteDeadline":      "monotonic: a deadline",
	"engine/shutdown.go partReceivers":      "monotonic: time.Since",
	"engine/answer.go appendHead":           "a stamp in an answer's header",
	"engine/admin/listener.go Listen":       "monotonic: time.Since",
	"engine/admin/routes.go handler":        "monotonic: Sub",
	"engine/tls.go newCertificate":          "a certificate's dates",
	"engine/tls.go watch":                   "a certificate's dates",
}

// asksForTheTime are functions of package time, strips what gives a time without a
// monotonic reading.
var (
	asksForTheTime = []string{"Now", "Date", "Unix", "UnixMilli", "UnixMicro", "Parse", "ParseInLocation"}
	strips         = []string{"Unix", "UnixNano", "UnixMilli", "UnixMicro", "AddDate", "Gettimeofday", "ClockGettime", "ModTime"}
)

// No time of day decides anything but stamps in the log and how valid
// certificates are: all durations, time-outs and ages come from the monotonic clock, so
// that a clock that is set, or jumps, disturbs nobody.
func TestNoTimeOfDayDecidesAnything(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && strings.HasPrefix(name, ".") || slices.Contains([]string{"bench", "wstest", "authtest", "testdata"}, d.Name()) {
				return fs.SkipDir // for tests
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			where := filepath.ToSlash(name)
			if fn, ok := decl.(*ast.FuncDecl); ok {
				where += " " + fn.Name.Name
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, _ := sel.X.(*ast.Ident)
				switch ofTime := pkg != nil && pkg.Name == "time"; {
				case ofTime && slices.Contains(asksForTheTime, sel.Sel.Name):
					found[where] = true
					if wallClock[where] == "" {
						t.Errorf("%s asks for the time of day: time.%s", where, sel.Sel.Name)
					}
				case !ofTime && slices.Contains(strips, sel.Sel.Name):
					t.Errorf("%s goes by the time of day: %s", where, sel.Sel.Name)
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for where := range wallClock {
		if !found[where] {
			t.Errorf("%s does not ask for the time any more", where)
		}
	}
}
