package engine

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/engine/wstest"
)

// A publisher that sends and closes at once, in whatever way but a reset, loses
// nothing: the poller reads to the end of what the kernel has.
func TestPublishersThatCloseAtOnceLoseNothing(t *testing.T) {
	const publishers = 20
	atOnce := publishers
	if raceEnabled {
		atOnce = 6 // who is read for longer than 50 s may lose something
	}
	goodbye := map[string]func(*wstest.Conn){
		"close":       (*wstest.Conn).Close,
		"half-close":  (*wstest.Conn).CloseWrite,
		"close frame": func(c *wstest.Conn) { c.SendClose(1000, ""); c.Close() },
	}
	for name, leave := range goodbye {
		for _, mb := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d MB", name, mb), func(t *testing.T) {
				s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 })
				var all sync.WaitGroup
				random := numbered(1, mb*mib)
				for i := range publishers {
					channel := fmt.Sprintf("cam%d", i)
					// All together it is much, under the race detector and on few cores.
					rec := s.receive(channel, "key", wstest.Patience(6*patience))
					pub := s.publish(channel, "key", wstest.Patience(6*patience))
					p := append([]byte(channel), random...)
					all.Add(1)
					go func() {
						defer all.Done()
						if err := pub.SendE(wstest.Binary, p); err != nil {
							t.Errorf("%s: %v", channel, err)
						}
						leave(pub)
						if m, err := rec.NextE(); err != nil || !bytes.Equal(m.Payload, p) {
							t.Errorf("%s: lost its message: %v, %v", channel, m, err)
						} else if m, err := rec.NextE(); err != nil || m.Code() != 1000 {
							t.Errorf("%s: wanted CLOSE 1000, got %v, %v", channel, m, err)
						}
					}()
					if (i+1)%atOnce == 0 {
						all.Wait()
					}
				}
				all.Wait()
			})
		}
	}
}

// A publisher that floods has its poller for a few reads, then the others get
// their turn: the flood is stopped in the middle of an event, and while it waits
// more of it arrives, and one packet of another publisher.
func TestAFloodDoesNotStarveTheOthers(t *testing.T) {
	procs(t, 1) // one poller
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	flood := s.publish("flood", "key")
	quiet := s.publish("quiet", "key")
	rec := s.receive("quiet", "key")
	f, q := s.session(flood), s.session(quiet)
	quiet.Sync()

	const size = 16 << 10
	frame := wstest.Frame{Op: wstest.Binary, Payload: numbered(1, size)}.AppendTo(nil)
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for flood.SendRawE(frame) == nil {
			sent.Add(1)
		}
	}()
	// Warm: the kernel gives a fast connection large buffers.
	warm := uint64(5_000)
	if raceEnabled {
		warm = 1_000
	}
	for head := uint64(0); head < warm; head = f.ch.ring.Head() {
		eventually(t, "the flood runs", func() bool { return f.ch.ring.Head() > head })
	}

	for round := range 5 {
		took := func() uint64 {
			q.in.mu.Lock()
			defer q.in.mu.Unlock()
			life, head := q.life.Load(), uint64(0)
			func() {
				f.in.mu.Lock() // the poller stops here, at its next read
				defer f.in.mu.Unlock()
				before, last, since := sent.Load(), int64(-1), time.Now()
				eventually(t, "the flood piles up", func() bool {
					n := sent.Load()
					if n != last {
						last, since = n, time.Now()
					}
					// As much as matters, or all that the kernel takes.
					return n-before > 200 || time.Since(since) > 100*time.Millisecond
				})
				quiet.Send(wstest.Binary, numbered(round, 100))
				head = f.ch.ring.Head()
			}()
			eventually(t, "the poller comes to the quiet publisher", func() bool { return q.life.Load() != life })
			return (f.ch.ring.Head() - head) * size
		}()
		rec.WantPacket(numbered(round, 100))
		quiet.Sync() // the poller, which may want in.mu once more for who waits, is through with it
		// The event that was under way, and one more before the quiet one.
		if limit := uint64(2*(readsPerEvent+1)*readBuffer + 2*size); took > limit {
			t.Errorf("the flood got %d bytes of its poller before the other publisher's turn, wanted %d at most", took, limit)
		}
	}
	flood.Reset()
	<-done
}

// Frames in the same segment as the handshake are processed, plain and over TLS,
// also when they end in the middle.
func TestFramesSentAlongWithTheHandshake(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			s := newTestServer(t, withTLS(t))
			dial := s.dial
			if secure {
				dial = s.dialTLS
			}
			for i, n := range []int{0, 10, 3000, 40_000, 300_000} {
				path := fmt.Sprintf("/cam%d/key/", i)
				p := numbered(7, n)
				b := wstest.Bytes(wstest.Frame{Op: wstest.Binary, Payload: []byte("first")}, wstest.Frame{Op: wstest.Ping, Payload: []byte("now")}, wstest.Frame{Op: wstest.Binary, Payload: p})
				cut := len(b) * 2 / 3
				pub := dial(path+"publish", wstest.PipelinedRaw(b[:cut]))
				pub.SendRaw(b[cut:])
				pub.WantPong([]byte("now"))
				rec := dial(path+"receive", wstest.Pipelined(wstest.Frame{Op: wstest.Ping, Payload: []byte("hello")}))
				var seen []string
				for len(seen) < 3 { // the pong may stand before, between or behind the packets
					m, err := rec.NextFrame(patience)
					if err != nil {
						t.Fatal(err)
					}
					seen = append(seen, string(m.Payload))
				}
				rest := seen[:0]
				for _, m := range seen {
					if m != "hello" {
						rest = append(rest, m)
					}
				}
				if len(rest) != 2 || rest[0] != "first" || rest[1] != string(p) {
					t.Errorf("%d bytes: the receiver got %d messages beside its pong, or wrong ones", n, len(rest))
				}
			}
			// A close frame and an end of the connection, too.
			c := dial("/other/key/receive", wstest.Pipelined(wstest.Frame{Op: wstest.Close, Payload: wstest.ClosePayload(1000, "")}))
			c.WantClose(1000)
			c.WantEOF()
			c, resp, err := wstest.Open(s.addr, "/third/key/publish", wstest.Pipelined(wstest.Frame{Op: wstest.Binary, Payload: []byte("x"), RSV: 1}))
			if err != nil || c == nil {
				t.Fatal(resp, err)
			}
			c.On(t).WantError("Protocol error", 1002)
		})
	}
}

