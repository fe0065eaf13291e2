// From a media stream to a channel: the recorder, the pace in which what it records
// goes out, and a new connection with a new recorder whenever one is lost.

import { takeFrame } from "./frame.js";
import { connect } from "./link.js";

// Bytes that may wait for the network although little time has passed: a picture of
// high quality is large, and no backlog at all would cut it off.
const LEAST_BOUND_BYTES = 256 << 10;
const PAUSES_MS = [1000, 10_000]; // between two tries: the first, the longest
const SOUND_MS = 10_000; // on air for so long, a connection counts as good

/**
 * How long to wait before try number attempt (0, 1, …), in milliseconds: doubling
 * pauses with as much chance in them, so that many do not return at one moment.
 */
export function pause(attempt, chance = Math.random()) {
  const [first, longest] = PAUSES_MS;
  return Math.min(longest, first * 2 ** Math.min(attempt, 20)) * (0.5 + chance);
}

/** How much waits for the network, in bytes and in seconds of the stream. */
export class Backlog {
  #bytes = 0; // handed over in all
  #sent = []; // {end, at}: the position behind a packet, and when it was recorded

  constructor(maxSeconds, bitsPerSecond) {
    this.maxSeconds = maxSeconds;
    // Twice the rate: recorders overshoot, above all at key pictures.
    this.maxBytes = Math.max(LEAST_BOUND_BYTES, (maxSeconds * 2 * bitsPerSecond) / 8);
  }

  /** A packet of so many bytes was recorded at a time in milliseconds. */
  add(bytes, at) {
    this.#bytes += bytes;
    this.#sent.push({ end: this.#bytes, at });
  }

  /** {bytes, seconds, full} when waiting bytes of what was added are not taken yet. */
  look(waiting, now) {
    const taken = this.#bytes - waiting;
    while (this.#sent.length > 0 && this.#sent[0].end <= taken) this.#sent.shift();
    const seconds = this.#sent.length > 0 ? (now - this.#sent[0].at) / 1000 : 0;
    return { bytes: waiting, seconds, full: waiting > this.maxBytes || seconds > this.maxSeconds };
  }
}

/**
 * Publishes a stream until it is stopped. Each connection has a recorder of its own, so
 * that each begins with an init segment.
 *
 * Settings: {address: {scheme, host, channel, key}, stream, format, slice (milliseconds),
 * bitsPerSecond, keySeconds (undefined: as the browser likes), backlogSeconds}.
 *
 * Event "state", detail {state, words, tone}: "connecting", "live", "waiting" (for the
 * next try), "stopping", and at last, once, "idle" (it was stopped) or "failed". The
 * stream's tracks stay the caller's.
 */
export class Publisher extends EventTarget {
  #settings;
  #link;
  #recorder;
  #backlog;
  #order = Promise.resolve(); // each packet is sent after the one before it
  #unread = 0; // bytes recorded that are not yet handed to the link
  #attempt = 0;
  #liveSince = 0; // milliseconds; 0: not on air
  #wasLive = false;
  #retry = 0; // timer of the next try
  #watch = 0; // timer that looks at the backlog
  #lastWords; // what "idle" will say
  #online = () => this.#retryNow();

  bytes = 0; // handed to the network, over all connections
  packets = 0;
  runs = 0; // recorders so far
  state = "idle";
  type = ""; // MIME type, as the recorder names it

  constructor(settings) {
    super();
    this.#settings = settings;
  }

