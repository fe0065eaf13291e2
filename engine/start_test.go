package engine

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"ws-stream-server/engine/frame"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/ring"
)

// flvBegin is what a stream in FLV begins with. It is the init segment as well, where the
// codec needs no configuration (Adobe's FLV specification 10.1, E.2).
var flvBegin = []byte("FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00")

// flvPicture is a tag of n bytes, 20 or more, with a picture of Sorenson's H.263, which
// tells the tag's number (E.4.1, E.4.3).
func flvPicture(i, n int, key bool) []byte {
	const head, behind = 11, 4
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, 9<<24|uint32(n-head-behind))
	b[head] = 0x22
	if key {
		b[head] = 0x12
	}
	copy(b[head+1:], numbered(i, n-head-behind-1))
	binary.BigEndian.PutUint32(b[n-behind:], uint32(n-behind))
	return b
}

// flvStream is a stream's beginning and its pictures, each ten of which begin with a key
// frame.
func flvStream(pictures, size int) (tags [][]byte) {
	tags = append(tags, flvBegin)
	for i := range pictures {
		tags = append(tags, flvPicture(i, size, i%10 == 0))
	}
	return tags
}

// sendAll publishes packets, and returns when they are.
func sendAll(pub *wstest.Conn, packets ...[]byte) {
	for _, p := range packets {
		pub.Send(wstest.Binary, p)
	}
	pub.Sync()
}

// waiting returns when so many receivers wait in a publisher's channel.
func (s *testServer) waiting(pub *wstest.Conn, n int) {
	s.t.Helper()
	ch := s.session(pub).ch
	eventually(s.t, "receivers wait for a key frame", func() bool {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		return len(ch.waiting) == n
	})
}

// wantJoined fails unless a receiver has got these tags, however they were cut into
// packets, when the stream ends.
func wantJoined(t *testing.T, who string, c *wstest.Conn, tags ...[]byte) {
	t.Helper()
	var got []byte
	m := c.Next()
	for ; m.Op == wstest.Binary; m = c.Next() {
		got = append(got, m.Payload...)
	}
	if m.Op != wstest.Close || m.Code() != 1000 {
		t.Errorf("%s: the stream ends with %v", who, m)
	}
	if want := bytes.Join(tags, nil); !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes, wanted %d, or other ones", who, len(got), len(want))
	}
}

// Whatever has left the cache: a joiner gets the init segment, and then, as it has asked,
// all that can be decoded, from the newest key frame on, or from the next one on. Packets
// may begin anywhere in the stream.
func TestJoinersBeginWithAKeyFrame(t *testing.T) {
	const pictures, size, later = 64, 30_000, 16
	tags := flvStream(pictures+later, size)
	for _, cut := range []int{size, 20_000, 7777, 100_000} {
		s := newTestServer(t)
		pub := s.publish("cam", "key")
		bytesOf := func(tags [][]byte) [][]byte { return slices.Collect(slices.Chunk(bytes.Join(tags, nil), cut)) }
		sendAll(pub, bytesOf(tags[:pictures+1])...)
		ch := s.session(pub).ch
		behind := int(ch.ring.JoinPoint()) * cut
		full := s.dial("/cam/key/receive")
		keyFrame := s.dial("/cam/key/receive?start=keyframe")
		live := s.dial("/cam/key/receive?start=live")
		s.waiting(pub, 1)
		if i := s.info(live); !i.Waiting || i.LagBytes != 0 {
			t.Errorf("cut=%d: who waits for a key frame: %+v", cut, i)
		}
		probe := s.dial("/cam/key/probe")
		first := 0 // tag that begins in the cache with a key frame
		for at, i := 0, 1; first == 0; i++ {
			if at += len(tags[i-1]); at >= behind && i%10 == 1 {
				first = i
			}
		}
		if first == 1 {
			t.Fatalf("cut=%d: the beginning is in the cache", cut)
		}
		if got, want := probe.Next().Payload, append(bytes.Clone(flvBegin), tags[first]...); !bytes.HasPrefix(got, want[:len(flvBegin)+20]) {
			t.Errorf("cut=%d: the probe got %d bytes, wanted the init segment and the key frame that comes first", cut, len(got))
		}
		probe.WantClose(1000)
		sendAll(pub, bytesOf(tags[pictures+1:])...)
		pub.CloseHandshake(1000)
		wantJoined(t, "full", full, append([][]byte{flvBegin}, tags[first:]...)...)
		wantJoined(t, "keyframe", keyFrame, append([][]byte{flvBegin}, tags[61:]...)...)
		wantJoined(t, "live", live, append([][]byte{flvBegin}, tags[71:]...)...)
	}
}

