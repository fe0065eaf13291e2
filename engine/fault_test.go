package engine

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// withLog has the server log to a test.
func withLog(t *testing.T, change ...func(*Config)) (*testServer, *logLines) {
	t.Helper()
	log := &logLines{}
	s := newTestServer(t, change...)
	s.log = slog.New(slog.NewTextHandler(log, nil))
	return s, log
}

// wantFault fails unless the log has one line about a fault, with a stack that names a
// function.
func wantFault(t *testing.T, log *logLines, function string) {
	t.Helper()
	var lines []string
	for _, l := range log.take() {
		if strings.Contains(l, "a fault ends") {
			lines = append(lines, l)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], function) {
		t.Errorf("the log has %d lines about faults, wanted one with %s:\n%s", len(lines), function, strings.Join(lines, "\n"))
	}
}

// A panic while a publisher's bytes are taken is the end of that publisher: 1011 with its
// text. Its receivers get what it had published, then 1000, and the others go on.
func TestAFaultEndsItsPublisherOnly(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s, log := withLog(t, withTLS(t))
		other, watching := s.publish("other", "key"), s.receive("other", "key")
		dial := s.dial
		if secure {
			dial = s.dialTLS
		}
		pub, r := dial("/cam/key/publish"), s.receive("cam", "key")
		pub.Send(wstest.Binary, numbered(0, 1000))
		r.WantPacket(numbered(0, 1000))

		ps := s.session(pub)
		ps.in.mu.Lock()
		ps.ring = &ring.Ring{} // a ring in which nothing can be written
		ps.in.mu.Unlock()
		pub.Send(wstest.Binary, numbered(1, 1000))
		pub.WantError("Internal error", 1011)
		pub.WantEOF()
		r.WantClose(1000)
		wantFault(t, log, "engine.(*session).publish")
		eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
		s.publish("cam", "key").CloseHandshake(1000) // the channel is free
		other.Send(wstest.Binary, numbered(2, 1000))
		watching.WantPacket(numbered(2, 1000))
	}
}

// A panic while a receiver is served is the end of that receiver: 1011 with its text, as
// long as it is not in the middle of a frame, or else the connection's end. Neither the
// publisher nor the other receivers of its group notice.
func TestAFaultEndsItsReceiverOnly(t *testing.T) {
	for _, c := range []struct {
		name, function string
		others         int // few are served by the publisher's poller, many by drainers
		break_         func(m *member)
		want           func(r *wstest.Conn)
	}{
		{"reading, on the poller", "ring.(*Cursor)", 1, func(m *member) { m.cur = ring.Cursor{} }, func(r *wstest.Conn) {
			r.WantError("Internal error", 1011)
		}},
		{"reading, on a drainer", "ring.(*Cursor)", 5, func(m *member) { m.cur = ring.Cursor{} }, func(r *wstest.Conn) {
			r.WantError("Internal error", 1011)
		}},
		{"writing", "engine.(*session).writePackets", 5, func(m *member) { m.s.tls = &tlsLink{wire: &wire{}} }, func(r *wstest.Conn) {
			r.WantGone()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, log := withLog(t)
			pub := s.publish("cam", "key")
			pub.Sync()
			doomed := s.receive("cam", "key")
			var others []*wstest.Conn
			for range c.others {
				others = append(others, s.receive("cam", "key"))
			}
			want := func(i int, rs ...*wstest.Conn) {
				pub.Send(wstest.Binary, numbered(i, 1000))
				for _, r := range rs {
					r.WantPacket(numbered(i, 1000))
				}
			}
			want(0, append(others, doomed)...)
			if !s.breakMember(s.session(doomed), c.break_) {
				t.Fatal("the receiver is in no group")
			}
			for i := range 20 {
				want(1+i, others...)
			}
			c.want(doomed)
			eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
			wantFault(t, log, c.function)
			want(21, others...)
			pub.CloseHandshake(1000)
			for _, r := range others {
				r.WantClose(1000)
			}
		})
	}
}

