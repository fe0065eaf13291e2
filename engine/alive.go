package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// question is a part of the server that was asked for a turn.
type question struct {
	who      string
	answered chan struct{} // closed by the answer
}

// asking collects questions.
type asking []question

// ask asks a part of the server: f passes answer on to it and does not wait. answer may be
// called more than once, on any goroutine.
func (a *asking) ask(who string, f func(answer func())) {
	q := question{who, make(chan struct{})}
	*a = append(*a, q)
	f(sync.OnceFunc(func() { close(q.answered) }))
}

// wait waits for the answers until ctx ends, and names those who owe one.
func (a asking) wait(ctx context.Context) error {
	var silent []string
	for _, q := range a {
		select {
		case <-q.answered:
			continue
		case <-ctx.Done():
		}
		select {
		case <-q.answered: // both had happened
		default:
			silent = append(silent, q.who)
		}
	}
	if len(silent) > 0 {
		return fmt.Errorf("no turn in time: %s", strings.Join(silent, ", "))
	}
	return nil
}

// turn is a task that only answers.
type turn func()

func (t turn) run() { t() }

// Alive asks everything that the server cannot do without for a turn, each poller, each
// drainer, the sweep, the keeper, nbio's goroutine for closed connections and whoever
// holds the locks of the registries, and then itself for /healthz, through its plain
// listener. It returns nil when all have answered before ctx ends, else who has not.
//
// A server that has too much to do is alive: that newcomers wait, or cannot be accepted,
// is not held against it. Any goroutine, between Start and Shutdown.
func (srv *Server) Alive(ctx context.Context) error {
	var a asking
	srv.handover.ask(&a)
	for i, d := range srv.drainers {
		a.ask(fmt.Sprintf("drainer %d", i), func(answer func()) { d.add(turn(answer)) })
	}
	for who, asked := range map[string]chan func(){"the sweep": srv.sweepAsked, "the keeper of memory": srv.budget.asked} {
		a.ask(who, func(answer func()) {
			go func() {
				select {
				case asked <- answer:
				case <-ctx.Done():
				}
			}()
		})
	}
	a.ask("what follows a connection's end", func(answer func()) { srv.engine.Async(answer) })
	a.ask("the registries", func(answer func()) {
		go func() {
			srv.Census()
			answer()
		}()
	})
	if err := a.wait(ctx); err != nil {
		return err
	}
	return srv.front.alive(ctx)
}

// ownAddrs is the last addresses that Alive has asked from. One that was given up is here
// as well: the server may come to its request only after the next one was asked.
type ownAddrs struct {
	mu   sync.Mutex
	last [8]netip.AddrPort // guarded by mu
	next int               // guarded by mu; place of the oldest
}

// add puts an address in, for the oldest. Any goroutine.
func (o *ownAddrs) add(addr netip.AddrPort) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last[o.next] = addr
	o.next = (o.next + 1) % len(o.last)
}

// has reports whether an address is one of them. Any goroutine.
func (o *ownAddrs) has(addr netip.AddrPort) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.last[:], addr)
}

// alive asks for /healthz. The request is not logged.
func (f *front) alive(ctx context.Context) error {
	cfg := f.srv.cfg
	if addr, ok := f.plain.(*net.TCPAddr); ok { // not a name, which may have come to mean something else
		cfg.BindAddress = addr.AddrPort().Addr().Unmap().String()
	}
	if f.busy() {
		return nil
	}
	dialled, err := askHealth(ctx, cfg, f.srv.filter, f.own.add)
	if err == nil || f.busy() || !dialled && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // what keeps the kernel from connecting is not the server's doing
	}
	return fmt.Errorf("no answer to /healthz: %w", err)
}

// busy reports whether newcomers have to wait, or cannot come.
func (f *front) busy() bool {
	return f.srv.stopping.Load() || f.srv.short.on.Load() || f.gate.crowded()
}