// A cache that was cleared, or is off, gives nobody anything of the past: who comes then
// waits for the next key frame, and a probe too. The encoder that clears it has everything.
func TestJoinersOfACacheThatIsCleared(t *testing.T) {
	tags := flvStream(25, 3000)
	for _, mb := range []int{1, 0} {
		s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = mb })
		encoder := s.dial("/cam/key/receive-clear-cache")
		s.session(encoder)
		pub := s.publish("cam", "key")
		sendAll(pub, tags[:6]...)
		late, probe := s.receive("cam", "key"), s.dial("/cam/key/probe")
		s.waiting(pub, 2)
		sendAll(pub, tags[6:12]...)
		sendAll(pub, tags[12:]...)
		if got := probe.Next().Payload; !bytes.HasPrefix(got, append(bytes.Clone(flvBegin), tags[11]...)) {
			t.Errorf("the probe got %d bytes, wanted the init segment and the next key frame", len(got))
		}
		probe.WantClose(1000)
		pub.CloseHandshake(1000)
		encoder.WantPackets(tags...)
		encoder.WantClose(1000)
		late.WantPackets(append([][]byte{flvBegin}, tags[11:]...)...)
		late.WantClose(1000)
	}
}

// Who waits for the next key frame gets it, also when it comes in one read with so many
// packets behind it that a ring without a cache, and without receivers, would have dropped
// it.
func TestAKeyFrameInTheMiddleOfARead(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	pub := s.publish("cam", "key")
	tags := flvStream(30, 3000)
	sendAll(pub, tags[:11]...)
	late := s.receive("cam", "key")
	s.waiting(pub, 1)
	var b []byte
	for _, p := range tags[11:21] {
		b = wstest.Frame{Op: wstest.Binary, Payload: p}.AppendTo(b)
	}
	pub.SendRaw(b)
	pub.Sync()
	pub.CloseHandshake(1000)
	wantJoined(t, "late", late, append([][]byte{flvBegin}, tags[11:21]...)...)
}

// Who waits for the next key frame gets it, also when it is known to be one only with the
// packet behind it, and nobody else had kept the packet in which it begins.
func TestAKeyFrameInTwoPackets(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	pub := s.publish("cam", "key")
	sendAll(pub, []byte(soundInit))
	late := s.receive("cam", "key")
	s.waiting(pub, 1)
	begin, end := []byte(silence[:1]), []byte(silence[1:]+"\xEC\x10\x05\x00\x00"+strings.Repeat("\x00", 0x50000)) // more than a slab has room for
	sendAll(pub, begin, end)
	pub.CloseHandshake(1000)
	late.WantPackets([]byte(soundInit), begin, end)
	late.WantClose(1000)
}

