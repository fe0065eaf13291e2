package engine

// Census is what a server has under way. Without clients all of it is zero.
type Census struct {
	AtTheDoor  int // connections that net/http has, but publishers that are asked about
	Handshakes int // not answered yet
	Sessions   int // connections that are upgraded and not closed
	Closing    int // sessions that are being ended, until they are closed
	Channels   int // waiting for a publisher, or live
	Streams    int // publishers that have started and not ended
	Places     int // taken, of MAX_CONNECTIONS
	Addressed  int // places of addresses that are taken: see netfilter.Filter.Open

	Memory int64 // bytes that count against four fifths of MEMORY_LIMIT_MB
}

// Census counts. The numbers are taken one after the other, so they fit together
// only where nothing comes or goes. Any goroutine, after Start.
func (srv *Server) Census() Census {
	return Census{
		AtTheDoor:  srv.front.gate.size(),
		Handshakes: int(srv.front.shaking.Load()),
		Sessions:   srv.roster.size(),
		Closing:    srv.closing.size(),
		Channels:   srv.registry.size(),
		Streams:    int(srv.streams.Load()),
		Places:     int(srv.places.taken.Load()),
		Addressed:  srv.filter.Open(),
		Memory:     srv.budget.used.Load(),
	}
}

// MemoryLimit returns what Census.Memory is measured against, in bytes: four fifths of
// MEMORY_LIMIT_MB; math.MaxInt64: no limit. Any goroutine.
func (srv *Server) MemoryLimit() int64 { return srv.budget.size }
