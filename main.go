// Command ws-stream-server relays live media: what a publisher sends over a
// WebSocket, every receiver of its channel gets. This file is wiring only: settings,
// logger, filter, authorizer, engine, the operator's listener, signals.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/engine"
	"ws-stream-server/engine/admin"
	"ws-stream-server/netfilter"
)

// version is shown by -version and at / without the test client.
const version = "1.0.0"

// Exit codes.
const (
	exitOK       = 0
	exitFault    = 1 // the server could not run, or a second signal cut it short
	exitSettings = 2 // a setting or an argument is wrong
)

// A shutdown has SHUTDOWN_SECONDS and then shutdownTimeout for the sessions, and then
// flushTimeout to tell the coordinator: with logFlush, and without SHUTDOWN_SECONDS, less
// than the 10 s that service managers wait.
//
// Static after start; tests of what receivers get, and not of how soon, set a longer
// shutdownTimeout before.
var shutdownTimeout = 6 * time.Second

const flushTimeout = 2 * time.Second

func main() { os.Exit(run(os.Args[1:])) }

// run is the program; it returns the exit code.
func run(args []string) int {
	what, err := parseArguments(args)
	if err != nil {
		return fail(exitSettings, err)
	}
	if what != taskServe {
		return answer(what, os.Stdout)
	}
	cfg, err := loadSettings(".")
	if err != nil {
		return fail(exitSettings, err)
	}
	signal.Ignore(syscall.SIGPIPE) // the log's reader may go, the server stays
	sink := newLogSink(os.Stdout, cfg.LogFormat)
	defer sink.Close()
	return serve(cfg, newLogger(sink, cfg), sink)
}

// parts is the program put together, with nothing running yet.
type parts struct {
	srv        *engine.Server
	authorizer auth.Authorizer
	begin      func() // to be called once the server listens
}

// assemble makes the parts; what they refuse is a setting that is wrong.
func assemble(cfg settings, log *slog.Logger) (p parts, err error) {
	if cfg.rtmpChunkSizeSet {
		log.Info("RTMP_CHUNK_SIZE has no effect on WebSocket")
	}
	filter, err := netfilter.New(cfg.Filter)
	if err != nil {
		return parts{}, err
	}
	if p.authorizer, p.begin, err = newAuthorizer(cfg, log); err != nil {
		return parts{}, err
	}
	p.srv, err = engine.New(cfg.Engine, engine.Options{Version: version, Log: log, Filter: filter, Auth: p.authorizer})
	return p, err
}

// serve runs the server until a signal ends it.
func serve(cfg settings, log *slog.Logger, sink *logSink) int {
	p, err := assemble(cfg, log)
	if err != nil {
		return fail(exitSettings, err)
	}
	operator, err := admin.Listen(cfg.Admin, admin.Options{Version: version, Log: log, Server: p.srv})
	if err != nil {
		return fail(exitFault, err)
	}
	defer operator.Close() // it tells of the shutdown to its end
	debug.SetMemoryLimit(cfg.Engine.MemoryLimit())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if err := p.srv.Start(); err != nil {
		return fail(exitFault, err)
	}
	operator.Serve()
	p.begin()
	manager := newNotifier(log)
	manager.ready(p.srv.Alive)
	log.Info("started", "version", version)

	log.Info("shutting down", "signal", (<-signals).String())
	go func() {
		<-signals
		log.Warn("second signal: exiting at once")
		sink.Close()
		os.Exit(exitFault)
	}()
	manager.stopping(cfg.Engine.ShutdownTime() + shutdownTimeout + flushTimeout + logFlush)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Engine.ShutdownTime()+shutdownTimeout)
	defer cancel()
	if err := p.srv.Shutdown(ctx); err != nil {
		log.Warn("shutdown was cut short", "error", err)
	}
	flush, cancelFlush := context.WithTimeout(context.Background(), flushTimeout)
	defer cancelFlush()
	if err := p.authorizer.Close(flush); err != nil {
		log.Warn("cannot tell the coordinator everything", "error", err)
	}
	log.Info("stopped")
	return exitOK
}

// newAuthorizer returns who decides about publishers, and what to call once the
// server listens.
func newAuthorizer(cfg settings, log *slog.Logger) (auth.Authorizer, func(), error) {
	if cfg.Auth.ControlBaseURL == "" {
		return auth.AcceptAll(), func() {}, nil
	}
	c, err := auth.NewCoordinator(cfg.Auth, cfg.Engine.ClientPort(cfg.Auth.ExternalSSL), log)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Start, nil
}