// breakMember does something to a session's place in its group, between two passes.
func (s *testServer) breakMember(of *session, f func(*member)) bool {
	g := of.group.Load()
	g.passing.Lock()
	defer g.passing.Unlock()
	for _, list := range [][]member{g.members, g.fresh, g.leavers} {
		for i := range list {
			if list[i].s == of {
				f(&list[i])
				return true
			}
		}
	}
	return false
}

// A panic while a control frame is written is the end of that session only, whoever
// writes it.
func TestAFaultInAControlFrame(t *testing.T) {
	s, log := withLog(t)
	r, other := s.receive("cam", "key"), s.receive("cam", "key")
	r.Sync()
	rs := s.session(r)
	rs.mu.Lock()
	rs.tls = &tlsLink{wire: &wire{}}
	rs.mu.Unlock()
	rs.raise(sendBeat)
	r.WantGone()
	eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
	wantFault(t, log, "engine.(*session).writeFrames")
	other.Sync()
}

// What a fault has torn nothing follows: no packet either, though the stream goes on.
func TestNoPacketFollowsATornFrame(t *testing.T) {
	s, log := withLog(t)
	pub, r := s.publish("cam", "key"), s.receive("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	r.WantPacket(numbered(0, 1000))
	rs := s.session(r)
	rs.mu.Lock()
	rs.tls = &tlsLink{wire: &wire{}}
	rs.mu.Unlock()
	rs.raise(sendBeat)
	rs.mu.Lock()
	rs.tls = nil
	rs.mu.Unlock()
	for i := range 5 {
		pub.Send(wstest.Binary, numbered(1+i, 1000))
		pub.Sync()
	}
	if m, err := r.NextFrame(patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wanted the connection's end, got %d bytes, %v", len(m.Payload), err)
	}
	eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
	wantFault(t, log, "engine.(*session).writeFrames")
}

// A panic in nbio's news of what was written does not keep the connection's lock, and is
// the end of that session only.
func TestAFaultUnderTheConnectionsLock(t *testing.T) {
	s, log := withLog(t, func(c *Config) { c.ReceiverLagMB = 64 })
	pub, slow := s.publish("cam", "key"), s.receive("cam", "key", wstest.ReceiveBuffer(4096))
	rs := s.stall(pub, slow)
	g := rs.group.Load()
	rs.group.Store(&group{}) // one that cannot be woken
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, slow.TCP())
		slow.Close()
	}()
	eventually(t, "the poller has written the rest", rs.broken.Load)
	rs.group.Store(g)
	g.wakeNow()
	<-done
	eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
	wantFault(t, log, "engine.(*session).written")
	pub.Sync()
}

// A panic in a handler is the end of its connection, and the log has the stack.
func TestAFaultEndsItsRequestOnly(t *testing.T) {
	s, log := withLog(t)
	s.auth = panicking{s.auth}
	if resp, err := http.Get("http://" + s.addr + "/healthz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	c, resp, err := wstest.Open(s.addr, "/cam/key/publish")
	if c != nil || err == nil {
		t.Errorf("wanted no answer, got %v", resp)
	}
	wantFault(t, log, "engine.panicking.Authorize")
	s.receive("cam", "key").Sync()
	http.DefaultClient.CloseIdleConnections()
}

// A panic while somebody looks at what a receiver has got is the end of that receiver
// only; who looks is told of the others.
func TestAFaultWhileSomebodyLooks(t *testing.T) {
	s, log := withLog(t)
	pub, doomed, other := s.publish("cam", "key"), s.receive("cam", "key"), s.receive("cam", "key")
	pub.Send(wstest.Binary, numbered(0, 1000))
	doomed.WantPacket(numbered(0, 1000))
	other.WantPacket(numbered(0, 1000))
	if !s.breakMember(s.session(doomed), func(m *member) { m.cur = ring.Cursor{} }) {
		t.Fatal("the receiver is in no group")
	}
	s.wantCarried(other, 1, wireSize(1000))
	doomed.WantError("Internal error", 1011)
	eventually(t, "its session is closed", func() bool { return s.Ends()["internal_error"] == 1 })
	wantFault(t, log, "engine.(*member).look")
	s.wantCarried(other, 1, wireSize(1000))
}
