package engine

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/wstest"
)

// info returns what the server says of a client's session.
func (s *testServer) info(c *wstest.Conn) SessionInfo {
	s.t.Helper()
	id := s.session(c).id
	for _, i := range s.Sessions() {
		if i.ID == id {
			return i
		}
	}
	s.t.Fatalf("no session %d is listed", id)
	return SessionInfo{}
}

// wireSize is what a packet of n bytes counts.
func wireSize(n int) int64 { return int64(frame.HeaderSize(n) + n) }

// wantCarried fails unless a session has carried so much, to the byte.
func (s *testServer) wantCarried(c *wstest.Conn, packets, bytes int64) {
	s.t.Helper()
	if i := s.info(c); i.Packets != packets || i.Bytes != bytes {
		s.t.Errorf("%s %s: %d packets of %d bytes, wanted %d of %d", i.Kind, i.Address, i.Packets, i.Bytes, packets, bytes)
	}
}

// Every session is listed with who it is and with what it has carried, to the byte,
// wherever in the stream a receiver has joined.
func TestSessionsSayWhatTheyAre(t *testing.T) {
	s := newTestServer(t, withTLS(t), func(c *Config) { c.GOPCacheSizeMB = 16 })
	begin := time.Now()
	pub := s.publish("cam", "key")
	waits := s.receive("other", "key")
	rec := s.receive("cam", "key")
	secure := s.dialTLS("/cam/key/receive-clear-cache")
	s.session(rec)
	s.session(secure)
	sent := int64(0)
	sizes := []int{0, 1, 125, 126, 65535, 65536, 300 << 10, 7}
	for i, n := range sizes {
		pub.Send(wstest.Binary, numbered(i, n))
		sent += wireSize(n)
		rec.WantPacket(numbered(i, n))
		secure.WantPacket(numbered(i, n))
	}
	all := int64(len(sizes))
	late := s.receive("cam", "key") // the cache is off: it joins at the head
	s.session(late)
	s.wantCarried(late, 0, 0)
	for i := range 3 { // the second one gets a segment of its own
		n := []int{100, 1 << 20, 10}[i]
		pub.Send(wstest.Binary, numbered(i, n))
		for _, c := range []*wstest.Conn{rec, secure, late} {
			c.WantPacket(numbered(i, n))
		}
	}
	more := wireSize(100) + wireSize(1<<20) + wireSize(10)
	s.wantCarried(pub, all+3, sent+more)
	s.wantCarried(rec, all+3, sent+more)
	s.wantCarried(secure, all+3, sent+more)
	s.wantCarried(late, 3, more)
	s.wantCarried(waits, 0, 0)

	list, last := s.Sessions(), uint64(0)
	for _, i := range list {
		if i.ID <= last {
			t.Errorf("session %d comes after %d", i.ID, last)
		}
		last = i.ID
		if i.Door != "websocket" || i.Since.Before(begin.Add(-time.Second)) || i.Since.After(time.Now().Add(time.Second)) {
			t.Errorf("%+v", i)
		}
		if i.LagBytes != 0 || i.LagPackets != 0 || i.LagSeconds != 0 {
			t.Errorf("a lag of one that has everything: %+v", i)
		}
	}
	if len(list) != 5 {
		t.Fatalf("%d sessions are listed, wanted 5", len(list))
	}
	o := s.Overview()
	if o.Publishers != 1 || o.Receivers != 3 || o.Waiting != 1 || len(o.Sessions) != 4*2 {
		t.Errorf("wanted one publisher, three receivers and one that waits, of four kinds by two doors: %+v", o)
	}
	counts := map[KindCount]bool{{"publish", "websocket", 1}: true, {"receive", "websocket", 3}: true, {"receive-clear-cache", "websocket", 1}: true}
	for _, c := range o.Sessions {
		if c.Count != 0 && !counts[c] {
			t.Errorf("counted %+v", c)
		}
		delete(counts, c)
	}
	if len(counts) != 0 {
		t.Errorf("not counted: %+v", counts)
	}
	for _, c := range []struct {
		conn    *wstest.Conn
		channel string
		kind    string
		tls     bool
		waiting bool
		begun   bool
	}{
		{pub, "cam", "publish", false, false, false},
		{waits, "other", "receive", false, true, false},
		{rec, "cam", "receive", false, false, true},
		{secure, "cam", "receive-clear-cache", true, false, true},
	} {
		i := s.info(c.conn)
		if i.Channel != c.channel || i.Kind != c.kind || i.Address != c.conn.LocalAddr().String() || i.TLS != c.tls || i.Waiting != c.waiting {
			t.Errorf("wanted %+v, got %+v", c, i)
		}
		if got := i.FirstByteSeconds != nil; got != c.begun {
			t.Errorf("%s: a first byte is known: %v, wanted %v", i.Kind, got, c.begun)
		}
	}
}