// Of a stream whose first packet is too short to tell what it is (Chromium's recorder may
// begin with a single byte), and is not there any more, who comes then gets what can be
// decoded; or, if it is of no known container, whatever comes from then on. A probe gets the
// first message of that, however many empty packets there were before it came.
func TestJoinersBeforeTheContainerIsKnown(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	opaque := []string{"\x01", strings.Repeat("?", 5000), "", strings.Repeat("!", 5000)} // more than the first slabs have room for
	many := make([]string, 5000)                                                         // as well
	long := slices.Concat([]string{"\x01"}, many, opaque)
	damaged := func(size int) []string { // FLV, and it is known to be that for a while
		return []string{string(flvBegin[1:]), string(flvPicture(1, size, false)), string(flvPicture(2, size, false)), string(flvPicture(3, size, false)), strings.Repeat("\x00", 20)}
	}
	for _, c := range []struct {
		name             string
		first, then      []string
		receives, probes []string
	}{
		{"known", []string{soundInit[:1]}, []string{soundInit[1:] + silence}, []string{soundInit, silence}, []string{soundInit + silence}},
		{"known, over at once", []string{soundInit[:1]}, []string{soundInit[1:]}, nil, nil},
		{"opaque", []string{"\x00"}, opaque, opaque, opaque[:1]},
		{"opaque in the end", []string{"\x00"}, long, long, long[:1]},
		{"opaque, the beginning has left", slices.Concat([]string{"\x00"}, many), long, long, long[:1]},
		{"never known", []string{"\x00"}, []string{"\x01", "\x02"}, []string{"\x01", "\x02"}, []string{"\x01"}},
		{"damaged", []string{"F"}, damaged(20), damaged(20), damaged(20)[:1]},
		{"damaged, and large", []string{"F"}, damaged(3000), damaged(3000), damaged(3000)[:1]},
		{"perhaps MPEG-TS", []string{"G"}, []string{"H", strings.Repeat("?", 1000)}, []string{"H", strings.Repeat("?", 1000)}, []string{"H"}},
		{"blank", []string{""}, []string{"\x00", "?"}, []string{"\x00", "?"}, []string{"\x00"}},
		{"blank for long", many, append([]string{"?"}, many...), append([]string{"?"}, many...), []string{"?"}},
	} {
		pub := s.publish("cam", "key")
		packets := func(list []string) (b []byte) { // in one read, if that has room
			for _, p := range list {
				b = wstest.Frame{Op: wstest.Binary, Payload: []byte(p)}.AppendTo(b)
			}
			return b
		}
		pub.SendRaw(packets(c.first))
		pub.Sync()
		if left := s.session(pub).ch.ring.Oldest() > 0; left != (len(c.first) > 1) {
			t.Errorf("%s: the beginning has left the ring: %v", c.name, left)
		}
		late, probe := s.receive("cam", "key"), s.dial("/cam/key/probe")
		s.session(late)
		s.session(probe)
		pub.SendRaw(packets(c.then))
		pub.Sync()
		pub.CloseHandshake(1000)
		for _, r := range []struct {
			who   string
			conn  *wstest.Conn
			wants []string
		}{{"the receiver", late, c.receives}, {"the probe", probe, c.probes}} {
			var got []string
			m := r.conn.Next()
			for ; m.Op == wstest.Binary; m = r.conn.Next() {
				got = append(got, string(m.Payload))
			}
			if !slices.Equal(got, r.wants) || m.Code() != 1000 {
				t.Errorf("%s: %s got %d packets, %.20q, wanted %d, %.20q, and %v", c.name, r.who, len(got), got[:min(3, len(got))], len(r.wants), r.wants[:min(3, len(r.wants))], m)
			}
		}
	}
}

// A probe that comes while it is not known what the stream is gets the packet that a receiver
// gets that comes then, also if the one that tells leaves the cache no room for it.
func TestAProbeKeepsTheOldestPacket(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 1 })
	pub := s.publish("cam", "key")
	short := []byte("\x00")
	sendAll(pub, short)
	late, probe := s.receive("cam", "key"), s.dial("/cam/key/probe")
	s.waiting(pub, 1)
	large := bytes.Repeat([]byte("!"), 2*mib)
	sendAll(pub, large)
	late.WantPackets(short, large)
	probe.WantPacket(short)
	probe.WantClose(1000)
}

// What may be MPEG-TS, whose tables come again and again, or a text, is not waited for:
// it takes many bytes to tell which it is.
func TestAJoinerDoesNotWaitForTables(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	pub := s.publish("cam", "key")
	sendAll(pub, []byte("G"))
	late := s.receive("cam", "key")
	late.Sync()
	sendAll(pub, []byte("H"))
	late.WantPacket([]byte("H"))
}

// Over HTTP a late joiner gets the same bytes, and is told what they are.
func TestAnHTTPJoinerBeginsWithAKeyFrame(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	wstest.Get(t, s.addr, "/cam/key/receive?start=now").WantHead(400)
	wstest.Refused(t, 400, s.addr, "/cam/key/receive?start=now")
	pub := s.publish("cam", "key")
	tags := flvStream(13, 3000)
	sendAll(pub, tags[:4]...)
	get := wstest.Get(t, s.addr, "/cam/key/receive")
	s.waiting(pub, 1)
	sendAll(pub, tags[4:]...)
	pub.CloseHandshake(1000)
	if kind := get.WantHead(200).Get("Content-Type"); kind != "video/x-flv" {
		t.Errorf("the Content-Type is %q", kind)
	}
	get.WantBody(bytes.Join(append([][]byte{flvBegin}, tags[11:]...), nil))
	get.WantEnd()
}

