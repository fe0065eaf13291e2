// From the bytes of one stream to pictures: Media Source Extensions.

import { before, chase, place, playable } from "./chase.js";
import { sniff } from "./media.js";

const HEAD_BYTES = 1 << 20; // by then the codecs must be known
const HEAD_GROWTH = 1 / 16; // with so much more it is looked at again: it may come byte by byte
const APPEND_BYTES = 512 << 10; // small pieces are appended together up to this
const KEEP_SECONDS = 30; // what stays behind the playhead
const TRIM_STEP_SECONDS = 10; // and how much more than that is trimmed at once
const TICK_MS = 250;
const SOON_MS = 10;
const GAP_SLACK = 0.1; // seconds before a gap that are given up: no clock stops exactly there
const DRY_SLACK = 0.5; // the same when the browser says that it has nothing to play
const GAP_STEP = 0.01; // seconds behind a gap's end, for what browsers round
const SILENCE_SECONDS = 10; // without new pictures the live edge is thought to run on so long

// Safari on iPhones has the managed kind only.
const MediaSourceType = globalThis.MediaSource ?? globalThis.ManagedMediaSource;

/** Whether this browser can play a stream of bytes at all. */
export const canPlay = MediaSourceType !== undefined;

/**
 * Plays one stream, from an init segment to its end, in a video element. For another
 * stream make another Feed.
 *
 * Events: "type" (detail: MIME type) once it is known; "jump" (detail: seconds) when it
 * skipped to the live edge or over a gap; "problem" (detail: {problem, other} as sniff
 * returns them), after which the feed is dead; "blocked" when the browser wants a click
 * before it plays.
 */
export class Feed extends EventTarget {
  #video;
  #source; // MediaSource, once the type is known
  #buffer; // SourceBuffer, once the source is open
  #queueBytes; // what may wait for room in the buffer
  #queue = []; // Uint8Arrays not yet appended, oldest first
  #queued = 0; // their bytes
  #head = new Uint8Array(64 << 10); // the beginning, while the type is unknown
  #headLength = 0;
  #sniffFrom = 0; // bytes of it that are worth a look
  #started = false;
  #ending = false;
  #dead = false;
  #full = false; // the browser's buffer is full and nothing can be removed yet
  #rate = 1; // the speed that we set; another one is the user's choice
  #edgeAt = 0; // when the newest picture came, in ms
  #lastEdge = 0;
  #timer;
  #gapTimer = 0; // when the playhead will have come to a gap
  #onVideoError = () => this.#fail({ problem: `The browser cannot play this stream: ${this.#video.error?.message || "no reason given"}.` });

  /** It does not begin to play by itself. */
  held;
  /** {target, far} as chase takes them. */
  latency;
  mime = "";

