package engine

import (
	"testing"
	"unicode/utf8"
)

// Every reason has what the wire and the log need, and no two share a label.
func TestEveryReasonIsComplete(t *testing.T) {
	seen := map[string]reason{}
	for r := range reasons {
		c := closings[r]
		if c.label == "" {
			t.Errorf("reason %d has no label", r)
		}
		if other, taken := seen[c.label]; taken {
			t.Errorf("reasons %d and %d share the label %q", other, r, c.label)
		}
		seen[c.label] = r
		if len(c.text) > 123 || !utf8.ValidString(c.text) {
			t.Errorf("%v: the close frame's text is too long or no UTF-8 (RFC 6455, 5.5)", r)
		}
		if c.code == 0 && (c.text != "" || c.fault != "") {
			t.Errorf("%v: has a text, and no code to carry it", r)
		}
		standard := c.code >= 1000 && c.code <= 1014 && c.code != 1004 && c.code != 1005 && c.code != 1006
		if ours := c.code >= 4000 && c.code <= 4099; c.code != 0 && !standard && !ours {
			t.Errorf("%v: %d may not stand in a close frame", r, c.code)
		}
	}
}

// A violation keeps the code that the codec gave it.
func TestViolationsKeepTheirCode(t *testing.T) {
	for _, code := range []uint16{1002, 1007, 1009} {
		if r := ofCloseCode(code); closings[r].code != code {
			t.Errorf("%d became %v with %d", code, r, closings[r].code)
		}
	}
}
