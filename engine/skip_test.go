package engine

import (
	"bytes"
	"testing"

	"ws-stream-server/engine/wstest"
)

// withSkips has slow receivers skip, with a small cache and lag, in MiB.
func withSkips(cache, lag int) func(*Config) {
	return func(c *Config) {
		c.SlowReceiver, c.GOPCacheSizeMB, c.MaxMessageMB, c.ReceiverLagMB, c.SendBufferKB = skipThem, cache, lag, lag, 32
	}
}

// A receiver that stopped reading jumps from one key frame to another when it has used up
// half of what it may lag; it gets whole pictures, wherever packets begin, is told so once,
// and is not closed. The others of its group notice nothing.
func TestAStalledReceiverSkips(t *testing.T) {
	const size, lag = 30_000, 2
	for _, cut := range []int{size, 7000} {
		s := newTestServer(t, withSkips(1, lag))
		pub := s.publish("cam", "key")
		sendAll(pub, flvBegin)
		var others []*wstest.Conn
		for range inPlace + 1 {
			others = append(others, s.receive("cam", "key"))
			others[len(others)-1].WantPacket(flvBegin)
		}
		slow := s.receive("cam", "key", wstest.ReceiveBuffer(4096))
		tags := flvStream(150, size)
		stream := bytes.Join(tags, nil)
		sent := len(flvBegin)
		send := func() {
			for end := sent + size; sent < end; {
				p := stream[sent:][:cut]
				sent += len(p)
				sendAll(pub, p)
				for _, c := range others {
					c.WantPacket(p)
				}
			}
		}
		for s.skips.Load() == 0 && s.info(slow).LagBytes < mib+lag*mib/2 {
			send()
		}
		for i := 0; s.skips.Load() == 0; i++ { // it is looked for now and then
			if i == 20 {
				t.Fatalf("cut=%d: it does not skip", cut)
			}
			from := s.now()
			eventually(t, "it is time to look again", func() bool { return s.now()-from > int64(skipEvery) })
			send()
		}
		if i := s.info(slow); i.Skips != 1 || i.LagBytes > 25*size {
			t.Errorf("cut=%d: after a skip: %+v", cut, i)
		}
		for range 15 {
			send()
		}
		pub.CloseHandshake(1000)
		for _, c := range others {
			c.WantClose(1000)
		}
		wantJump(t, slow, stream[:sent], 10*size)
		if n := s.skips.Load(); n != 1 {
			t.Errorf("cut=%d: %d skips", cut, n)
		}
	}
}

// wantJump fails unless a receiver gets all of a stream, which has a key frame each so many
// bytes, but what lies between two of them, and then the stream's end.
func wantJump(t *testing.T, c *wstest.Conn, stream []byte, every int) {
	t.Helper()
	var got []byte
	m := c.Next()
	for ; m.Op == wstest.Binary; m = c.Next() {
		got = append(got, m.Payload...)
	}
	if m.Op != wstest.Close || m.Code() != 1000 {
		t.Errorf("the stream ends with %v", m)
	}
	for from := len(flvBegin); from < len(got); from += every {
		to := len(stream) - (len(got) - from)
		if to > from && (to-from)%every == 0 && bytes.Equal(got[:from], stream[:from]) && bytes.Equal(got[from:], stream[to:]) {
			return
		}
	}
	t.Errorf("it got %d bytes of %d: no jump from one key frame to another", len(got), len(stream))
}

// When the stream has ended a receiver that is far behind gets everything.
func TestNobodySkipsWhenTheStreamHasEnded(t *testing.T) {
	s := newTestServer(t, withSkips(0, 4))
	pub := s.publish("cam", "key")
	rec := s.receive("cam", "key")
	tags := flvStream(110, 30_000)
	sendAll(pub, tags[0])
	rec.WantPacket(tags[0])
	g := s.session(rec).group.Load()
	func() {
		g.passing.Lock()
		defer g.passing.Unlock()
		sendAll(pub, tags[1:]...)
		pub.CloseHandshake(1000)
	}()
	rec.WantPackets(tags[1:]...)
	rec.WantClose(1000)
	if n := s.skips.Load(); n != 0 {
		t.Errorf("%d skips", n)
	}
}
