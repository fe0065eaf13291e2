package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/media"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// A WebM of sound alone, each of whose clusters is a sync point: it has an empty block.
const (
	soundInit = "\x1A\x45\xDF\xA3\x87\x42\x82\x84webm" + "\x18\x53\x80\x67\xFF" + "\x16\x54\xAE\x6B\x88\xAE\x86\xD7\x81\x02\x83\x81\x02"
	silence   = "\x1F\x43\xB6\x75\x86" + "\xA3\x84\x82\x00\x00\x80"
)

// newIndexed returns a channel whose packets are looked at, and nothing else is done with.
func newIndexed() *Channel {
	srv := &Server{}
	srv.budget.size = math.MaxInt64
	return &Channel{srv: srv, ring: ring.New(ring.Config{Cache: 16 * mib})}
}

// put publishes a packet, and has it looked at.
func (ch *Channel) put(payload string) {
	n := len(payload)
	packet := ch.ring.Reserve(frame.HeaderSize(n) + n)
	inside := packet[frame.PutHeader(packet, frame.Binary, n):]
	copy(inside, payload)
	ch.ring.Commit(0)
	ch.follow(inside, 0)
}

// A packet that is full of sync points, as no encoder sends it, costs the memory of two.
func TestIndexOfPacketFullOfPoints(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.put(soundInit)
	ch.put(strings.Repeat(silence, 500))
	ch.put("")
	ch.put(silence)
	var at []media.Point
	for _, p := range ch.index.points {
		at = append(at, p.at)
	}
	if want := []media.Point{{Seq: 1}, {Seq: 1, Offset: 499 * len(silence)}, {Seq: 3}}; !slices.Equal(at, want) {
		t.Errorf("there are sync points at %v, wanted %v", at, want)
	}
}

