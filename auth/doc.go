// Package auth decides who may publish: everybody (AcceptAll), or whom a
// coordinator accepts (Coordinator).
//
// # The control protocol
//
// The server keeps one WebSocket, the link, open to the coordinator.
//
// Handshake. GET /ws/control/wss at the scheme, host and port of
// CONTROL_BASE_URL, with these headers, each only when configured:
//
//	x-control-auth-token  a JWT, HS256 with CONTROL_SECRET, whose only claim is sub = wss-control
//	x-external-ip         EXTERNAL_IP
//	x-custom-port         EXTERNAL_PORT, or else the port of ours that clients reach if that is not 80
//	x-ssl-use             "true" with EXTERNAL_SSL
//
// Redirects are not followed: they would carry the token to somebody else.
//
// Steady state. A message is one TEXT frame: a line with the type, then
// "Name: value" lines, then perhaps an empty line and a body. Types and names
// compare without case, values are trimmed, lines end with LF or CRLF, bodies
// are ignored. BINARY frames and unknown types are ignored.
//
//	type             direction           parameters
//	HEARTBEAT        both                none
//	ERROR            from coordinator    Error-Code, Error-Message
//	PUBLISH-REQUEST  to coordinator      Request-ID, Stream-Channel, Stream-Key, User-IP
//	PUBLISH-ACCEPT   from coordinator    Request-ID, Stream-Channel, Stream-ID
//	PUBLISH-DENY     from coordinator    Request-ID, Stream-Channel
//	PUBLISH-END      to coordinator      Stream-Channel, Stream-ID
//	STREAM-KILL      from coordinator    Stream-Channel, Stream-ID ("*", empty or missing: whoever publishes)
//
// HEARTBEAT goes out every 20 s. A coordinator that sent no message at all for
// 60 s is dead, and so is one that does not take a message within 10 s.
//
// Every PUBLISH-ACCEPT costs exactly one PUBLISH-END on the same link, also
// when the client left before the answer came. The coordinator takes a channel
// for free when it reads PUBLISH-END, whatever the Stream-ID in it. So an END
// must be on its way before another publisher of that channel is asked for: the
// link keeps one queue in order, and Grant.End fills it before it returns.
//
// An answer is matched by its Request-ID. One that names another channel, one
// that nobody asked for, and a second one are ignored.
//
// Close. When the link is lost, requests that wait fail at once, running
// publishers go on, and new ones are refused until the link is back: after 1 s,
// doubling to 10 s, with jitter, for ever; the delay starts again at 1 s only
// after a link that held for 5 s. When it is back the coordinator believes
// every earlier publisher gone, so each grant of an earlier link is revoked
// before anybody can ask again, and its PUBLISH-END is never sent: it would end
// the successor.
//
// # Who runs what
//
// One goroutine dials, reads the link and calls the revocation callbacks. One
// goroutine per link writes. Coordinator.mu guards all that they and the
// callers share, in every type of this package; it is never held during I/O or
// while a callback runs.
package auth
