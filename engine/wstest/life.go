package wstest

import "time"

// LifeSigns has clients that nobody reads for a while show that they live, as those that
// are dialled before all the others do on a busy machine: the server gives up who shows no
// life for a minute. A pong is such a sign, is not answered, and takes nothing of what the
// server has sent: who stalls goes on stalling.
type LifeSigns struct{ last time.Time }

// From sends a pong from each of them, if none were sent in the last 10 s.
func (l *LifeSigns) From(clients ...*Conn) {
	if time.Since(l.last) < 10*time.Second {
		return
	}
	for _, c := range clients {
		c.Send(Pong, nil)
	}
	l.last = time.Now()
}
