package engine

import (
	"testing"

	"ws-stream-server/engine/wstest"
)

// A publisher over TLS that goes on sending after a violation is told what it did:
// what it sends is read and discarded, no reset destroys the close frame.
func TestAViolationOverTLSIsToldThoughTheClientSendsOn(t *testing.T) {
	s := newTestServer(t, withTLS(t), func(c *Config) { c.MaxMessageMB = 1 })
	for range 10 {
		pub := s.dialTLS("/cam/key/publish")
		rs := s.session(pub)
		// Until the close frame is there the client sends as fast as it can.
		sent := make(chan error, 1)
		big := wstest.Frame{Op: wstest.Binary, Payload: make([]byte, 3*mib)}.AppendTo(nil)
		go func() { sent <- pub.SendRawE(big) }()
		pub.WantError("Message too big", 1009)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if r := rs.reason(); r != messageTooBig {
			t.Fatalf("the reason is %v", r)
		}
		pub.Close()
		eventually(t, "it is gone", func() bool { return s.roster.size() == 0 })
	}
}

// What TLS has to say by itself to a client that does not listen is bounded.
func TestWhatTLSSaysByItselfIsBounded(t *testing.T) {
	s := newTestServer(t, withTLS(t))
	rec := s.dialTLS("/cam/key/receive")
	rs := s.session(rec)
	rs.unsent.Add(1) // its socket is full
	for i := 0; rs.ending.Load() == 0; i++ {
		if i > 2*maxOwn/1000 {
			t.Fatalf("%d bytes wait, and the session lives", rs.tls.wire.size())
		}
		_, _ = rs.tls.wire.Write(make([]byte, 1000)) // as crypto/tls answers a key update
		life := rs.life.Load()
		rec.SendText("h")
		eventually(t, "it is read", func() bool { return rs.life.Load() != life })
	}
	if r := rs.reason(); r != protocolError {
		t.Errorf("the reason is %v", r)
	}
	size := rs.tls.wire.size()
	for range 10 {
		rec.SendText("h")
	}
	if now := rs.tls.wire.size(); now > size || size > maxOwn+sealedPiece {
		t.Errorf("%d bytes wait, %d later", size, now)
	}
	rec.Close()
}
