//go:build soak && linux

package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ws-stream-server/auth"
	"ws-stream-server/auth/authtest"
	"ws-stream-server/engine"
	"ws-stream-server/engine/wstest"
	"ws-stream-server/netfilter"
)

// setting is one combination of the server's settings.
type setting struct {
	cacheMB, lagMB, gatherMS, memoryMB int

	coordinator bool
	shutdown    bool // at the round's end the server goes first, else the clients
}

func (s setting) String() string {
	return fmt.Sprintf("GOP_CACHE_SIZE_MB=%d RECEIVER_LAG_MB=%d GATHER_MS=%d MEMORY_LIMIT_MB=%d coordinator=%v shutdown=%v",
		s.cacheMB, s.lagMB, s.gatherMS, s.memoryMB, s.coordinator, s.shutdown)
}

// plenty is more memory than a round takes, in MiB.
const plenty = 1 << 16

// settings are taken in an order that the seed makes.
var settings = []setting{
	{1, 1, 10, plenty, false, false},
	{1, 3, 0, plenty, true, false},
	{0, 1, 10, plenty, true, true},
	{1, 3, 10, plenty, false, true},
	{0, 2, 0, plenty, false, false},
	{2, 6, 10, plenty, true, false},
	{1, 1, 0, plenty, true, true},
	{16, 16, 10, 64, false, false},
	{4, 4, 0, 64, true, true},
}

// round is a server and its clients, from the first connection to the last check.
type round struct {
	// Static after construction.
	seed        uint64
	number      int
	setting     setting
	srv         *engine.Server
	addr        string
	tlsAddr     string
	trust       *tls.Config
	model       *model
	coordinator *coordinator // nil: none
	clients     []*client
	doors       chan struct{} // places of handshakes under way
	log         *lastLines

	closing        chan struct{} // closed when no life begins any more
	close          sync.Once
	publishersWG   sync.WaitGroup
	receiversWG    sync.WaitGroup
	publishersGone atomic.Bool

	paceBits        atomic.Uint64 // of a float64: what rests are multiplied by
	waited, answers atomic.Int64  // ns and number of answers since the governor has looked
	stats           stats

	mu       sync.Mutex
	failures []string // guarded by mu
}

// stats is what happened in a round.
type stats struct {
	lives, overHTTP, packets, whole, slow, killed       atomic.Int64
	denied, taken, unavailable, crowded, hostile, drops atomic.Int64
}

func (s *stats) String() string {
	return fmt.Sprintf("%d lives, %d of them over HTTP, %d packets received, %d streams to their end, %d too slow, %d publishers ended by the server; "+
		"refused: %d denied, %d taken, %d without a link, %d crowded; %d hostile, %d links lost",
		s.lives.Load(), s.overHTTP.Load(), s.packets.Load(), s.whole.Load(), s.slow.Load(), s.killed.Load(),
		s.denied.Load(), s.taken.Load(), s.unavailable.Load(), s.crowded.Load(), s.hostile.Load(), s.drops.Load())
}

func (r *round) pace() float64 { return math.Float64frombits(r.paceBits.Load()) }

// answered is told how long the server took to answer a ping, in ns.
func (r *round) answered(ns int64) {
	r.waited.Add(ns)
	r.answers.Add(1)
}

// govern sets the pace by how busy the machine is: clients and server share it.
func (r *round) govern() {
	for pace := 1.0; r.going(); {
		from := time.Now()
		r.sleep(200 * time.Millisecond)
		late := time.Since(from) - 200*time.Millisecond
		mean := time.Duration(r.waited.Swap(0) / max(1, r.answers.Swap(0)))
		switch slow := max(mean, late); {
		case slow > 500*time.Millisecond:
			pace *= 1.3
		case slow > 250*time.Millisecond:
			pace *= 1.05
		case slow < 150*time.Millisecond:
			pace *= 0.93
		}
		pace = min(max(pace, 0.2), 8)
		r.paceBits.Store(math.Float64bits(pace))
	}
}

// going reports whether lives still begin.
func (r *round) going() bool {
	select {
	case <-r.closing:
		return false
	default:
		return true
	}
}