// The first byte's time begins with the session and ends with the first packet, however
// long a receiver waits for a publisher, or for something to get.
func TestTimeToFirstByte(t *testing.T) {
	s := newTestServer(t)
	early := s.receive("cam", "key")
	s.session(early)
	wait := func() (seconds float64) {
		from := s.now()
		eventually(t, "some time has passed", func() bool { return s.now()-from > int64(50*time.Millisecond) })
		return time.Duration(s.now() - from).Seconds()
	}
	long := wait()
	pub := s.publish("cam", "key")
	joined := s.receive("cam", "key")
	s.session(joined)
	short := wait()
	for _, c := range []*wstest.Conn{early, joined} {
		if i := s.info(c); i.FirstByteSeconds != nil {
			t.Errorf("a first byte before there is any: %v", *i.FirstByteSeconds)
		}
	}
	pub.Send(wstest.Binary, numbered(0, 100))
	early.WantPacket(numbered(0, 100))
	joined.WantPacket(numbered(0, 100))
	after := map[*wstest.Conn]float64{early: long + short, joined: short}
	first := map[*wstest.Conn]float64{}
	for c, least := range after {
		i := s.info(c)
		if i.FirstByteSeconds == nil {
			t.Fatal("no first byte")
		}
		first[c] = *i.FirstByteSeconds
		if most := time.Since(i.Since).Seconds() + 0.01; first[c] < least || first[c] > most {
			t.Errorf("the first byte after %v s, wanted %v to %v", first[c], least, most)
		}
	}
	pub.Send(wstest.Binary, numbered(1, 100))
	for c, was := range first {
		c.WantPacket(numbered(1, 100))
		if i := s.info(c); *i.FirstByteSeconds != was {
			t.Errorf("the second packet came, and the first byte is at %v s instead of %v", *i.FirstByteSeconds, was)
		}
	}
}

