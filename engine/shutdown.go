package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// endEvery is how often a shutdown looks whether sessions are left, and partEvery how
	// often it closes the receivers whose turn has come.
	endEvery  = 5 * time.Millisecond
	partEvery = 20 * time.Millisecond
)

// errStopping refuses handshakes while the server goes away.
var errStopping = errors.New("the server is shutting down")

// Shutdown stops accepting, closes the receivers over SHUTDOWN_SECONDS, ends every
// publisher, lets the receivers that are left have what was published, closes everybody
// with 1001 and stops. What has not ended by itself when ctx ends is cut off; then an
// error says how many sessions that were. The last thing it logs is how many sessions
// have ended, by reason.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.stopping.Store(true)
	srv.parting.Store(srv.cfg.ShutdownTime() > 0) // before the receivers are listed
	srv.front.close()
	if srv.parting.Load() {
		srv.partReceivers(ctx, srv.cfg.ShutdownTime())
		srv.endParting()
	}
	var err error
	if left := srv.endAll(ctx); left > 0 {
		err = fmt.Errorf("%d sessions did not end in time and were cut off", left)
	}
	srv.front.wait()
	srv.engine.Stop()
	close(srv.stop)
	srv.working.Wait()
	srv.handover.close()
	if ended := srv.ends.logAttrs(); len(ended) > 0 {
		srv.log.LogAttrs(context.Background(), slog.LevelInfo, "sessions ended", ended...)
	}
	return err
}

// partReceivers closes the receivers one after the other, evenly over a time, in random
// order: when all are closed at once they all come back at once. It returns when the
// last one had its turn, at the time's end, or as soon as none is left.
//
// The policy: publishers go on, so that who is not closed yet misses nothing. Each
// receiver gets all that is published until its turn, and one of a stream that has ended
// meanwhile waits for its turn as well. One that is behind, and does not reach the head
// before the end, goes with those that endAll ends.
func (srv *Server) partReceivers(ctx context.Context, over time.Duration) {
	receivers := srv.shuffledReceivers()
	turn := turns{over: over, receivers: len(receivers)}
	tick := time.NewTicker(partEvery)
	defer tick.Stop()
	for next, begin := 0, time.Now(); ; {
		for left := len(receivers); left > next && receivers[left-1].gone.Load(); left-- {
			receivers = receivers[:left-1]
		}
		if next >= len(receivers) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for had := turn.had(time.Since(begin)); next < min(had, len(receivers)); next++ {
			receivers[next].part()
		}
	}
}

// shuffledReceivers returns all receivers in an order of chance. Any goroutine.
func (srv *Server) shuffledReceivers() (receivers []*session) {
	for shard := range rosterShards {
		for _, s := range srv.roster.snapshot(shard, nil) {
			if s.kind != publish {
				receivers = append(receivers, s)
			}
		}
	}
	rand.Shuffle(len(receivers), func(i, j int) { receivers[i], receivers[j] = receivers[j], receivers[i] })
	return receivers
}

// turns is when receivers are closed.
type turns struct {
	over      time.Duration
	receivers int
}

// had returns how many receivers have had their turn after a while: the first one a
// share of the time after the beginning, the last one at its end.
func (t turns) had(after time.Duration) int {
	if after >= t.over {
		return t.receivers
	}
	return int(float64(t.receivers) * float64(after) / float64(t.over))
}

// part closes a receiver with 1001 once it has everything that is published. Any
// goroutine, while the server goes away.
func (s *session) part() {
	if g := s.group.Load(); g != nil {
		g.part(s)
		return
	}
	s.end(serverShutdown) // it waits for a publisher or a sync point, or is being closed
}

// endParting lets everybody who waits for a turn that will not come go.
func (srv *Server) endParting() {
	srv.parted.Store(srv.now()) // first: see verdict
	srv.parting.Store(false)
	for shard := range rosterShards {
		for _, s := range srv.roster.snapshot(shard, nil) {
			if g := s.group.Load(); g != nil {
				g.wakeNow()
			}
		}
	}
}

// awaitsTurn reports whether a receiver has everything of a stream that has ended, and
// stays until a shutdown closes it.
func (s *session) awaitsTurn() bool { return s.srv.parting.Load() && s.free() }

// endAll ends every session and waits for them until ctx ends. It returns how many
// were left. Sessions that a handshake under way still makes are met again.
func (srv *Server) endAll(ctx context.Context) int {
	tick := time.NewTicker(endEvery)
	defer tick.Stop()
	for {
		for shard := range rosterShards {
			for _, s := range srv.roster.snapshot(shard, nil) {
				if s.kind == publish || s.group.Load() == nil {
					s.end(serverShutdown)
				}
			}
		}
		idle := srv.front.idle() // before the count: a handshake under way may still add one
		left := srv.roster.size()
		if left == 0 && idle {
			return 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			srv.cutHTTP()
			return left
		}
	}
}

// cutHTTP cuts off the receivers over HTTP that were not sent everything: nbio's stop
// would end their connections in order, which one of HTTP/1.0 takes for the stream's end.
func (srv *Server) cutHTTP() {
	for shard := range rosterShards {
		for _, s := range srv.roster.snapshot(shard, nil) {
			if s.http != nil && s.http.begun.Load() {
				s.abort()
			}
		}
	}
}

// endOfStream returns why a receiver that has everything is closed.
func (srv *Server) endOfStream() reason {
	if srv.stopping.Load() {
		return serverShutdown
	}
	return streamEnded
}
