// Where a stream begins anew: a publisher may send a second init segment on one
// connection, anywhere in its bytes. What follows has its own clock, and perhaps other
// codecs, so it needs a decoder of its own.

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const CLUSTER = 0x1f43b675;

const HEAD_BYTES = 12; // enough to tell what a file is

const NONE = new Uint8Array();

/**
 * Cuts a stream at its init segments.
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

  /**
   * Takes a packet and returns its pieces in order, {bytes, begins}. begins says that
   * a stream starts with this piece; the first one does. The bytes are the packet's own.
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
      this.#heading = false;
    }
    const pieces = this.#read ? this.#walk(packet) : [{ bytes: packet, begins: !this.#begun }];
    this.#begun = true;
    return pieces.filter((piece) => piece.bytes.length > 0);
  }

  #walk(packet) {
    const bytes = this.#part.length ? join(this.#part, packet) : packet;
    this.#part = NONE;
    const pieces = [];
    let from = 0; // where the piece begins
    let begins = false;
    const cut = (to) => {
      if (to > from) pieces.push({ bytes: bytes.subarray(from, to), begins });
      from = to;
    };
    let at = Math.min(this.#skip, bytes.length);
    this.#skip -= at;
    while (this.#read && at < bytes.length) {
      const head = this.#read(bytes, at);
      if (head === undefined) {
        cut(at);
        this.#part = bytes.slice(at);
        return pieces;
      }
      if (head.broken) {
        this.#read = undefined;
        break;
      }
      if (this.#isInit(head)) {
        cut(at);
        begins = true;
      }
      const next = Math.min(at + head.size, bytes.length);
      this.#skip = at + head.size - next;
      at = next;
    }
    cut(bytes.length);
    return pieces;
  }

  #isInit({ type }) {
    const heading = this.#heading;
    this.#heading = type === "ftyp" || (heading && type !== "moov" && type !== "moof");
    return type === EBML || type === "ftyp" || (type === "moov" && !heading);
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

// readElement reads the head of an element of EBML: {type, size}, the size with the head.
// Segments and clusters are only stepped into. Undefined: more bytes are needed.
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
  if (type === SEGMENT || type === CLUSTER) size = 0;
  else if (unknown) return { broken: true };
  return { type, size: idLength + length + size };
}

// readBox reads the head of an MP4 box, like readElement.
function readBox(bytes, at) {
  if (at + 8 > bytes.length) return undefined;
  let size = word(bytes, at);
  if (size === 1) {
    if (at + 16 > bytes.length) return undefined;
    size = word(bytes, at + 8) * 2 ** 32 + word(bytes, at + 12);
    if (size < 16) return { broken: true };
  } else if (size === 0) {
    size = Infinity;
  } else if (size < 8) {
    return { broken: true };
  }
  return { type: name(bytes, at + 4), size };
}

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

const word = (bytes, at) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;

const name = (bytes, at) => String.fromCharCode(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
