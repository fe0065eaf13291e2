// From a media stream to packets: MediaRecorder, and the order and pace in
// which what it records goes out.

// More than this waiting for the network: the recorder pauses, so the delay
// stays bounded and the stream stays whole. Less than RESUME: it goes on.
const PAUSE_BYTES = 4 << 20;
const RESUME_BYTES = 1 << 20;
// Packets that are recorded but not yet sent, when pausing did not help.
const GIVE_UP_BYTES = 64 << 20;

const KEY_PICTURE_MS = 2000; // how soon a late receiver can start

const FORMATS = [
  { mime: "video/webm;codecs=vp8,opus", name: "WebM VP8" },
  { mime: "video/webm;codecs=vp9,opus", name: "WebM VP9" },
  { mime: "video/webm;codecs=av1,opus", name: "WebM AV1" },
  { mime: "video/webm", name: "WebM" },
  { mime: "video/mp4;codecs=avc1.42E01E,mp4a.40.2", name: "MP4 H.264" },
  { mime: "video/mp4;codecs=vp9,opus", name: "MP4 VP9" },
  { mime: "video/mp4", name: "MP4" },
];

/** The recording formats of this browser, best first; empty when it records nothing. */
export function recordingFormats() {
  if (typeof MediaRecorder === "undefined") return [];
  return FORMATS.filter((format) => MediaRecorder.isTypeSupported(format.mime));
}

/**
 * Records a stream and sends it over an open link, one packet a timeslice.
 *
 * Events: "pause" and "resume" when the network holds the recorder
 * back; "problem" (detail: words), after which it has stopped; "stop".
 */
export class Publisher extends EventTarget {
  #link;
  #recorder;
  #timeslice;
  #order = Promise.resolve(); // each packet is sent after the one before it
  #recorded = 0; // bytes recorded and not yet handed to the link
  #stopped = false; // nothing more is sent
  #ended = false; // the recorder has stopped
  #timer = 0;

  bytes = 0;
  packets = 0;

  constructor({ link, stream, format, timeslice, bitsPerSecond }) {
    super();
    this.#link = link;
    this.#timeslice = timeslice;
    this.#recorder = new MediaRecorder(stream, {
      mimeType: format,
      videoBitsPerSecond: bitsPerSecond,
      videoKeyFrameIntervalDuration: KEY_PICTURE_MS,
    });
    this.#recorder.addEventListener("dataavailable", (event) => this.#take(event.data));
    this.#recorder.addEventListener("error", (event) => this.#problem(`The recorder failed: ${event.error?.message ?? "no reason given"}.`));
    this.#recorder.addEventListener("stop", () => this.#end());
  }

  start() {
    this.#recorder.start(this.#timeslice);
    this.#timer = setInterval(() => this.#pace(), 100);
  }

  /** Stops recording; what is recorded is still sent, then "stop" comes. */
  stop() {
    if (this.#recorder.state === "inactive") this.#end();
    else this.#recorder.stop();
  }

  get format() {
    return this.#recorder.mimeType;
  }

  /** Bytes recorded that the network has not taken. */
  get waiting() {
    return this.#recorded + this.#link.waiting;
  }

  get paused() {
    return this.#recorder.state === "paused";
  }

  #take(blob) {
    if (blob.size === 0 || this.#stopped) return;
    this.#recorded += blob.size;
    this.#order = this.#order.then(async () => {
      try {
        const packet = await blob.arrayBuffer();
        if (!this.#stopped && this.#link.send(packet)) {
          this.bytes += packet.byteLength;
          this.packets++;
        }
      } catch (error) {
        this.#problem(`A packet could not be read: ${error.message}.`);
      } finally {
        this.#recorded -= blob.size;
      }
    });
    this.#pace();
  }

  #pace() {
    const waiting = this.waiting;
    if (waiting > GIVE_UP_BYTES) {
      this.#problem("The network takes far less than is recorded. Choose a lower bitrate.");
    } else if (waiting > PAUSE_BYTES && this.#recorder.state === "recording") {
      this.#recorder.pause();
      this.dispatchEvent(new Event("pause"));
    } else if (waiting < RESUME_BYTES && this.#recorder.state === "paused") {
      this.#recorder.resume();
      this.dispatchEvent(new Event("resume"));
    }
  }

  #problem(words) {
    if (this.#stopped) return;
    this.#stopped = true;
    this.dispatchEvent(new CustomEvent("problem", { detail: words }));
    this.stop();
  }

  #end() {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    // The last packet is recorded just before "stop"; let it out first.
    this.#order.then(() => {
      this.#stopped = true;
      this.dispatchEvent(new Event("stop"));
    });
  }
}
