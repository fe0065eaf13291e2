package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"testing"
	"time"

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

// Who has not got everything when a shutdown has no more time is cut off, and can tell
// that from the end of the stream without chunks too.
func TestHTTPReceiversThatAShutdownCuts(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.ReceiverLagMB = 64 })
	rec := wstest.Get(t, s.addr, "/cam/key/receive", wstest.Proto("HTTP/1.0"), wstest.ReceiveBuffer(4096))
	rs := s.session(rec)
	pub := s.publish("cam", "key")
	for i := 0; rs.free(); i++ {
		pub.Send(wstest.Binary, numbered(i, 100_000))
		pub.Sync()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.hasten(ctx)
	rec.WantHead(200)
	rec.WantCut()
}

// However clients over HTTP come and go, they have no goroutine, and leave nothing.
func TestHTTPClientsLeaveNothing(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 100
	}
	s := newTestServer(t, withTLS(t))
	secure := wstest.TLS(s.trust)
	before := goroutines("")
	var pubs, recs []*wstest.HTTP
	for i := range n {
		path := fmt.Sprintf("/cam%d/key/", i%10)
		addr, opts := s.addr, []wstest.Option(nil)
		if i%3 == 0 {
			addr, opts = s.tlsAddr, append(opts, secure)
		}
		recs = append(recs, wstest.Get(t, addr, path+[]string{"receive", "probe", "receive-clear-cache"}[i%7%3], opts...))
		if i < 10 {
			pubs = append(pubs, wstest.Put(t, addr, path+"publish", opts...))
		}
	}
	eventually(t, "all are in", func() bool { return s.Census().Sessions == n+len(pubs) && s.Census().Streams == len(pubs) })
	eventually(t, "the handshakes' goroutines have ended", func() bool { return goroutines("") <= before+4 })
	for i, p := range pubs {
		p.Send(wstest.Chunk(numbered(i, 100_000)))
	}
	for i, r := range recs {
		switch i % 4 {
		case 0:
			_ = r.TCP().SetLinger(0)
			r.Close()
		case 1:
			_ = r.TCP().CloseWrite()
		default:
			r.WantHead(200)
			r.WantBody(numbered(i%10, 100_000)[:1000])
		}
	}
	for i, p := range pubs {
		switch i % 3 {
		case 0:
			_ = p.TCP().SetLinger(0)
			p.Close()
		case 1:
			p.Close()
		default:
			p.Send(wstest.Chunk(nil))
			p.WantAnswer(200, "published")
			p.Close()
		}
	}
	for _, r := range recs {
		r.Close()
	}
	s.wantNothingLeft()
}

// A pass that comes by between the first packet and the look at it writes nothing: the
// header would not say what it is. What follows has the header go out, and all of it.
func TestHTTPReceiversThatMeetTheFirstPacket(t *testing.T) {
	s := newTestServer(t)
	rec := wstest.Get(t, s.addr, "/cam/key/receive")
	rs := s.session(rec)
	pub := s.publish("cam", "key")
	ps := s.session(pub)
	first := "FLV\x01 and so on"
	ps.in.mu.Lock() // we are the publisher's poller
	copy(ps.ring.Reserve(2+len(first)), string([]byte{0x82, byte(len(first))})+first)
	ps.ring.Commit(0)
	rs.group.Load().tryPass(s.now())
	begun := rs.http.begun.Load()
	ps.in.phase = phaseRunning
	ps.noteFirst()
	ps.in.mu.Unlock()
	if begun {
		t.Error("the header was written before it was known what the stream is")
	}
	ps.ch.wake(s.now(), 0, ps.ring.Written())
	if h := rec.WantHead(200); h.Get("Content-Type") != "video/x-flv" {
		t.Errorf("the header is %v", h)
	}
	rec.WantBody([]byte(first))
}

// A publisher that ends between its first packet and the look at it, by a fault, leaves no
// receiver waiting for that look.
func TestHTTPReceiversOfAPublisherThatNeverLooked(t *testing.T) {
	s := newTestServer(t)
	rec := wstest.Get(t, s.addr, "/cam/key/receive")
	s.session(rec)
	ps := s.session(s.publish("cam", "key"))
	first := "FLV\x01 and so on"
	ps.in.mu.Lock() // we are the publisher's poller
	copy(ps.ring.Reserve(2+len(first)), string([]byte{0x82, byte(len(first))})+first)
	ps.ring.Commit(0)
	ps.in.phase = phaseRunning
	ps.in.mu.Unlock()
	ps.end(internalFault)
	if h := rec.WantHead(200); h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("the header is %v", h)
	}
	rec.WantBody([]byte(first))
	rec.WantEnd()
}

// What a client sends behind the body that it has published is read for a while, so that
// no reset takes the answer away; its place is free at once.
func TestWhatComesBehindABodyIsWaitedFor(t *testing.T) {
	s := newTestServer(t)
	p := wstest.Put(t, s.addr, "/cam/key/publish")
	ps := s.session(p)
	p.Send(wstest.Chunk([]byte("something")))
	p.Send(wstest.Chunk(nil))
	p.WantAnswer(200, "published")
	if n := s.places.taken.Load(); n != 0 {
		t.Errorf("%d places are taken", n)
	}
	s.closing.mu.Lock()
	at, waits := s.closing.at[ps] // it does not, if the machine was so slow
	s.closing.mu.Unlock()
	if wait := time.Duration(at - ps.endedAt); waits && wait < lingerTimeout {
		t.Errorf("it is cut off %v after the end", wait)
	}
}
