package engine

import (
	"context"
	"log/slog"
	"time"
)

func (s *session) logBegin() {
	if s.srv.cfg.LogRequests {
		s.srv.log.LogAttrs(context.Background(), slog.LevelInfo, "session begins", s.logAttrs()...)
	}
}

// logEnd says what the session has done, if the log was told of its beginning. OPERATING.md
// lists the words.
func (s *session) logEnd() {
	if !s.srv.cfg.LogRequests || s.conn == nil { // else its handshake has failed
		return
	}
	n := s.numbers()
	attrs := append(s.logAttrs(),
		slog.String("reason", s.reason().String()),
		inSeconds("seconds", time.Duration(s.srv.now()-s.began)),
		slog.Int64("bytes", n.sum.bytes),
		slog.Int64("packets", n.sum.packets))
	if s.kind != publish {
		attrs = append(attrs, slog.Int64("lag_bytes", n.lagBytes), inSeconds("lag_seconds", n.lag.duration()))
		if n.first != 0 {
			attrs = append(attrs, inSeconds("first_byte_seconds", time.Duration(n.first-s.began)))
		}
	}
	s.srv.log.LogAttrs(context.Background(), slog.LevelInfo, "session ends", attrs...)
}

// inSeconds is a time in a log line, to the millisecond.
func inSeconds(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Round(time.Millisecond).Milliseconds())/1000) // 1.91, not 1.9100000000000001
}

// logAttrs names the session in a log line: never by its key.
func (s *session) logAttrs() []slog.Attr {
	return []slog.Attr{
		slog.String("channel", s.name),
		slog.String("kind", s.kind.String()),
		slog.String("addr", shownAddr(s.addr)),
		slog.Bool("tls", s.secure),
		slog.String("door", s.door.String()),
		slog.Uint64("id", s.id),
	}
}