// box makes a box of MP4.
func box(name string, payload ...string) string {
	p := strings.Join(payload, "")
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(p)))) + name + p
}

// A probe gets the init segment and media, however these are cut into packets, also if it
// comes before the stream: its first packet only if that has both.
func TestProbesGetMedia(t *testing.T) {
	const zero = "\x00\x00\x00\x00"
	const one = "\x00\x00\x00\x01"
	trak := box("trak", box("tkhd", zero, zero, zero, one), box("mdia", box("hdlr", zero, zero, "soun"), box("minf", box("stbl", box("stsd", zero, one, box("none")), box("stsz", zero, zero, zero)))))
	moov := box("moov", trak, box("mvex", box("trex", zero, one, one, zero, zero, zero)))
	ftyp, styp, free := box("ftyp", "iso5", zero), box("styp", "msdh", zero), box("free")
	moof, mdat := box("moof", box("traf", box("tfhd", zero, one), box("trun", zero, one))), box("mdat", "samples")
	for _, c := range []struct {
		name    string
		packets []string
		want    string
	}{
		{"all at once", []string{ftyp + moov + moof + mdat, styp}, ftyp + moov + moof + mdat},
		{"all at once, and what need not be there", []string{ftyp + moov + free + moof + mdat}, ftyp + moov + free + moof + mdat},
		{"each by itself", []string{ftyp, moov, moof, mdat}, ftyp + moov + moof + mdat},
		{"no media at first", []string{ftyp + moov + moof, mdat}, ftyp + moov + moof + mdat},
		{"no media but a header", []string{ftyp + moov + moof + mdat[:8], mdat[8:]}, ftyp + moov + moof + mdat},
		{"no media for long", []string{ftyp + moov, moof, mdat}, ftyp + moov + moof + mdat},
		{"the beginning of a unit", []string{ftyp + moov + styp, moof + mdat}, ftyp + moov + styp + moof + mdat},
		{"WebM", []string{soundInit + silence}, soundInit + silence},
		{"WebM, a byte of a cluster", []string{soundInit + silence[:1], silence[1:]}, soundInit + silence},
		{"WebM, a cluster without a block", []string{soundInit + silence[:5], silence[5:]}, soundInit + silence},
		{"WebM, an empty cluster", []string{soundInit + "\x1F\x43\xB6\x75\x80", silence}, soundInit + silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestServer(t)
			first := s.dial("/cam/key/probe")
			s.session(first)
			pub := s.publish("cam", "key")
			between := s.dial("/cam/key/probe")
			s.session(between)
			for _, p := range c.packets {
				sendAll(pub, []byte(p))
				pub.Sync()
			}
			late := s.dial("/cam/key/probe")
			for _, probe := range []*wstest.Conn{first, between, late} {
				probe.WantPacket([]byte(c.want))
				probe.WantClose(1000)
			}
		})
	}
}

