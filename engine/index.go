package engine

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"sync"

	"ws-stream-server/engine/media"
)

// index is where the decoders of a stream can start: its sync points, as long as the
// ring has them, each with the init segment that it needs. Of a stream that is of no
// known container it is empty and stays so.
type index struct {
	// Guarded by the publisher's in.mu.
	stream media.Stream
	init   []byte
	kept   int64 // what stream holds, as far as it is counted

	news bool // owned by the publisher's poller: something has changed since it last asked

	// Guarded by mu, under which no other lock is taken but a tally's.
	mu        sync.Mutex
	container media.Container
	tracks    []media.Track // written by the publisher's poller alone, which may read it without mu
	points    []*syncPoint  // oldest first
	segment   *initSegment  // of the newest; nil: none
	inits     int64         // bytes of all init segments that are held
	begins    uint64        // how many init segments have come
	found     *syncPoint    // the newest, if the poller has found it since it last asked
	led       []*syncPoint  // those with a lead, maxLeads at most, in the order in which these were made
	keyFrames interval
	blank     bool     // the first packet is empty: a probe gets that
	recurs    bool     // the first byte is MPEG-TS's, whose tables come again and again, or that of a text: it is not waited for
	bridge    struct { // the last one that was asked for
		from, to *syncPoint
		lead     *lead
	}
	probed struct { // what probes get that begin at a point, which is remembered
		point *syncPoint
		lead  *lead
		next  uint64 // the packet that comes next
		full  bool   // it stays so, whatever comes
	}
}

// syncPoint is where a decoder can start.
type syncPoint struct {
	// Static after construction.
	at    media.Point
	shown uint64 // the packet in which the media after it begin, that of at or a later one
	init  *initSegment
	begun uint64 // how many init segments had come, with those that were the same once more
	came  millis // since the ring's start

	// Guarded by the index's mu.
	lead      *lead // what a joiner gets first; nil: it is to be made
	forgotten bool  // nobody may join at it any more: what it holds is not counted

	// Guarded by the channel's mu.
	refused bool // who wanted to join last could not: memory had no room for its lead
}

// initSegment is what decoders need that start at some of the sync points.
type initSegment struct {
	payload []byte // its bytes never change; guarded by the index's mu
	holders int    // the points that are remembered, and the index for the newest: as long as there are any, payload is counted; guarded by the index's mu
}

// maxPoints is how many sync points are remembered; beyond that every second one of the
// older half is forgotten. It is an hour of a picture's key frames each second, and
// more of a cache than most have.
const maxPoints = 4096

// maxInits is how many bytes of init segments are held at once; beyond that the points of
// all but the newest are forgotten, the oldest first. Streams change theirs seldom, and have
// a few kilobytes.
const maxInits = 4 * media.MaxInit

// interval is the time between sync points.
type interval struct {
	known      bool
	last, span millis // when the newest ones came; between two, when they last came apart
	together   millis // how many have come at last
}

// follow looks at the packet that was just published: payload is its bytes, in the ring.
// Called by the ring's writer, with in.mu held.
func (ch *Channel) follow(payload []byte, age uint32) {
	x := &ch.index
	before := x.stream.Container()
	if before == media.Opaque {
		return
	}
	seq := ch.ring.Head() - 1
	if seq == 0 {
		x.news = len(payload) == 0
		x.noteFirst(payload)
	}
	found := x.stream.Write(seq, payload)
	if n := int64(x.stream.Kept()); n != x.kept {
		ch.srv.budget.add(n - x.kept)
		x.kept = n
	}
	init := x.stream.Init()
	if len(found) == 0 && same(init, x.init) && same(x.stream.Tracks(), x.tracks) && x.stream.Container() == before {
		return
	}
	// Slow path: once a sync point, or when there is more to tell of the tracks.
	x.init, x.news = init, true
	ch.note(found, millis(age))
	if len(found) == 0 {
		return
	}
	newest := found[len(found)-1].Seq
	ch.found.Store(newest + 1) // before the next packet, which might be in the same read
	if ch.srv.cfg.GOPCacheMode == startNames[startKeyFrame] {
		ch.ring.KeepFrom(newest)
	}
}

// unfollow forgets what was collected of the stream: it is over. Called with in.mu held.
func (ch *Channel) unfollow() {
	x := &ch.index
	ch.srv.budget.add(-x.kept)
	x.stream, x.kept = media.Stream{}, 0
}

// noteFirst is told the stream's first packet.
func (x *index) noteFirst(payload []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.blank = len(payload) == 0
	x.recurs = !x.blank && payload[0] == 0x47
}

// same reports whether two slices are one.
func same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// note makes what the stream has shown known to joiners. Called as follow is.
func (ch *Channel) note(found []media.Point, age millis) {
	x, b := &ch.index, &ch.srv.budget
	x.mu.Lock()
	defer x.mu.Unlock()
	x.container, x.tracks = x.stream.Container(), x.stream.Tracks()
	if x.container == media.Opaque {
		x.forgetAll(b)
		return
	}
	switch {
	case x.segment != nil && same(x.segment.payload, x.init):
	case x.segment != nil && bytes.Equal(x.segment.payload, x.init): // a recorder that starts over sends the same
		x.segment.payload = x.init
		x.begins++
	default:
		x.renew(b, x.init)
		x.begins++
	}
	for i, p := range found {
		x.keyFrames.note(age)
		if i > 0 && i+1 < len(found) && found[i-1].Seq == p.Seq && found[i+1].Seq == p.Seq {
			continue // nobody starts between a packet's first sync point and its last
		}
		x.found = &syncPoint{at: p, shown: ch.ring.Head() - 1, init: x.segment, begun: x.begins, came: age}
		x.points = append(x.points, x.found)
		x.segment.holders++
	}
	x.forgetBefore(b, ch.ring.Oldest())
	for x.inits > maxInits && x.points[0].init != x.segment {
		x.forget(b, x.points[:1])
		x.points = x.points[1:]
	}
	for len(x.points) > maxPoints {
		x.thin(b)
	}
}

