// Package media follows a live stream as it is published: which container it is, what
// a decoder needs first, and where it can start. It does no I/O, starts no goroutine,
// and keeps no more than a bounded number of bytes, however the stream was cut into
// packets and whatever stands in it.
//
// A Stream is given the packets. It recognizes the container (detect.go) and has one of four
// parsers follow it, each incremental: it takes bytes as they come, keeps the init
// segment, headers and short beginnings of units, and leaves out the rest unread.
// A parser says where an init segment is complete and where sync points are; what it finds
// not to be lawful makes the stream Opaque, which is no error.
//
// Another container takes a type with the method of parser, its first bytes in recognize,
// its name in containerNames, and a section here. Its tests follow real streams
// cut in several ways (wantSameCuts), ask ffprobe and a naive twin for the sync points, and
// have ffmpeg decode from one (wantJoinable); what is made by hand shows what is
// not lawful, and a fuzz target that nothing panics.
//
// An init segment and the bytes from a sync point on are what a joiner needs, and are byte
// for byte what was published.
//
// # WebM and Matroska
//
// WebM and Matroska (RFC 9559) are EBML documents (RFC 8794):
// elements in elements, each an ID, a size and its data.
//
//	EBML                  init   DocType: "webm" or "matroska"
//	Segment               init   of its header; as a rule of unknown size in a live stream
//	├─ SeekHead, Void, Tags, Cues …
//	├─ Info               init   TimestampScale
//	├─ Tracks             init   a TrackEntry for each track, with CodecPrivate
//	├─ Cluster            a sync point if its first picture is a key frame
//	│  ├─ Timestamp
//	│  ├─ SimpleBlock     track number, 2 bytes of time, flags: 0x80 is a key frame (10.2)
//	│  └─ BlockGroup      a key frame if there is no ReferenceBlock in it (5.1.3.5.5)
//	│     ├─ Block        track number, 2 bytes of time, flags (10.1)
//	│     └─ ReferenceBlock, BlockAdditions (the pictures' transparency) …
//	├─ Cluster
//	…
//	EBML                  a recorder that started over
//
// The init segment is what is marked so, in the order in which it came. The rest of what
// stands before the first Cluster is left out: positions that are true for nobody who
// joins later, and attachments of any size. It is complete with Tracks and Info; if
// there is no Info before the first Cluster, it is complete without. An Info or Tracks
// that comes again in a Segment is a copy (5.1.2 and 5.1.4, "recurring"), and is passed
// over. Clusters before Tracks can be decoded by nobody who cannot seek, and are not
// lawful here.
//
// A Cluster of unknown size ends with the next element that stands in a Segment, or with
// an EBML header (RFC 8794, 6.2); Chromium's recorder writes nothing else. An EBML header
// between two elements of a Segment or a Cluster always begins a new document, whatever
// sizes were told before: a recorder that was stopped may leave less than it said.
//
// With several video tracks the first in Tracks decides what is a sync point. Without one
// each Cluster is that has a block.
//
// # Fragmented MP4
//
// A fragmented MP4 file, also one in CMAF's chunks: boxes of a size, a type
// and a payload, most of which are left out unread.
//
//	ftyp  free?  moov                                            init segment
//	             ├ trak: tkhd, mdia ─ hdlr, minf ─ stbl ─ stsd   a track and its codec
//	             └ mvex: trex for each track                     default sample flags
//	[styp prft sidx emsg]  moof  mdat                            a unit; any number
//	                       └ traf for each track that has samples
//	                         ├ tfhd                              default sample flags
//	                         └ trun: first_sample_flags, sample flags
//	mfra                                                         the end, or none
//
// A unit is a sync point when the first sample of the first video track in its moof is a
// sync sample; in a file without a video track every one is. A moof in which the video
// track has no sample is none: `-movflags frag_every_frame` makes one for each sample of
// each track. What stands directly before a moof and belongs to it is given along. The unit
// is told when its mdat begins.
//
// The init segment and what comes from a sync point on have to be enough. So these are
// not followed: a moov without mvex (a progressive file), with samples of its own, or
// behind media; and fragments that tell where their samples are in bytes from the file's
// beginning (base-data-offset in tfhd, which ffmpeg writes without `default_base_moof`).
// Who joins in the middle would look for them in the wrong place, and browsers refuse
// them altogether (ISO BMFF Byte Stream Format, 4).
//
// Sources: ISO 14496-12, 4.2 (boxes), 8.8 (fragments); ISO 23000-19, 7.3 (chunks).
//
// # FLV
//
// Flash Video: Adobe's specification 10.1, annex E, and the tags with a FourCC
// of Enhanced RTMP v2 ("Enhanced Audio", "Enhanced Video").
//
//	"FLV" 1 flags DataOffset(4)        the file header, DataOffset bytes  E.2
//	PreviousTagSize0(4)                                                   E.3
//	type(1) DataSize(3) time(3+1) 0(3) a tag: 18 script, 9 video, 8 audio E.4.1
//	DataSize bytes
//	PreviousTagSize(4)                 11 + DataSize
//	...
//
// The body of a tag:
//
//	script  02 000A "onMetaData", then an ECMA array: AMF0                E.4.4
//	video   FrameType(4 bits) CodecID(4 bits)                             E.4.3
//	        AVC (7), and H.265 as 12: AVCPacketType(1) CompositionTime(3),
//	        then 0: an avcC or hvcC, 1: NAL units
//	        with a FourCC: 1(1 bit) FrameType(3 bits) PacketType(4 bits)
//	        FourCC(4), then 0: the configuration, 1 and 3: frames
//	audio   SoundFormat(4 bits) rate(2 bits) size(1 bit) type(1 bit)      E.4.2
//	        AAC (10): AACPacketType(1), then 0: AudioSpecificConfig, 1: a frame
//	        with a FourCC: 9(4 bits) PacketType(4 bits) FourCC(4), as above
//
// The init segment is the file header with PreviousTagSize0, the newest onMetaData, and of
// each track the newest configuration, the video's first, each tag with its
// PreviousTagSize. It is complete at the first tag with media, whatever the header's flags
// promise. A configuration that differs from the one before, or another file header,
// makes a new one at the next tag with media. Metadata alone does not.
//
// A sync point is a tag with a key frame (FrameType 1). As long as there was no video tag at all
// it is an audio tag, at most one in 100 ms of the stream's time.
//
// # MPEG-TS
//
// An MPEG transport stream (ISO 13818-1):
//
//	transport packet, 188 bytes                                    2.4.3.2
//	  47  error(1 bit) unit start(1 bit) priority(1 bit) PID(13 bits)
//	  scrambled(2 bits) adaptation(1 bit) payload(1 bit) counter(4 bits)
//	  adaptation field: length(1) flags(1), 40 of these: random access
//	  payload, a piece of what the PID carries
//
// What a PID carries begins in a packet with the unit start:
//
//	tables  pointer_field(1), then sections, which may span packets  2.4.4
//	        PID 0: the PAT, which names the PID of each program's PMT
//	        a PMT: the PID and type of each elementary stream, and descriptors
//	        each section ends with a CRC
//	media   000001 stream_id(1) length(2) flags(2) header length(1)   2.4.3.6
//	        PTS(5) if the flags say so, then the elementary stream: Annex B
//	        (H.264, H.265), ADTS, MPEG audio, ...
//
// The first program is followed. The init segment is the newest transport packets that carry its
// PAT and then its PMT: whole packets, with whatever else is in them. It is complete with
// the first PMT; an equal PAT or PMT in other packets changes nothing, a different one makes
// a new init segment. What the tables do not tell, the tracks get from the media later.
//
// A sync point is the packet with the unit start of the video's PES packet in which the
// first coded picture is one that a decoder can start with, and in which stand all
// parameter sets before it (SPS and PPS, of H.265 the VPS too; MPEG-2's sequence header):
// those that came earlier are not part of the init segment, and only what stands here
// counts. With such a picture is meant: an IDR picture (H.264), any IRAP picture (H.265), an I picture
// (MPEG-2), and whatever the writer marked with random_access_indicator (2.4.3.5). Of
// other video codecs the mark alone counts. Without video it is each PES packet with a
// PTS of the first audio stream, at most one in 100 ms.
//
// What a decoder gets of audio before the next PES packet of audio begins, it leaves out
// by itself. With H.264 in open groups of pictures or with gradual refresh the marked picture is
// no IDR picture: a decoder starts there, but ffmpeg complains once or twice of reference
// pictures ("mmco: unref short failure", "number of reference frames exceeds max") that it
// never had. No choice of point avoids that.
package media
