package engine

import (
	"time"

	"github.com/lesismal/nbio"
)

// writeTimeout bounds a write on Windows, where nbio has a goroutine for each
// connection and its writes block.
const writeTimeout = 10 * time.Second

// handover gives connections to nbio. Nothing can be mistaken here: no numbers
// are used again.
type handover struct{ engine *nbio.Engine }

func newHandover(engine *nbio.Engine, _ int) *handover { return &handover{engine: engine} }

func (h *handover) begin() error { return nil }

func (h *handover) close() {}

// ask asks nobody: there are no pollers.
func (h *handover) ask(*asking) {}

// add hands a session's connection over. s.conn is set. Any goroutine.
func (h *handover) add(s *session) {
	if _, err := h.engine.AddConn(s.conn); err != nil {
		s.closed()
		return
	}
	s.handedOver()
}

// writeDirect writes nothing: nbio's Write does, and blocks.
func writeDirect(*nbio.Conn, []byte) int { return 0 }

func beforeWrite(c *nbio.Conn) { _ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) }

// forgetUnsent does nothing: the system decides.
func forgetUnsent(*nbio.Conn) {}

// shutdownWrite does nothing: nbio has no half-close here, the client's own close
// or the linger time-out ends the connection.
func shutdownWrite(*nbio.Conn) {}

// boundUnsent does nothing: there is no such option.
func boundUnsent(*nbio.Conn, int) {}

// boundAfterlife does nothing: the system decides how long it goes on sending.
func boundAfterlife(*nbio.Conn, time.Duration) {}

// acknowledged is not known here: what the system has taken counts as taken.
func acknowledged(*nbio.Conn) (acked uint64, held int64) { return 0, 0 }

// unread is not known here: a heartbeat may go to a publisher that is gone.
func unread(*nbio.Conn) int64 { return 0 }

// leftUnread is not known here: what a publisher sent before a reset may be lost.
func leftUnread(*nbio.Conn) bool { return false }

// inKernel is not known here.
func inKernel(*nbio.Conn) int64 { return 0 }

// reader is how nbio's goroutines read: by themselves.
type reader struct{}

// read has nbio bring what clients send, each connection on its own goroutine and in
// a buffer of its own. Its OnRead would give no buffer here, and never end. Called
// before nbio starts.
func (srv *Server) read(int) {
	srv.engine.OnData(func(c *nbio.Conn, b []byte) {
		if s, ok := c.Session().(*session); ok {
			s.received(b)
		}
	})
}

func (reader) handled(*nbio.Conn) {}
