package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// logBacklog is how much may wait for a reader of the log that is slow, in
	// bytes; lines beyond it are dropped and counted.
	logBacklog = 1 << 20

	// logFlush is how long the end of the program waits for the log's reader.
	logFlush = time.Second
)

// logSink writes log lines on a goroutine of its own, for who logs must not wait:
// sessions end on a goroutine that all connections share. Lines keep their order;
// when nobody reads the log, the newest are dropped, and a line says how many.
type logSink struct {
	// Static after construction.
	w      io.Writer // written to by run only
	format string    // LOG_FORMAT

	// Guarded by mu. wake signals run.
	mu      sync.Mutex
	wake    sync.Cond
	waiting bytes.Buffer
	dropped int
	closed  bool

	done chan struct{} // closed when run has returned
}

// newLogSink returns a sink over w, to be closed. format is LOG_FORMAT, for the lines
// that are the sink's own.
func newLogSink(w io.Writer, format string) *logSink {
	s := &logSink{w: w, format: format, done: make(chan struct{})}
	s.wake.L = &s.mu
	go s.run()
	return s
}

// Write takes one line; it is copied. It never blocks and never fails. Any
// goroutine.
func (s *logSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.waiting.Len()+len(line) > logBacklog:
		s.dropped++
	default:
		s.waiting.Write(line)
		s.wake.Signal()
	}
	return len(line), nil
}

// run writes what waits until Close. An error of the writer loses what it was
// given; there is nowhere to report it.
func (s *logSink) run() {
	defer close(s.done)
	var batch bytes.Buffer
	for {
		s.mu.Lock()
		for s.waiting.Len() == 0 && s.dropped == 0 && !s.closed {
			s.wake.Wait()
		}
		if s.waiting.Len() == 0 && s.dropped == 0 {
			s.mu.Unlock()
			return
		}
		batch, s.waiting = s.waiting, batch
		if s.dropped > 0 {
			slog.New(newLogHandler(&batch, s.format, slog.LevelInfo)).Warn("log lines dropped: nobody reads the log", "lines", s.dropped)
			s.dropped = 0
		}
		s.mu.Unlock()
		_, _ = s.w.Write(batch.Bytes())
		batch.Reset()
	}
}

// Close has what waits written, for logFlush at the most. Lines that come
// afterwards are lost. Called once.
func (s *logSink) Close() {
	s.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-time.After(logFlush):
	}
}