// thin forgets every second point of the older half. The caller holds mu.
func (x *index) thin(b *budget) {
	var kept []*syncPoint
	older := len(x.points) / 4 * 2
	for i := 0; i < older; i += 2 {
		kept = append(kept, x.points[i])
		x.forget(b, x.points[i+1:i+2])
	}
	x.points = append(kept, x.points[older:]...)
}

// note is told that a sync point came. Those that come at once lie apart as far as the
// next one is from them all.
func (i *interval) note(age millis) {
	switch {
	case !i.known:
		i.known, i.last, i.together = true, age, 0
	case age != i.last:
		i.span = (age - i.last) / max(i.together, 1)
		i.last, i.together = age, 0
	}
	i.together++
}

// first returns the oldest sync point that does not lie before seq, newest the newest
// one; nil: there is none. The caller holds mu.
func (x *index) first(seq uint64) *syncPoint {
	i, _ := slices.BinarySearchFunc(x.points, seq, func(p *syncPoint, seq uint64) int { return cmp.Compare(p.at.Seq, seq) })
	if i == len(x.points) {
		return nil
	}
	return x.points[i]
}

func (x *index) newest(seq uint64) *syncPoint {
	if n := len(x.points); n > 0 && x.points[n-1].at.Seq >= seq {
		return x.points[n-1]
	}
	return nil
}

// forget gives up sync points. The caller holds mu.
func (x *index) forget(b *budget, points []*syncPoint) {
	for _, p := range points {
		x.unlead(b, p)
		if x.probed.point == p {
			x.setProbed(b, nil, nil, 0, false)
		}
		p.forgotten = true
		x.letGo(b, p.init)
	}
	clear(points)
}

// renew makes payload the newest init segment; nil: there is none any more. The caller
// holds mu.
func (x *index) renew(b *budget, payload []byte) {
	if old := x.segment; old != nil {
		x.letGo(b, old)
	}
	x.segment = nil
	if payload != nil {
		x.segment = &initSegment{payload: payload, holders: 1}
		x.inits += int64(len(payload))
		b.add(int64(len(payload)))
	}
}

// letGo has one less hold an init segment. The caller holds mu.
func (x *index) letGo(b *budget, s *initSegment) {
	if s.holders--; s.holders == 0 {
		x.inits -= int64(len(s.payload))
		b.add(-int64(len(s.payload)))
	}
}

// forgetBefore gives up the sync points that lie before a packet. The caller holds mu.
func (x *index) forgetBefore(b *budget, seq uint64) {
	gone := 0
	for gone < len(x.points) && x.points[gone].at.Seq < seq {
		gone++
	}
	x.forget(b, x.points[:gone])
	x.points = x.points[gone:]
}

// shrink gives up what leads to packets before that one: they have left the ring. Any
// goroutine.
func (x *index) shrink(b *budget, oldest uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetBefore(b, oldest)
	x.setBridge(b, nil, nil, nil)
}

// forgetAll gives everything up. The caller holds mu.
func (x *index) forgetAll(b *budget) {
	x.forget(b, x.points)
	x.points, x.found = nil, nil
	x.renew(b, nil)
	x.setBridge(b, nil, nil, nil)
}

// release gives up everything: nobody joins any more. Any goroutine.
func (x *index) release(b *budget) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetAll(b)
}

// describe adds what is known of the stream's media to a channel's description. Any
// goroutine.
func (x *index) describe(i *ChannelInfo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i.Container = x.container.String()
	i.Codecs = x.codecs()
	i.KeyFrameSeconds = x.keyFrames.span.seconds()
	video, audio := true, true // the first of them tells
	for _, t := range x.tracks {
		switch {
		case t.Kind == "video" && video:
			i.Width, i.Height, video = t.Width, t.Height, false
		case t.Kind == "audio" && audio:
			i.SampleRate, i.AudioChannels, audio = t.SampleRate, t.Channels, false
		}
	}
}

// codecs returns the tracks' codecs, as far as they have names. The caller holds mu.
func (x *index) codecs() []string {
	list := []string{}
	for _, t := range x.tracks {
		if t.Codec != "" {
			list = append(list, t.Codec)
		}
	}
	return list
}

// followed are the containers that are followed, as contentTypes has them.
var followed = [...]container{media.WebM: webm, media.Matroska: matroska, media.MP4: mp4, media.FLV: flv, media.MPEGTS: mpegTS}

// contentType returns the media type with the codecs (RFC 6381, 3): that of the container,
// or the one that is given, by the first packet, while that is not known, which may have
// been too short to tell. There are no codecs where one has no name, or the container's
// registration has no such parameter. Any goroutine.
func (x *index) contentType(sniffed string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := contentTypes[followed[x.container]]
	if name == "" {
		return sniffed
	}
	codecs := x.codecs()
	if x.container != media.WebM && x.container != media.MP4 || len(codecs) == 0 || len(codecs) < len(x.tracks) {
		return name
	}
	return name + `; codecs="` + strings.Join(codecs, ", ") + `"`
}
