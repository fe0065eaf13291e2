// Where a stream begins anew: a publisher may send a second init segment on one
// connection, anywhere in its bytes. What follows has its own clock, and perhaps other
// codecs, so it needs a decoder of its own. A server that left out a part of the stream,
// because this receiver was slow, may repeat the init segment: then the stream goes on.

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const INFO = 0x1549a966;
const TRACKS = 0x1654ae6b;
const CLUSTER = 0x1f43b675;
const TIMESTAMP = 0xe7;

const SETUP = [INFO, TRACKS, "moov"]; // what two init segments are compared by
const MEDIA = [CLUSTER, "moof"]; // what ends an init segment
const OPEN = [SEGMENT, CLUSTER, "moof", "traf"]; // what is stepped into

const HEAD_BYTES = 12; // enough to tell what a file is
const INIT_BYTES = 1 << 20; // larger init segments are not compared

const NONE = new Uint8Array();

/**
 * Cuts a stream at the init segments with which it begins anew, and takes out those that
 * are only repeated: the same as before, with a time behind it that is later than all
 * before.
 *
 * It walks over the elements of WebM and the boxes of MP4 by their sizes, so cuts are
 * found wherever they lie in the packets. A packet that begins like a file does begins
 * one, also when what came before it was broken off. Other formats go through as they are.
 */
export class Splitter {
  #read; // reads the head of an element; undefined: nothing is walked over
  #skip = 0; // bytes until the next element; may be Infinity
  #part = NONE; // what came and was not let go: an element's head without its rest
  #begun = false; // the first piece is behind us
  #heading = false; // the last box was ftyp, which belongs to the moov after it
  #kept = false; // the last element is of the setup
  #track = 0; // whose time comes next, in MP4

  #stream = new Stream();
  #begins = true; // the next piece is the stream's first
  #next; // the Stream after an init segment, until it is known whether it is a new one
  #held = []; // its pieces so far
  #heldBytes = 0;
  #setupPieces = 0; // how many of them are the init segment

