package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"

	"ws-stream-server/auth"
	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

// What one wscat publishes another one receives, and both end in order.
func TestWscatCarriesAStream(t *testing.T) {
	url := start(t)
	stream := make([]byte, 1<<20)
	_, _ = rand.Read(stream)
	ctx, cancel := context.WithTimeout(context.Background(), wstest.Timeout)
	defer cancel()

	in, input := io.Pipe()
	output, out := io.Pipe()
	ended := make(chan error, 2)
	go func() { ended <- run(ctx, url+"/publish?heartbeat=ping", in, nil) }()
	go func() {
		err := run(ctx, url+"/receive", nil, out)
		_ = out.CloseWithError(err) // nil: the end of the output
		ended <- err
	}()
	go func() { _, _ = input.Write(stream) }()
	got := make([]byte, len(stream))
	if n, err := io.ReadFull(output, got); err != nil || !bytes.Equal(got, stream) {
		t.Fatalf("wanted the %d bytes that were published, got %d, %v", len(stream), n, err)
	}
	_ = input.Close()
	if more, err := io.ReadAll(output); err != nil || len(more) > 0 {
		t.Errorf("wanted the end, got %d bytes, %v", len(more), err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("wanted an end in order, got %v", err)
		}
	}
}

func TestWscatIsRefused(t *testing.T) {
	url := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), wstest.Timeout)
	defer cancel()
	if err := run(ctx, url+"/watch", nil, nil); err == nil {
		t.Error("a path that is none was accepted")
	}
}

// start starts a server that accepts every key and returns a channel's address on it.
func start(t *testing.T) string {
	t.Helper()
	filter, err := netfilter.New(netfilter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := engine.Config{
		BindAddress: "127.0.0.1", IDMaxLength: 128,
		GOPCacheSizeMB: 4, MaxMessageMB: 1, ReceiverLagMB: 4, MaxHandshakes: 1024, MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10,
	}
	var srv *engine.Server
	for try := 1; ; try++ {
		cfg.HTTPPort = wstest.FreePort(t)
		srv, err = engine.New(cfg, engine.Options{Version: "test", Log: slog.New(slog.DiscardHandler), Filter: filter, Auth: auth.AcceptAll()})
		if err != nil {
			t.Fatal(err)
		}
		if err = srv.Start(); err == nil {
			break
		}
		if try == 10 || !errors.Is(err, syscall.EADDRINUSE) { // else somebody else was faster
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), wstest.Timeout)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("ws://127.0.0.1:%d/cam/key", cfg.HTTPPort)
}