// However many sync points there are, a bounded number is kept, old ones thinly, and the
// first from a packet on is found.
func TestIndexOfManyPoints(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	x := &ch.index
	ch.put(soundInit)
	for range 2 * maxPoints {
		ch.put(silence)
		if len(x.points) > maxPoints {
			t.Fatalf("%d sync points are kept, wanted at most %d", len(x.points), maxPoints)
		}
	}
	if p := x.newest(0); p == nil || p.at.Seq != 2*maxPoints {
		t.Errorf("the newest sync point is %+v, wanted that of packet %d", p, 2*maxPoints)
	}
	for seq := range uint64(2*maxPoints + 3) {
		i := slices.IndexFunc(x.points, func(p *syncPoint) bool { return p.at.Seq >= seq })
		got, want := x.first(seq), (*syncPoint)(nil)
		if i >= 0 {
			want = x.points[i]
		}
		if got != want {
			t.Fatalf("from packet %d on the first sync point is %s, wanted %s", seq, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
}

// transportPacket is a packet of a transport stream that begins so, and is full.
func transportPacket(begin string) string { return begin + strings.Repeat("\xFF", 188-len(begin)) }

// What a transport stream says of its sound only with the sound is told when it comes, not
// at the next key frame, which may be seconds away.
func TestIndexTellsCodecsAtOnce(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	pat := transportPacket("\x47\x40\x00\x10\x00" + "\x00\xB0\x0D\x00\x01\xC1\x00\x00\x00\x01\xF0\x00\x2A\xB1\x04\xB2")
	pmt := transportPacket("\x47\x50\x00\x10\x00" + "\x02\xB0\x17\x00\x01\xC1\x00\x00\xE1\x00\xF0\x00\x1B\xE1\x00\xF0\x00\x0F\xE1\x01\xF0\x00\x2F\x44\xB9\x9B")
	ch.put(pat + pmt + transportPacket("\x47\x1F\xFF\x10"))
	if got := ch.index.codecs(); ch.index.container != media.MPEGTS || len(ch.index.tracks) != 2 || len(got) > 0 {
		t.Fatalf("it is a %q, its codecs are %q of %d tracks, wanted none yet of 2", ch.index.container, got, len(ch.index.tracks))
	}
	ch.put(transportPacket("\x47\x41\x01\x10" + "\x00\x00\x01\xC0\x00\x00\x80\x80\x05\x21\x00\x01\x00\x01" + "\xFF\xF1\x4C\x80"))
	if got := ch.index.codecs(); !slices.Equal(got, []string{"mp4a.40.2"}) {
		t.Errorf("the codecs are %q, wanted that of the sound", got)
	}
}

// Init segments are counted as long as a sync point needs them, each once: a recorder that
// starts over again and again does not take memory that nobody knows of.
func TestIndexCountsInitSegments(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	used := func() int64 { return ch.srv.budget.used.Load() - ch.index.kept }
	otherInit := strings.Replace(soundInit, "\xD7\x81\x02", "\xD7\x81\x03", 1)
	ch.put(soundInit + silence)
	one := used()
	if want := int64(len(soundInit)); one != want {
		t.Errorf("of an init segment of %d bytes %d are counted", want, one)
	}
	ch.put(silence)
	if used() != one {
		t.Errorf("with a second sync point %d bytes are counted, wanted %d", used(), one)
	}
	ch.put(soundInit + silence)
	if used() != one {
		t.Errorf("with the same init segment once more %d bytes are counted, wanted %d", used(), one)
	}
	ch.put(otherInit + silence)
	if used() != 2*one {
		t.Errorf("with a second init segment %d bytes are counted, wanted %d", used(), 2*one)
	}
	ch.index.forget(&ch.srv.budget, ch.index.points[:3])
	if used() != one {
		t.Errorf("without the points of the first init segment %d bytes are counted, wanted %d", used(), one)
	}
	ch.index.points = ch.index.points[3:]
	ch.unfollow()
	ch.index.release(&ch.srv.budget)
	if used() != 0 {
		t.Errorf("at the end %d bytes are counted", used())
	}
}

// What is collected of a stream, and init segments that nobody needs yet, are counted, to
// the stream's end.
func TestIndexCountsWhatIsCollected(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	used := func() int64 { return ch.srv.budget.used.Load() }
	tag := func(kind byte, body string) string { // FLV's
		n := len(body)
		head := string([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 0, 0})
		return head + body + string(binary.BigEndian.AppendUint32(nil, uint32(11+n)))
	}
	config := tag(9, "\x17\x00\x00\x00\x00"+strings.Repeat("c", 500_000))
	ch.put("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00" + config[:400_000])
	if used() < 400_000 {
		t.Errorf("%d bytes are counted of a configuration of which 400000 have come", used())
	}
	ch.put(config[400_000:] + tag(9, "\x27\x01\x00\x00\x00inter"))
	if n := int64(len(config)); used() < 2*n || used() > 2*n+100 {
		t.Errorf("%d bytes are counted of a configuration of %d that is in an init segment, too", used(), n)
	}
	ch.unfollow()
	ch.index.release(&ch.srv.budget)
	if used() != 0 {
		t.Errorf("at the end %d bytes are counted", used())
	}
}

// A skip over the moment in which a recorder starts over brings the init segment, also if
// it is the same: players know by it that times begin anew.
func TestASkipOverTheSameInitSegment(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.put(soundInit + silence)
	ch.put(silence)
	ch.put(soundInit + silence)
	x := &ch.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range []struct {
		from, to int
		want     string
	}{
		{0, 1, soundInit},
		{0, 2, soundInit + soundInit + silence},
		{1, 2, soundInit + silence},
	} {
		l := ch.bridge(x.points[c.from], x.points[c.to])
		if l == nil {
			t.Fatalf("from %d to %d: there is no bridge", c.from, c.to)
		}
		cur, ok := ch.ring.JoinAt(x.points[c.to].at.Seq+1, l.Lead, func(uint64) {})
		var got []byte
		for ok && cur.More() && len(got) < len(c.want) {
			got = append(got, frame.Payload(cur.TakeRest(math.MaxInt))...)
		}
		if string(got) != c.want {
			t.Errorf("from %d to %d: %q stands between, wanted %q", c.from, c.to, got, c.want)
		}
	}
}

// Of init segments that change again and again only some are held, and the newest always.
func TestIndexOfManyInitSegments(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	const size = 1_000_000
	for i := range 10 {
		private := "\x63\xA2\x10" + string(binary.BigEndian.AppendUint32(nil, size)[1:]) + strings.Repeat(string('a'+rune(i)), size)
		entry := "\xD7\x81\x02\x83\x81\x02" + private
		sized := func(id, data string) string {
			return id + "\x10" + string(binary.BigEndian.AppendUint32(nil, uint32(len(data)))[1:]) + data
		}
		ch.put(soundInit[:17] + sized("\x16\x54\xAE\x6B", sized("\xAE", entry)) + silence)
		x := &ch.index
		if want := min(i+1, maxInits/size); len(x.points) != want || x.newest(0).init != x.segment || x.inits > maxInits {
			t.Fatalf("after %d init segments there are %d points with %d bytes of them, wanted %d", i+1, len(x.points), x.inits, want)
		}
	}
}

// Who has chosen a sync point that is forgotten before it has joined there chooses again:
// what it was given first would be counted for ever.
func TestIndexForgetsForGood(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []bool{false, true} {
		ch := newIndexed()
		ch.put(soundInit + silence)
		p := ch.index.newest(0)
		if forgotten {
			ch.index.forget(&ch.srv.budget, ch.index.points[:1])
		}
		before := ch.srv.budget.used.Load()
		_, ok := ch.enterAt(&session{srv: ch.srv}, p, ch.ring.JoinAt, func(uint64) {})
		if used := ch.srv.budget.used.Load() - before; ok == forgotten || (used == 0) != forgotten {
			t.Errorf("forgotten %v: joined %v, and %d bytes more are counted", forgotten, ok, used)
		}
	}
}

// Where memory has no room for the copy of a large packet's rest that a joiner would get
// first, it waits for the next sync point. A small copy there may always be.
func TestNoLeadWithoutRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size  int // of the packet that is copied
		spare int64
		joins bool
	}{
		{2 * mib, 0, true}, {2 * mib, -1, false},
		{1000, -mib, true},
	} {
		ch := newIndexed()
		ch.put(soundInit)
		ch.put(silence + silence + void(c.size))
		p := ch.index.newest(0)
		if p == nil || p.at.Offset == 0 {
			t.Fatalf("no sync point inside a packet: %v", p)
		}
		ch.srv.budget.size = 4 * (int64(len(soundInit)+len(silence)+len(void(c.size))) + c.spare)
		_, joined := ch.enterAt(&session{srv: ch.srv}, p, ch.ring.JoinAt, func(uint64) {})
		if joined != c.joins || p.refused == c.joins || p.forgotten || (ch.srv.budget.leads.Load() == 0) == joined {
			t.Errorf("a packet of %d bytes, %d bytes to spare: joined %v, refused %v, forgotten %v", c.size, c.spare, joined, p.refused, p.forgotten)
		}
	}
}

// Who comes then waits, and joins at the next one.
func TestWhoFindsNoRoomForALeadWaits(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 8 }).withBudget(16 * mib)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte(soundInit))
	pub.Send(wstest.Binary, []byte(silence+silence+void(4*mib)))
	pub.Sync()
	r := wstest.Dial(t, s.addr, "/cam/key/receive?start=keyframe")
	r.Sync()
	pub.Send(wstest.Binary, []byte(silence))
	r.WantPackets([]byte(soundInit), []byte(silence))
}

