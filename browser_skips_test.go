package main

import (
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// valve is a network between clients and a server. While it is shut it takes nothing from
// the server.
type valve struct {
	addr string
	to   string

	mu     sync.Mutex // guards what follows
	turned *sync.Cond
	isShut bool
	ended  bool
	conns  []net.Conn
}

func startValve(t *testing.T, to string) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{addr: l.Addr().String(), to: to}
	v.turned = sync.NewCond(&v.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { v.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		v.turn(func() {
			v.ended = true
			for _, c := range v.conns {
				_ = c.Close()
			}
		})
		running.Wait()
	})
	return v
}

func (v *valve) turn(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	v.turned.Broadcast()
}

func (v *valve) shut() { v.turn(func() { v.isShut = true }) }

func (v *valve) open() { v.turn(func() { v.isShut = false }) }

// pass returns when something may be taken, true if it is over.
func (v *valve) pass() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for v.isShut && !v.ended {
		v.turned.Wait()
	}
	return v.ended
}

// carry has a client's connection until one of the two ends it.
func (v *valve) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", v.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	v.turn(func() { v.conns = append(v.conns, client, server) }) // an idle one ends with the test
	_ = server.(*net.TCPConn).SetReadBuffer(256 << 10)
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	for b := make([]byte, 16<<10); !v.pass(); {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// SLOW_RECEIVER=skip: what the network of a watcher does not take for a while is left out
// by the server, and the picture goes on behind that.
func (b *browserProcess) testSkips(t *testing.T) {
	s := startServer(t, "SLOW_RECEIVER=skip", "GOP_CACHE_SIZE_MB=1", "MAX_MESSAGE_MB=1", "RECEIVER_LAG_MB=2", "ADMIN_ADDRESS="+anyAdmin)
	skips := func() int { return int(s.metric("wsstream_receiver_skips_total")) }
	var windows []*window
	for i, m := range []mediaStream{mediaStreams[0], mediaStreams[3]} { // WebM and MP4
		stream, complaints := runFFmpeg(t, "ffmpeg", nil, strings.Replace(noise, "-t 4", "-t 6", 1)+m.output+" -")
		if len(stream) < 3_200_000 {
			t.Fatalf("ffmpeg made %d bytes: %s", len(stream), complaints)
		}
		v := startValve(t, s.addr)
		publisher := s.publish(m.name, "key")
		w := b.open(t, "http://"+v.addr+"/#view=watch&latency=all&reconnect=no&key=key&channel="+m.name, noteShown)
		w.wait("a connection", `watch.dataset.state === 'waiting'`)
		packets := slices.Collect(slices.Chunk(stream, 3000))
		send := func(n int) {
			sendAll(publisher, packets[:n]...)
			packets = packets[n:]
		}
		send(100)
		w.wait("a picture", `shown.length > 0`)
		v.shut()
		// The half of RECEIVER_LAG_MB behind the cache is almost reached. What then comes one
		// by one is far from the other half, where the receiver would be closed.
		for send(700); skips() == i; send(1) {
			if len(packets) == 1 {
				t.Fatalf("%s: no skip; %d bytes are published", m.name, len(stream))
			}
		}
		v.open()
		// The sync point may have been all there was. All the rest at once might be more than
		// the lag, before the watcher has come there.
		send(min(100, len(packets)))
		w.wait("the picture behind the gap", `number('watch-skips') === 1 && shown.some((time, i) => time - shown[i - 1] > 1)`)
		send(len(packets))
		publisher.CloseHandshake(1000)
		windows = append(windows, w)
	}
	for _, w := range windows {
		w.wait("the end of the stream", `video.ended && video.currentTime > 5.8 && video.error === null && watch.dataset.code === '1000'`)
		w.wait("no second skip", `number('watch-skips') === 1 && text('log').match(/skipped [1-5]\.\d s\./g)?.length === 1 && !text('log').includes('began a new stream')`)
		w.wantNoErrors()
	}
	if n := skips(); n != len(windows) {
		t.Errorf("%d skips are counted", n)
	}
}
