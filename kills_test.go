package main

import (
	"fmt"
	"strings"
	"testing"

	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine/wstest"
)

func TestStreamKill(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	c.Decide(func(m authtest.Message) (string, bool) { return "id-of-" + m.Get("Stream-Channel"), true })
	for i, kill := range []string{
		"Stream-ID: id-of-cam%d", "Stream-ID: *", "Stream-ID:", "Stream-ID: ", "", "stream-id: *",
	} {
		channel := fmt.Sprintf("cam%d", i)
		pub := s.publish(channel, "key")
		other := s.publish("other", "key")
		r := s.receive(channel, "key")
		pub.Send(wstest.Binary, []byte("p"))
		r.WantPacket([]byte("p"))
		// Another ID, and another channel, have no effect.
		c.Kill(channel, "id-of-somebody")
		c.Kill(channel+"x", "*")
		c.Kill(channel, "id-of-cam")
		other.Sync()
		pub.Sync()
		if strings.Contains(kill, "%d") {
			kill = fmt.Sprintf(kill, i)
		}
		c.Send("STREAM-KILL\nStream-Channel: " + channel + "\n" + kill + "\n")
		r.WantClose(1000)
		r.WantEOF()
		pub.WantError("Stream killed by the coordinator", 4000)
		pub.WantEOF()
		if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-Channel") != channel || end.Get("Stream-ID") != "id-of-"+channel {
			t.Errorf("kill %d: wanted PUBLISH-END of %s, got %v", i, channel, end)
		}
		s.publish(channel, "key").Sync() // it may come back
		other.CloseHandshake(1000)
		c.WantMessage("PUBLISH-END")
	}
}

// The coordinator may kill in the same breath as it accepts.
func TestStreamKillRightAfterAccept(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	for i := range 10 {
		a := ask(s, "/cam/key/publish")
		id := c.WantMessage("PUBLISH-REQUEST").Get("Request-ID")
		c.Accept(id, "cam", fmt.Sprint("x", i))
		c.Kill("cam", fmt.Sprint("x", i))
		<-a.answer
		if a.conn != nil {
			a.conn.On(t).WantError("Stream killed by the coordinator", 4000)
			a.conn.WantEOF()
		}
		if end := c.WantMessage("PUBLISH-END"); end.Get("Stream-ID") != fmt.Sprint("x", i) {
			t.Errorf("wanted PUBLISH-END of x%d, got %v", i, end)
		}
	}
}

func TestStreamKillWithAReceiverThatIsBehind(t *testing.T) {
	t.Parallel()
	c, s := startCoordinated(t)
	acceptAll(c)
	pub := s.publish("cam", "key")
	r := s.receive("cam", "key", wstest.ReceiveBuffer(256<<10))
	for i := range 80 {
		pub.Send(wstest.Binary, numbered(i, 100_000))
	}
	pub.Sync()
	c.Kill("cam", "*")
	c.WantMessage("PUBLISH-END") // does not wait for the receiver
	s.publish("cam", "key2").Sync()
	if first, last, code, err := follow(r, nil); err != nil || first != 0 || last != 79 || code != 1000 {
		t.Errorf("wanted packets 0 to 79 and 1000, got %d to %d and %d, %v", first, last, code, err)
	}
}
