// Package frame is the server's half of RFC 6455's framing: it takes the bytes
// that a client sent apart into data and control frames, and it puts together
// the frames that the server sends. It works on []byte only: it reads no
// socket, starts no goroutine, keeps no clock and imports nothing of ours.
//
// # From the client (Decoder)
//
//	byte 0   FIN(1) RSV(3) opcode(4)         5.2: RSV is zero, no extension is negotiated
//	byte 1   MASK(1) length(7)               5.1: MASK is set, every client frame is masked
//	0, 2, 8  length, big endian              if the 7 bits say 126 or 127
//	4        masking key                     5.3: byte i of the payload is XORed with key[i%4]
//	n        payload
//
// A message is one data frame with FIN, or a first frame without FIN, any
// number of continuation frames, and a last one with FIN. Control frames (close,
// ping, pong) are never fragmented and may stand between the frames of a
// message (5.4, 5.5).
//
// The session's poller hands every read to Next, again and again until it says
// NeedMore:
//
//	for {
//		ev, rest, err := d.Next(b)
//		if err != nil { ... } // *Error: answer with its close code, read no more
//		switch ev {
//		case NeedMore:        // b is used up
//			return
//		case Data:            // d.Piece(): a part of a message, often all of it
//		case Control:         // d.ControlOp(), d.ControlPayload()
//		}
//		b = rest
//	}
//
// Nothing is ever put together here. A payload is handed on as the pieces in
// which it arrived, so what a message may cost is its owner's decision, taken
// piece by piece; the length that a frame announces allocates nothing. A message
// whose only frame lies wholly in the bytes given comes as exactly one piece.
//
// # Whose bytes
//
// Pieces and control payloads alias the bytes given to Next, which may change
// them, and are good until Next is called again. BINARY stays masked, so that
// the owner unmasks it on the one copy it makes anyway (Piece.Unmask). TEXT is
// unmasked where it stands, because it has to be read to be checked. The one
// thing a Decoder allocates is room for the payload (at most 125 bytes) of a
// control frame that came in several reads; it lets go of it, and of the last
// bytes given, when it answers NeedMore between two frames.
//
// # What is refused
//
// The first violation ends the decoding: Next returns an *Error with the close
// code to answer, and the same one ever after. Whether a violation is found does
// not depend on how the bytes were cut into reads, and it is found with the first
// byte that shows it.
//
//	1002  5.1 frame not masked            5.2 RSV bit set, reserved opcode,
//	      64-bit length with its top bit  5.4 continuation of nothing, new message
//	      inside a message                5.5 control frame fragmented or above 125
//	      5.5.1, 7.4 close payload of one byte, close code nobody may send
//	1007  8.1 TEXT that is not UTF-8      5.5.1 close reason that is not UTF-8
//	1009  message longer than MaxMessage, before its payload is looked at
//
// A length in a longer form than it needs is accepted. The RFC obliges the
// sender to use the shortest (5.2); refusing the others would protect nobody and
// cut off clients that work today.
//
// What comes after a close frame is the caller's matter: Next goes on decoding.
//
// # To the client
//
// PutHeader, AppendFrame and AppendClose write frames with FIN set, never
// masked (5.1), with the length in its shortest form.
package frame
