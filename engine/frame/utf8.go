package frame

import "unicode/utf8"

// utf8State is how far a TEXT message has come inside a character, in one byte.
// It names what the next byte has to be (RFC 3629, section 4).
type utf8State uint8

const (
	utf8Complete utf8State = iota // between characters
	utf8Tail1                     // one more 80..BF
	utf8Tail2                     // two more
	utf8Tail3                     // three more
	utf8AfterE0                   // A0..BF, then one more: no overlong form
	utf8AfterED                   // 80..9F, then one more: no surrogate
	utf8AfterF0                   // 90..BF, then two more: no overlong form
	utf8AfterF4                   // 80..8F, then two more: nothing above U+10FFFF
	utf8Invalid                   // no byte can mend it
)

// check returns the state after b. It says utf8Invalid as soon as b holds a byte
// that cannot be part of UTF-8 text, also if b ends inside the character.
func (s utf8State) check(b []byte) utf8State {
	// The rest of a character that began in an earlier piece.
	for s != utf8Complete && len(b) > 0 {
		if s = s.step(b[0]); s == utf8Invalid {
			return s
		}
		b = b[1:]
	}
	// All that is complete, at the standard library's speed.
	whole := len(b) - openTail(b)
	if !utf8.Valid(b[:whole]) {
		return utf8Invalid
	}
	// The beginning of a character that goes on in the next piece.
	for _, c := range b[whole:] {
		s = s.step(c)
	}
	return s
}

// openTail is the length of the last character in b if b breaks off inside it
// and what is there is right so far, else 0.
func openTail(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// step takes one byte.
func (s utf8State) step(c byte) utf8State {
	if s == utf8Complete {
		return lead(c)
	}
	low, high, then := byte(0x80), byte(0xBF), utf8Complete
	switch s {
	case utf8Tail2:
		then = utf8Tail1
	case utf8Tail3:
		then = utf8Tail2
	case utf8AfterE0:
		low, then = 0xA0, utf8Tail1
	case utf8AfterED:
		high, then = 0x9F, utf8Tail1
	case utf8AfterF0:
		low, then = 0x90, utf8Tail2
	case utf8AfterF4:
		high, then = 0x8F, utf8Tail2
	case utf8Invalid:
		return utf8Invalid
	}
	if c < low || c > high {
		return utf8Invalid
	}
	return then
}

// lead is the state after the first byte of a character.
func lead(c byte) utf8State {
	switch {
	case c < 0x80:
		return utf8Complete
	case c < 0xC2: // a byte from inside a character, or an overlong form
		return utf8Invalid
	case c < 0xE0:
		return utf8Tail1
	case c == 0xE0:
		return utf8AfterE0
	case c == 0xED:
		return utf8AfterED
	case c < 0xF0:
		return utf8Tail2
	case c == 0xF0:
		return utf8AfterF0
	case c < 0xF4:
		return utf8Tail3
	case c == 0xF4:
		return utf8AfterF4
	}
	return utf8Invalid
}
