// What a stream is, told from its first bytes: the MIME type with the codecs
// that Media Source Extensions need before the first append.

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const TRACKS = 0x1654ae6b;
const CLUSTER = 0x1f43b675;
const TRACK_ENTRY = 0xae;
const CODEC_ID = 0x86;
const CODEC_PRIVATE = 0x63a2;
const CODEC_ID_BYTES = 64; // longer ones are cut: no codec's name is
const TS_PACKET = 188; // bytes; ISO/IEC 13818-1, 2.4.3.2

/**
 * Looks at the bytes from the stream's beginning.
 *
 * Returns undefined when more bytes are needed, {mime} when the type is known
 * (whether this browser plays it is another question), or {problem} in words
 * when no further byte will help. With a problem may come `other`, the name of a
 * format that other players take: "MPEG-TS", "FLV", ….
 */
export function sniff(bytes) {
  if (bytes.length < 8) return undefined;
  const first = u32(bytes, 0);
  if (first === EBML) return sniffWebM(bytes);
  if (isBoxType(ascii(bytes, 4, 8))) return sniffMP4(bytes);
  if (first === CLUSTER || ascii(bytes, 4, 8) === "moof") return { problem: noBeginning };
  if (bytes[0] === 0x47) {
    if (bytes.length <= TS_PACKET) return undefined;
    if (bytes[TS_PACKET] === 0x47) return foreign("MPEG-TS");
  }
  if (ascii(bytes, 0, 3) === "FLV") return foreign("FLV");
  if (ascii(bytes, 0, 4) === "OggS") return foreign("Ogg");
  if (first === 1 || first >>> 8 === 1) return foreign("a bare video stream");
  if (first >>> 20 === 0xfff || ascii(bytes, 0, 3) === "ID3") return foreign("a bare audio stream");
  return { problem: `The stream is neither WebM nor MP4, or ${noBeginning[0].toLowerCase()}${noBeginning.slice(1)}` };
}

const foreign = (other) => ({ problem: `The stream is ${other}, which browsers do not play by themselves.`, other });

const noBeginning =
  "The beginning of the stream, which every player needs, is not in the server's cache any more. " +
  "Restart the publisher, or give the server a larger cache.";

// --- WebM (EBML) ---

// vint reads a variable-length integer at pos. With the marker kept it is an
// element's ID. Unknown sizes are Infinity. Undefined: more bytes needed.
function vint(bytes, pos, keepMarker) {
  if (pos >= bytes.length) return undefined;
  const length = Math.clz32(bytes[pos]) - 23;
  if (length > 8 || pos + length > bytes.length) return undefined;
  let value = keepMarker ? bytes[pos] : bytes[pos] & (0xff >> length);
  let ones = (bytes[pos] & (0xff >> length)) === 0xff >> length;
  for (let i = 1; i < length; i++) {
    value = value * 256 + bytes[pos + i];
    ones &&= bytes[pos + i] === 0xff;
  }
  return { value: !keepMarker && ones ? Infinity : value, length };
}

function element(bytes, pos) {
  const id = vint(bytes, pos, true);
  const size = id && vint(bytes, pos + id.length, false);
  if (!size) return undefined;
  const start = pos + id.length + size.length;
  return { id: id.value, start, end: start + size.value };
}

function* elements(bytes, start, end) {
  for (let pos = start; pos < end; ) {
    const item = element(bytes, pos);
    if (!item) return;
    yield item;
    pos = item.end;
  }
}

function sniffWebM(bytes) {
  const header = element(bytes, 0);
  const segment = header && element(bytes, header.end);
  if (!segment) return undefined;
  if (segment.id !== SEGMENT) return { problem: "The stream is EBML but not WebM." };
  for (const item of elements(bytes, segment.start, bytes.length)) {
    if (item.id === CLUSTER) return { problem: "The stream names no tracks before its first cluster." };
    if (item.id !== TRACKS) continue;
    if (item.end > bytes.length) return undefined;
    return describeTracks(bytes, item);
  }
  return undefined;
}

