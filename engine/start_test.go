package engine

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"ws-stream-server/engine/wstest"
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
// decoded; or, if it is of no known container, whatever comes from then on.
func TestJoinersBeforeTheContainerIsKnown(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.GOPCacheSizeMB = 0 })
	opaque := []string{"G", strings.Repeat("?", 5000), "", strings.Repeat("!", 5000)} // more than the first slabs have room for
	for _, c := range []struct {
		name, first string
		then, wants []string
	}{
		{"known", soundInit[:1], []string{soundInit[1:] + silence}, []string{soundInit, silence}},
		{"known, over at once", soundInit[:1], []string{soundInit[1:]}, nil},
		{"opaque", "\x00", opaque, opaque},
		{"never known", "\x00", []string{"\x00", "\x00"}, []string{"\x00", "\x00"}},
		{"blank", "", []string{"", "?"}, []string{"", "?"}},
	} {
		pub := s.publish("cam", "key")
		sendAll(pub, []byte(c.first))
		late := s.receive("cam", "key")
		s.session(late)
		var b []byte // in one read
		for _, p := range c.then {
			b = wstest.Frame{Op: wstest.Binary, Payload: []byte(p)}.AppendTo(b)
		}
		pub.SendRaw(b)
		pub.Sync()
		pub.CloseHandshake(1000)
		var got []string
		m := late.Next()
		for ; m.Op == wstest.Binary; m = late.Next() {
			got = append(got, string(m.Payload))
		}
		if !slices.Equal(got, c.wants) || m.Code() != 1000 {
			t.Errorf("%s: it got %q, wanted %q, and %v", c.name, got, c.wants, m)
		}
	}
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
	eventually(t, "nothing is kept for nobody", func() bool { return ch.lowest() == math.MaxUint64 })
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
