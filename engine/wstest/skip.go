package wstest

import (
	"os"
	"testing"
)

// Skip skips a test or a benchmark for which something is missing here. With CI=true
// it fails: there nothing may be missing.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("may not be skipped with CI=true: "+format, args...)
	}
	t.Skipf(format, args...)
}