// void is an element of WebM without meaning, of so many bytes and some more.
func void(n int) string {
	return "\xEC\x10" + string(binary.BigEndian.AppendUint32(nil, uint32(n))[1:]) + strings.Repeat("\x00", n)
}

// A probe of a stream of large packets gets the beginning of one: it is a copy.
func TestProbeOfLargePackets(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.put(soundInit + silence + "\xEC\x10\x30\x00\x00" + strings.Repeat("\x00", 3*mib)) // an element that is to be ignored
	c, ok := ch.enterProbe(&session{srv: ch.srv}, ch.index.newest(0), ch.ring.JoinAt, func(uint64) {})
	if !ok {
		t.Fatal("the probe cannot join")
	}
	payload := frame.Payload(c.TakeRest(math.MaxInt))
	if n := len(soundInit) + maxProbeMedia; len(payload) != n || !strings.HasPrefix(string(payload), soundInit+silence+"\xEC") {
		t.Errorf("it gets %d bytes, wanted the init segment and media, %d", len(payload), n)
	}
}

// Who was to have the stream from its beginning, and comes to its place when the cache
// has moved on, is given another: what the cache begins with now cannot be decoded.
func TestTheBeginningLeavesWhileSomebodyJoins(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.srv.drainers = []*drainer{newDrainer()}
	ch.put(soundInit)
	s := ch.newcomer(receive)
	to := ch.choose(s)
	ch.put(silence)
	ch.ring.KeepFrom(1)
	if ch.admit(s, to) {
		t.Errorf("it begins with packet %d", (*ch.groups.Load())[0].joining[0].cur.Seq())
	}
	if to := ch.choose(s); to.point == nil || !ch.admit(s, to) {
		t.Errorf("no other place: %+v", to)
	}
}

