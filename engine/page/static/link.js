// The data protocol as a client speaks it: addresses, the connection with its
// heartbeat, and every way it can end, in words.

const HEARTBEAT_MS = 20_000; // the server's own interval
const SILENCE_MS = 60_000; // three heartbeats missed: the connection is dead

const ID = /^[A-Za-z0-9_-]+$/;

// What URLs allow in a name is more: but addresses are also shown in commands for a shell,
// where $() and quotes would do something.
const HOST = /^[\p{L}\p{M}\p{N}._:[\]-]+$/u;

/** Says what is wrong with a channel or a key, or returns "" when nothing is. */
export function idProblem(name, value) {
  if (value === "") return `${name} is missing.`;
  if (!ID.test(value)) return `${name} may hold only letters A–Z and a–z, digits, "-" and "_".`;
  return "";
}

/** Says what is wrong with a host field, or returns "". */
export function hostProblem(host) {
  if (host === "") return "Server is missing.";
  if (!HOST.test(host)) return "Server is a name or address with an optional port, such as example.org:8080.";
  try {
    new URL(`ws://${host}/`);
  } catch {
    return "Server is not a valid name or address.";
  }
  return "";
}

/** The address of one kind of session; the fields must have been checked. */
export function streamURL({ scheme, host, channel, key, kind }) {
  return `${scheme}://${host}/${channel}/${key}/${kind}`;
}

/**
 * Opens the connection of one kind to a checked address. Throws an error whose message
 * is meant for people when the browser will not even try. frame: see Link.
 */
export function connect(address, kind, frame) {
  try {
    return new Link(streamURL({ ...address, kind }), kind, frame);
  } catch (error) {
    const mixed = location.protocol === "https:" && address.scheme === "ws";
    throw new Error(mixed ? "A page that was loaded over https may only use wss://." : `The browser refuses the address: ${error.message}.`);
  }
}

// Close codes: what happened, and whether trying again can help.
const CLOSES = new Map([
  [1000, ["The stream ended.", true]],
  [1001, ["The server is going away.", true]],
  [1002, ["The server saw a protocol error.", false]],
  [1005, ["The server closed the connection without a reason.", true]],
  [1006, ["The connection was lost.", true]],
  [1007, ["The server received text that is not valid UTF-8.", false]],
  [1008, ["The key was not accepted.", false]],
  [1009, ["A message was larger than the server allows. Choose a shorter timeslice or a lower bitrate.", false]],
  [1011, ["The server had a fault.", true]],
  [1013, ["The server is too busy. Try again later.", true]],
  [4000, ["The stream was stopped from the server's side.", false]],
  [4002, ["The operator of the server ended this connection.", false]],
  [4001, ["The server heard nothing from this client for too long.", true]],
  [4008, ["This receiver was too slow: the network or this machine cannot keep up with the stream.", true]],
]);

// closeWords puts a close code and an ERROR message, if there was one, in words.
function closeWords(code, reason, fault) {
  const [words, retry] = CLOSES.get(code) ?? [`Closed with code ${code}${reason && ` (${reason})`}.`, code >= 4000];
  if (!fault) return { words, retry };
  // A server that does not say more than "closed" has said it in the ERROR.
  const said = `The server says: ${fault}.`;
  return code === 1000 || code === 1005 || code === 1006 ? { words: said, retry: false } : { words: `${words} ${said}`, retry };
}

/**
 * How many milliseconds after a close to connect again, or undefined: trying again does
 * not help. close is the detail of Link's event; attempt counts the tries in a row that
 * came to nothing. A channel whose stream ended may have its next one at once, and one
 * who was too slow starts at the cache again; else the pauses grow from 1 s to 15 s. There
 * is chance in them, so that many do not come back at the same moment.
 */
export function retryDelay({ code, retry, opened }, attempt, random = Math.random) {
  if (!retry) return undefined;
  if (opened && attempt === 0 && code === 4008) return 0;
  if (opened && attempt === 0 && code === 1000) return 200 + 800 * random();
  return Math.min(15_000, 1000 * 2 ** attempt) * (0.75 + random() / 2);
}

