package engine

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"
)

// SessionInfo is what a session is and has done.
//
// Bytes are those of packets, as receivers get them: with the header of each frame, two
// to ten bytes, without TLS, heartbeats and other control frames. What was handed to the
// client's socket counts as sent: up to 16 KiB (64 with TLS) beside what the kernel has
// may still be on its way there.
type SessionInfo struct {
	ID      uint64    `json:"id"`      // never used again while the process lives
	Channel string    `json:"channel"` // its name
	Kind    string    `json:"kind"`    // publish, receive, receive-clear-cache or probe
	Door    string    `json:"door"`    // websocket or http
	Address string    `json:"address"` // the client's, with its port if that is known
	TLS     bool      `json:"tls"`
	Since   time.Time `json:"since"` // when its handshake was accepted

	Bytes          int64   `json:"bytes"`            // a publisher's: received; a receiver's: sent
	Packets        int64   `json:"packets"`          // as Bytes; whole ones
	BytesPerSecond float64 `json:"bytes_per_second"` // over the last 1 to 10 s

	// Of receivers: what there is to send. 0 for publishers, and for those that wait.
	LagBytes   int64   `json:"lag_bytes"`
	LagPackets int64   `json:"lag_packets"` // also the one that is sent in part
	LagSeconds float64 `json:"lag_seconds"` // since the packet came that is to be sent next

	// FirstByteSeconds is the time from Since to the first byte of a packet that was
	// sent; nil before, and for publishers.
	FirstByteSeconds *float64 `json:"first_byte_seconds"`

	Skips   int64 `json:"skips"`   // how often it has jumped ahead to a key frame (SLOW_RECEIVER)
	Waiting bool  `json:"waiting"` // a receiver without a publisher, or one that waits for a key frame
}

// ChannelInfo is what a channel is and has done: a live one, with a publisher, or one
// where receivers wait for it. The receivers of a stream that has ended are in Sessions
// only.
type ChannelInfo struct {
	Name      string       `json:"name"`
	Live      bool         `json:"live"`      // it has a publisher
	Since     time.Time    `json:"since"`     // when the publisher, else the first that waits, came
	Publisher *SessionInfo `json:"publisher"` // nil: none
	Receivers int          `json:"receivers"` // those that are served
	Waiting   int          `json:"waiting"`   // those that wait for a publisher, or for a key frame

	// What was published: see SessionInfo.
	Packets        int64   `json:"packets"`
	Bytes          int64   `json:"bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"`

	CacheBytes   int64   `json:"cache_bytes"`   // what the cache counts, of GOP_CACHE_SIZE_MB
	CacheSeconds float64 `json:"cache_seconds"` // between the arrivals of its first and its last packet
	HeldBytes    int64   `json:"held_bytes"`    // memory, the cache and what slow receivers still need
	ContentType  string  `json:"content_type"`  // of the container, or as the first packet looks; "": not known

	// What the newest init segment says, and the stream: zero where the container is not
	// known, or does not tell.
	Container       string   `json:"container"` // webm, matroska, mp4, flv or mpegts
	Codecs          []string `json:"codecs"`    // of each track that has a name (RFC 6381)
	Width           int      `json:"width"`     // of the first video track, in pixels
	Height          int      `json:"height"`
	SampleRate      int      `json:"sample_rate"` // of the first audio track, in Hz
	AudioChannels   int      `json:"audio_channels"`
	KeyFrameSeconds float64  `json:"key_frame_seconds"` // between the arrivals of the two newest key frames
}

// Totals is what all sessions have carried since the server was made, also those that
// are closed. It never falls. Bytes are as in SessionInfo.
type Totals struct {
	ReceivedBytes   int64 `json:"received_bytes"`
	ReceivedPackets int64 `json:"received_packets"`
	SentBytes       int64 `json:"sent_bytes"`
	SentPackets     int64 `json:"sent_packets"`
	Skips           int64 `json:"skips"` // how often a receiver has jumped ahead
}

// add counts what a session has carried.
func (t *Totals) add(k kind, n sum) {
	if k == publish {
		t.ReceivedBytes += n.bytes
		t.ReceivedPackets += n.packets
		return
	}
	t.SentBytes += n.bytes
	t.SentPackets += n.packets
}

func (t *Totals) addAll(o Totals) {
	t.ReceivedBytes += o.ReceivedBytes
	t.ReceivedPackets += o.ReceivedPackets
	t.SentBytes += o.SentBytes
	t.SentPackets += o.SentPackets
}

// lagBounds are the upper bounds of a lag histogram's buckets, in seconds.
var lagBounds = [...]float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, math.Inf(1)}

// LagBucket is how many receivers have a lag of LE seconds or less.
type LagBucket struct {
	LE    float64 // the last one's is +Inf
	Count int64   // those of the buckets before among them
}

