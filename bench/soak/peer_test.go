//go:build soak && linux

package soak

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ws-stream-server/engine/wstest"
)

const (
	// handshakePatience is how long a client waits for the answer to its handshake,
	// and writePatience for the server to take what it sends.
	handshakePatience = 60 * time.Second
	writePatience     = 60 * time.Second

	// silence is how long a server may say nothing: it sends "h" every 20 s or so.
	silence = 50 * time.Second

	// endPatience is how long after its own last word, or after the stream's, a
	// client that reads waits for the end.
	endPatience = 60 * time.Second
)

// errTorn is an end in the middle of a frame.
var errTorn = errors.New("the connection ends in the middle of a frame")

// wrong is what the server must not do.
type wrong struct{ what string }

func (w *wrong) Error() string { return w.what }

func wrongf(format string, args ...any) error { return &wrong{fmt.Sprintf(format, args...)} }

// peer is an established WebSocket, seen from the client. One goroutine reads; any
// may write.
type peer struct {
	// Static after construction.
	nc  net.Conn
	tcp *net.TCPConn

	// Owned by the reader.
	br      *bufio.Reader
	early   []byte    // read along with the answer to the handshake
	inFrame bool      // an end here is a torn frame
	waits   time.Time // since when nothing was read
	mute    bool      // over HTTP: the server may say nothing for ever

	wasReset atomic.Bool // a read or a write has told of a reset: the kernel tells it once

	chunk atomic.Int64                 // bytes of one read; 0: as many as there are
	pause atomic.Pointer[func() error] // called before each read

	mu     sync.Mutex // held while a frame is written
	closed bool       // guarded by mu: we have sent a close frame

	// idle is asked what to do when a read's deadline is over: nil has it go on.
	idle func() error
}

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 8<<10) }}

// opened is what a handshake or a request gives.
type opened interface {
	TCP() *net.TCPConn
	Raw() (nc net.Conn, early []byte)
}

func newPeer(c opened) *peer {
	p := &peer{tcp: c.TCP(), waits: time.Now()}
	p.nc, p.early = c.Raw()
	p.br = buffers.Get().(*bufio.Reader)
	p.br.Reset(p)
	return p
}

// release gives the buffer back and ends the connection. Nobody reads any more.
func (p *peer) release() {
	_ = p.tcp.Close()
	p.br.Reset(nil)
	buffers.Put(p.br)
}

// poke makes a reader that waits ask idle.
func (p *peer) poke() { _ = p.nc.SetReadDeadline(time.Now()) }

// Read is where the buffer is filled from.
func (p *peer) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	for {
		if f := p.pause.Load(); f != nil {
			if err := (*f)(); err != nil {
				return 0, err
			}
		}
		if c := int(p.chunk.Load()); c > 0 && c < len(b) {
			b = b[:c]
		}
		n, err := p.nc.Read(b)
		if n > 0 {
			p.waits = time.Now()
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			p.noteReset(err)
			return 0, err
		}
		_ = p.nc.SetReadDeadline(time.Now().Add(silence / 4))
		if p.idle != nil {
			if err := p.idle(); err != nil {
				return 0, err
			}
		}
		if !p.mute && time.Since(p.waits) > silence {
			return 0, wrongf("nothing came for %v, no heartbeat either", silence)
		}
	}
}

func (p *peer) noteReset(err error) {
	if errors.Is(err, syscall.ECONNRESET) {
		p.wasReset.Store(true)
	}
}

// header reads a frame's header, and checks it as RFC 6455, 5.2 asks, and what this
// server promises of it: one frame for each message.
func (p *peer) header() (op byte, size int, err error) {
	p.inFrame = false
	var h [8]byte
	if _, err := io.ReadFull(p.br, h[:2]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return 0, 0, err
	}
	p.inFrame = true
	op, size = h[0]&0xF, int(h[1])
	if h[0]&0xF0 != 0x80 || size > 127 || op >= wstest.Close && size > 125 {
		return 0, 0, wrongf("frame header %#x %#x", h[0], h[1])
	}
	least := 0
	switch size {
	case 126:
		_, err = io.ReadFull(p.br, h[:2])
		size, least = int(binary.BigEndian.Uint16(h[:])), 126
	case 127:
		_, err = io.ReadFull(p.br, h[:8])
		size, least = int(binary.BigEndian.Uint64(h[:])&(1<<31-1)), 1<<16
	}
	switch {
	case err != nil:
		return 0, 0, p.inside(err)
	case size < least || size > mib:
		return 0, 0, wrongf("frame of opcode %#x with length %d", op, size)
	}
	return op, size, nil
}

// inside turns an error into one that says that a frame was torn.
func (p *peer) inside(err error) error {
	var w *wrong
	if errors.As(err, &w) {
		return err
	}
	return fmt.Errorf("%w: %v", errTorn, err)
}

