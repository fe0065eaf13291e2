package media

// piece is bytes of the stream, and where they begin.
type piece struct {
	at Point
	b  []byte
}

// input is what is left of a piece.
type input struct {
	at Point
	b  []byte
}

// next takes up to n bytes.
func (in *input) next(n int) []byte {
	n = min(n, len(in.b))
	b := in.b[:n:n]
	in.b = in.b[n:]
	in.at.Offset += n
	return b
}

// skip leaves out up to n bytes, and returns how many are still to be left out.
func (in *input) skip(n uint64) uint64 {
	return n - uint64(len(in.next(int(min(n, uint64(len(in.b)))))))
}

// gatherer collects the bytes of a unit that may begin in one packet and end in another.
type gatherer struct {
	b  []byte
	at Point // of b's first byte
}

// fill takes bytes until the gatherer has n, and reports whether it has.
func (g *gatherer) fill(in *input, n int) bool {
	if len(g.b) == 0 {
		g.at = in.at
	}
	if len(g.b) < n {
		g.b = append(g.b, in.next(n-len(g.b))...)
	}
	return len(g.b) >= n
}

// pending returns where the unit begins that is being collected, false if none is.
func (g *gatherer) pending() (Point, bool) { return g.at, len(g.b) > 0 }

// mostRoom is how much room a gatherer keeps for the next unit, in bytes: most are smaller.
const mostRoom = 4 << 10

// reset begins anew. The bytes that were collected may be overwritten.
func (g *gatherer) reset() {
	if cap(g.b) > mostRoom {
		g.b = nil
	}
	g.b = g.b[:0]
}
