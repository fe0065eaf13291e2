package bench

import (
	"fmt"
	"io"
	"net"
	"testing"

	"ws-stream-server/engine/frame"
)

// BenchmarkChannels is many channels, each with one publisher and one receiver. An
// operation is one packet on every channel, published one after the other and read
// by all the receivers.
//
//	channels=           publishers, and receivers
//	size=               bytes of a packet
//	server=ours         the server, over WebSocket
//	server=ours-webm    the same, with packets of a WebM stream, which it follows
//	server=goroutines   a goroutine for each publisher, which reads a message, unmasks
//	                    it and writes it to the receiver
//
// The metrics are BenchmarkFanOut's.
func BenchmarkChannels(b *testing.B) {
	const channels, size = 1000, 1 << 10
	for _, server := range []string{"ours", "ours-webm", "goroutines"} {
		name := fmt.Sprintf("channels=%d/size=%d/server=%s", channels, size, server)
		rounds(b, name, func(b *testing.B, s *stage) *load {
			needConnections(b, 2*channels)
			var under broadcaster
			switch server {
			case "ours":
				under = startChannels(b, s, channels, func(p *publisher) onePublisher { return p }, size)
			case "ours-webm":
				under = startChannels(b, s, channels, func(p *publisher) onePublisher { return newMediaPublisher(p, size) }, size)
			default:
				under = &relays{sockets: listen(b, s, nil, size)}
			}
			l := newLoad(b, s, under, channels, size)
			l.window = 8 // 8 MiB in all
			l.warmUp(b)
			return l
		}, func(b *testing.B, l *load) { l.fullSpeed(b) })
	}
}

// publishers has one packet published on every channel.
type publishers []onePublisher

type onePublisher interface {
	publish(seq uint64, timed bool) error
}

func (p publishers) publish(seq uint64, timed bool) error {
	for _, pub := range p {
		if err := pub.publish(seq, timed); err != nil {
			return err
		}
	}
	return nil
}

// manyChannels is channels of ours, each with a publisher and one receiver.
type manyChannels struct {
	*ours
	publishers
	received int // channels that have their receiver
}

// startChannels starts a server with publishers of packets of size bytes, made by with.
func startChannels(b *testing.B, s *stage, channels int, with func(*publisher) onePublisher, size int) *manyChannels {
	b.Helper()
	m := &manyChannels{ours: startOurs(b, s, nil, 0)}
	for i := range channels {
		m.publishers = append(m.publishers, with(m.publisher(b, s, fmt.Sprint("bench", i), size)))
	}
	return m
}

func (m *manyChannels) receive() (net.Conn, []byte, error) {
	m.received++
	return m.ours.receive(fmt.Sprint("bench", m.received-1))
}

func (m *manyChannels) publish(seq uint64, timed bool) error {
	return m.publishers.publish(seq, timed)
}

// relays is the baseline: pairs of a publisher's and a receiver's connection, with a
// goroutine each.
type relays struct {
	*sockets
	publishers
}

func (r *relays) receive() (net.Conn, []byte, error) {
	client, in, err := r.pair()
	if err != nil {
		return nil, nil, err
	}
	receiver, out, err := r.pair()
	if err != nil {
		return nil, nil, err
	}
	pub := newPublisher(client, len(r.frame)-r.header)
	r.publishers = append(r.publishers, pub)
	r.serving.Go(func() {
		defer hangUp(client)
		relay(in, out, pub.at, len(pub.frame)-pub.at)
	})
	return receiver, nil, nil
}

// relay brings messages of one size from a publisher to a receiver, until one of
// them is gone.
func relay(in, out net.Conn, header, size int) {
	masked := make([]byte, header+size)
	n := frame.HeaderSize(size)
	packet := make([]byte, n+size)
	frame.PutHeader(packet, frame.Binary, size)
	for {
		if _, err := io.ReadFull(in, masked); err != nil {
			return
		}
		key, payload := masked[header-4:header], masked[header:]
		for i, c := range payload {
			packet[n+i] = c ^ key[i&3]
		}
		if _, err := out.Write(packet); err != nil {
			return
		}
	}
}