// A browser does not show why a handshake failed, so name what it can be.
const REFUSED = {
  publish:
    "The server refused the connection or could not be reached. Possible causes: the channel already has a publisher, " +
    "the key may not publish, the address or an identifier is wrong, too many connections come from your address, or pages of this site are not served.",
  receive:
    "The server refused the connection or could not be reached. Possible causes: the address or an identifier is wrong, " +
    "your address may not play, too many connections come from it, or pages of this site are not served.",
};

/**
 * One connection to the server.
 *
 * Events: "open"; "packet" (detail: ArrayBuffer); "close", exactly once and last
 * (detail: {code, words, retry, opened, asked}). What an ERROR message says is
 * part of the words of the close that follows it.
 */
export class Link extends EventTarget {
  #socket;
  #kind;
  #opened = false;
  #asked = false; // this side closed
  #done = false;
  #silent = false;
  #fault = "";
  #timer = 0;
  #sentBeat = 0;
  #heard = 0;
  #frame; // the window that the socket lives in, if it has one of its own

  /**
   * Throws when the browser will not even try, for instance ws: from an https: page.
   * frame, an iframe that becomes the link's own, makes cut possible.
   */
  constructor(url, kind, frame) {
    super();
    this.#kind = kind;
    this.#frame = frame;
    const { WebSocket } = frame?.contentWindow ?? globalThis;
    try {
      this.#socket = new WebSocket(url);
    } catch (error) {
      frame?.remove();
      throw error;
    }
    this.#socket.binaryType = "arraybuffer";
    this.#socket.addEventListener("open", () => this.#open());
    this.#socket.addEventListener("message", (event) => this.#message(event.data));
    this.#socket.addEventListener("close", (event) => this.#finish(event.code, event.reason));
  }

  /** Bytes handed to send and not yet taken by the network. */
  get waiting() {
    return this.#socket.bufferedAmount;
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends one packet, one BINARY message. False when the connection is not open. */
  send(bytes) {
    if (!this.isOpen) return false;
    this.#socket.send(bytes);
    return true;
  }

  close() {
    this.#asked = true;
    this.#socket.close(1000);
  }

  /** Ends the connection at once. What waits for the network is dropped, if the link has a frame. */
  cut() {
    this.#asked = true;
    this.#frame?.remove();
    this.#socket.close();
    this.#finish(1006, "");
  }

  #open() {
    this.#opened = true;
    this.#heard = this.#sentBeat = performance.now();
    this.#timer = setInterval(() => this.#tick(), 5000);
    this.#emit("open");
  }

  #message(data) {
    this.#heard = performance.now();
    if (typeof data !== "string") {
      this.#emit("packet", data);
    } else if (data.startsWith("ERROR:")) {
      this.#fault = data.slice("ERROR:".length).trim();
    } else {
      // An answer comes on time in a hidden tab, where our timer may not.
      this.#beat(0);
    }
  }

  #tick() {
    this.#beat(HEARTBEAT_MS + 2500); // only when the server's own did not come
    if (performance.now() - this.#heard > SILENCE_MS) {
      // close() would wait for an answer that a dead connection never gives.
      this.#silent = true;
      this.#socket.close();
      this.#finish(1006, "");
    }
  }

  #beat(interval) {
    const now = performance.now();
    if (!this.isOpen || now - this.#sentBeat < interval) return;
    this.#sentBeat = now;
    this.#socket.send("h");
  }

  #finish(code, reason) {
    if (this.#done) return;
    this.#done = true;
    clearInterval(this.#timer);
    this.#frame?.remove();
    let { words, retry } = closeWords(code, reason, this.#fault);
    if (!this.#opened) {
      words = REFUSED[this.#kind === "publish" ? "publish" : "receive"];
      retry = true;
    } else if (this.#silent) {
      words = "The server has been silent for a minute; the connection is dead.";
    }
    if (this.#asked) words = "Stopped.";
    this.#emit("close", { code, words, retry, opened: this.#opened, asked: this.#asked });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
