package media

// Container is the format of a stream.
type Container uint8

// A stream is Undecided as long as too few bytes are there, and Opaque when it is none
// of the others, or is not lawful: nothing is known of it, and nothing will be.
const (
	Undecided Container = iota
	Opaque
	WebM
	Matroska
	MP4
	FLV
	MPEGTS
)

// MaxInit is the largest init segment that is kept, in bytes; a stream with a larger one
// is Opaque. A moov of a fragmented file and WebM's Tracks have a few kilobytes.
const MaxInit = 1 << 20

var containerNames = [...]string{Undecided: "", Opaque: "", WebM: "webm", Matroska: "matroska", MP4: "mp4", FLV: "flv", MPEGTS: "mpegts"}

// String returns a word for the container, "" for what is not known.
func (c Container) String() string { return containerNames[c] }

// maxTracks is how many tracks may be in an init segment. Real ones have a few; the number
// bounds what is kept, and told, of one. A transport stream's has at most 200 by itself: a
// PMT has no room for more.
const maxTracks = 128

// maxBefore is how many bytes may come before the first sync point: a stream that has
// none by then is Opaque, so that nobody waits for ever.
const maxBefore = 16 << 20

// maxFound is how many sync points one call of Write returns at most. A packet of real
// media has a few; one that is made for it has one in every 5 bytes.
const maxFound = 1024

// maxMade is by how many bytes the init segments that are made of a stream may exceed the
// stream itself; beyond that it is Opaque. Where an init segment is put together from
// pieces, a small one that changes again and again would else have large ones copied, and
// remembered, each time.
const maxMade = 2 * MaxInit

// trackSize is what a Track counts in that, in bytes: about what it takes.
const trackSize = 64

// atOnce is how many bytes a parser is given at once, so that it does not make much more
// than that before somebody looks.
const atOnce = 16 << 10

// Point is a byte of the stream: the Offset-th of the packet with the sequence Seq.
type Point struct {
	Seq    uint64
	Offset int
}

// Track is what the stream says of a track. What it does not say, or not yet, is zero.
type Track struct {
	Kind          string // "video", "audio" or "other"
	Codec         string // as in a media type's codecs parameter (RFC 6381), "" if it has no name there
	Width, Height int    // in pixels
	SampleRate    int    // in Hz
	Channels      int
}

// Stream follows one stream. The zero value is ready. One goroutine at a time may use it.
type Stream struct {
	container Container
	parser    parser
	head      []piece // what came while the container was undecided
	started   bool    // there was a sync point
	before    int     // bytes that came before the first sync point
	in        input   // what the parser gets; here because it would be allocated elsewhere
	out       sink
}

// parser follows one container. It keeps nothing of what it is given, copies no more than
// it has room for (MaxInit), and does a bounded amount of work for each byte: a publisher
// may send bytes one by one, and media made of nothing but headers.
type parser interface {
	// parse takes all of in, which follows what it took before. It returns false when
	// the stream is not lawful: it is not called again then.
	parse(in *input, out *sink) bool

	// pending returns where the oldest sync point would lie that begins in what was
	// parsed and shows only with what follows; false if there is none.
	pending() (Point, bool)

	// kept returns how much memory it has for what it has collected, in bytes.
	kept() int
}

// sink takes what a parser finds.
type sink struct {
	container Container // what the parser knows better than decide; Undecided if nothing
	init      []byte
	tracks    []Track
	points    []Point
	made      int // bytes of init segments, less those that the stream has had since
}

// begin says that an init segment is complete: b, which is the sink's from then on. Sync
// points found before belong to the one before.
func (k *sink) begin(b []byte, tracks []Track) {
	k.init, k.tracks = b, tracks
	k.made += len(b)
	k.points = k.points[:0]
}

// describe says more of the tracks of the init segment there is, which stays as it is: a
// transport stream tells the codecs only in what follows its tables. tracks is the sink's
// from then on.
func (k *sink) describe(tracks []Track) {
	k.tracks = tracks
	k.made += len(tracks) * trackSize
}

// point says that a decoder which has the init segment can start at p. The oldest ones and
// the newest are kept.
func (k *sink) point(p Point) {
	if len(k.points) == maxFound {
		k.points = k.points[:maxFound-1]
	}
	k.points = append(k.points, p)
}

// Write takes the payload of the next packet, which has the sequence seq, and returns
// the sync points that it showed, oldest first, of very many only the first and the newest;
// valid until the next call. A point may lie in a packet before; media that a decoder has
// from it on have begun. payload is not kept. When the call brought a new init segment the
// points belong to that, and those returned before do to the old one.
func (st *Stream) Write(seq uint64, payload []byte) []Point {
	st.out.points = st.out.points[:0]
	switch st.container {
	case Opaque:
	case Undecided:
		st.decide(piece{Point{Seq: seq}, payload})
	default:
		st.parse(piece{Point{Seq: seq}, payload})
	}
	return st.out.points
}

// parse gives the parser a piece of the stream.
func (st *Stream) parse(p piece) {
	for rest := input(p); len(rest.b) > 0 && st.container != Opaque; {
		at := rest.at
		st.parseSome(piece{at, rest.next(atOnce)})
	}
}

// parseSome gives the parser bytes, and gives up on a stream that is not lawful or costs
// too much.
func (st *Stream) parseSome(p piece) {
	st.in = input(p)
	st.out.made = max(0, st.out.made-len(p.b))
	lawful := st.parser.parse(&st.in, &st.out)
	if len(st.out.points) > 0 {
		st.started = true
	}
	if !st.started {
		st.before += len(p.b)
	}
	if !lawful || st.before > maxBefore && !st.started || st.out.made > maxMade {
		*st = Stream{container: Opaque}
	} else if st.out.container != Undecided {
		st.container = st.out.container
	}
	st.in.b = nil
}

// Pending returns where the oldest sync point would lie that begins in the packets so far
// and shows only with a later one; false if there is none. Nothing that Write returns lies
// before it but in the packet that Write was given.
func (st *Stream) Pending() (p Point, ok bool) {
	switch {
	case st.parser != nil:
		return st.parser.pending()
	case len(st.head) > 0:
		return st.head[0].at, true
	default:
		return Point{}, false
	}
}

// Kept returns how much memory is held for what was collected of the stream, in bytes, the
// init segment not counted. What is held while the container is undecided is a few hundred.
func (st *Stream) Kept() int {
	if st.parser == nil {
		return 0
	}
	return st.parser.kept()
}

// Container returns what the stream is.
func (st *Stream) Container() Container { return st.container }

// Init returns the newest init segment, nil if there is none. It is never changed; a
// new one is another slice.
func (st *Stream) Init() []byte { return st.out.init }

// Tracks returns what the newest init segment says, and, of a transport stream, what the
// media after it has told so far. It is never changed; when more is known it is another slice.
func (st *Stream) Tracks() []Track { return st.out.tracks }