// A probe that comes before the stream gets the init segment along with media, when both
// are there; of a stream that is of no known container the first packet, at once, also
// when that is not in the cache any more.
func TestProbesThatComeFirst(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	tags := flvStream(2, 3000)
	probe := s.dial("/flv/key/probe")
	s.session(probe)
	pub := s.publish("flv", "key")
	sendAll(pub, tags[0])
	s.waiting(pub, 1)
	sendAll(pub, tags[1])
	probe.WantPacket(append(bytes.Clone(tags[0]), tags[1]...))
	probe.WantClose(1000)
	another, large := s.dial("/flv/key/probe"), flvPicture(2, 2*mib, true)
	s.waiting(pub, 1)
	sendAll(pub, large)
	another.WantPacket(append(bytes.Clone(tags[0]), large[:maxProbeMedia]...))
	another.WantClose(1000)

	begun := s.publish("blank", "key")
	sendAll(begun, nil, []byte(soundInit[:1]))
	later := s.dial("/blank/key/probe")
	s.waiting(begun, 1)
	sendAll(begun, []byte(soundInit[1:])) // what it is is known, and there is nothing to start with yet
	sendAll(begun, []byte(silence))
	later.WantPacket([]byte(soundInit + silence))
	later.WantClose(1000)

	opaque := s.dial("/opaque/key/probe")
	s.session(opaque)
	other := s.publish("opaque", "key")
	first := []byte("G") // it might be MPEG-TS
	sendAll(other, first)
	s.waiting(other, 1)
	sendAll(other, bytes.Repeat([]byte("?"), 1000))
	opaque.WantPacket(first)
	opaque.WantClose(1000)
	ch := s.session(other).ch
	if ch.keepAll.Load() > 0 {
		t.Error("all is kept for nobody")
	}
	eventually(t, "nothing is kept for nobody", func() bool { return ch.lowest() == math.MaxUint64 })

	both := s.dial("/both/key/probe")
	s.session(both)
	two := s.publish("both", "key")
	media := []byte(soundInit + silence + "\xEC\x83\x00\x00\x00") // with an element that is to be ignored
	read := wstest.Frame{Op: wstest.Binary, Payload: media}.AppendTo(nil)
	two.SendRaw(wstest.Frame{Op: wstest.Binary, Payload: []byte(silence)}.AppendTo(read)) // another key frame, in the same read
	both.WantPacket(media)
	both.WantClose(1000)

	empty := s.dial("/empty/key/probe")
	s.session(empty)
	nothing := s.publish("empty", "key")
	read = wstest.Frame{Op: wstest.Binary}.AppendTo(nil)
	nothing.SendRaw(wstest.Frame{Op: wstest.Binary, Payload: media}.AppendTo(read))
	empty.WantPacket(nil)
	empty.WantClose(1000)

	gone := s.dial("/gone/key/probe")
	s.session(gone)
	last := s.publish("gone", "key")
	sendAll(last, []byte("\x00"))
	s.waiting(last, 1)
	ch = s.session(last).ch
	if low := ch.lowest(); low != 0 {
		t.Errorf("a probe may have to get the first packet, and the ring keeps those from %d on", low)
	}
	gone.Close()
	s.waiting(last, 0)
	if low := ch.lowest(); low != math.MaxUint64 {
		t.Errorf("for one that has left the ring keeps what comes from %d on", low)
	}
}

// newUncached is newIndexed without a cache, and with a publisher: the ring has what is
// wanted.
func newUncached() *Channel {
	ch := newIndexed()
	ch.ring = ring.New(ring.Config{Lag: mib, Lowest: ch.lowest})
	ch.srv.drainers = []*drainer{newDrainer()}
	ch.srv.closing.at = map[*session]int64{}
	ch.publisher = ch.newcomer(publish)
	return ch
}

// What is published between the choice and the note that somebody waits is not for it, and
// may leave the ring; what is published behind that is.
func TestWhoWaitsGetsWhatComes(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{receive, probe} {
		ch := newUncached()
		ch.put("\x00")
		s := ch.newcomer(k)
		to := ch.choose(s)
		if !to.wait || to.since != sinceNow {
			t.Fatalf("%v: its place is %+v, wanted one behind the first packet, later", k, to)
		}
		for range 5000 { // more than the first slabs have room for
			ch.put("")
		}
		if ch.ring.Oldest() < 2 {
			t.Fatalf("%v: the ring has what was published before the note still", k)
		}
		ch.keepWaiting(waiter{s, to.since})
		next := ch.ring.Head()
		for range 5000 {
			ch.put("")
		}
		ch.put(strings.Repeat("?", 10))
		ch.admitWaiting()
		if g := ch.groups.Load(); g == nil {
			t.Errorf("%v: it waits", k)
		} else if at := (*g)[0].joining[0].cur.Seq(); at != next {
			t.Errorf("%v: it begins with packet %d, wanted %d, which came next", k, at, next)
		}
	}
}

