package frame

// Close codes of RFC 6455, 7.4.1, that this package gives or looks for.
const (
	codeProtocol   = 1002
	codeNoStatus   = 1005 // "there was none": never on the wire
	codeAbnormal   = 1006 // never on the wire
	codeNotUTF8    = 1007
	codeTooBig     = 1009
	codeTLSFailure = 1015 // never on the wire
)

// Error is a client's violation. The values belong to this package and are never
// written after initialization: refusing a client allocates nothing, and any
// goroutine may keep and read one.
type Error struct {
	// Code is the close code to answer with: 1002, 1007 or 1009.
	Code uint16
	// Reason says in ASCII what was wrong, short enough for a close frame.
	Reason string
}

// Error may be called by any goroutine.
func (e *Error) Error() string { return "cannot decode frame: " + e.Reason }

// violation is the index of an Error. A Decoder remembers this one byte instead
// of a pointer.
type violation uint8

const (
	fine violation = iota
	reservedBits
	reservedOpcode
	fragmentedControl
	strayContinuation
	interleavedMessage
	notMasked
	longControl
	hugeLength
	tooBig
	badText
	shortClose
	badCloseCode
	badCloseReason
	violationCount // not a violation: how many there are
)

var violations = [violationCount]Error{
	reservedBits:       {codeProtocol, "reserved bit set"},
	reservedOpcode:     {codeProtocol, "reserved opcode"},
	fragmentedControl:  {codeProtocol, "fragmented control frame"},
	strayContinuation:  {codeProtocol, "continuation frame outside a message"},
	interleavedMessage: {codeProtocol, "new message inside a fragmented one"},
	notMasked:          {codeProtocol, "frame not masked"},
	longControl:        {codeProtocol, "control frame above 125 bytes"},
	hugeLength:         {codeProtocol, "length with the top bit set"},
	tooBig:             {codeTooBig, "message too big"},
	badText:            {codeNotUTF8, "text is not UTF-8"},
	shortClose:         {codeProtocol, "close payload of one byte"},
	badCloseCode:       {codeProtocol, "invalid close code"},
	badCloseReason:     {codeNotUTF8, "close reason is not UTF-8"},
}
