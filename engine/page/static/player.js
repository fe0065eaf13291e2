// From packets to pictures: Media Source Extensions.

import { sniff } from "./media.js";

const HEAD_BYTES = 1 << 20; // by then the codecs must be known
const QUEUE_BYTES = 512 << 20; // packets that wait for room in the buffer
const APPEND_BYTES = 512 << 10; // small packets are appended together up to this
const KEEP_SECONDS = 30; // what stays behind the playhead
const TRIM_STEP_SECONDS = 10; // and how much more than that is trimmed at once
const TICK_MS = 250;

const MediaSourceType = globalThis.MediaSource ?? globalThis.ManagedMediaSource;

/** Whether this browser can play a stream of bytes at all. */
export const canPlay = MediaSourceType !== undefined;

/**
 * Plays one stream, from its first packet to its end, in a video element. For
 * another stream make another Player.
 *
 * Events: "type" (detail: MIME type) once it is known; "jump" (detail: seconds)
 * when it skipped to the live edge or over a gap; "problem" (detail: words),
 * after which the player is dead; "blocked" when the browser wants a click
 * before it plays.
 */
export class Player extends EventTarget {
  #video;
  #source; // MediaSource, once the type is known
  #buffer; // SourceBuffer, once the source is open
  #queue = []; // Uint8Arrays not yet appended, oldest first
  #queued = 0; // their bytes
  #head = new Uint8Array(64 << 10); // the beginning, while the type is unknown
  #headLength = 0;
  #started = false;
  #ending = false;
  #dead = false;
  #full = false; // the browser's buffer is full and nothing can be removed yet
  #timer;
  #onVideoError = () => this.#fail(`The browser cannot play this stream: ${this.#video.error?.message || "no reason given"}.`);

  /** Seconds behind the live edge that are tolerated; 0 never jumps. */
  maxBehind;
  mime = "";

  constructor(video, { maxBehind }) {
    super();
    this.#video = video;
    this.maxBehind = maxBehind;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    video.addEventListener("error", this.#onVideoError);
  }

  /** Takes one packet; the player owns its bytes from now on. */
  push(packet) {
    if (this.#dead || packet.byteLength === 0) return;
    if (!this.mime) {
      this.#gather(new Uint8Array(packet));
      return;
    }
    this.#queue.push(new Uint8Array(packet));
    this.#queued += packet.byteLength;
    if (this.#queued > QUEUE_BYTES) {
      this.#fail("Far more arrives than is played; the player gave up.");
      return;
    }
    this.#pump();
  }

  /** No further packet comes: play what is there, then stop. */
  end() {
    this.#ending = true;
    this.#pump();
  }

  /** Lets go of the video element. */
  destroy() {
    if (!this.#dead) this.#die();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  get stats() {
    const video = this.#video;
    const ranges = video.buffered;
    const edge = ranges.length ? ranges.end(ranges.length - 1) : 0;
    const quality = video.getVideoPlaybackQuality?.();
    return {
      ahead: Math.max(0, edge - video.currentTime),
      held: ranges.length ? edge - ranges.start(0) : 0,
      queued: this.#queued + this.#headLength,
      pictures: quality?.totalVideoFrames ?? 0,
      dropped: quality?.droppedVideoFrames ?? 0,
      width: video.videoWidth,
      height: video.videoHeight,
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

    const head = this.#head.subarray(0, this.#headLength);
    const found = sniff(head);
    if (found?.problem) {
      this.#fail(found.problem);
    } else if (found) {
      this.#open(found.mime, head);
    } else if (this.#headLength > HEAD_BYTES) {
      this.#fail("The stream's codecs are not named in its first megabyte.");
    }
  }

  #open(mime, head) {
    if (!canPlay) {
      this.#fail("This browser has no Media Source Extensions, which playing needs.");
      return;
    }
    if (!MediaSourceType.isTypeSupported(mime)) {
      this.#fail(`This browser does not play ${mime}.`);
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
          this.#fail(`The browser refuses ${mime}: ${error.message}.`);
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
        this.#fail(`The browser refuses the stream: ${this.#video.error?.message || error.message}.`);
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
    if (this.maxBehind > 0) {
      this.#jump(this.#edge() - 1);
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

  // Starts at the first position there is, hops over gaps, and returns to the
  // live edge when too far behind it. A viewer who paused is left alone.
  #follow() {
    const video = this.#video;
    const ranges = video.buffered;
    if (!ranges.length) return;
    if (!this.#started) {
      this.#started = true;
      if (video.currentTime < ranges.start(0)) video.currentTime = ranges.start(0);
      this.#play();
      return;
    }
    if (video.paused || video.ended) return;
    // The range the playhead is in, or else the next one after it.
    let next = 0;
    while (next < ranges.length && video.currentTime >= ranges.end(next) - 0.1) next++;
    const inside = next < ranges.length && video.currentTime >= ranges.start(next);
    // A seek to where there is something will come to its end. One to what the
    // browser has thrown away since never would.
    if (video.seeking && inside) return;
    const edge = this.#edge();
    if (this.maxBehind > 0 && edge - video.currentTime > this.maxBehind && !this.#ending) {
      this.#jump(edge - this.maxBehind / 3);
    } else if (!inside && next < ranges.length) {
      this.#jump(ranges.start(next) + 0.01);
    }
  }

  #jump(to) {
    const from = this.#video.currentTime;
    if (to <= from) return;
    this.#video.currentTime = to;
    this.dispatchEvent(new CustomEvent("jump", { detail: to - from }));
  }

  #play() {
    this.#video.play().catch((error) => {
      if (error.name === "NotAllowedError" && !this.#dead) this.dispatchEvent(new Event("blocked"));
    });
  }

  // --- the end ---

  #fail(words) {
    if (this.#dead) return;
    this.#die();
    this.dispatchEvent(new CustomEvent("problem", { detail: words }));
  }

  #die() {
    this.#dead = true;
    clearInterval(this.#timer);
    this.#video.removeEventListener("error", this.#onVideoError);
    this.#queue = [];
    this.#queued = 0;
    this.#head = new Uint8Array();
    this.#headLength = 0;
  }
}
