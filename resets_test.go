package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// way is one of the two listeners, and what a client needs to come in by it.
type way struct {
	name string
	addr string
	tls  *tls.Config // nil: plain
}

// ways are the plain listener and the one that speaks TLS.
func (s *server) ways(id wstest.Identity) []way {
	return []way{{"plain", s.addr, nil}, {"TLS", s.tlsAddr, id.Trust()}}
}

func (w way) options(opts ...wstest.Option) []wstest.Option {
	if w.tls != nil {
		opts = append(opts, wstest.TLS(w.tls))
	}
	return opts
}

// dial is dialSoon by this way: a handshake that was reset may be under way still.
func (w way) dial(s *server, path string, opts ...wstest.Option) *wstest.Conn {
	s.t.Helper()
	return s.dialSoonAt(w.addr, path, w.options(opts...)...)
}

// resetting is one round of one moment: a client that comes in by a way, from an
// address of its own, and goes.
type resetting struct {
	*server
	way   way
	from  string
	round int
}

// one picks by the round.
func one[T any](r resetting, of ...T) T { return of[r.round%len(of)] }

// gone is a channel of this round.
func (r resetting) gone() string { return fmt.Sprint("gone", r.round) }

func (r resetting) open(path string) *wstest.Conn {
	r.t.Helper()
	return r.way.dial(r.server, path, wstest.From(r.from), wstest.ReceiveBuffer(4096))
}

// say opens a connection, says this and resets it: the server has read it by then,
// or not. With TLS the handshake comes first, and not at all when nothing is said.
func (r resetting) say(text string) {
	r.t.Helper()
	d := net.Dialer{Timeout: wstest.Timeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(r.from)}}
	tcp, err := d.Dial("tcp", r.way.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		_ = tcp.(*net.TCPConn).SetLinger(0)
		_ = tcp.Close()
	}()
	if text == "" {
		return
	}
	_ = tcp.SetDeadline(time.Now().Add(wstest.Timeout))
	nc := tcp
	if r.way.tls != nil {
		cfg := r.way.tls.Clone()
		cfg.ServerName = "127.0.0.1"
		nc = tls.Client(tcp, cfg)
	}
	if _, err := io.WriteString(nc, text); err != nil {
		r.t.Fatal(err)
	}
}

// half is the beginning of a frame.
func half() []byte {
	return wstest.Bytes(frame{Op: wstest.Binary, Payload: payload(50_000, 1)})[:30_000]
}