  constructor(video, { latency, queueBytes, held = false }) {
    super();
    this.#video = video;
    this.#queueBytes = queueBytes;
    this.latency = latency;
    this.held = held;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    video.addEventListener("error", this.#onVideoError);
  }

  /** Takes bytes in order; the feed owns them from now on. */
  push(bytes) {
    if (this.#dead) return;
    if (!this.mime) {
      this.#gather(bytes);
      return;
    }
    this.#queue.push(bytes);
    this.#queued += bytes.length;
    if (this.#queued > this.#queueBytes) {
      this.#fail({ problem: "Far more arrives than is played; the player gave up." });
      return;
    }
    this.#pump();
  }

  /** No further bytes come: play what is there, then stop. */
  end() {
    this.#ending = true;
    this.#pump();
  }

  /** Somebody has paused it: it was begun and neither runs nor is over; or it was held. */
  get paused() {
    return this.#video.paused && !this.#video.ended && (this.#started || this.held);
  }

  /** Lets go of the video element. */
  destroy() {
    if (!this.#dead) this.#die();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  /** Goes to the live edge. */
  toLive() {
    if (this.#buffer) this.#jump(before(this.#video.buffered, this.latency.target || 0.5));
  }

  /** The browser has nothing to play. True when that was a gap, which is behind the playhead now. */
  leaveGap() {
    return !this.#dead && this.#started && this.#follow();
  }

  /**
   * What is there now: ahead, seconds that can be played, without gaps; behind, seconds
   * from the playhead to where live is by now; held, seconds in the browser's buffer,
   * without gaps; queued, bytes that wait for it; pictures and dropped ones since the
   * beginning; the size of the picture; rate, the speed.
   */
  get stats() {
    const video = this.#video;
    const ranges = video.buffered;
    const quality = video.getVideoPlaybackQuality?.();
    const sinceEdge = this.#edgeAt && !this.#ending ? (performance.now() - this.#edgeAt) / 1000 : 0;
    return {
      ahead: playable(ranges, video.currentTime),
      behind: ranges.length ? Math.max(0, this.#edge() - video.currentTime) + Math.min(sinceEdge, SILENCE_SECONDS) : 0,
      held: playable(ranges, 0),
      queued: this.#queued + this.#headLength,
      pictures: quality?.totalVideoFrames ?? 0,
      dropped: quality?.droppedVideoFrames ?? 0,
      width: video.videoWidth,
      height: video.videoHeight,
      rate: video.playbackRate,
    };
  }

  // --- before the type is known ---

  #gather(bytes) {
    if (this.#headLength + bytes.length > this.#head.length) {
      const larger = new Uint8Array(2 * (this.#headLength + bytes.length));
      larger.set(this.#head.subarray(0, this.#headLength));
      this.#head = larger;
    }
    this.#head.set(bytes, this.#headLength);
    this.#headLength += bytes.length;

    if (this.#headLength < this.#sniffFrom) return;
    this.#sniffFrom = this.#headLength * (1 + HEAD_GROWTH);
    const head = this.#head.subarray(0, this.#headLength);
    const found = sniff(head);
    if (found?.problem) {
      this.#fail(found);
    } else if (found) {
      this.#open(found.mime, head);
    } else if (this.#headLength > HEAD_BYTES) {
      this.#fail({ problem: "The stream's codecs are not named in its first megabyte." });
    }
  }

  #open(mime, head) {
    if (!canPlay) {
      this.#fail({ problem: "This browser has no Media Source Extensions, which playing needs.", other: mime });
      return;
    }
    if (!MediaSourceType.isTypeSupported(mime)) {
      this.#fail({ problem: `This browser does not play ${mime}.`, other: mime });
      return;
    }
    this.mime = mime;
    this.#queue.push(head);
    this.#queued = head.length;
    this.#head = new Uint8Array();
    this.#headLength = 0;
    this.dispatchEvent(new CustomEvent("type", { detail: mime }));

    this.#source = new MediaSourceType();
    const url = URL.createObjectURL(this.#source);
    this.#source.addEventListener(
      "sourceopen",
      () => {
        URL.revokeObjectURL(url);
        if (this.#dead) return;
        try {
          this.#buffer = this.#source.addSourceBuffer(mime);
        } catch (error) {
          this.#fail({ problem: `The browser refuses ${mime}: ${error.message}.`, other: mime });
          return;
        }
        this.#buffer.addEventListener("updateend", () => this.#updated());
        this.#pump();
      },
      { once: true },
    );
    this.#video.disableRemotePlayback = true; // ManagedMediaSource asks for it
    this.#video.src = url;
  }

  // --- bytes into the buffer: one operation at a time, the next on updateend ---

  #updated() {
    if (this.#dead) return;
    this.#noteEdge();
    this.#follow();
    this.#pump();
  }

  #pump() {
    if (this.#dead || !this.#buffer || this.#buffer.updating || this.#source.readyState !== "open") return;
    if (this.#full || this.#trim(KEEP_SECONDS, TRIM_STEP_SECONDS)) return;
    const piece = this.#take();
    if (!piece) {
      if (this.#ending) this.#source.endOfStream();
      return;
    }
    try {
      this.#buffer.appendBuffer(piece);
    } catch (error) {
      if (error.name === "QuotaExceededError") {
        this.#putBack(piece);
        this.#makeRoom();
      } else {
        this.#fail({ problem: `The browser refuses the stream: ${this.#video.error?.message || error.message}.` });
      }
    }
  }

  #take() {
    let count = 0;
    let size = 0;
    while (count < this.#queue.length && (count === 0 || size + this.#queue[count].length <= APPEND_BYTES)) {
      size += this.#queue[count++].length;
    }
    if (count === 0) return undefined;
    const pieces = this.#queue.splice(0, count);
    this.#queued -= size;
    if (count === 1) return pieces[0];
    const joined = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
      joined.set(piece, at);
      at += piece.length;
    }
    return joined;
  }

  #putBack(piece) {
    this.#queue.unshift(piece);
    this.#queued += piece.length;
  }

  // Removes what lies more than keep seconds behind the playhead, if that is
  // more than step seconds. True when a removal has begun.
  #trim(keep, step) {
    const ranges = this.#buffer.buffered;
    if (!ranges.length) return false;
    const until = this.#video.currentTime - keep;
    if (until - ranges.start(0) <= step) return false;
    this.#buffer.remove(0, until);
    return true;
  }

  // The browser's buffer is full: remove more behind the playhead; failing that,
  // jump forward when live, or wait until something has been played.
  #makeRoom() {
    if (this.#trim(5, 1)) return;
    if (this.latency.far > 0) {
      this.#jump(before(this.#video.buffered, 1));
      if (this.#trim(1, 0)) return;
    }
    this.#full = true; // the next tick tries again
  }

  // --- the playhead ---

  #tick() {
    if (this.#dead || !this.#buffer) return;
    this.#follow();
    this.#full = false;
    this.#pump();
  }

  #edge() {
    const ranges = this.#video.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) : 0;
  }

  #noteEdge() {
    const edge = this.#edge();
    if (edge === this.#lastEdge) return;
    this.#lastEdge = edge;
    this.#edgeAt = performance.now();
  }

  // Starts at the first position there is, goes over gaps, and keeps near the live
  // edge. Somebody who paused is left alone. True when it jumped.
  #follow() {
    const video = this.#video;
    const ranges = video.buffered;
    if (!ranges.length) return false;
    if (!this.#started) {
      this.#started = true;
      if (video.currentTime < ranges.start(0)) video.currentTime = ranges.start(0);
      if (!this.held) this.#play();
      return false;
    }
    if (video.paused || video.ended) return false;
    const dry = !video.seeking && video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
    const { inside, left, next } = place(ranges, video.currentTime, dry ? DRY_SLACK : GAP_SLACK);
    // A seek to where there is something will come to its end. One to what the
    // browser has thrown away since never would.
    if (video.seeking && inside) return false;
    if (!this.#ending && this.#chase()) return true;
    if (next === undefined) return false;
    if (inside) {
      this.#followIn(left / video.playbackRate);
      return false;
    }
    return this.#jump(next + GAP_STEP);
  }

  // Looks again when the playhead has come to a gap, if that is before the next tick.
  #followIn(seconds) {
    clearTimeout(this.#gapTimer);
    const ms = Math.max(SOON_MS, seconds * 1000);
    if (ms < TICK_MS) this.#gapTimer = setTimeout(() => this.#dead || this.#follow(), ms);
  }

  // True when it jumped. A gap is no delay: what was left out need not be caught up with.
  #chase() {
    const video = this.#video;
    const ranges = video.buffered;
    const { rate, jump } = chase({ behind: playable(ranges, video.currentTime), rate: this.#rate, ...this.latency });
    if (video.playbackRate === this.#rate && rate !== this.#rate) {
      video.playbackRate = this.#rate = rate;
    }
    return jump !== undefined && this.#jump(before(ranges, jump));
  }

  #jump(to) {
    const from = this.#video.currentTime;
    if (to <= from) return false;
    this.#video.currentTime = to;
    this.dispatchEvent(new CustomEvent("jump", { detail: to - from }));
    return true;
  }

  #play() {
    this.#video.play().catch((error) => {
      if (error.name !== "NotAllowedError" || this.#dead) return;
      // Without sound it may start; one tap brings the sound.
      if (!this.#video.muted) {
        this.#video.muted = true;
        this.#play();
      } else {
        this.dispatchEvent(new Event("blocked"));
      }
    });
  }

  // --- the end ---

  #fail(found) {
    if (this.#dead) return;
    this.#die();
    this.dispatchEvent(new CustomEvent("problem", { detail: found }));
  }

  #die() {
    this.#dead = true;
    clearInterval(this.#timer);
    clearTimeout(this.#gapTimer);
    this.#video.removeEventListener("error", this.#onVideoError);
    this.#video.playbackRate = 1;
    this.#queue = [];
    this.#queued = 0;
    this.#head = new Uint8Array();
    this.#headLength = 0;
  }
}