// slow is an authorizer that takes its time.
type slow struct {
	auth.Authorizer
	srv *Server
}

func (a slow) Authorize(ctx context.Context, r auth.Request) (*auth.Grant, error) {
	for from := a.srv.now(); a.srv.now()-from < int64(20*time.Millisecond); {
		time.Sleep(time.Millisecond)
	}
	return a.Authorizer.Authorize(ctx, r)
}

// What comes along with the handshake has come when it is taken, not before the stream
// began: however long the coordinator has thought.
func TestWhenFramesCameThatWereSentAlong(t *testing.T) {
	s := newTestServer(t)
	s.auth = slow{s.auth, s.Server}
	pub := s.dial("/cam/key/publish", wstest.Pipelined(wstest.Frame{Op: wstest.Binary, Payload: []byte("first")}))
	pub.Sync()
	ps := s.session(pub)
	cur := ps.ring.Join(func(uint64) {})
	if came, ok := cur.Arrived(); !ok || came > ps.ch.age(s.now()) {
		t.Errorf("%v, the first packet came at %d, of %d ms", ok, came, ps.ch.age(s.now()))
	}
}

// A publisher sends, closes and is gone, and the poller comes to read it only later
// than a heartbeat is due, or reads it slowly: nothing is lost.
func TestNoHeartbeatToAPublisherThatIsGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		wstest.Skip(t, "what is unread is known on Linux only")
	}
	looks := map[string]func(ps *session){
		"not at all": func(ps *session) {
			for range 3 * beatEvery {
				ps.look(ps.srv.now() + int64(lifeTimeout) + 1)
			}
		},
		"slowly": func(ps *session) {
			for range beatEvery + mostPostponed - 1 { // 50 s, less one look
				ps.life.Store(ps.srv.now()) // a little was read
				ps.look(ps.srv.now())
			}
		},
	}
	for reads, look := range looks {
		t.Run(reads, func(t *testing.T) {
			s := newTestServer(t)
			rec := s.receive("cam", "key")
			pub := s.publish("cam", "key")
			ps := s.session(pub)
			pub.Sync()
			ps.in.mu.Lock() // the poller is far behind
			goOn := sync.OnceFunc(ps.in.mu.Unlock)
			defer goOn()
			const n, size = 20, 10_000 // more than the poller has read before it waits
			for i := range n {
				pub.Send(wstest.Binary, numbered(i, size))
			}
			pub.Close()
			eventually(t, "something is unread", func() bool { return unread(ps.conn) > 0 })
			look(ps)
			goOn()
			for i := range n {
				rec.WantPacket(numbered(i, size))
			}
			rec.WantClose(1000)
		})
	}
}

// A publisher that is read all the time gets its heartbeats, though it sends faster
// than it is read.
func TestAFloodingPublisherGetsHeartbeats(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	ps := s.session(pub)
	pub.Sync()
	ps.in.mu.Lock() // so that something is unread at every look
	pub.Send(wstest.Binary, make([]byte, 100_000))
	looks := 0
	for ps.pending.Load() == 0 && ps.postponed <= mostPostponed && looks < 100 {
		ps.life.Store(s.now()) // it was read just now
		before := ps.beats
		ps.look(s.now())
		if looks++; before > 0 && ps.beats == 0 {
			break // it is sent
		}
	}
	ps.in.mu.Unlock()
	if most := beatEvery + mostPostponed; looks > most {
		t.Errorf("no heartbeat in %d looks, wanted one in %d", looks, most)
	}
	for range 3 {
		if m, err := pub.NextFrame(patience); err != nil || m.Op == wstest.Text {
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("no heartbeat came")
}

// A receiver is told the end of a stream only when the channel's name is free: else one
// that comes back at once could be given the same stream again.
func TestTheNameIsFreeBeforeReceiversAreToldTheEnd(t *testing.T) {
	s := newTestServer(t)
	pub := s.publish("cam", "key")
	rec := s.receive("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	rec.WantPacket(numbered(0, 1000))
	ps := s.session(pub)
	s.registry.mu.Lock() // the name cannot become free
	unlock := sync.OnceFunc(s.registry.mu.Unlock)
	defer unlock()
	pub.Close()
	eventually(t, "nothing more is published", func() bool {
		ps.in.mu.Lock()
		defer ps.in.mu.Unlock()
		return ps.in.phase == phaseOver
	})
	s.session(rec).wakeOwner() // a pass comes by just now
	rec.WantNothing(200 * time.Millisecond)
	unlock()
	rec.WantClose(1000)
}