// Probes that begin at the same sync point share what they get, however many there are: a
// thousand that come at once, or take nothing, do not cost a thousand copies.
func TestProbesShareWhatTheyGet(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.srv.drainers = []*drainer{newDrainer()}
	budget := &ch.srv.budget
	ch.put(soundInit + silence)
	first := budget.used.Load()
	var all []*session
	pair := func() (payload string) {
		t.Helper()
		for range 2 {
			s := ch.newcomer(probe)
			all = append(all, s)
			c, ok := ch.enter(s, place{point: ch.index.points[0]}, func(uint64) {})
			if !ok {
				t.Fatal("the probe cannot join")
			}
			got := string(frame.Payload(c.TakeRest(math.MaxInt)))
			if payload != "" && got != payload {
				t.Errorf("two probes get %q and %q", payload, got)
			}
			payload = got
		}
		return payload
	}
	little := pair()
	if used, most := budget.used.Load()-first, int64(len(little)+20); little != soundInit+silence || used > most {
		t.Errorf("two probes of %q cost %d bytes, wanted %d at most", little, used, most)
	}
	more := "\xEC\x10\x02\x00\x00" + strings.Repeat("\x00", 0x20000) // an element that is to be ignored
	ch.put(more)
	if later := pair(); later != little+more {
		t.Errorf("later probes get %d bytes, wanted all that has come, %d", len(later), len(little)+len(more))
	}
	ch.put(silence)
	if much := pair(); much != little+more {
		t.Errorf("probes after them get %d bytes, wanted the same %d: that is enough", len(much), len(little)+len(more))
	}
	x := &ch.index
	held := budget.used.Load()
	x.forget(budget, x.points[:1])
	x.points = x.points[1:]
	if used := budget.used.Load(); used != held {
		t.Errorf("%d bytes less are counted, though there are probes that have not got them yet", held-used)
	}
	for _, s := range all {
		s.through()
	}
	ch.unfollow()
	x.release(budget)
	if used := budget.used.Load(); used != 0 {
		t.Errorf("when all are through %d bytes are counted", used)
	}
}

// newcomer makes a session that has not joined the channel yet.
func (ch *Channel) newcomer(k kind) *session {
	s := ch.srv.newSession(target{channel: "cam", key: "key", kind: k}, netip.MustParseAddrPort("127.0.0.1:1"))
	s.ch = ch
	return s
}
