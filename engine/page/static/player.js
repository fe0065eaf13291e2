// The player: one channel of a ws-stream-server in a <video> element. Pages of other
// sites may import it; it needs its siblings link.js, feed.js, chase.js, media.js and
// splitter.js, which the same server has. Nothing else is fetched.
//
//     <video id="v" muted playsinline></video>
//     <script type="module">
//       import { Player } from "https://media.example.org/client/player.js";
//       const player = new Player(document.getElementById("v"), {
//         url: "wss://media.example.org/CHANNEL/KEY/receive",
//       });
//       player.addEventListener("state", (event) => console.log(event.detail.state, event.detail.words));
//       player.addEventListener("error", (event) => console.error(event.detail.words));
//       player.start();
//     </script>
//
// It finds out by itself what the stream is (WebM or fragmented MP4), starts without
// sound where the browser demands it, keeps near the live edge, starts over when the
// publisher does, and connects again as the server's close codes say.

import { LATENCIES } from "./chase.js";
import { Feed, canPlay } from "./feed.js";
import { Link, retryDelay } from "./link.js";
import { Splitter } from "./splitter.js";

export { LATENCIES, canPlay };

/** What a receiver can ask a server to begin with. */
export const STARTS = ["full", "keyframe", "live"];

const STATS_MS = 500;
const GOOD_MS = 5000; // a connection that held so long begins a new row of tries
const QUEUE_BYTES = 512 << 20;
const STALL_SECONDS = 0.5; // what each stall adds to the delay, for the network is not even
const STALLS_SECONDS = 3; // and all of them at most

/**
 * Plays one channel.
 *
 * Options, with their defaults:
 * - url: ws(s)://HOST:PORT/CHANNEL/KEY/receive; needed, here or for start();
 * - latency: "normal", or "low", "smooth", "all" (play everything, never jump), or
 *   {target, far} in seconds behind the live edge: aimed at, and jumped from. Each stall
 *   adds half a second to both, three at most;
 * - start: what to begin with, of a stream that began before: "full" (the server's whole
 *   cache), "keyframe" (the newest key frame that it has) or "live" (the next one). By
 *   default, and for any other word, the server decides;
 * - reconnect: true; false ends at the first close;
 * - queueBytes: 512 MiB; what may wait for room in the browser's buffer. A server hands
 *   a newcomer its whole cache at once, so it should be above GOP_CACHE_SIZE_MB.
 *
 * Events, each a CustomEvent:
 * - "state", detail {state, words, tone, code}: "connecting", "waiting" (connected, nothing
 *   came yet), "buffering", "playing", "paused", "blocked" (the browser wants a click: call
 *   play() of the video in it), "retrying", "ended", "failed", "idle". words say it to
 *   people; tone is "plain", "good", "warn" or "bad"; code is the last close code, if any;
 * - "stats", detail as the property stats has it, twice a second while there is a stream,
 *   or another one is waited for;
 * - "error", detail {words, commands}: it gave up. commands are lines for a shell that play
 *   the stream elsewhere, when it is of a format that browsers do not play;
 * - "type", detail the MIME type; "jump", detail the seconds that were skipped, to the live
 *   edge or over a part that the server left out; "restart"
 *   when the stream began anew.
 */
export class Player extends EventTarget {
  #video;
  #options;
  #url = "";
  #link; // the connection, while there is one
  #feed; // what plays; the old stream's until the new one's first packet
  #splitter;
  #fresh = false; // nothing came on this connection yet
  #begun = false; // the stream's first bytes are behind us
  #wanted = false; // between start and stop
  #state = "idle";
  #code; // of the last close
  #attempts = 0;
  #again = 0; // the timer of the next try
  #timer = 0; // of the statistics
  #counts = { bytes: 0, packets: 0, jumps: 0, skippedSeconds: 0, stalls: 0, stalledMs: 0, restarts: 0 };
  #rates = []; // {at, bytes} of the last seconds
  #extra = 0; // seconds more behind the live edge, after stalls
  #stalledAt = 0; // when it ran dry, 0 while it did not
  #off = new AbortController(); // of the listeners at the video