// sleep waits, and returns false at the round's end.
func (r *round) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.closing:
		return false
	}
}

// pick chooses a channel.
func (r *round) pick(rng *rand.Rand) *channel { return r.model.chans[rng.IntN(len(r.model.chans))] }

// fail ends the round. Any goroutine.
func (r *round) fail(c *client, err error) {
	text := err.Error()
	if c != nil {
		text = c.what + " " + strconv.Itoa(c.number) + ": " + text + "\n" + c.transcript()
	}
	r.mu.Lock()
	r.failures = append(r.failures, text)
	r.mu.Unlock()
	r.end()
}

func (r *round) end() { r.close.Do(func() { close(r.closing) }) }

// newRound starts a server.
func newRound(t *testing.T, seed uint64, number int, set setting, b *block, id wstest.Identity, publishers int) *round {
	t.Helper()
	r := &round{
		seed: seed, number: number, setting: set,
		doors: make(chan struct{}, 32), closing: make(chan struct{}), log: &lastLines{reasons: map[string]because{}, news: make(chan struct{})}, trust: id.Trust(),
		model: &model{block: b, epoch: time.Now(), sessions: map[uint32]*session{}, rules: rules{
			cache: int64(set.cacheMB) * mib, lag: int64(set.lagMB) * mib,
			exact: set.lagMB >= 3*set.cacheMB, short: set.memoryMB != plenty,
		}},
	}
	r.paceBits.Store(math.Float64bits(1))
	for i := range publishers {
		r.model.chans = append(r.model.chans, &channel{
			number: uint32(i), name: fmt.Sprintf("channel-%d", i), key: fmt.Sprintf("key-%d", i),
			torrent: i%20 == 3, encoder: i%10 == 5,
		})
	}
	authorizer := auth.AcceptAll()
	if set.coordinator {
		r.coordinator = r.newCoordinator(t)
		authorizer = r.coordinator.auth
	}
	filter, err := netfilter.New(netfilter.Config{MaxIPConcurrentConnections: placesPerAddress})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := id.Files(t, t.TempDir())
	for try := 1; ; try++ {
		cfg := engine.Config{
			HTTPPort: wstest.FreePort(t), SSLPort: wstest.FreePort(t), BindAddress: "127.0.0.1",
			SSLCert: cert, SSLKey: key, SSLCheckReloadSeconds: 60, IDMaxLength: 128,
			GOPCacheSizeMB: set.cacheMB, MaxMessageMB: 1, ReceiverLagMB: set.lagMB, GatherMS: set.gatherMS, SendBufferKB: 256,
			MaxHandshakes: 1024, MaxHeaderKB: 16, HandshakeTimeoutSeconds: 10, MemoryLimitMB: set.memoryMB, LogRequests: true,
		}
		r.addr, r.tlsAddr = loopback(cfg.HTTPPort), loopback(cfg.SSLPort)
		r.srv, err = engine.New(cfg, engine.Options{Version: "soak", Log: slog.New(slog.NewTextHandler(r.log, nil)), Filter: filter, Auth: authorizer, Poison: true})
		if err == nil {
			err = r.srv.Start()
		}
		if err == nil {
			return r
		}
		if try == 10 { // somebody else was faster, each time
			t.Fatalf("cannot start the server: %v", err)
		}
	}
}