  /**
   * Takes a packet and returns its pieces in order, {bytes, begins}. begins says that
   * a stream starts with this piece; the first one does. The bytes are the packet's own.
   * What comes after a second init segment is held until its first time is known.
   */
  push(packet) {
    if (!this.#begun) {
      if (this.#part.length) packet = join(this.#part, packet);
      this.#part = packet.length < HEAD_BYTES ? packet : NONE;
      if (this.#part.length) return [];
    }
    const read = readerOf(packet);
    const expected = read === this.#read && this.#skip === 0 && this.#part.length === 0;
    if (read && !expected) {
      this.#read = read;
      this.#skip = 0;
      this.#part = NONE; // the rest of it never comes
      this.#heading = this.#kept = false;
    }
    const pieces = [];
    if (this.#read) this.#walk(packet, pieces);
    else this.#give(packet, pieces);
    this.#begun = true;
    return pieces;
  }

  #walk(packet, pieces) {
    const bytes = this.#part.length ? join(this.#part, packet) : packet;
    this.#part = NONE;
    let from = 0; // where the piece begins
    const cut = (to) => {
      this.#give(bytes.subarray(from, to), pieces);
      from = to;
    };
    let at = Math.min(this.#skip, bytes.length);
    this.#skip -= at;
    this.#keep(bytes.subarray(0, at));
    while (this.#read && at < bytes.length) {
      const head = this.#read(bytes, at);
      if (head === undefined) {
        cut(at);
        this.#part = bytes.slice(at);
        return;
      }
      if (head.broken) {
        this.#read = undefined;
        cut(at);
        this.#decide(false, pieces);
        break;
      }
      if (this.#isInit(head) && (this.#begun || at > 0)) {
        cut(at);
        this.#next = new Stream();
        this.#held = []; // an init segment without media goes with it
        this.#heldBytes = this.#setupPieces = 0;
      }
      this.#kept = SETUP.includes(head.type) && (this.#next ?? this.#stream).times.size === 0;
      if (this.#next && (MEDIA.includes(head.type) || head.time !== undefined)) {
        cut(at);
        this.#compare(head, pieces);
      }
      if (head.track !== undefined) this.#track = head.track;
      if (head.time !== undefined) this.#stream.times.set(this.#track, head.time);
      const next = Math.min(at + head.size, bytes.length);
      this.#keep(bytes.subarray(at, next));
      this.#skip = at + head.size - next;
      at = next;
    }
    cut(bytes.length);
  }

  #give(bytes, pieces) {
    if (bytes.length === 0) return;
    if (!this.#next) {
      pieces.push({ bytes, begins: this.#begins });
      this.#begins = false;
      return;
    }
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > INIT_BYTES) this.#decide(false, pieces);
  }

  #keep(bytes) {
    if (this.#kept) (this.#next ?? this.#stream).setup.add(bytes);
  }

  // Compares what comes after an init segment with the stream before it.
  #compare({ time }, pieces) {
    if (time !== undefined) {
      this.#decide(this.#stream.isBefore(time, this.#track), pieces);
    } else {
      this.#setupPieces ||= this.#held.length;
      if (!this.#next.setup.equals(this.#stream.setup)) this.#decide(false, pieces);
    }
  }

  // Says whether the stream goes on after the init segment that was met, if one was.
  #decide(goesOn, pieces) {
    if (!this.#next) return;
    if (!goesOn) this.#stream = this.#next;
    this.#begins = !goesOn;
    this.#next = undefined;
    for (const bytes of goesOn ? this.#held.slice(this.#setupPieces) : this.#held) this.#give(bytes, pieces);
    this.#held = [];
  }

  #isInit({ type }) {
    const heading = this.#heading;
    this.#heading = type === "ftyp" || (heading && type !== "moov" && type !== "moof");
    return type === EBML || type === "ftyp" || (type === "moov" && !heading);
  }
}

/** What is known of a stream: its setup, and the newest time of each track. */
class Stream {
  setup = new Setup();
  times = new Map(); // in units of the track

  /** Whether all that came of a track is before this time. */
  isBefore(time, track) {
    return time > (this.times.get(track) ?? -1);
  }
}

/** The part of an init segment that says how to decode, byte for byte. */
class Setup {
  #bytes = NONE; // with room behind them: a publisher may send them one by one
  #length = 0;
  #tooLarge = false;

  add(bytes) {
    const length = this.#length + bytes.length;
    this.#tooLarge ||= length > INIT_BYTES;
    if (this.#tooLarge) {
      this.#bytes = NONE;
      this.#length = 0;
      return;
    }
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(2 * length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
  }

  equals(other) {
    if (this.#length === 0 || this.#length !== other.#length) return false;
    for (let i = 0; i < this.#length; i++) if (this.#bytes[i] !== other.#bytes[i]) return false;
    return true;
  }
}

// readerOf returns what reads the elements of a packet that begins as a file does, or
// undefined.
function readerOf(bytes) {
  if (bytes.length < HEAD_BYTES) return undefined;
  if (word(bytes, 0) === EBML) return readElement;
  const type = name(bytes, 4);
  if ((type === "ftyp" && word(bytes, 0) < 4096) || (type === "moov" && word(bytes, 0) < 1 << 20)) return readBox;
  return undefined;
}

// readElement reads the head of an element of EBML: {type, size, time}, the size with the
// head, the time if it is one. What is stepped into is a head only. Undefined: more bytes
// are needed.
function readElement(bytes, at) {
  const idLength = Math.clz32(bytes[at]) - 23;
  if (idLength > 4) return { broken: true };
  const sizeAt = at + idLength;
  if (sizeAt >= bytes.length) return undefined;
  const length = Math.clz32(bytes[sizeAt]) - 23;
  if (length > 8) return { broken: true };
  if (sizeAt + length > bytes.length) return undefined;
  let type = 0;
  for (let i = at; i < sizeAt; i++) type = type * 256 + bytes[i];
  let size = bytes[sizeAt] & (0xff >> length);
  let unknown = size === 0xff >> length;
  for (let i = 1; i < length; i++) {
    size = size * 256 + bytes[sizeAt + i];
    unknown &&= bytes[sizeAt + i] === 0xff;
  }
  const start = sizeAt + length;
  if (OPEN.includes(type)) return { type, size: start - at };
  if (unknown) return { broken: true };
  if (type !== TIMESTAMP || size > 8) return { type, size: start - at + size };
  if (start + size > bytes.length) return undefined;
  return { type, size: start - at + size, time: bytes.subarray(start, start + size).reduce((time, byte) => time * 256 + byte, 0) };
}

// readBox reads the head of an MP4 box, like readElement; with track, if it says whose time
// comes next (ISO/IEC 14496-12, 8.8.7 and 8.8.12).
function readBox(bytes, at) {
  if (at + 8 > bytes.length) return undefined;
  const type = name(bytes, at + 4);
  let size = word(bytes, at);
  if (OPEN.includes(type)) return { type, size: size === 1 ? 16 : 8 };
  if (size === 1) {
    if (at + 16 > bytes.length) return undefined;
    size = word(bytes, at + 8) * 2 ** 32 + word(bytes, at + 12);
    if (size < 16) return { broken: true };
  } else if (size === 0) {
    size = Infinity;
  } else if (size < 8) {
    return { broken: true };
  }
  if ((type !== "tfhd" && type !== "tfdt") || size < 16 || size > 64) return { type, size };
  if (at + size > bytes.length) return undefined;
  if (type === "tfhd") return { type, size, track: word(bytes, at + 12) };
  const long = bytes[at + 8] === 1 && size >= 20;
  return { type, size, time: long ? word(bytes, at + 12) * 2 ** 32 + word(bytes, at + 16) : word(bytes, at + 12) };
}

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

const word = (bytes, at) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;

const name = (bytes, at) => String.fromCharCode(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