var resetMoments = []struct {
	moment string
	do     func(r resetting)
}{
	{"before the first byte", func(r resetting) { r.say("") }},
	{"in the TLS handshake", func(r resetting) { // or in what is no HTTP
		r.way.tls = nil
		r.say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"[:1+r.round])
	}},
	{"in the middle of the request", func(r resetting) { r.say(wstest.UpgradeRequest("/gone/key/publish")[:10+r.round*15]) }},
	{"between a publisher's request and the 101", func(r resetting) { r.say(wstest.UpgradeRequest("/" + r.gone() + "/key/publish")) }},
	{"between a publisher's request and the 101, and a receiver waits", func(r resetting) {
		watch := r.receive(r.gone(), "key")
		r.say(wstest.UpgradeRequest("/" + r.gone() + "/key/publish"))
		next := r.dialSoon("/" + r.gone() + "/key/publish")
		next.Send(wstest.Binary, []byte("next"))
		if m := watch.Next(); m.Op != wstest.Close { // else the one that was reset had begun
			if string(m.Payload) != "next" {
				r.t.Errorf("wanted the next publisher's packet, got %v", m)
			}
			next.CloseHandshake(1000)
			watch.WantClose(1000)
		}
		next.Close()
	}},
	{"between a receiver's request and the 101", func(r resetting) {
		r.say(wstest.UpgradeRequest(one(r, "/live/key/receive", "/gone/key/receive", "/live/wrong/receive")))
	}},
	{"behind packets that came with the request", func(r resetting) {
		r.say(wstest.UpgradeRequest("/"+r.gone()+"/key/publish") + string(half()))
	}},
	{"right behind a publisher's 101", func(r resetting) { r.open("/" + r.gone() + "/key/publish").Reset() }},
	{"right behind a receiver's 101", func(r resetting) {
		r.open(one(r, "/live/key/receive", "/gone/key/receive", "/live/wrong/receive", "/live/key/probe")).Reset()
	}},
	{"before a publisher's first frame", func(r resetting) {
		c := r.open("/" + r.gone() + "/key/publish")
		c.Sync()
		c.Reset()
	}},
	{"before a receiver's first packet", func(r resetting) {
		c := r.open("/gone/key/receive")
		c.Sync()
		c.Reset()
	}},
	{"in the middle of a publisher's frame", func(r resetting) {
		c, watch := r.open("/"+r.gone()+"/key/publish"), r.receive(r.gone(), "key")
		c.Send(wstest.Binary, []byte("whole"))
		watch.WantPacket([]byte("whole"))
		c.SendRaw(half()[:one(r, 1, 2, 5, 8, 9, 1000, 30_000)])
		c.Reset()
		watch.WantClose(1000) // and nothing of the half packet
		watch.WantEOF()
	}},
	{"in the middle of a publisher's message", func(r resetting) {
		c, watch := r.open("/"+r.gone()+"/key/publish"), r.receive(r.gone(), "key")
		c.SendFrames(wstest.Message(wstest.Binary, payload(50_000, 1), 3)[:one(r, 1, 2)]...)
		c.Reset()
		watch.WantClose(1000)
		watch.WantEOF()
	}},
	{"in the middle of a receiver's frame", func(r resetting) {
		c := r.open("/gone/key/receive")
		c.SendRaw(half()[:1+r.round*r.round])
		c.Reset()
	}},
	{"in the middle of a packet that a receiver takes", func(r resetting) {
		c := r.open("/live/key/receive")
		for i := range one(r, 0, 1, 2) {
			c.WantPacket(numbered(i, 100_000))
		}
		c.Reset()
	}},
	{"behind a violation", func(r resetting) {
		c := r.open("/live/key/receive")
		c.SendFrames(frame{Op: 7})
		c.Reset()
	}},
	{"behind a close frame", func(r resetting) {
		c := r.open("/" + r.gone() + "/key/" + one(r, "publish", "receive"))
		c.SendClose(1000, "")
		c.Reset()
	}},
}

// A client may reset its connection at any moment. Whatever the moment, its channel
// and its address's place come back, and those that stay get every packet.
func TestResetsAtAnyMoment(t *testing.T) {
	t.Parallel()
	requireLoopbackRange(t)
	const rounds = 10 // as many as an address has places: nobody waits for one
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "LOG_REQUESTS=NO", "CONCURRENT_LIMIT_WHITELIST=127.0.0.1", fmt.Sprint("MAX_IP_CONCURRENT_CONNECTIONS=", rounds))
	before := s.descriptors()
	pub := s.publish("live", "key")
	stay := []*wstest.Conn{s.receive("live", "key"), s.tlsDial(t, "/live/key/receive", id)}
	packets := 0
	publish := func(size int) {
		pub.Send(wstest.Binary, numbered(packets, size))
		for _, r := range stay {
			r.WantPacket(numbered(packets, size))
		}
		packets++
	}
	for range 40 { // 4 MB, more than a socket takes at once
		publish(100_000)
	}
	for i, m := range resetMoments {
		for j, w := range s.ways(id) {
			ok := t.Run(m.moment+", "+w.name, func(t *testing.T) {
				s := s.on(t)
				from := fmt.Sprintf("127.0.5.%d", 1+2*i+j)
				for round := range rounds {
					m.do(resetting{s, w, from, round})
				}
				wantSlots(t, s, from, rounds)
				for round := range rounds {
					s.dialSoon(fmt.Sprintf("/gone%d/key/publish", round)).CloseHandshake(1000)
				}
			})
			if !ok {
				return // the others would wait for what is lost
			}
			publish(1000)
		}
	}
	pub.CloseHandshake(1000)
	for _, r := range stay {
		r.WantClose(1000)
		r.WantEOF()
	}
	eventually(t, "every socket is given back", func() bool { return s.descriptors() <= before })
}

