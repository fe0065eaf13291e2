package engine

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"ws-stream-server/auth"
	"ws-stream-server/netfilter"
)

// Options is what a Server works with beside its settings.
type Options struct {
	Version string       // shown at / when there is no test client
	Log     *slog.Logger // must not block
	Filter  *netfilter.Filter
	Auth    auth.Authorizer

	// Sink, for benchmarks of everything but the kernel, is given what receivers
	// would get of packets, before TLS: frames, or parts of one. b is the ring's,
	// valid until Sink returns, and not to be changed. Several goroutines call it at
	// once. Other frames still go to the sockets. nil: sockets only.
	Sink func(b []byte)

	// Poison, for tests, has buffers overwritten as soon as nobody may look at them
	// any more, so that whoever still does is seen.
	Poison bool
}

// Server is the streaming server: listeners, pollers, drainers and channels.
type Server struct {
	// Static after Start.
	cfg      Config
	version  string
	log      *slog.Logger
	filter   *netfilter.Filter
	origins  origins
	auth     auth.Authorizer
	sink     func(b []byte) // see Options
	epoch    time.Time
	poison   bool // see Options
	cert     *certificate
	engine   *nbio.Engine
	handover *handover
	reader   reader
	drainers []*drainer
	front    *front

	sweepAsked chan func() // called by the sweep, see Alive

	places   places
	short    shortage
	registry registry
	roster   roster
	closing  closingList
	budget   budget
	skips    atomic.Int64 // how often a receiver has jumped ahead
	survey   survey

	// Atomic.
	next     atomic.Uint32 // drainer of the next group
	stopping atomic.Bool   // Shutdown has begun
	parting  atomic.Bool   // and receivers are closed one after the other
	parted   atomic.Int64  // Server.now when that was over; 0 before
	shaken   atomic.Int64  // handshakes that are over, whatever the answer
	streams  atomic.Int64  // publishers that have started and not ended
	ends     ends          // sessions that are closed
	ids      atomic.Uint64 // the last session's

	stop    chan struct{} // closed to end the goroutines that work counts
	working sync.WaitGroup
}

// New returns a server that listens to nothing yet.
func New(cfg Config, o Options) (*Server, error) {
	allowed, err := newOrigins(cfg.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	srv := &Server{cfg: cfg, origins: allowed, version: o.Version, log: o.Log, filter: o.Filter, auth: o.Auth, sink: o.Sink, poison: o.Poison, epoch: time.Now(), stop: make(chan struct{})}
	srv.places.limit = int64(cfg.MaxConnections)
	srv.short.log, srv.short.now = o.Log, srv.now
	srv.registry = registry{srv: srv, channels: map[string]*Channel{}}
	srv.closing.at = map[*session]int64{}
	srv.survey.srv, srv.survey.patience = srv, surveyPatience
	srv.sweepAsked = make(chan func())
	srv.budget.init(srv, cfg.MemoryLimit()/5*4)
	if cfg.TLS() {
		c, err := newCertificate(cfg.SSLCert, cfg.SSLKey, o.Log)
		if err != nil {
			return nil, err
		}
		srv.cert = c
	}
	return srv, nil
}

// now returns the nanoseconds since the server was made, by the monotonic clock.
func (srv *Server) now() int64 { return int64(time.Since(srv.epoch)) }

// nextDrainer spreads groups over the drainers.
func (srv *Server) nextDrainer() *drainer {
	return srv.drainers[int(srv.next.Add(1)%uint32(len(srv.drainers)))]
}

// Start listens and serves until Shutdown. It returns once connections are
// accepted, or with the reason why they cannot be; then nothing is left behind.
func (srv *Server) Start() error {
	plain, err := net.Listen("tcp", srv.cfg.listenAddress(srv.cfg.HTTPPort))
	if err != nil {
		return fmt.Errorf("cannot listen for HTTP_PORT and BIND_ADDRESS: %w", err)
	}
	listeners := []net.Listener{plain}
	if srv.cert != nil {
		secure, err := net.Listen("tcp", srv.cfg.listenAddress(srv.cfg.SSLPort))
		if err != nil {
			_ = plain.Close()
			return fmt.Errorf("cannot listen for SSL_PORT and BIND_ADDRESS: %w", err)
		}
		listeners = append(listeners, secure)
	}
	if err := srv.startPollers(); err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return err
	}
	srv.Warn()
	srv.startWorkers()
	srv.front = newFront(srv, listeners)
	return nil
}

// startPollers starts nbio.
func (srv *Server) startPollers() error {
	logging.SetLevel(logging.LevelNone) // what matters is logged by the sessions
	pollers := runtime.GOMAXPROCS(0)
	srv.engine = nbio.NewEngine(nbio.Config{NPoller: pollers, ReadBufferSize: readBuffer})
	srv.engine.OnOpen(srv.onOpen)
	srv.engine.OnWrittenSize(srv.onWritten)
	srv.engine.OnClose(srv.onClose)
	srv.handover = newHandover(srv.engine, pollers)
	srv.read(pollers)
	if err := srv.engine.Start(); err != nil {
		return fmt.Errorf("cannot start the pollers: %w", err)
	}
	if err := srv.handover.begin(); err != nil {
		srv.engine.Stop()
		srv.handover.close()
		return err
	}
	return nil
}

// startWorkers starts the goroutines that live as long as the server.
func (srv *Server) startWorkers() {
	for range runtime.GOMAXPROCS(0) {
		d := newDrainer()
		srv.drainers = append(srv.drainers, d)
		srv.work(d.run)
	}
	srv.work(srv.sweep)
	srv.work(srv.budget.keep)
	srv.work(srv.survey.run)
	if srv.cert != nil {
		every := time.Duration(srv.cfg.SSLCheckReloadSeconds) * time.Second
		srv.work(func(stop <-chan struct{}) { srv.cert.watch(every, stop) })
	}
}

// work runs f until Shutdown ends it.
func (srv *Server) work(f func(stop <-chan struct{})) {
	srv.working.Add(1)
	go func() {
		defer srv.working.Done()
		f(srv.stop)
	}()
}

// onOpen is nbio's news of a connection it is about to serve: what came along with
// the handshake is taken first. Nothing may be written or closed yet.
func (srv *Server) onOpen(c *nbio.Conn) {
	if s, ok := c.Session().(*session); ok {
		s.takeEarly()
	}
}

// onWritten is nbio's news that the kernel took n bytes, under c's lock: no panic may leave
// it, for nbio would keep the lock.
func (srv *Server) onWritten(c *nbio.Conn, _ []byte, n int) {
	if s, ok := c.Session().(*session); ok {
		defer s.contain()
		s.written(n)
	}
}

// onClose is nbio's news that a connection is closed. One goroutine brings them
// all, one after the other.
func (srv *Server) onClose(c *nbio.Conn, _ error) {
	if s, ok := c.Session().(*session); ok {
		defer s.contain() // nbio would not say a word
		s.closed()
	}
}

// Ends returns how many sessions have ended since the server was made, by reason:
// the words that the log uses, also those that are at zero. A session counts once,
// when everything it had is given back. Any goroutine.
func (srv *Server) Ends() map[string]int64 { return srv.ends.byLabel() }

// retryAfter is when a client that met 503 may come back, in seconds.
const retryAfter = "5"

// refuse answers a request before any upgrade: one line of text.
func refuse(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
