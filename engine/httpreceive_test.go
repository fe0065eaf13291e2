package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"testing"

	"ws-stream-server/engine/wstest"
)

// A receiver over HTTP that stopped reading costs its cursor and one piece, of small
// packets and of large ones; when it reads again it gets every byte.
func TestAStalledHTTPReceiverCostsOnePiece(t *testing.T) {
	for _, size := range []int{100, 32 << 10} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("size=%d tls=%v", size, secure), func(t *testing.T) {
				s := newTestServer(t, withTLS(t), func(c *Config) { c.GOPCacheSizeMB, c.ReceiverLagMB = 64, 64 })
				const header = 512 // of the answer, at most
				most := int64(gatheredPiece + header)
				addr, opts := s.addr, []wstest.Option{wstest.ReceiveBuffer(4096), wstest.Patience(patience)}
				if secure {
					addr, opts = s.tlsAddr, append(opts, wstest.TLS(s.trust))
					most += gatheredPiece/maxRecord*22 + 512 // as for WebSocket
				}
				rec := wstest.Get(t, addr, "/cam/key/receive", opts...)
				rs := s.session(rec)
				pub := s.publish("cam", "key")
				want := sha256.New()
				send := func(i int) {
					p := numbered(i, size)
					want.Write(p)
					pub.Send(wstest.Binary, p)
				}
				sent := 0
				for ; rs.free(); sent++ {
					send(sent)
					if sent%100 == 0 || size > 1000 {
						pub.Sync()
					}
				}
				for range max(100, 300_000/size) {
					send(sent)
					sent++
					if kept := rs.unsent.Load(); kept > most || kept <= 0 {
						t.Fatalf("%d bytes are kept for a stalled receiver, want 1 to %d", kept, most)
					}
				}
				pub.CloseHandshake(1000)
				rec.WantHead(200)
				if n := wantSum(t, rec, want); n != int64(sent*size) {
					t.Errorf("got %d bytes, wanted %d", n, sent*size)
				}
			})
		}
	}
}

// wantSum reads a stream to its end, which must be in order, and fails unless it is the
// one with this sum. It returns how long it was.
func wantSum(t *testing.T, c *wstest.HTTP, want hash.Hash) (n int64) {
	t.Helper()
	got := sha256.New()
	b := make([]byte, 64<<10)
	for {
		m, err := c.ReadE(b)
		got.Write(b[:m])
		n += int64(m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes of something else", n)
	}
	return n
}