// A receiver that stopped reading has a lag, in bytes, packets and seconds, and is the
// slowest; the others have none. When it reads again it has none either.
func TestLagOfAReceiverThatStoppedReading(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := newTestServer(t, withTLS(t), func(c *Config) { c.ReceiverLagMB = 64 })
		dial := s.dial
		if secure {
			dial = s.dialTLS
		}
		pub, fast := s.publish("cam", "key"), dial("/cam/key/receive")
		slow := dial("/cam/key/receive", wstest.ReceiveBuffer(4096))
		s.session(fast)
		ss := s.stall(pub, slow)
		pub.Send(wstest.Binary, numbered(0, 5)) // for which there is no room
		pub.Sync()
		waiting := s.now()
		published := s.info(pub)
		for fast.Next(); s.info(fast).LagPackets > 0 || s.info(fast).Packets < published.Packets; fast.Next() {
			continue
		}
		from := s.info(slow).LagSeconds
		eventually(t, "its lag grows", func() bool { return s.info(slow).LagSeconds > from+0.3 })
		least := time.Duration(s.now()-waiting) - 2*time.Millisecond // what comes next for it came before
		i := s.info(slow)
		most := time.Since(published.Since)
		if i.LagPackets == 0 || i.Packets+i.LagPackets != published.Packets || i.Bytes+i.LagBytes != published.Bytes {
			t.Errorf("tls=%v: %d packets of %d bytes are sent and %d of %d are not, of %d of %d", secure,
				i.Packets, i.Bytes, i.LagPackets, i.LagBytes, published.Packets, published.Bytes)
		}
		if i.LagSeconds < least.Seconds() || i.LagSeconds > most.Seconds() {
			t.Errorf("tls=%v: a lag of %v s, wanted %v to %v", secure, i.LagSeconds, least, most)
		}
		if f := s.info(fast); f.LagBytes != 0 || f.LagPackets != 0 || f.LagSeconds != 0 {
			t.Errorf("tls=%v: the other's lag: %+v", secure, f)
		}
		o := s.Overview()
		if o.Receivers != 2 || o.Publishers != 1 || o.Waiting != 0 || o.Lag[0].Count != 1 || o.Lag[len(o.Lag)-1].Count != 2 {
			t.Errorf("tls=%v: one in two is slow: %+v", secure, o)
		}
		if len(o.Slowest) != 1 || o.Slowest[0].ID != ss.id || o.Slowest[0].Address != slow.LocalAddr().String() || o.Slowest[0].Channel != "cam" {
			t.Errorf("tls=%v: the slowest: %+v", secure, o.Slowest)
		}
		for range published.Packets {
			slow.Next()
		}
		s.wantCarried(slow, published.Packets, published.Bytes)
		if i = s.info(slow); i.LagBytes != 0 || i.LagSeconds != 0 || len(s.Overview().Slowest) != 0 {
			t.Errorf("tls=%v: a lag of one that has everything: %+v", secure, i)
		}
	}
}

// A channel is listed while somebody publishes or waits there.
func TestChannelsSayWhatTheyAre(t *testing.T) {
	s := newTestServer(t)
	if list := s.Channels(); len(list) != 0 {
		t.Errorf("channels of nobody: %+v", list)
	}
	early := s.receive("cam", "key")
	lone := s.receive("lone", "key")
	list := s.Channels()
	if len(list) != 2 || list[0].Name != "cam" || list[1].Name != "lone" {
		t.Fatalf("wanted cam and lone, got %+v", list)
	}
	if c := list[0]; c.Live || c.Waiting != 1 || c.Receivers != 0 || c.Publisher != nil || !c.Since.Equal(s.info(early).Since) {
		t.Errorf("a channel that is waited for: %+v", c)
	}
	lone.Close()
	eventually(t, "nobody waits for lone", func() bool { return len(s.Channels()) == 1 })

	pub := s.publish("cam", "key")
	second := s.receive("cam", "key")
	from, bytes := s.now(), int64(0)
	for i, n := range []int{100, 200, 300} {
		pub.Send(wstest.Binary, numbered(i, n))
		early.WantPacket(numbered(i, n))
		second.WantPacket(numbered(i, n))
		bytes += wireSize(n)
		at := s.now()
		eventually(t, "some time has passed", func() bool { return s.now()-at > int64(20*time.Millisecond) })
	}
	c := s.Channels()[0]
	if !c.Live || c.Waiting != 0 || c.Receivers != 2 || c.Packets != 3 || c.Bytes != bytes || c.Publisher == nil {
		t.Fatalf("a live channel: %+v", c)
	}
	if p := *c.Publisher; p.ID != s.session(pub).id || p.Bytes != bytes || c.Since.Before(p.Since) {
		t.Errorf("its publisher: %+v", p)
	}
	if want := bytes + 3*64; c.CacheBytes != want || c.HeldBytes < bytes || c.HeldBytes > 64<<10 {
		t.Errorf("a cache of %d bytes (wanted %d) in %d", c.CacheBytes, want, c.HeldBytes)
	}
	if most := time.Duration(s.now() - from).Seconds(); c.CacheSeconds < 0.03 || c.CacheSeconds > most {
		t.Errorf("a cache of %v s, wanted 0.04 to %v", c.CacheSeconds, most)
	}
	s.dial("/cam/key/receive-clear-cache").WantPacket(numbered(0, 100))
	if c := s.Channels()[0]; c.CacheBytes != 0 || c.CacheSeconds != 0 || c.Receivers != 3 {
		t.Errorf("after the cache was cleared: %+v", c)
	}
	pub.CloseHandshake(1000)
	eventually(t, "the channel has ended", func() bool { return len(s.Channels()) == 0 })
}