// Who waits until it is known what the stream is, and loses a packet of it meanwhile because
// memory is short, is too slow, as whoever loses one is: it does not begin with a later one.
// So is one whose stream ends before that is known, and a probe from the beginning on whose
// stream ends before there is a sync point.
func TestWhoWaitsIsOverrun(t *testing.T) {
	t.Parallel()
	scarce := func(ch *Channel) { // no more slabs than there are
		ch.ring = ring.New(ring.Config{Lag: mib, Lowest: ch.lowest, Limit: func(slabs int64) int64 { return max(slabs, 4<<10) }})
	}
	large := strings.Repeat("?", 20_000)
	for _, c := range []struct {
		name  string
		kind  kind
		first []string // before it comes
		then  []string
		ends  bool
	}{
		{name: "a probe from the beginning on", kind: probe, then: []string{"????", large, large}},
		{name: "a probe", kind: probe, first: []string{"\x00"}, then: []string{"", large, large}},
		{name: "a receiver", kind: receive, first: []string{"\x00"}, then: []string{"", large, large}},
		{name: "a probe of a stream that ends", kind: probe, then: make([]string, 5000), ends: true},
		{name: "a probe of a known container that ends", kind: probe, then: []string{string(flvBegin), string(flvPicture(1, 20_000, false)), string(flvPicture(2, 20_000, false))}, ends: true},
		{name: "a receiver of a stream that ends", kind: receive, first: []string{"\x00"}, then: make([]string, 5000), ends: true},
	} {
		ch := newUncached()
		scarce(ch)
		for _, p := range c.first {
			ch.put(p)
		}
		s := ch.newcomer(c.kind)
		ch.keepWaiting(waiter{s, ch.choose(s).since})
		if n := len(ch.waiting); n != 1 || ch.keepAll.Load() != 1 {
			t.Fatalf("%s: %d wait, and all is kept for %d", c.name, n, ch.keepAll.Load())
		}
		next := ch.ring.Head()
		for _, p := range c.then {
			ch.put(p)
		}
		if ch.ring.Oldest() <= next {
			t.Fatalf("%s: the ring has packet %d still", c.name, next)
		}
		if c.ends {
			ch.dismissWaiting()
		} else {
			ch.admitWaiting()
		}
		if s.reason() != notEnded {
			t.Errorf("%s: it is told where nothing may be written", c.name)
		}
		ch.srv.drainers[0].work(nil)
		if r := s.reason(); r != slowReceiver || ch.receivers() != 0 || len(ch.waiting) != 0 {
			t.Errorf("%s: it ends as %v, %d have places and %d wait; wanted %v, and none", c.name, r, ch.receivers(), len(ch.waiting), slowReceiver)
		}
	}
}

// The same from outside: 4008, or 503 over HTTP; and the publisher goes on.
func TestWhoWaitsIsToldThatItIsOverrun(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	pub := s.publish("cam", "key")
	sendAll(pub, []byte("\x00"))
	late, probe, get := s.receive("cam", "key"), s.dial("/cam/key/probe"), wstest.Get(t, s.addr, "/cam/key/receive")
	s.waiting(pub, 3)
	sendAll(pub, make([][]byte, 5000)...) // more than the first slabs have room for
	s.budget.shrink(s.session(pub).ch, 0)
	sendAll(pub, []byte("?"), []byte(strings.Repeat("?", 10)))
	late.WantError("Receiver too slow", 4008)
	probe.WantError("Receiver too slow", 4008)
	get.WantAnswer(503, "Receiver too slow")
	next := s.receive("cam", "key")
	s.session(next)
	sendAll(pub, []byte("!"))
	next.WantPacket([]byte("!"))
}

// A probe that was to have the first packet, which is gone because memory is short, does not
// get the one behind it: that cannot be decoded.
func TestTheFirstPacketLeavesWhileAProbeWaits(t *testing.T) {
	t.Parallel()
	void := "\xEC\x10\x05\x00\x00" + strings.Repeat("\x00", 0x50000) // more than a slab has room for
	for first, then := range map[string][]string{"": make([]string, 5000), soundInit + silence: {void}} {
		ch := newUncached()
		ch.keepWaiting(waiter{ch.newcomer(probe), 1})
		ch.put(first)
		for _, p := range then {
			ch.put(p)
		}
		ch.ring.Shrink(0) // of the first slab, with the first packet
		ch.admitWaiting()
		if len(ch.waiting) != 1 {
			t.Errorf("%.10q: the probe begins with packet %d", first, (*ch.groups.Load())[0].joining[0].cur.Seq())
		}
		if low := ch.lowest(); (low == math.MaxUint64) != (first != "") {
			t.Errorf("%.10q: the ring keeps what comes from %d on", first, low)
		}
	}
}

// Who waits for a key frame gets it, also when the stream ends before the poller has come to
// give it its place.
func TestAStreamEndsWithTheKeyFrameThatSomebodyWaitsFor(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{receive, probe} {
		ch := newUncached()
		ch.put(soundInit)
		s := ch.newcomer(k)
		to := ch.choose(s)
		if !to.wait {
			t.Fatalf("%v: its place is %+v, wanted a later one", k, to)
		}
		ch.keepWaiting(waiter{s, to.since})
		ch.put(silence)
		ch.dismissWaiting()
		var got []byte
		for cur := &(*ch.groups.Load())[0].joining[0].cur; cur.More(); {
			got = append(got, frame.Payload(cur.TakeRest(math.MaxInt))...)
		}
		if string(got) != soundInit+silence {
			t.Errorf("%v: got %d bytes, wanted the init segment and the key frame", k, len(got))
		}
	}
}

