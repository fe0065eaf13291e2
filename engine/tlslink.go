package engine

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/bytebufferpool"
)

// wire is the net.Conn below a tls.Conn. Until the hand-over it is the TCP
// connection: crypto/tls does its handshake on it, on net/http's goroutine. From
// then on nobody blocks in it: Read gives what the poller has brought, and says
// os.ErrDeadlineExceeded when that is used up, which crypto/tls takes as
// temporary and goes on later where it stopped; Write gathers records.
type wire struct {
	net.Conn // static; nothing is read or written here after the hand-over

	live atomic.Bool // after the hand-over

	in []byte // guarded by the session's in.mu: brought and not used up

	// Guarded by mu. crypto/tls writes while it reads, too (key updates): on the
	// poller, when somebody else may hold the session's write lock. The order of
	// Writes is the order of records; who holds the write lock takes them all.
	mu  sync.Mutex
	out *bytebufferpool.ByteBuffer
}

func (w *wire) Read(b []byte) (int, error) {
	if !w.live.Load() {
		return w.Conn.Read(b)
	}
	if len(w.in) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(b []byte) (int, error) {
	if !w.live.Load() {
		return w.Conn.Write(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		w.out = bytebufferpool.Get()
	}
	return w.out.Write(b)
}

// Deadlines do nothing after the hand-over: crypto/tls sets one when it says
// goodbye, and nbio would drop what is unsent.

func (w *wire) SetDeadline(t time.Time) error {
	if w.live.Load() {
		return nil
	}
	return w.Conn.SetDeadline(t)
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.live.Load() {
		return nil
	}
	return w.Conn.SetReadDeadline(t)
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.live.Load() {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

// gathered takes the records written so far; nil if there are none.
func (w *wire) gathered() *bytebufferpool.ByteBuffer {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

// size returns how many bytes of records wait.
func (w *wire) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return 0
	}
	return len(w.out.B)
}

// tlsLink is TLS between a session and its wire, without a goroutine.
type tlsLink struct {
	conn *tls.Conn // static
	wire *wire     // static

	choked bool // guarded by in.mu: more than maxOwn waits, nothing is read any more
}

// open decrypts what the poller brought and gives it to the session's decoder.
// After a violation it reads on: what is left in the middle of a record would make
// an error of TLS, and the close frame would be followed by a reset. The caller
// holds in.mu; b is not kept.
func (t *tlsLink) open(s *session, b []byte) (reason, uint16) {
	if t.choked {
		return notEnded, 0
	}
	t.wire.in = b
	r, code := t.read(s)
	t.wire.in = nil
	switch own := t.wire.size(); {
	case own > maxOwn:
		t.choked, s.in.deaf = true, true
		if r == notEnded {
			r, code = protocolError, closings[protocolError].code
		}
	case own > 0:
		s.raise(sendWire)
	}
	return r, code
}

// read has TLS read until it wants more, and returns what the decoder found first.
// The caller holds in.mu.
func (t *tlsLink) read(s *session) (r reason, code uint16) {
	plain := bytebufferpool.Get()
	defer bytebufferpool.Put(plain)
	if cap(plain.B) < maxRecord {
		plain.B = make([]byte, maxRecord)
	}
	buf := plain.B[:maxRecord]
	for {
		n, err := t.conn.Read(buf)
		if n > 0 && r == notEnded {
			r, code = s.decode(buf[:n])
		}
		switch {
		case err == nil:
		case isTemporary(err):
			return r, code
		default: // the client's close_notify, or records that are none
			s.in.deaf = true
			if r == notEnded && !s.clientDone.Swap(true) {
				r, code = clientGone, 0
			}
			return r, code
		}
	}
}

// maxOwn is how much TLS may have to say by itself, in bytes, beside one sealed
// piece, to a client that does not listen: a client can ask for a new key with
// every record (RFC 8446, 4.6.3), and each one is answered.
const maxOwn = 4 * sealedPiece

// maxRecord is the largest payload of a TLS record (RFC 8446, 5.1).
const maxRecord = 16 << 10

// isTemporary reports whether an error only says that the poller has brought no
// more.
func isTemporary(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// seal encrypts b into records, in front of them what TLS had to send by itself,
// behind them the end of TLS if last. The buffer goes back with sealed. The caller
// holds the write lock.
func (t *tlsLink) seal(b []byte, last bool) *bytebufferpool.ByteBuffer {
	if len(b) > 0 {
		_, _ = t.conn.Write(b) // fails only after an alert; then the connection ends anyway
	}
	if last {
		_ = t.conn.CloseWrite()
	}
	if out := t.wire.gathered(); out != nil {
		return out
	}
	return bytebufferpool.Get()
}

// sealed gives a buffer of seal back.
func (t *tlsLink) sealed(b *bytebufferpool.ByteBuffer) {
	if cap(b.B) <= maxPooled {
		bytebufferpool.Put(b)
	}
}

// release gives back what the wire has gathered. Called once the session is gone.
func (t *tlsLink) release() {
	if out := t.wire.gathered(); out != nil {
		t.sealed(out)
	}
}