  constructor(video, options = {}) {
    super();
    this.#video = video;
    this.#options = { reconnect: true, queueBytes: QUEUE_BYTES, latency: "normal", ...options };
    this.#url = options.url ?? "";
    const on = (type, listener) => video.addEventListener(type, listener, { signal: this.#off.signal });
    on("playing", () => this.#plays());
    on("timeupdate", () => this.#stalledAt && !video.paused && video.readyState > 2 && this.#plays());
    on("waiting", () => this.#runsDry());
    on("pause", () => {
      if (this.#state === "playing" || this.#state === "buffering") this.#set("paused", "Paused.");
    });
  }

  /** The address of the stream. */
  get url() {
    return this.#url;
  }

  /** The state's word, as the event "state" has it. */
  get state() {
    return this.#state;
  }

  /** The stream's MIME type, "" while it is not known. */
  get mime() {
    return this.#feed?.mime ?? "";
  }

  /** Seconds behind the live edge that are aimed at; each stall adds to them. 0: none. */
  get target() {
    return this.#latency.target;
  }

  /** Connects, now to url if it is given. What is there is dropped. */
  start(url = this.#url) {
    this.#drop();
    this.#url = url;
    this.#wanted = true;
    this.#extra = 0;
    this.#attempts = 0;
    this.#code = undefined;
    if (!canPlay) {
      this.#giveUp({ problem: "This browser has no Media Source Extensions, which watching needs.", other: "" });
      return;
    }
    this.#timer = setInterval(() => this.#tell(), STATS_MS);
    this.#connect();
  }

  /** Ends the connection and empties the video. */
  stop() {
    this.#drop();
    this.#set("idle", "Stopped.");
  }

  /** Lets go of everything; the player cannot be used again. */
  destroy() {
    this.#drop();
    this.#off.abort();
  }

  /** Another latency, as the option has it; it holds at once. */
  setLatency(latency) {
    this.#options.latency = latency;
    if (this.#feed) this.#feed.latency = this.#latency;
  }

  /** Another start, as the option has it, from the next connection on. */
  setStart(start) {
    this.#options.start = start;
  }

  /** Whether to connect again by itself from now on. */
  setReconnect(reconnect) {
    this.#options.reconnect = reconnect;
  }

  /** Plays at the live edge, whatever was skipped or paused. */
  toLive() {
    this.#feed?.toLive();
    if (this.#video.paused) this.#video.play().catch(() => {});
  }

  /**
   * What was received since start and what is there now: bytes, packets, bitsPerSecond over
   * the last 3 s, jumps and skippedSeconds (how often and how far it jumped ahead), restarts,
   * stalls and stalledSeconds (how often and how long it ran dry), mime, and what Feed's stats are: ahead, behind, held (seconds), queued (bytes),
   * pictures, dropped, width, height, rate.
   */
  get stats() {
    const { stalledMs, ...counts } = this.#counts;
    const running = this.#stalledAt ? performance.now() - this.#stalledAt : 0;
    return {
      ...counts,
      stalledSeconds: (stalledMs + running) / 1000,
      bitsPerSecond: this.#bitsPerSecond(),
      mime: this.mime,
      ...(this.#feed?.stats ?? { ahead: 0, behind: 0, held: 0, queued: 0, pictures: 0, dropped: 0, width: 0, height: 0, rate: 1 }),
    };
  }

  // --- the connection ---

  #connect() {
    if (this.#code === undefined) this.#set("connecting", "Connecting …");
    let link;
    try {
      link = new Link(this.#address, "receive");
    } catch (error) {
      const mixed = location.protocol === "https:" && this.#url.startsWith("ws:");
      this.#giveUp({ problem: mixed ? "A page that was loaded over https may only use wss://." : `The browser refuses the address: ${error.message}.` });
      return;
    }
    this.#link = link;
    this.#fresh = true;
    let since = 0;
    link.addEventListener("open", () => {
      since = performance.now();
      this.#set("waiting", this.#code === 1000 ? "The stream ended. Waiting for the next one." : "Connected; waiting for the first packet.");
    });
    link.addEventListener("packet", (event) => this.#take(new Uint8Array(event.detail)));
    link.addEventListener("close", (event) => {
      if (this.#link !== link) return; // a stop, a new start, or a stream that cannot be played
      this.#link = undefined;
      if (since && !this.#fresh && performance.now() - since > GOOD_MS) this.#attempts = 0;
      this.#closed(event.detail);
    });
  }

  get #address() {
    const { start } = this.#options;
    if (!STARTS.includes(start)) return this.#url;
    const address = new URL(this.#url, location.href);
    address.searchParams.set("start", start);
    return address.href;
  }

  #closed(close) {
    this.#code = close.code;
    this.#feed?.end();
    const delay = this.#options.reconnect ? retryDelay(close, this.#attempts) : undefined;
    const ended = close.code === 1000 && close.retry;
    if (delay === undefined) {
      this.#wanted = false;
      if (ended) {
        this.#set("ended", close.words);
      } else {
        this.#set("failed", close.words, "bad");
        this.#emit("error", { words: close.words, commands: [] });
      }
      this.#tell();
      return;
    }
    // A stream that ended is no attempt that failed, unless there was none.
    if (!ended || this.#fresh) this.#attempts++;
    if (ended) this.#set("ended", `${close.words} Waiting for the next one.`);
    else this.#set("retrying", delay < 1000 ? `${close.words} Connecting again …` : `${close.words} Connecting again in ${Math.ceil(delay / 1000)} s.`, "warn");
    this.#again = setTimeout(() => this.#connect(), delay);
  }

  // --- the stream ---

  #take(bytes) {
    if (this.#fresh) {
      this.#fresh = this.#begun = false;
      this.#splitter = new Splitter();
      this.#newFeed();
      if (this.#feed.held) this.#set("paused", "Paused.");
      else this.#set("buffering", "Receiving.");
    }
    this.#counts.bytes += bytes.length;
    this.#counts.packets++;
    for (const piece of this.#splitter.push(bytes)) {
      if (piece.begins && this.#begun) {
        this.#counts.restarts++;
        this.#newFeed();
        this.#emit("restart");
      }
      this.#begun = true;
      this.#feed.push(piece.bytes);
      if (!this.#wanted) return; // it cannot be played
    }
  }

  // Somebody who paused is left alone, whatever begins anew.
  #newFeed() {
    const held = this.#feed?.paused;
    this.#feed?.destroy();
    this.#endStall();
    const feed = new Feed(this.#video, { latency: this.#latency, queueBytes: this.#options.queueBytes, held });
    this.#feed = feed;
    feed.addEventListener("type", (event) => this.#emit("type", event.detail));
    feed.addEventListener("jump", (event) => {
      this.#counts.jumps++;
      this.#counts.skippedSeconds += event.detail;
      this.#emit("jump", event.detail);
    });
    feed.addEventListener("blocked", () => this.#set("blocked", "The browser wants a click before it plays.", "warn"));
    feed.addEventListener("problem", (event) => {
      if (this.#feed === feed) this.#giveUp(event.detail);
    });
  }

  get #latency() {
    const { latency } = this.#options;
    const { target, far } = typeof latency === "string" ? LATENCIES[Object.hasOwn(LATENCIES, latency) ? latency : "normal"] : latency;
    return { target: target && target + this.#extra, far: far && far + this.#extra };
  }

  #giveUp({ problem, other }) {
    this.#wanted = false;
    const link = this.#link;
    this.#link = undefined;
    link?.close();
    const commands = other === undefined ? [] : elsewhere(this.#url, other);
    this.#set("failed", commands.length ? `${problem} Other players do.` : problem, "bad");
    this.#emit("error", { words: problem, commands });
  }

  #drop() {
    clearTimeout(this.#again);
    clearInterval(this.#timer);
    this.#wanted = false;
    const link = this.#link;
    this.#link = undefined;
    link?.close();
    this.#feed?.destroy();
    this.#feed = undefined;
    this.#stalledAt = 0;
    this.#rates = [];
    this.#counts = { bytes: 0, packets: 0, jumps: 0, skippedSeconds: 0, stalls: 0, stalledMs: 0, restarts: 0 };
  }

  // --- what the video does ---

  #plays() {
    this.#endStall();
    if (this.#link && !this.#fresh) this.#set("playing", "Playing.", "good");
  }

  // Running dry counts as a stall when it played before, nobody asked for the pause, and
  // it is not only that a part of the stream was left out.
  #runsDry() {
    if (this.#feed?.leaveGap() || this.#state !== "playing" || this.#video.seeking || this.#video.ended) return;
    this.#counts.stalls++;
    this.#stalledAt = performance.now();
    this.#extra = Math.min(STALLS_SECONDS, this.#extra + STALL_SECONDS);
    this.#feed.latency = this.#latency;
    this.#set("buffering", "Waiting for more.");
  }

  #endStall() {
    if (!this.#stalledAt) return;
    this.#counts.stalledMs += performance.now() - this.#stalledAt;
    this.#stalledAt = 0;
  }

  // --- telling ---

  #bitsPerSecond() {
    const first = this.#rates[0];
    const last = this.#rates.at(-1);
    return last && last.at > first.at ? ((last.bytes - first.bytes) * 8000) / (last.at - first.at) : 0;
  }

  // At the end once more, when it gave up, or what had come is played.
  #tell() {
    if (!this.#wanted && (this.#state === "failed" || !this.mime || this.#video.ended)) clearInterval(this.#timer);
    if (!this.#feed) return;
    this.#rates.push({ at: performance.now(), bytes: this.#counts.bytes });
    if (this.#rates.length > 7) this.#rates.shift();
    this.#emit("stats", this.stats);
  }

  #set(state, words, tone = "plain") {
    this.#state = state;
    this.#emit("state", { state, words, tone, code: this.#code });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// elsewhere returns commands that play the stream outside of a browser, and what does in
// a page for the formats that have a player of their own.
function elsewhere(url, other) {
  const plain = url.replace(/^ws/, "http");
  const commands = [`ffplay -fflags nobuffer ${plain}`, `mpv --profile=low-latency ${plain}`];
  if (other === "MPEG-TS" || other === "FLV") {
    const type = other === "FLV" ? "flv" : "mpegts";
    commands.push(`mpegts.createPlayer({ type: "${type}", isLive: true, url: "${url}${url.includes("?") ? "&" : "?"}heartbeat=ping" })  // mpegts.js, in a page`);
  }
  return commands;
}
