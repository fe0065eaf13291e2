package bench

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"ws-stream-server/engine/wstest"
)

// keyEvery is how many packets there are from one key frame to the next, as of 2 s at 25
// frames a second.
const keyEvery = 50

// webmMagic is the ID of the element that a WebM stream begins with.
const webmMagic = "\x1A\x45\xDF\xA3"

// mediaPublisher publishes WebM, a frame of a video in each packet. The stamp, which
// packets begin with, is the end of the frame before: packets and blocks do not align.
type mediaPublisher struct {
	publisher        // of a packet that a block begins in
	key       []byte // that of a packet in which a cluster begins, with a key frame; masked
	preface   []byte // a message of what comes before the first stamp; nil: it is sent
	sent      int    // packets
}

func newMediaPublisher(p *publisher, size int) *mediaPublisher {
	element := func(id string, data ...string) string {
		d := strings.Join(data, "")
		return id + string(binary.BigEndian.AppendUint64(nil, 1<<56|uint64(len(d)))) + d
	}
	const blockHeader = "\xA3\x10\x00\x00\x00\x81\x00\x00" // SimpleBlock, its size to be filled in, track 1
	block := func(data int, flags byte) []byte {
		b := append([]byte(blockHeader), flags)
		binary.BigEndian.PutUint32(b[1:], 1<<28|uint32(4+data))
		return b
	}
	packet := func(head string, flags byte) []byte {
		b := append(make([]byte, stampSize), head...)
		b = append(b, block(size-len(b)-len(blockHeader)-1+stampSize, flags)...)
		return slices.Concat(b, make([]byte, size-len(b)))
	}
	cluster := "\x1F\x43\xB6\x75\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF" + element("\xE7", "\x00") // of unknown size, at time 0
	track := element("\xAE", element("\xD7", "\x01"), element("\x83", "\x01"), element("\x86", "V_VP8"))
	begin := element(webmMagic, element("\x42\x82", "webm")) + "\x18\x53\x80\x67\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF" +
		element("\x16\x54\xAE\x6B", track) + cluster
	message := func(b []byte) []byte { return wstest.Frame{Op: wstest.Binary, Payload: b}.AppendTo(nil) }
	m := &mediaPublisher{publisher: *p, preface: message(append([]byte(begin), block(stampSize, 0x80)...))}
	m.frame, m.key = message(packet("", 0)), message(packet(cluster, 0x80))
	return m
}

func (m *mediaPublisher) publish(seq uint64, timed bool) error {
	if m.preface != nil {
		if _, err := m.conn.Write(m.preface); err != nil {
			return err
		}
		m.preface = nil
	}
	p := m.publisher
	if m.sent++; m.sent%keyEvery == 0 {
		p.frame = m.key
	}
	return p.publish(seq, timed)
}

// What is published is a stream that the server follows.
func TestTheMediaIsFollowed(t *testing.T) {
	s := &stage{tb: t}
	defer s.close()
	o := startOurs(t, s, nil, 1)
	m := newMediaPublisher(o.publisher(t, s, "cam", 1<<10), 1<<10)
	in, early, err := o.receive("cam")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(in)
	for seq := range uint64(2*keyEvery + 1) {
		if seq%keyEvery == 0 {
			time.Sleep(20 * time.Millisecond) // the server tells how far key frames are from each other
		}
		if err := m.publish(seq, false); err != nil {
			t.Fatal(err)
		}
	}
	r, buf, packets := stream{}, make([]byte, 4<<10), int64(0)
	for n := copy(buf, early); packets < 2*keyEvery+1; {
		if err := r.feed(buf[:n]); err != nil {
			t.Fatal(err)
		}
		got, lost := r.take()
		if packets += got; lost > 0 {
			t.Fatalf("%d packets are missing before packet %d", lost, r.next)
		}
		if packets < 2*keyEvery+1 {
			if n, err = in.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	info := o.srv.Channels()[0]
	if info.Container != "webm" || !slices.Equal(info.Codecs, []string{"vp8"}) || info.KeyFrameSeconds <= 0 {
		t.Errorf("wanted the server to know WebM with VP8 and its key frames, got %+v", info)
	}
}
