// Package soak has hundreds of publishers and thousands of receivers come and go on a
// server in the same process, well-behaved ones and others, and compares what each
// receiver gets with a model that knows what it must get.
//
//	go test -tags soak -v -run TestSoak ./bench/soak
//	go test -tags soak -v -run TestSoak ./bench/soak -timeout 13h -for 12h -seed 7 -publishers 200 -receivers 2000
//
// It takes a minute by default; -for makes it hours (-timeout has to be longer). Add
// -race for the race detector. Linux only: each 16 clients have a loopback address.
//
// # What happens
//
// A third of the time at a time, five minutes at most, is one round: a server of its
// own, with settings in an order that the seed makes (cache off and small, lag equal to
// the largest message, GATHER_MS 0 and 10, memory short or not, with a coordinator and
// without), so that packets leave and receivers are overrun all the time. Buffers are
// poisoned.
//
//   - Publishers take turns on their channels, some with a rival: packets of 0 bytes to
//     MAX_MESSAGE_MB, whole, in fragments, chopped, along with the handshake. They end
//     with a close frame, a half-close, a reset, without a word, in the middle of a
//     message, with a violation of RFC 6455, with a message that is too large, with
//     bytes that are no TLS. One in five is a PUT or POST, with its length or in chunks, which
//     ends with its body, or in most of these ways.
//   - Receivers of all kinds, plain and with TLS 1.2 and 1.3, read as fast as they can,
//     stop for seconds, or read a few KiB a second; they stay, or end in all these ways
//     at a moment that nothing is arranged around; and they return. One in five is a GET, of
//     HTTP/1.1 or 1.0.
//   - Hostile clients do not get as far as a WebSocket.
//   - The coordinator accepts, denies, kills, and loses its link.
//   - A round ends with everybody leaving, or with a shutdown under full load.
//
// Rates follow the machine: answers that take long make everybody rest longer.
//
// # What must be true
//
// Every packet says to which channel and session it belongs, its sequence and length;
// the rest of it is a cut of random bytes which follows from these, and each byte is
// compared. A receiver gets packets of one session without a hole, from a join point
// that the cache allows: at the beginning if it came before the publisher; else not
// before and (except where the lag is small or the cache was cleared) not behind where
// a cache of this size begins. With the end of the stream it has had the last packet:
// all that the publisher sent, or what others had, where the publisher was cut off.
// 4008 comes only if more was published than is kept (or memory is short, or the stream is
// over for long), 1008 only for a wrong key, 1002 and 1007 only for what deserves it, and an
// end without a close frame only to whoever caused it or was too slow to be told: it has not
// read for a while, or the server's log says so. Over HTTP the end of an answer in chunks is
// the end of the stream, and an answer is cut off where 4008 would be right; what was published
// over HTTP are bytes that say at each place where they are. Pongs are answers, in order. A
// channel that is free takes a publisher. Each accepted publisher has one PUBLISH-END.
//
// After a round every counter of the server is at zero (engine.Census), and the
// process has the goroutines, descriptors and live heap (within 1 MiB) it had before.
//
// # When it fails
//
// It prints the seed, the settings, and of the first failures what was wrong and the
// client's last steps, beside what the server has under way and the end of its log. The
// seed draws the same plans for all clients again; what the scheduler makes of them it
// cannot repeat, so run the seed several times, or for longer.
//
// # Whether it would notice
//
// Planted, each reported within the first minute: a packet skipped in ring.Cursor.Take;
// pongs in the middle of a packet (mid not looked at in session.flushLocked); the place
// of a TLS probe not given back in session.freeSlot; a joiner that starts one packet
// behind the cache's tail. Not planted, and found: memory that stayed counted for
// receivers that were overrun in the middle of a packet.
package soak
