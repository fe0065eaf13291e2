package wstest

import (
	"bytes"
	"testing"
)

func TestNumberedPacketsAreToldApart(t *testing.T) {
	for _, n := range []int{0, 3, 4, 5, 8, 11, 1000, 70_001} {
		p := Numbered(300, n)
		if len(p) != n || n > 4 && bytes.Equal(p[4:], Numbered(301, n)[4:]) {
			t.Fatalf("%d bytes: got %d, %.20x", n, len(p), p)
		}
		got, err := Number(p)
		if n < 4 {
			if err == nil {
				t.Errorf("%d bytes have no number, got %d", n, got)
			}
			continue
		}
		if got != 300 || err != nil {
			t.Errorf("%d bytes: wanted 300, got %d, %v", n, got, err)
		}
		if p[n-1] ^= 1; n > 4 {
			if got, err := Number(p); got != 300 || err == nil {
				t.Errorf("%d bytes, the last one wrong: got %d, %v", n, got, err)
			}
		}
	}
}