// Receivers that are given a large cache reset in the middle of it, then the
// publisher does: the others still get all of it.
func TestResetsDuringAReplay(t *testing.T) {
	t.Parallel()
	heavy(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, "LOG_REQUESTS=NO", "GOP_CACHE_SIZE_MB=16")
	before := s.descriptors()
	for _, w := range s.ways(id) {
		t.Run(w.name, func(t *testing.T) {
			s := s.on(t)
			const doomed, staying = 8, 3
			pub := w.dial(s, "/cam/key/publish")
			packets := make([][]byte, 60) // 6 MB
			for i := range packets {
				packets[i] = payload(100_000, uint64(i))
			}
			sendAll(pub, packets...)
			pub.Sync()
			join := func() *wstest.Conn {
				return w.dial(s, "/cam/key/receive", wstest.ReceiveBuffer(256<<10))
			}
			var stay []*wstest.Conn
			for range staying {
				r := join()
				r.WantPacket(packets[0])
				stay = append(stay, r)
			}
			for i := range doomed {
				r := join()
				r.WantPackets(packets[:i*4]...)
				r.Reset()
			}
			pub.Reset() // while those that stay have got next to nothing
			s.dialSoon("/cam/key/publish").CloseHandshake(1000)
			for _, r := range stay {
				r.WantPackets(packets[1:]...)
				r.WantClose(1000)
				r.WantEOF()
			}
			eventually(t, "every socket is given back", func() bool { return s.descriptors() <= before })
		})
	}
}

// While the server ends, clients reset: what it waits for are those that take their
// last packets, and it needs none of the time that it has for those that do not.
func TestResetsDuringShutdown(t *testing.T) {
	t.Parallel()
	heavy(t)
	id := wstest.NewIdentity(t, "one")
	s, _ := startTLS(t, id, unhurried)
	ways := s.ways(id)
	const n, size = 60, 30_000 // more than the sockets take
	var pubs, doomed, stay []*wstest.Conn
	for _, w := range ways {
		pub := w.dial(s, "/"+w.name+"/key/publish")
		for i := range n {
			pub.Send(wstest.Binary, numbered(i, size))
		}
		pub.Sync()
		pubs = append(pubs, pub)
		stay = append(stay, w.dial(s, "/"+w.name+"/key/receive", wstest.ReceiveBuffer(64<<10)))
		for range 10 {
			doomed = append(doomed, w.dial(s, "/"+w.name+"/key/receive", wstest.ReceiveBuffer(4096)))
		}
		doomed = append(doomed, w.dial(s, "/nobody/key/receive"), w.dial(s, "/nothing"+w.name+"/key/publish"))
	}
	s.wantLeft(stay[0], n*size)
	for _, r := range doomed[:3] {
		r.Reset()
	}
	s.signal(syscall.SIGTERM)
	pubs[0].WantClose(1001) // it has begun
	for _, r := range doomed[3:10] {
		r.Reset()
	}
	for i, r := range stay {
		for j := range n {
			r.WantPacket(numbered(j, size))
			if k := 10 + i*7 + j/5; j%5 == 0 && k < len(doomed) {
				doomed[k].Reset()
			}
		}
		r.WantClose(1001)
		r.WantEOF()
	}
	for _, r := range doomed {
		r.Reset()
	}
	pubs[1].Reset()
	start, late := time.Now(), lateness(t)
	if code := s.wait(); code != 0 {
		t.Errorf("wanted exit code 0, got %d", code)
	}
	took := time.Since(start)
	if log := s.logs(); strings.Contains(log, "cut short") || took > shutdownTimeout+late() {
		t.Errorf("wanted nobody waited for who is gone, the end came %v later:\n%s", took, tail(log))
	}
}
