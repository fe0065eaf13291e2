package engine

import (
	"log/slog"
	"sync/atomic"
)

// reason is why a session ended: one entry for every way to lose a connection.
// The first reason a session is given stays.
type reason uint32

const (
	notEnded reason = iota

	// The client's doing.
	clientClosed // its close frame came; it is answered with the same code
	clientGone   // end of file, reset, or a write that failed

	// The stream's.
	streamEnded // the publisher ended, the receiver has everything
	probeDone   // the probe has its packet
	publisherKilled
	publisherReset // the coordinator forgot its publishers
	operatorEnded

	// The server's.
	serverShutdown
	internalFault
	memoryShort // the memory limit is reached

	// What a client did wrong.
	wrongKey
	protocolError
	invalidText
	messageTooBig
	slowReceiver
	noSignOfLife

	reasons // number of reasons
)

// closing is how a session that ends for a reason is told.
type closing struct {
	code   uint16 // of the close frame; 0: none is sent
	status int    // the same over plain HTTP, as long as no header was written; 0: nothing is
	text   string // reason text of the close frame
	fault  string // what follows "ERROR: " in a TEXT message before the close, and the text with status; "": text
	label  string // the word in logs and metrics; never changes

	// complete: the client was promised all that was handed over before the close
	// frame, so it may take its time as long as it takes something.
	complete bool
}

// closings is part of the contract with clients: PROTO.md lists the codes and statuses.
var closings = [reasons]closing{
	notEnded:        {label: "none"},
	clientClosed:    {code: 1000, status: 200, label: "client_closed"},
	clientGone:      {label: "client_gone"},
	streamEnded:     {code: 1000, status: 200, text: "stream ended", label: "stream_ended", complete: true},
	probeDone:       {code: 1000, status: 200, text: "probe done", label: "probe_done", complete: true},
	publisherKilled: {code: 4000, status: 403, text: "stream killed", fault: "Stream killed by the coordinator", label: "killed"},
	publisherReset:  {code: 1013, status: 503, text: "try again", fault: "The coordinator was lost, publish again", label: "coordinator_reset"},
	operatorEnded:   {code: 4002, status: 403, text: "ended by the operator", fault: "Ended by the operator", label: "operator"},
	serverShutdown:  {code: 1001, status: 503, text: "server going away", label: "shutdown", complete: true},
	internalFault:   {code: 1011, status: 500, text: "internal error", fault: "Internal error", label: "internal_error"},
	memoryShort:     {code: 1013, status: 503, text: "try again", fault: "The server is short of memory, publish again", label: "memory_limit"},
	wrongKey:        {code: 1008, status: 403, text: "invalid streaming key", fault: "Invalid streaming key", label: "wrong_key"},
	protocolError:   {code: 1002, status: 400, text: "protocol error", fault: "Protocol error", label: "protocol_error"},
	invalidText:     {code: 1007, status: 400, text: "invalid UTF-8", fault: "Invalid UTF-8", label: "invalid_text"},
	messageTooBig:   {code: 1009, status: 413, text: "message too big", fault: "Message too big", label: "message_too_big"},
	slowReceiver:    {code: 4008, status: 503, text: "receiver too slow", fault: "Receiver too slow", label: "slow_receiver"},
	noSignOfLife:    {code: 4001, status: 408, text: "no sign of life", fault: "No sign of life", label: "no_sign_of_life"},
}

func (r reason) String() string { return closings[r].label }

// ofCloseCode returns the reason for a violation that the codec found.
func ofCloseCode(code uint16) reason {
	switch code {
	case 1007:
		return invalidText
	case 1009:
		return messageTooBig
	default:
		return protocolError
	}
}

// ends counts the sessions that are closed, by reason. Any goroutine.
type ends [reasons]atomic.Int64

// count is told of a session that is closed, once.
func (e *ends) count(r reason) { e[r].Add(1) }

// byLabel returns the counts, also those at zero.
func (e *ends) byLabel() map[string]int64 {
	counts := make(map[string]int64, reasons)
	for r := notEnded + 1; r < reasons; r++ {
		counts[r.String()] = e[r].Load()
	}
	return counts
}

// logAttrs returns the counts above zero.
func (e *ends) logAttrs() (attrs []slog.Attr) {
	for r := range e {
		if n := e[r].Load(); n > 0 {
			attrs = append(attrs, slog.Int64(reason(r).String(), n))
		}
	}
	return attrs
}