function describeTracks(bytes, tracks) {
  const codecs = [];
  let video = false;
  for (const track of elements(bytes, tracks.start, tracks.end)) {
    if (track.id !== TRACK_ENTRY) continue;
    let id = "";
    let setup = new Uint8Array();
    for (const field of elements(bytes, track.start, track.end)) {
      if (field.id === CODEC_ID) id = ascii(bytes, field.start, Math.min(field.end, field.start + CODEC_ID_BYTES)).replace(/\0+$/, "");
      if (field.id === CODEC_PRIVATE) setup = bytes.subarray(field.start, field.end);
    }
    if (!/^[VA]_/.test(id)) continue;
    const codec = webmCodec(id, setup);
    if (!codec) return { problem: `The stream has a ${id} track, which browsers do not play in WebM.`, other: "Matroska" };
    codecs.push(codec);
    video ||= id.startsWith("V_");
  }
  if (codecs.length === 0) return { problem: "The stream has no audio or video track." };
  return { mime: mimeType(video, "webm", codecs) };
}

function webmCodec(id, setup) {
  switch (id) {
    case "V_VP8":
      return "vp8";
    case "V_VP9":
      return "vp9";
    case "V_AV1":
      return av1Codec(setup);
    case "A_OPUS":
      return "opus";
    case "A_VORBIS":
      return "vorbis";
    default:
      return undefined;
  }
}

// --- MP4 (ISO base media file format) ---

const isBoxType = (type) => type === "ftyp" || type === "styp" || type === "moov";

function* boxes(bytes, start, end) {
  for (let pos = start; pos + 8 <= end; ) {
    let size = u32(bytes, pos);
    let header = 8;
    if (size === 1) {
      if (pos + 16 > end) return;
      size = u32(bytes, pos + 8) * 2 ** 32 + u32(bytes, pos + 12);
      header = 16;
    }
    if (size === 0) size = Infinity;
    if (size < header) return;
    yield { type: ascii(bytes, pos + 4, pos + 8), start: pos + header, end: pos + size };
    pos += size;
  }
}

function firstBox(bytes, start, end, type) {
  for (const item of boxes(bytes, start, end)) if (item.type === type) return item;
  return undefined;
}

function box(bytes, parent, ...path) {
  let here = parent;
  for (const type of path) {
    here = here && firstBox(bytes, here.start, here.end, type);
  }
  return here;
}

function sniffMP4(bytes) {
  for (const item of boxes(bytes, 0, bytes.length)) {
    if (item.type === "moof" || item.type === "mdat") return { problem: "The MP4 stream is not fragmented: it has no moov box at its beginning." };
    if (item.type !== "moov") continue;
    if (item.end > bytes.length) return undefined;
    return describeMovie(bytes, item);
  }
  return undefined;
}

function describeMovie(bytes, movie) {
  const codecs = [];
  let video = false;
  for (const track of boxes(bytes, movie.start, movie.end)) {
    if (track.type !== "trak") continue;
    const table = box(bytes, track, "mdia", "minf", "stbl", "stsd");
    const entry = table && boxes(bytes, table.start + 8, table.end).next().value;
    if (!entry) continue;
    const codec = mp4Codec(bytes, entry);
    if (!codec) return { problem: `The stream has a ${entry.type} track, which this page cannot name to the browser.` };
    codecs.push(codec);
    video ||= !/^(mp4a|Opus|fLaC)$/.test(entry.type);
  }
  if (codecs.length === 0) return { problem: "The stream has no audio or video track." };
  return { mime: mimeType(video, "mp4", codecs) };
}

