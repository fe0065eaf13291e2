// Package wstest is what tests and benchmarks share: a certificate, a free port, and a
// raw WebSocket client, which builds every byte it sends by hand, right or wrong, and
// checks every byte it is sent.
//
//	pub := wstest.Dial(t, addr, "/cam/key/publish")
//	rec := wstest.Dial(t, addr, "/cam/key/receive")
//	pub.Send(wstest.Binary, []byte("p"))
//	rec.WantPacket([]byte("p"))
//	pub.CloseHandshake(1000)
//	rec.WantClose(1000)
//	rec.WantEOF()
//
// What it verifies without being asked, on every frame of the server: no mask,
// no reserved bit, a known opcode, FIN set (the server never fragments), the
// length in its minimal form, control frames of at most 125 bytes, UTF-8 in TEXT
// and in close reasons, a close code that may stand on the wire, and nothing
// after a close frame. A frame that was put inside another one breaks one of
// these, or the payload that the test expects.
//
// Pings are answered (see NoPong), heartbeats `h` are read past. Every read and
// write has a deadline, Timeout by default. The methods that fail the test
// belong to the test's goroutine; the ones that end in E return an error instead
// and may be called from any goroutine, though from one at a time.
package wstest