// Who waits for a key frame, and is told the end when the stream has just turned out to be
// damaged, gets what those get that come to a stream of no known container.
func TestADamagedStreamEndsWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	ch := newIndexed()
	ch.srv.drainers = []*drainer{newDrainer()}
	ch.publisher = ch.newcomer(publish)
	ch.put(string(flvBegin))
	ch.put(string(flvPicture(1, 100, true)))
	s := ch.newcomer(receive)
	s.start = startLive
	to := ch.choose(s)
	if !to.wait {
		t.Fatalf("its place is %+v, wanted a later one", to)
	}
	ch.keepWaiting(waiter{s, to.since})
	ch.put(strings.Repeat("\x00", 20))
	ch.dismissWaiting()
	if at := (*ch.groups.Load())[0].joining[0].cur.Seq(); at != 0 {
		t.Errorf("it begins with packet %d, wanted the cache", at)
	}
}

// GOP_CACHE_MODE=keyframe gives back what came before the newest key frame.
func TestACacheFromTheNewestKeyFrameOn(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB, c.GOPCacheMode = 64, "keyframe" })
	pub := s.publish("cam", "key")
	const size = 100_000
	tags := flvStream(101, size) // the last one is a key frame
	sendAll(pub, tags...)
	ch := s.session(pub).ch
	if held := ch.ring.Size(); held > 10*size { // three slabs at most
		t.Errorf("the ring holds %d bytes of a stream whose newest picture, a key frame, has %d", held, size)
	}
	late := s.receive("cam", "key")
	late.WantPackets(flvBegin, tags[101])
	pub.CloseHandshake(1000)
	late.WantClose(1000)
}

// When the stream ends those who wait for a key frame are told so, as other receivers are;
// also when the operator ends it.
func TestWhoWaitsForAKeyFrameIsToldTheEnd(t *testing.T) {
	s := newTestServer(t)
	for _, end := range []func(pub *wstest.Conn){
		func(pub *wstest.Conn) { pub.CloseHandshake(1000) },
		func(pub *wstest.Conn) {
			s.EndChannel("cam")
			pub.WantError("Ended by the operator", 4002)
		},
	} {
		pub := s.publish("cam", "key")
		sendAll(pub, flvStream(3, 1000)...)
		var all []*wstest.Conn
		for range 10 {
			all = append(all, s.dial("/cam/key/receive?start=live"))
		}
		s.waiting(pub, len(all))
		end(pub)
		for _, c := range all {
			c.WantClose(1000)
		}
	}
}

// Where a receiver begins: what it asks for, else what the server is set to, and a server
// that is set to nothing, as one made by a program may be, gives everything.
func TestParseStart(t *testing.T) {
	for _, c := range []struct {
		mode, query string
		k           kind
		want        start
		ok          bool
	}{
		{"", "", receive, startFull, true},
		{"full", "", receive, startFull, true},
		{"keyframe", "", receive, startKeyFrame, true},
		{"keyframe", "", receiveClearCache, startFull, true},
		{"keyframe", "start=full", receive, startFull, true},
		{"full", "start=keyframe", receiveClearCache, startKeyFrame, true},
		{"full", "heartbeat=ping&start=live&x", receive, startLive, true},
		{"full", "st%61rt=l%69ve", receive, startLive, true},
		{"full", "restart=now&Start=never&start%=x", receive, startFull, true},
		{"full", "start=", receive, 0, false},
		{"full", "start", receive, 0, false},
		{"full", "start=Live", probe, 0, false},
		{"full", "start=live&start=live", receive, 0, false},
		{"full", "start=%zz", receive, 0, false},
		{"keyframe", "start=12.5", publish, startFull, true},
	} {
		f := &front{srv: newServer(t, Config{GOPCacheMode: c.mode})}
		if got, ok := f.parseStart(c.query, c.k); ok != c.ok || ok && got != c.want {
			t.Errorf("GOP_CACHE_MODE=%s, %v?%s: %v, %v; wanted %v, %v", c.mode, c.k, c.query, got, ok, c.want, c.ok)
		}
	}
}