function mp4Codec(bytes, entry) {
  const setup = (type) => {
    const found = firstBox(bytes, entry.start + 78, entry.end, type);
    return found ? bytes.subarray(found.start, found.end) : new Uint8Array();
  };
  switch (entry.type) {
    case "avc1":
    case "avc3": {
      const config = setup("avcC");
      const profile = config.length >= 4 ? [config[1], config[2], config[3]].map((b) => b.toString(16).padStart(2, "0")).join("") : "42e01e";
      return `${entry.type}.${profile}`;
    }
    case "hvc1":
    case "hev1":
      return hevcCodec(entry.type, setup("hvcC"));
    case "av01":
      return av1Codec(setup("av1C"));
    case "vp09": {
      const config = setup("vpcC");
      return config.length >= 7 ? `vp09.${two(config[4])}.${two(config[5])}.${two(config[6] >> 4)}` : "vp09.00.10.08";
    }
    case "mp4a":
      return aacCodec(bytes.subarray(entry.start, entry.end));
    case "Opus":
      return "opus";
    case "fLaC":
      return "flac";
    default:
      return undefined;
  }
}

// hevcCodec names H.265 after its configuration record (ISO/IEC 14496-15, 8.3.3.1 and
// annex E): profile space and profile, compatibility bits in reverse, tier and level, and
// the constraint bytes without the zeros at their end.
function hevcCodec(type, config) {
  if (config.length < 13) return `${type}.1.6.L120.90`;
  let reversed = 0;
  for (let bit = 0, flags = u32(config, 2); bit < 32; bit++, flags >>>= 1) reversed = (reversed << 1) | (flags & 1);
  const constraints = [...config.subarray(6, 12)];
  while (constraints.at(-1) === 0) constraints.pop();
  return [
    type,
    ["", "A", "B", "C"][config[1] >> 6] + (config[1] & 0x1f),
    (reversed >>> 0).toString(16),
    (config[1] & 0x20 ? "H" : "L") + config[12],
    ...constraints.map((byte) => byte.toString(16).toUpperCase()),
  ].join(".");
}

// aacCodec names the audio after its descriptors (ISO/IEC 14496-1, 7.2.6): the object
// type, and for MPEG-4 audio the type that its setup begins with.
function aacCodec(entry) {
  for (let pos = 28; pos + 4 < entry.length; pos++) {
    if (ascii(entry, pos, pos + 4) !== "esds") continue;
    const find = descriptorIn(entry.subarray(pos + 8));
    const config = find(0x04);
    if (!config) break;
    if (config[0] !== 0x40) return `mp4a.${config[0].toString(16)}`;
    const setup = find(0x05);
    if (!setup) break;
    const type = setup[0] >> 3;
    return `mp4a.40.${type === 31 ? 32 + (((setup[0] & 7) << 3) | (setup[1] >> 5)) : type}`;
  }
  return "mp4a.40.2"; // AAC-LC, which nearly all is
}

// descriptorIn returns what looks a descriptor up by its tag: 3 holds 4, 4 holds 5.
function descriptorIn(bytes) {
  const inside = { 0x03: 3, 0x04: 13 }; // what stands before the descriptors that it holds
  const found = new Map();
  for (let pos = 0; pos + 2 < bytes.length; ) {
    const tag = bytes[pos++];
    while (bytes[pos] & 0x80) pos++; // a length of several bytes
    const length = bytes[pos++] & 0x7f;
    found.set(tag, bytes.subarray(pos));
    pos += inside[tag] ?? length;
  }
  return (tag) => found.get(tag);
}

// --- both ---

// av1Codec names AV1 after its configuration record (profile, level, tier, depth).
function av1Codec(setup) {
  if (setup.length < 4) return "av01.0.08M.08";
  const depth = setup[2] & 0x40 ? (setup[2] & 0x20 ? 12 : 10) : 8;
  return `av01.${setup[1] >> 5}.${two(setup[1] & 0x1f)}${setup[2] & 0x80 ? "H" : "M"}.${two(depth)}`;
}

function mimeType(video, container, codecs) {
  return `${video ? "video" : "audio"}/${container};codecs="${[...new Set(codecs)].join(",")}"`;
}

const two = (number) => String(number).padStart(2, "0");

const u32 = (bytes, pos) => ((bytes[pos] << 24) | (bytes[pos + 1] << 16) | (bytes[pos + 2] << 8) | bytes[pos + 3]) >>> 0;

const ascii = (bytes, start, end) => String.fromCharCode(...bytes.subarray(start, end));
