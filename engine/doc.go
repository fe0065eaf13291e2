// Package engine is the streaming server: it accepts connections, and carries what
// a channel's publisher sends to the channel's receivers. Read this page first.
//
// # The two flows
//
//	data     publisher's socket → poller → session → frame decoder → ring
//	                                                                  │ wake
//	         receiver's socket ←── drainer ←── group of receivers ←───┘
//	control  request → front: filter → authorizer → upgrade → session → Channel
//
// Nothing on the right calls left: a receiver never blocks, slows or signals a
// publisher.
//
// A packet's way, with the goroutine each step runs on:
//
//	Server.onRead, session.readable   the publisher's poller reads 64 KiB at most
//	session.decode                    the frame decoder finds the message
//	session.publish                   unmasked straight into the ring: the one copy
//	Channel.follow                    package media looks where a decoder could start
//	Channel.wake                      marks the channel's groups dirty
//	drainer.run, group.pass           a drainer: for each receiver whose socket is free,
//	member.drainLocked                  one write of everything from its cursor to the
//	session.push                        head, straight from the ring's memory
//
// Where three packets or more come, on average, in the time of two passes and their
// rests, a group rests after a pass of 250 µs or more: twice as long as it took, a
// millisecond at least and GATHER_MS at most. What comes meanwhile is written together
// (pace). 256 KiB, or whatever is more than a new packet (a joiner, a socket that is
// free again, an end), end the rest of the whole group.
//
// A poller that has more than 10,000 connections a second to read from (to go on,
// 2,500), and had nothing to do for a moment, waits 2 ms before it reads, GATHER_MS at
// most (polling); all its connections wait along, slow ones too.
//
// A channel with one or two receivers is drained by the publisher's poller, in
// Channel.wake: waking a drainer would cost more.
//
// A receiver over plain HTTP (session.door) is served by the same groups and drainers:
// member.drainHTTP leaves the frames' headers out and gathers the payloads in a buffer,
// each of which is a chunk of the answer, if the client speaks HTTP/1.1. The answer's
// header goes out with the first byte of the stream. Where the protocol needs a word,
// WebSocket has a close frame and HTTP a status; once the header is written, the end is
// all there is to say: the last chunk and a FIN when everything was sent, else a reset
// (session.mustCut).
//
// A publisher over plain HTTP is one whose bytes are found by another decoder
// (session.decodeBody, package body): what one read brings of its request's body becomes a
// packet, with the same one copy.
//
// A connection's way: net/http accepts, does the TLS handshake and parses the
// request, on a goroutine of its own; gate bounds how many are at it, crowd says who is
// next, guest knows which side is waited for, and tireless lets no error end the
// accepting. From a trusted proxy a header of the PROXY protocol may come before that
// (proxied). front.client finds out who the client is. front.shake checks the request, takes a place of the address, one of all
// places and a spare descriptor for the hand-over, asks the authorizer and claims the
// channel for a publisher; front.upgrade joins a receiver, takes the connection from
// net/http, writes the 101 (or the 100 that a PUT waits for) and gives the socket to nbio by way of
// handover. Then that
// goroutine ends: an established connection has none.
//
// # Goroutines
//
//   - GOMAXPROCS pollers, nbio's: read, decode, publish, answer pings, write what a
//     socket could not take at once. A connection always has the same one.
//   - GOMAXPROCS drainers: groups that are dirty, and sessions that end.
//   - the keeper: cuts caches when memory is short.
//   - the survey: takes the rates, every 5 s; and whoever waits for a group's long pass to
//     be over, to note what its receivers got then (group.observeLater).
//   - the sweep: heartbeats, clients that show no life, ends that take too long.
//   - the certificate's watch, with TLS; one that accepts for each listener (entrance); and
//     net/http's, one for each handshake or page.
//   - nbio's goroutine for closed connections: session.closed, one after the other.
//   - for moments, those that Server.Alive asks with, and the one that ends the front.
//
// Beside the engine run, to the end of the process: the log's writer and the one that
// feeds systemd's watchdog (package main), the coordinator's link (auth), and the
// operator's listener with net/http's (engine/admin); all of these call in here only by
// the Server's methods for any goroutine.
//
// # Where it is
//
//	front, client, origin, proxied, upgrade       a request, from its first byte to a session
//	accept, gate, crowd, guest, places,
//	descriptors                                   how many may come, and who is next
//	http, httppublish, httpreceive, answer        the doors for plain HTTP
//	session, inbound, outbound, tlslink, socket   a session: its two ways, TLS, the kernel
//	pollers, read, pace                           nbio, and when to read and to write
//	registry, channel, group, receiver, drainer   from the ring to the receivers
//	index, start, lead, skip, package media       where decoders can start, and receivers do
//	heartbeat, closing, reason, shutdown, fault   how sessions end
//	budget, memory, tidy, container               what is kept, and what it is
//	tally, survey, operator, census, sessionlog   what is known of sessions
//	server, config, warn, kind, tls               start, settings, certificates
//	alive, health                                 the watchdog's questions, and -health's
//
// # Who writes to a socket
//
// The holder of the session's write lock, nobody else, and only to a free socket:
// one for which nbio has nothing left to write. Packets are written by the group's
// pass straight from the ring; of what a full socket does not take nbio is given a
// piece, 16 KiB (64 KiB with TLS), and that is what a receiver that stopped reading
// costs. Everybody else (heartbeat, pong, close) sets a bit in session.pending,
// which becomes a frame at the next frame boundary: at once if the socket is free
// and idle, else by whoever holds the lock or serves the socket when it is free
// again. Nobody waits for a write lock but who makes a pass, a drainer or a publisher's
// poller, and who ends a session; it is held for the writes of one pass at the most,
// and none of them blocks.
//
// # Who owns bytes
//
// A poller's read buffer is nbio's and valid until readable returns; the decoder
// hands out parts of it. Packets are the ring's: see its package comment for when
// they may go. nbio copies what the kernel does not take, so a piece is only read
// while session.push runs. Messages in several parts and TLS records are put
// together in buffers of bytebufferpool, given back by whoever took them, unless
// they grew beyond 1 MiB.
//
// # What a client costs in the kernel
//
// At most SEND_BUFFER_KB and a segment, 64 KiB, that is not sent (TCP_NOTSENT_LOWAT):
// the kernel takes no more, and tells that there is room when half of it is sent.
// What is sent and not acknowledged is bounded by the client's window and by
// net.ipv4.tcp_wmem: it is the throughput to distant clients. When a session is cut
// off (session.abort) the kernel forgets what it holds, if the client is not there any
// more or would not find the close frame behind it; else it goes on for a client that
// takes something within 30 s (afterlife).
//
// # Clients that vanish
//
// TCP alone notices after minutes that a host is gone, and only when it has something
// to send. The sweep looks at each session every 5 s. Life is a byte received, or
// packets acknowledged (session.noteTaken): what the kernel takes to send is neither,
// for of a slow stream it takes minutes' worth. After 60 s without, plus 10 s for two
// looks, the session ends, a publisher's channel is free at once, and 6 s later at
// most the connection is cut. Before the upgrade net/http's time-outs do the same
// (front.go); Go's keepalive probes, on by default, add nothing to that. A receiver over
// HTTP gets no heartbeat: while it has taken everything it counts as alive, and the
// kernel's own probes find it when it is not (keepAlive).
//
// # Late joiners
//
// The publisher's poller has package media follow each packet that it publishes, and notes
// in Channel.index where decoders can start: sync points, each with its init segment.
// Channel.choose decides where a receiver begins: with the cache as it is, as long as the
// stream's beginning is there or its container is not known, else at a sync point that the
// ring still has, or it waits for the next one, in Channel.waiting, as it would for a
// publisher; also as long as its container is not known and its beginning is gone already,
// and a probe in any case until it is known. For who came before that the ring keeps all that
// it has, until the first sync point or until the stream is opaque (Channel.keepAll); not
// beyond its limits: who would begin with what it has lost is a slow receiver. Those
// who wait are given their places by the publisher's poller, after the read that brought the
// sync point (Channel.admitWaiting).
//
// The init segment, and the rest of the packet in which the sync point lies, are packets
// that are in no ring: a lead, made once for all who join there (package ring, "Detours").
// As long as a receiver is in it, it is one of group.fresh, and no other pass than that
// over fresh asks whether the ring has lost what follows the lead. A receiver that skips
// (SLOW_RECEIVER) is in a detour as well, on its way to the jump.
//
// # Slow receivers
//
// A receiver may lag as long as the ring keeps its next packet: GOP_CACHE_SIZE_MB
// plus RECEIVER_LAG_MB for a channel. Then it gets the rest of the packet it has
// begun, the close frame with 4008, and at most 5 s for that; with SLOW_RECEIVER=skip it
// jumps to the newest sync point before it comes to that, if there is one (skip). After the
// publisher's end it may take nothing for 30 s, and has 5 minutes in all.
//
// # Memory
//
// budget counts what rings hold, init segments, leads, what the parsers have collected,
// messages that are being put together and what nbio keeps, of all channels together, against four fifths of MEMORY_LIMIT_MB; its comment
// says who has to give when it is short. Rings tell of each slab, and a slab that a slow
// receiver still needs for the packet it has begun counts until it leaves: twice, if it is
// one that segments share, of which another is still in the ring. Such slabs take a quarter
// at most; a receiver that needs one beyond that is cut off.
//
// # Ends
//
// session.end gives a session its reason (reason.go has them all); the first one
// stays. The close frame goes out at a frame boundary, then the sending side is
// shut down, and the client's own end awaited for 2 s; one that still takes what the
// kernel holds of an ended stream, or talks meanwhile, has the times above.
// session.closed runs once, whatever happened, and gives everything back. The last is
// session.farewell, when the receiver's group has let go of it, too: then its line in
// the log is written, it counts among the ends, and it leaves the roster.
//
// When a publisher ends, Channel.end first makes sure that no packet follows, then
// tells the authorizer, then frees the name, then lets receivers come to the end: one
// that comes back at once does not find the stream again. Receivers stay with the ring
// until they have its last packet; the next publisher gets a new Channel.
//
// Shutdown with SHUTDOWN_SECONDS (shutdown.go) closes receivers one after the other before
// it ends anybody else: a pass makes leavers of those whose turn has come (group.seeOff),
// and whoever of them has everything is closed, while the stream goes on for the others.
//
// # Alive
//
// Server.Alive asks each poller, drainer and long-lived goroutine for a turn, and the
// plain listener for /healthz, for a watchdog: see alive.go.
//
// # What is known of sessions
//
// Deliveries count nothing. What a receiver was sent is where its cursor is minus where
// it joined, and its lag what the ring has behind that; a publisher's numbers are its
// ring's. They are noted in session.tally when somebody looks: the survey, under each
// group's passing, as long as it takes to read the cursors, or the pass that lets go of a
// receiver. With 5000 receivers a look takes 0.1 to 0.3 µs of processor time for each
// (bench.BenchmarkLook): where one writes to all of them in 10 to 20 ms, one look a second
// cannot be told from none. Those who have no byte yet stand in group.fresh, and
// the pass that brings the first one notes where and when that was: the tally is made
// then, and who only waits has none.
//
// # Faults
//
// A panic in what is done for one session ends that session, with 1011 unless it is in the
// middle of a frame, and in a handler its connection; the log has the stack, and the
// others go on. Anywhere else the process ends (fault.go).
//
// # Locks
//
// In this order, where one is taken while another is held:
//
//	group.passing → session.mu → nbio's connection → drainer.mu
//	group.passing → group.mu
//	registry.mu → Channel.mu → inbound.mu, of its publisher → group.mu → index.mu
//	group.mu → drainer.mu
//	group.passing → session.mu → index.mu
//	group.passing → index.mu → tally.mu
//	group.passing → budget.mu
//	survey.mu → each of the others, one at a time
//	roster's shards → tally.mu
//	group.passing → inbound.mu, of a publisher that has ended
//	inbound.mu → session.mu, which is only tried there
//
// tally.mu, closingList.mu, waker.mu, wire.mu and gate.mu are held for moments, and
// nothing is taken under them. No lock is held across anything that can block:
// writes do not, and joining and leaving a group only mark.
package engine
