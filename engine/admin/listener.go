package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ws-stream-server/engine"
)

// Bounds of the operator's listener.
const (
	headerTimeout = 5 * time.Second  // for a request's header
	readTimeout   = 10 * time.Second // for a request
	writeTimeout  = 30 * time.Second // for an answer; a profile has its own time on top
	idleTimeout   = time.Minute      // between two requests; Prometheus asks every 15 s to 60 s
	maxHeader     = 8 << 10          // bytes
	maxConns      = 64               // connections at a time; limited says who goes for one beyond

	// closeTimeout is for the answers under way at the end.
	closeTimeout = 300 * time.Millisecond
)

// Server is what the listener shows: an *engine.Server. Any goroutine may call it.
type Server interface {
	Ready() error // nil, or why new clients should go elsewhere
	Census() engine.Census
	MemoryLimit() int64
	Ends() map[string]int64
	Overview() engine.Overview
	Sessions() []engine.SessionInfo
	Channels() []engine.ChannelInfo
	EndSession(id uint64) bool
	EndChannel(name string) bool
}

// Options is what a Listener works with beside its settings.
type Options struct {
	Version string
	Log     *slog.Logger // must not block
	Server  Server
}

// Listener is the operator's listener. Static after Serve.
type Listener struct {
	options Options
	start   time.Time // the process's, nearly
	net     net.Listener
	http    *http.Server
	wrong   *wrongTokens
	done    chan struct{} // closed when nothing is accepted any more; nil before Serve
}

// Listen takes ADMIN_ADDRESS. Nothing is answered before Serve. Without an address there
// is no listener: it returns nil, on which Serve and Close do nothing.
func Listen(cfg Config, o Options) (*Listener, error) {
	if cfg.Address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for ADMIN_ADDRESS: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	local := ok && addr.IP.IsLoopback()
	if !local && cfg.Token == "" { // what localhost stands for is the system's
		_ = l.Close()
		return nil, fmt.Errorf("cannot listen for ADMIN_ADDRESS: %v is not loopback, and ADMIN_TOKEN is not set", l.Addr())
	}
	a := &Listener{options: o, start: time.Now(), net: limit(l, maxConns), wrong: &wrongTokens{log: o.Log}}
	a.http = &http.Server{
		Handler:                      a.handler(newGuard(cfg, local)),
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ConnContext:                  withPlace,
		ErrorLog:                     slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	a.http.Protocols = new(http.Protocols)
	a.http.Protocols.SetHTTP1(true)
	return a, nil
}

// Serve answers from now on, until Close. The server must have started.
func (a *Listener) Serve() {
	if a == nil {
		return
	}
	a.options.Log.Info("listening for the operator", "address", a.net.Addr().String())
	a.done = make(chan struct{})
	go func() {
		defer close(a.done)
		if err := a.http.Serve(a.net); !errors.Is(err, http.ErrServerClosed) {
			a.options.Log.Error("cannot accept connections of the operator any more", "error", err)
		}
	}()
}

// Close ends the listener; answers under way have closeTimeout.
func (a *Listener) Close() {
	if a == nil {
		return
	}
	if a.done == nil {
		_ = a.net.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		_ = a.http.Close()
	}
	<-a.done
}
