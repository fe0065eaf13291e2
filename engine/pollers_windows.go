package engine

import (
	"math"
	"time"

	"github.com/lesismal/nbio"
)

// writeTimeout bounds a write on Windows, where nbio has a goroutine for each
// connection and its writes block.
const writeTimeout = 10 * time.Second

// handover gives connections to nbio. Nothing can be mistaken here: no numbers
// are used again.
type handover struct{ engine *nbio.Engine }

type waker struct{}

func newHandover(engine *nbio.Engine, _ int) *handover { return &handover{engine: engine} }

func (h *handover) begin() error { return nil }

func (h *handover) close() {}

func (w *waker) turn() {}

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

// shutdownWrite does nothing: nbio has no half-close here, the client's own close
// or the linger time-out ends the connection.
func shutdownWrite(*nbio.Conn) {}

// hungUp is not needed: nbio drops nothing here.
func hungUp(*nbio.Conn) bool { return false }

// inKernel is not known here.
func inKernel(*nbio.Conn) int64 { return 0 }

// pollings is nothing: there are no pollers here.
type pollings struct{}

func newPollings(int, int64) pollings { return pollings{} }

func (pollings) of(*nbio.Conn) *polling { return &polling{gap: math.MaxInt64} }