// small reads the rest of a frame that is no packet.
func (p *peer) small(size int) ([]byte, error) {
	if size > 1000 {
		return nil, wrongf("a TEXT of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(p.br, b); err != nil {
		return nil, p.inside(err)
	}
	return b, nil
}

// compare reads as many bytes as want has. It returns the first one that is another,
// and what stands there.
func (p *peer) compare(want []byte) (at int, got []byte, err error) {
	for at = 0; len(want) > 0; {
		if p.br.Buffered() == 0 {
			if _, err := p.br.Peek(1); err != nil {
				return 0, nil, p.inside(err)
			}
		}
		n := min(len(want), p.br.Buffered())
		b, _ := p.br.Peek(n)
		if !bytes.Equal(b, want[:n]) {
			i := 0
			for b[i] == want[i] {
				i++
			}
			return at + i, bytes.Clone(b[i:min(n, i+16)]), nil
		}
		want = want[n:]
		at += n
		_, _ = p.br.Discard(n)
	}
	return at, nil, nil
}

// send writes frames, masked.
func (p *peer) send(frames ...wstest.Frame) error { return p.sendRaw(wstest.Bytes(frames...), 0) }

// sendRaw writes bytes in parts of n; 0: in one. Nothing is written after a close
// frame of ours.
func (p *peer) sendRaw(b []byte, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	_ = p.nc.SetWriteDeadline(time.Now().Add(writePatience))
	for len(b) > 0 {
		m := len(b)
		if n > 0 {
			m = min(m, n)
		}
		if _, err := p.nc.Write(b[:m]); err != nil {
			p.noteReset(err)
			return err
		}
		b = b[m:]
	}
	return nil
}

// sendClose writes a close frame, the last one of ours.
func (p *peer) sendClose(code int) error {
	var payload []byte
	if code != 0 {
		payload = wstest.ClosePayload(code, "")
	}
	err := p.send(wstest.Frame{Op: wstest.Close, Payload: payload})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return err
}

// reset ends the connection with a TCP reset.
func (p *peer) reset() {
	_ = p.tcp.SetLinger(0)
	_ = p.tcp.Close()
}

// awaitEnd reads to the end after the server's close frame: nothing may come any more.
func (p *peer) awaitEnd() error {
	_ = p.sendClose(1000)
	_ = p.nc.SetReadDeadline(time.Now().Add(silence / 4))
	p.pause.Store(nil)
	from := time.Now()
	p.idle = func() error { // asked before that, too: see poke
		if time.Since(from) > endPatience {
			return wrongf("no end of the connection %v after the close frame", endPatience)
		}
		p.waits = time.Now()
		return nil
	}
	b, err := p.br.ReadByte()
	var w *wrong
	switch {
	case err == nil:
		return wrongf("byte %#x after the close frame", b)
	case errors.As(err, &w):
		return err
	}
	return nil // the end, or the reset that answers our last words when the server has gone
}

// violations are what no client may send, and the close code that answers it.
var violations = []struct {
	name  string
	bytes func() []byte
	code  int
}{
	{"unmasked frame", func() []byte {
		return wstest.Frame{Op: wstest.Text, Payload: []byte("x"), Unmasked: true}.AppendTo(nil)
	}, 1002},
	{"reserved bit", func() []byte { return wstest.Frame{Op: wstest.Text, RSV: 4, Payload: []byte("x")}.AppendTo(nil) }, 1002},
	{"reserved opcode", func() []byte { return wstest.Frame{Op: 3 + byte(rand.IntN(5))}.AppendTo(nil) }, 1002},
	{"stray continuation", func() []byte { return wstest.Frame{Op: wstest.Continuation, Payload: []byte("x")}.AppendTo(nil) }, 1002},
	{"message in a message", func() []byte {
		return wstest.Bytes(wstest.Frame{Op: wstest.Text, More: true}, wstest.Frame{Op: wstest.Text})
	}, 1002},
	{"fragmented ping", func() []byte { return wstest.Frame{Op: wstest.Ping, More: true}.AppendTo(nil) }, 1002},
	{"long ping", func() []byte { return wstest.Frame{Op: wstest.Ping, Payload: make([]byte, 126)}.AppendTo(nil) }, 1002},
	{"length with the top bit", func() []byte { return wstest.Frame{Op: wstest.Binary, Declare: 1 << 63}.AppendTo(nil) }, 1002},
	{"close code 1005", func() []byte {
		return wstest.Frame{Op: wstest.Close, Payload: wstest.ClosePayload(1005, "")}.AppendTo(nil)
	}, 1002},
	{"close payload of a byte", func() []byte { return wstest.Frame{Op: wstest.Close, Payload: []byte{3}}.AppendTo(nil) }, 1002},
	{"text that is no UTF-8", func() []byte { return wstest.Frame{Op: wstest.Text, Payload: []byte{'a', 0xFF}}.AppendTo(nil) }, 1007},
	{"close reason that is no UTF-8", func() []byte {
		return wstest.Frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "\xC0\x80")}.AppendTo(nil)
	}, 1007},
}

// oversized is a message one byte larger than MAX_MESSAGE_MB, or the beginning of it.
func oversized() []byte {
	return wstest.Frame{Op: wstest.Binary, Payload: make([]byte, rand.IntN(5000)), Declare: mib + 1}.AppendTo(nil)
}