  start() {
    addEventListener("online", this.#online);
    this.#connect();
  }

  /**
   * Stops in order: what is recorded is sent, then the connection is closed, then "idle"
   * comes with these words. A second call does not wait.
   */
  stop(words = "Stopped.") {
    if (this.state === "idle" || this.state === "failed") return;
    const recorder = this.#recorder;
    if (!recorder || !this.#link?.isOpen || this.state === "stopping") {
      this.#finish("idle", words);
      return;
    }
    this.#lastWords = words;
    this.#become("stopping", "Sending the rest …");
    if (recorder.state !== "inactive") recorder.stop(); // else its tracks have ended, and it is about to say so
  }

  /** {bytes, seconds} that the network has not taken, and the bounds {maxBytes, maxSeconds}. */
  get backlog() {
    if (!this.#backlog) return { bytes: 0, seconds: 0, full: false, maxSeconds: this.#settings.backlogSeconds, maxBytes: undefined };
    const { maxSeconds, maxBytes } = this.#backlog;
    return { ...this.#backlog.look(this.#unread + (this.#link?.waiting ?? 0), performance.now()), maxSeconds, maxBytes };
  }

  /** Seconds since this connection is on air, 0 when it is not. */
  get secondsOnAir() {
    return this.#liveSince > 0 ? (performance.now() - this.#liveSince) / 1000 : 0;
  }

  #connect() {
    this.#become("connecting", `Connecting to ${this.#settings.address.host} …`);
    let link;
    try {
      link = connect(this.#settings.address, "publish", takeFrame());
    } catch (error) {
      this.#finish("failed", error.message, "bad");
      return;
    }
    this.#link = link;
    link.addEventListener("open", () => this.#record(link));
    link.addEventListener("close", (event) => {
      if (this.#link === link) this.#lost(event.detail);
    });
  }

  #record(link) {
    const { stream, format, slice, bitsPerSecond, keySeconds, backlogSeconds } = this.#settings;
    this.#backlog = new Backlog(backlogSeconds, bitsPerSecond);
    this.#order = Promise.resolve();
    this.#unread = 0;
    let recorder;
    try {
      recorder = new MediaRecorder(stream, {
        mimeType: format,
        videoBitsPerSecond: bitsPerSecond,
        ...(keySeconds && { videoKeyFrameIntervalDuration: keySeconds * 1000 }),
      });
      recorder.addEventListener("dataavailable", (event) => this.#take(event.data, recorder, link));
      recorder.addEventListener("stop", () => this.#order.then(() => {
        if (recorder === this.#recorder) this.#finish("idle", this.#lastWords ?? "The source ended.");
      }));
      recorder.addEventListener("error", (event) => {
        if (recorder === this.#recorder) this.#finish("failed", `The recorder failed: ${event.error?.message ?? "it gives no reason"}.`, "bad");
      });
      recorder.start(slice);
    } catch (error) {
      this.#finish("failed", `The recorder cannot start: ${error.message}.`, "bad");
      return;
    }
    this.#recorder = recorder;
    this.runs++;
    this.#wasLive = true;
    this.#liveSince = performance.now();
    this.#watch = setInterval(() => this.#pace(), 100);
    this.#become("live", "On air.", "good");
  }

  // What a recorder brings that is not the one of now is dropped.
  #take(blob, recorder, link) {
    if (blob.size === 0 || recorder !== this.#recorder) return;
    this.type = recorder.mimeType || this.#settings.format;
    this.#unread += blob.size;
    this.#backlog.add(blob.size, performance.now());
    this.#order = this.#order.then(() => this.#send(blob, recorder, link)).catch((error) => {
      if (recorder === this.#recorder) this.#finish("failed", `What was recorded cannot be read: ${error.message}.`, "bad");
    });
  }

  async #send(blob, recorder, link) {
    const packet = await blob.arrayBuffer();
    if (recorder !== this.#recorder) return;
    this.#unread -= packet.byteLength;
    if (!link.send(packet)) return;
    this.bytes += packet.byteLength;
    this.packets++;
  }

  // Fresh beats stale: what waits for too long is dropped, and the stream begins anew.
  #pace() {
    const { bytes, seconds, full } = this.backlog;
    if (performance.now() - this.#liveSince > SOUND_MS) this.#attempt = 0;
    if (!full || this.state !== "live") return;
    const link = this.#link;
    this.#link = undefined;
    link.cut();
    this.#dropRecorder();
    this.#later(`The network does not take what is recorded: ${seconds.toFixed(1)} s of it (${Math.round(bytes / 1000)} kB) were waiting and are dropped. A lower bit rate may help.`);
  }

  #lost({ code, words, retry, opened }) {
    const rest = this.state === "stopping";
    this.#link = undefined;
    this.#dropRecorder();
    if (rest) {
      this.#finish("idle", "Stopped, but the connection was lost before the rest was sent.", "warn");
    } else if (code === 1000 && opened) {
      this.#finish("failed", "The server ended the stream.", "bad", code);
    } else if (opened ? retry : this.#wasLive) {
      this.#later(words, code);
    } else {
      this.#finish("failed", words, "bad", code);
    }
  }

  #later(words, code) {
    const delay = pause(this.#attempt++);
    this.#become("waiting", `${words} Connecting again in ${Math.ceil(delay / 1000)} s.`, "warn", code);
    this.#retry = setTimeout(() => this.#connect(), delay);
  }

  #retryNow() {
    if (this.state !== "waiting") return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  #dropRecorder() {
    const recorder = this.#recorder;
    this.#recorder = this.#backlog = undefined;
    this.#liveSince = 0;
    this.#unread = 0;
    clearInterval(this.#watch);
    if (recorder && recorder.state !== "inactive") recorder.stop();
  }

  #finish(state, words, tone = "plain", code = undefined) {
    removeEventListener("online", this.#online);
    clearTimeout(this.#retry);
    const link = this.#link;
    this.#link = undefined;
    this.#dropRecorder();
    link?.close();
    this.#become(state, words, tone, code);
  }

  #become(state, words, tone = "plain", code = undefined) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, words, tone, code } }));
  }
}