// KindCount is how many sessions there are of a kind and a door, also those that are
// closing.
type KindCount struct {
	Kind, Door string // the words of SessionInfo
	Count      int
}

// slowest is how many of the slowest receivers an Overview names.
const slowest = 10

// Overview is the server in numbers, all from one walk over the sessions.
type Overview struct {
	Publishers int
	Receivers  int // those that are served, also of streams that have ended
	Waiting    int // receivers that wait for a publisher, or for a key frame
	Sessions   []KindCount
	Totals     Totals

	// How far behind the receivers are now; those that wait are not among them.
	Lag        []LagBucket
	LagSeconds float64       // all lags added up
	Slowest    []SessionInfo // those with the largest lags above zero in seconds, ten at most, the worst first
}

// Sessions describes all sessions, oldest first, also those that are closing. Any
// goroutine, after Start. It waits for passes that are under way, a second at most: of
// receivers whose group takes longer the numbers are those of the look before.
func (srv *Server) Sessions() []SessionInfo {
	var list []SessionInfo
	srv.survey.walk(func(s *session, now int64) { list = append(list, s.info(now)) })
	slices.SortFunc(list, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Channels describes the channels that are live, or waited for, by name. Any goroutine.
func (srv *Server) Channels() []ChannelInfo {
	var list []ChannelInfo
	for _, ch := range srv.registry.all() {
		if i, ok := ch.info(); ok {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b ChannelInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Overview counts. Any goroutine, after Start. It waits as Sessions does.
func (srv *Server) Overview() Overview {
	o := newOverview()
	var worst []*session
	srv.survey.walk(func(s *session, _ int64) {
		o.count(s)
		switch {
		case s.kind == publish:
			o.Publishers++
		case s.group.Load() != nil:
			o.Receivers++
			worst = o.addLag(s, worst)
		case s.waits():
			o.Waiting++
		}
	})
	now := srv.now()
	for _, s := range worst {
		o.Slowest = append(o.Slowest, s.info(now))
	}
	o.Totals = srv.roster.totals()
	o.Totals.Skips = srv.skips.Load()
	return o
}

// newOverview returns one of nobody: with every kind and door, and every bucket.
func newOverview() Overview {
	o := Overview{Lag: make([]LagBucket, len(lagBounds))}
	for _, k := range kindNames {
		for _, d := range doorNames {
			o.Sessions = append(o.Sessions, KindCount{Kind: k, Door: d})
		}
	}
	for i, le := range lagBounds {
		o.Lag[i].LE = le
	}
	return o
}

// count counts a session by its kind and door.
func (o *Overview) count(s *session) {
	at := int(s.kind)*len(doorNames) + int(s.door)
	o.Sessions[at].Count++
}

// addLag counts a receiver's lag, and returns the worst so far.
func (o *Overview) addLag(s *session, worst []*session) []*session {
	lag := s.numbers().lag
	seconds := lag.seconds()
	o.LagSeconds += seconds
	for i := range o.Lag {
		if seconds <= o.Lag[i].LE {
			o.Lag[i].Count++
		}
	}
	if lag == 0 {
		return worst
	}
	at, _ := slices.BinarySearchFunc(worst, lag, func(w *session, lag millis) int { return cmp.Compare(lag, w.numbers().lag) })
	if at == slowest {
		return worst
	}
	worst = slices.Insert(worst, at, s)
	return worst[:min(len(worst), slowest)]
}

// EndSession ends a session, with close code 4002. It reports whether there is one with
// this id: it may be ending already, for another reason. Any goroutine.
func (srv *Server) EndSession(id uint64) bool {
	s := srv.roster.find(id)
	if s == nil {
		return false
	}
	s.end(operatorEnded)
	return true
}

// EndChannel ends a channel's publisher, with close code 4002; its receivers get all
// that it published, as at any end. Receivers that wait for a publisher are ended as the
// publisher is. It reports whether there was anybody. Any goroutine.
func (srv *Server) EndChannel(name string) bool {
	ch := srv.registry.find(name)
	return ch != nil && ch.endAll(operatorEnded)
}

// Why a server is not ready.
var (
	errNoMemory      = errors.New("the server is short of memory")
	errNoCoordinator = errors.New("there is no link to the coordinator")
)

// Ready returns nil, or why new publishers are refused: the server is shutting down, it
// is short of memory, or its coordinator cannot be asked. Any goroutine.
func (srv *Server) Ready() error {
	switch {
	case srv.stopping.Load():
		return errStopping
	case srv.budget.closed.Load():
		return errNoMemory
	case !srv.auth.Connected():
		return errNoCoordinator
	}
	return nil
}
