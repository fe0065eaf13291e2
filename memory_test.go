package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"ws-stream-server/engine/wstest"
)

// 200 publishers whose caches would take four times what the process may have: the
// caches are cut and nobody else is hurt. Every publisher goes on, receivers that
// follow get every packet, who comes later gets the newest ones.
func TestMemoryLimitWith200Publishers(t *testing.T) {
	t.Parallel()
	heavy(t)
	const limit, publishers, size = 128, 200, 64 << 10
	n := 36
	if raceEnabled { // collecting garbage within a limit takes most of the time then
		n = 16
	}
	s := startServer(t, "LOG_REQUESTS=NO", fmt.Sprint("MEMORY_LIMIT_MB=", limit), "MAX_MESSAGE_MB=1", "ADMIN_ADDRESS="+anyAdmin)
	s.wantMetric("wsstream_memory_limit_bytes", limit<<20/5*4)
	var pubs []*wstest.Conn
	var life wstest.LifeSigns // of publishers that send nothing
	for i := range publishers {
		pubs = append(pubs, s.publish(fmt.Sprint("cam", i), "key"))
		life.From(pubs...)
	}
	var wg sync.WaitGroup
	var complete atomic.Int32
	for i := range 10 {
		r := s.receive(fmt.Sprint("cam", i*20), "key")
		life.From(pubs...)
		wg.Go(func() {
			first, last, code, err := follow(r, nil)
			switch {
			case err == nil && first == 0 && last == n-1 && code == 1000:
				complete.Add(1)
			case err == nil && code == 4008: // on a slow machine: a run without a gap, and told why
				t.Logf("a receiver was behind when its channel's cache was cut: packets %d to %d", first, last)
			default:
				t.Errorf("a receiver: packets %d to %d, close code %d, %v", first, last, code, err)
			}
		})
	}
	most, streams := int64(0), 0.0
	for p := range n {
		for i, c := range pubs {
			c.Send(wstest.Binary, numbered(p, size))
			if i%20 == 0 {
				most = max(most, s.memory())
			}
		}
		streams = max(streams, s.metric("wsstream_memory_used_bytes"))
	}
	for _, c := range pubs {
		life.From(pubs...)
		c.Sync() // everything is in the ring, and the publisher was not ended
	}
	s.wantLog("caches are cut")
	most = max(most, s.memory())
	t.Logf("%d MiB were published; the process had %d MiB at most", publishers*n*size>>20, most>>20)
	// The limit is Go's memory; the binary's own pages, some 15 MiB, come on top.
	if most > (limit+24)<<20 && !raceEnabled {
		t.Errorf("wanted at most %d MiB and the binary's pages", limit)
	}
	// Beyond that there may be the messages under way, and a slab for each slow receiver.
	if allowed := float64(limit << 20 / 5 * 4); streams > allowed+publishers*size+10*256<<10 || streams < allowed/2 {
		t.Errorf("streams took %.0f bytes at most, wanted all but %.0f", streams, allowed)
	}
	for i := range 10 {
		life.From(pubs...)
		r := s.receive(fmt.Sprint("cam", i*20), "key")
		first, err := wstest.Number(r.Next().Payload)
		if err != nil || first == 0 {
			t.Fatalf("a joiner begins at packet %d of a cache that was cut, %v", first, err)
		}
		for p := first + 1; p < n; p++ {
			r.WantPacket(numbered(p, size))
		}
	}
	s.dialSoon("/another/key/publish").Sync() // caches that were cut late shut newcomers out for a moment
	for i, c := range pubs {
		life.From(pubs[i:]...)
		c.CloseHandshake(1000)
	}
	wg.Wait()
	if complete.Load() == 0 {
		t.Error("no receiver that reads got everything")
	}
}

// 200 publishers that were let in, and whose packets of 450 KiB take more than there is even
// if nothing but the newest one of each is kept: some are ended, with the reason, and the
// process keeps within its memory.
func TestMemoryLimitWith200LargePackets(t *testing.T) {
	t.Parallel()
	heavy(t)
	const limit, publishers, size = 64, 200, 450 << 10
	s := startServer(t, "LOG_REQUESTS=NO", fmt.Sprint("MEMORY_LIMIT_MB=", limit), "MAX_MESSAGE_MB=1", "ADMIN_ADDRESS="+anyAdmin)
	s.wantMetric("wsstream_memory_limit_bytes", limit<<20/5*4)
	var pubs []*wstest.Conn
	var life wstest.LifeSigns
	for i := range publishers {
		pubs = append(pubs, s.publish(fmt.Sprint("cam", i), "key"))
		life.From(pubs...)
	}
	small := s.publish("small", "key")
	small.Send(wstest.Binary, []byte("small"))
	living := func() { // some of them may have been ended
		for _, c := range append(pubs[:publishers:publishers], small) {
			_ = c.SendE(wstest.Pong, nil)
		}
	}
	whole := wstest.Frame{Op: wstest.Binary, Payload: numbered(0, size)}.AppendTo(nil)
	begun := wstest.Frame{Op: wstest.Binary, Payload: numbered(0, size), More: true}.AppendTo(nil)
	most := int64(0)
	for i, c := range pubs {
		_ = c.SendRawE([][]byte{whole, begun}[i%2]) // it may have been ended
		most = max(most, s.memory())
		if i%20 == 0 {
			living()
		}
	}
	ended := 0
	for i, c := range pubs {
		switch code, err := c.SyncE(); {
		case err == nil && code == 1013:
			ended++
		case err != nil || code != 0:
			t.Errorf("publisher %d: wanted a pong or CLOSE 1013, got CLOSE %d, %v", i, code, err)
		}
		if i%20 == 0 {
			living()
		}
	}
	most = max(most, s.memory())
	eventually(t, "streams take four fifths of it", func() bool {
		return s.metric("wsstream_memory_used_bytes") <= limit<<20/5*4
	})
	t.Logf("%d of %d publishers were ended; the process had %d MiB at most", ended, publishers, most>>20)
	if most > (limit+24)<<20 && !raceEnabled {
		t.Errorf("wanted at most %d MiB and the binary's pages, had %d", limit, most>>20)
	}
	if ended < publishers/4 {
		t.Errorf("%d of %d publishers were ended, though %d MiB do not fit into %d", ended, publishers, publishers*size>>20, limit)
	}
	small.Sync()
	s.receive("small", "key").WantPacket([]byte("small"))
}