// The operator ends a session by its number: the client is told why, a publisher's
// receivers get everything, and others notice nothing.
func TestEndSession(t *testing.T) {
	const text = "Ended by the operator"
	s := newTestServer(t)
	pub, a, b := s.publish("cam", "key"), s.receive("cam", "key"), s.receive("cam", "key")
	waits := s.receive("other", "key")
	pub.Send(wstest.Binary, numbered(0, 100))
	a.WantPacket(numbered(0, 100))
	if s.EndSession(0) || s.EndSession(s.ids.Load()+1) {
		t.Error("a session that is not there was ended")
	}
	id := s.session(a).id
	for _, c := range []*wstest.Conn{a, waits} {
		if !s.EndSession(s.session(c).id) {
			t.Error("there is no such session")
		}
		c.WantError(text, 4002)
		c.Close()
	}
	pub.Send(wstest.Binary, numbered(1, 100))
	b.WantPackets(numbered(0, 100), numbered(1, 100))
	last := s.receive("cam", "key", wstest.NoEcho())
	s.EndSession(s.session(pub).id)
	pub.WantError(text, 4002)
	last.WantPackets(numbered(0, 100), numbered(1, 100))
	last.WantClose(1000)
	b.WantClose(1000)
	last.Close()
	s.wantNothingLeft()
	if s.EndSession(id) {
		t.Error("a session that is closed was ended")
	}
	if n := s.Ends()["operator"]; n != 3 {
		t.Errorf("%d ends by the operator are counted, wanted 3", n)
	}
}

// The operator ends a channel: its publisher, whose receivers get everything first, or
// those who wait for one.
func TestEndChannel(t *testing.T) {
	s := newTestServer(t)
	if s.EndChannel("cam") {
		t.Error("a channel of nobody was ended")
	}
	pub, rec, other := s.publish("cam", "key"), s.receive("cam", "key", wstest.ReceiveBuffer(4096)), s.publish("other", "key")
	s.stall(pub, rec)
	published := s.info(pub).Packets
	if !s.EndChannel("cam") {
		t.Error("there is no such channel")
	}
	pub.WantError("Ended by the operator", 4002)
	if s.EndChannel("cam") {
		t.Error("a channel that has ended was ended again")
	}
	for range published {
		rec.Next()
	}
	rec.WantClose(1000)

	waits := []*wstest.Conn{s.receive("cam", "key"), s.receive("cam", "another")}
	if !s.EndChannel("cam") {
		t.Error("there is nobody who waits")
	}
	for _, c := range waits {
		c.WantError("Ended by the operator", 4002)
	}
	s.publish("cam", "key").Sync() // the name is free
	other.Sync()
}

// The server is ready while new publishers are let in.
func TestReady(t *testing.T) {
	c := authtest.New(t)
	co, err := auth.NewCoordinator(auth.Config{ControlBaseURL: c.URL()}, 80, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var s *testServer
	t.Cleanup(func() { // after the server's own end
		if !errors.Is(s.Ready(), errStopping) {
			t.Errorf("a server that has been shut down is ready, or not for that reason: %v", s.Ready())
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := co.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	s = newTestServer(t).withBudget(8 * mib)
	wants := func(why error) {
		t.Helper()
		eventually(t, "Ready says so", func() bool { return errors.Is(s.Ready(), why) })
	}
	wants(nil) // alone
	s.auth = co
	wants(errNoCoordinator)
	co.Start()
	wants(nil)
	s.budget.add(8 * mib) // stands for what nobody can give up
	wants(errNoMemory)
	s.budget.add(-8 * mib)
	wants(nil)
	c.Stop()
	wants(errNoCoordinator)
	c.Restart()
	wants(nil)
}
