package main

import (
	"fmt"
	"testing"

	"ws-stream-server/engine/wstest"
)

func TestWrongKeyOnALiveChannel(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pub := s.publish("cam", "key")
	pub.Send(wstest.Binary, []byte("secret"))
	pub.Sync()
	for _, key := range []string{"k", "ke", "keyy", "KEY", "kez", "yek", "-"} {
		for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
			wstest.Dial(t, s.addr, "/cam/"+key+"/"+kind).WantError(wrongKey, 1008)
		}
	}
	// None of them may have turned the cache off, or hurt the publisher.
	s.receive("cam", "key").WantPacket([]byte("secret"))
	pub.Sync()
}

func TestMistake02EarlyReceiverIsCheckedWhenThePublisherComes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var wrong []*wstest.Conn
	for _, kind := range []string{"receive", "receive-clear-cache", "probe"} {
		wrong = append(wrong, wstest.Dial(t, s.addr, "/cam/wrong/"+kind))
	}
	right := s.receive("cam", "key")
	for _, r := range append(wrong, right) {
		r.Sync()
	}
	pub := s.publish("cam", "key")
	for _, r := range wrong {
		r.WantError(wrongKey, 1008)
	}
	pub.Send(wstest.Binary, []byte("p"))
	right.WantPacket([]byte("p"))
	// The early receive-clear-cache with the wrong key did not turn the cache off.
	s.receive("cam", "key").WantPacket([]byte("p"))
}

func TestEachPublisherBringsItsOwnKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 5 {
		key := fmt.Sprintf("key%d", i)
		before := s.receive("cam", key)
		before.Sync()
		pub := s.publish("cam", key)
		pub.Send(wstest.Binary, []byte(key))
		before.WantPacket([]byte(key))
		s.receive("cam", fmt.Sprintf("key%d", i-1)).WantError(wrongKey, 1008)
		s.receive("cam", key).WantPacket([]byte(key))
		pub.CloseHandshake(1000)
		before.WantClose(1000)
		before.WantEOF()
	}
}

// The end of a publisher.