func (r *round) newCoordinator(t *testing.T) *coordinator {
	t.Helper()
	c := &coordinator{
		fake: authtest.New(t), round: r, rng: rand.New(rand.NewPCG(r.seed, uint64(r.number)<<32|1)),
		accepted: map[int]map[string]string{}, last: map[string]string{},
	}
	c.fake.Decide(c.decide)
	co, err := auth.NewCoordinator(auth.Config{ControlBaseURL: c.fake.URL(), ControlSecret: "soak"}, 80, slog.New(slog.NewTextHandler(r.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.auth = co
	co.Start()
	for end := time.Now().Add(endPatience); !co.Connected(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the control link does not come up")
		}
	}
	return c
}

// run has clients come and go for so long, and everybody go at the end.
func (r *round) run(long time.Duration, publishers, receivers int) {
	var others sync.WaitGroup
	others.Go(r.govern)
	if r.coordinator != nil {
		others.Go(func() {
			if err := r.coordinator.run(); err != nil {
				r.fail(nil, err)
			}
		})
	}
	for i := range publishers {
		ch := r.model.chans[i]
		r.begin(&r.publishersWG, "publisher", long, func(c *client) error {
			defer c.rest(c.between(0, 400) * time.Duration(c.rng.IntN(2)))
			if ch.torrent {
				return c.publish(ch, 20_000)
			}
			return c.publish(ch, 8000)
		})
	}
	for range max(1, publishers/20) {
		r.begin(&r.publishersWG, "rival", long, func(c *client) error {
			defer c.rest(c.between(0, 500))
			return c.publish(r.pick(c.rng), 1000)
		})
	}
	for range receivers {
		r.begin(&r.receiversWG, "receiver", long, func(c *client) error { return c.receive() })
	}
	for range max(1, receivers/50) {
		r.begin(&r.receiversWG, "hostile client", long, func(c *client) error { return c.hostile() })
	}
	r.sleep(long)
	if r.setting.shutdown {
		r.model.stopping.Store(true)
		others.Go(r.shutdown)
		r.sleep(500 * time.Millisecond)
	}
	r.end()
	r.leave()
	others.Wait()
}

// begin starts a client, within the first fifth of the round.
func (r *round) begin(wg *sync.WaitGroup, what string, long time.Duration, life func(*client) error) {
	n := len(r.clients)
	c := &client{
		round: r, number: n, what: what,
		addr: fmt.Sprintf("127.%d.%d.%d", 1+r.number%200, n/perAddress/200, 1+n/perAddress%200),
		rng:  rand.New(rand.NewPCG(r.seed^uint64(r.number)<<40, uint64(n))),
	}
	r.clients = append(r.clients, c)
	wg.Go(func() {
		if r.sleep(time.Duration(c.rng.Int64N(int64(long/5) + 1))) {
			c.live(func() error { return life(c) })
		}
	})
}

// leave waits until all clients are gone: publishers first, then whoever waits for one.
func (r *round) leave() {
	r.publishersWG.Wait()
	r.publishersGone.Store(true)
	gone := make(chan struct{})
	go func() {
		r.receiversWG.Wait()
		close(gone)
	}()
	for {
		for _, c := range r.clients {
			c.poke()
		}
		select {
		case <-gone:
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// shutdown ends the server while everybody is there.
func (r *round) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	if err := r.srv.Shutdown(ctx); err != nil {
		r.fail(nil, fmt.Errorf("cannot shut the server down: %w", err))
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// lastLines keeps the last lines of the log that are more than information, and what it
// says of the ends of sessions.
type lastLines struct {
	mu      sync.Mutex
	lines   []string
	reasons map[string]because // by the client's address, the last one
	news    chan struct{}      // closed when there is one more
}

// because is why a session has ended, and when the log said so.
type because struct {
	reason string
	at     time.Time
}

var endLine = regexp.MustCompile(`msg="session ends".* addr=(\S+).* reason=(\S+)`)

func (l *lastLines) Write(b []byte) (int, error) {
	end := endLine.FindSubmatch(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if end != nil {
		l.reasons[string(end[1])] = because{string(end[2]), time.Now()}
		close(l.news)
		l.news = make(chan struct{})
	}
	if !strings.Contains(string(b), "level=INFO") {
		l.lines = append(l.lines[max(0, len(l.lines)-9):], string(b))
	}
	return len(b), nil
}

// reason waits until the log says why the session of the client at this address has ended, and
// returns that; what it said before since is of an earlier client. "": it says nothing for
// endPatience.
func (l *lastLines) reason(addr string, since time.Time) string {
	patience := time.After(endPatience)
	for {
		l.mu.Lock()
		said, news := l.reasons[addr], l.news
		l.mu.Unlock()
		if said.at.After(since) {
			return said.reason
		}
		select {
		case <-news:
		case <-patience:
			return ""
		}
	}
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}
