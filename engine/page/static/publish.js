// The Publish view: a camera, the screen, a file or the clock goes to a channel.

import { Rate, ViewState, byId, choice, el, icon, numbers, rateText, secondsText, show, sizeText } from "./dom.js";
import { choosesKeyPictures, recordingFormats, slices } from "./formats.js";
import { prepareFrame } from "./frame.js";
import { Plot } from "./plot.js";
import { Publisher } from "./publisher.js";
import { SOURCES, openSource } from "./sources.js";

const SIZES = [["", "as the source"], ["320x180", "320 × 180"], ["640x360", "640 × 360"], ["1280x720", "1280 × 720"], ["1920x1080", "1920 × 1080"]];
const RATES = [["250000", "0.25 Mbit/s"], ["500000", "0.5 Mbit/s"], ["1000000", "1 Mbit/s"], ["2500000", "2.5 Mbit/s"], ["5000000", "5 Mbit/s"], ["10000000", "10 Mbit/s"]];
const PICTURES = ["10", "15", "24", "30", "60"].map((fps) => [fps, `${fps} a second`]);
const SLICES = [["50", "50 ms"], ["100", "100 ms"], ["250", "250 ms"], ["500", "0.5 s"], ["1000", "1 s"]];
const KEYS = [["1", "every second"], ["2", "every 2 s"], ["4", "every 4 s"], ["10", "every 10 s"]];
const BACKLOGS = [["1", "1 s"], ["2", "2 s"], ["5", "5 s"], ["15", "15 s"]];

const MICROPHONE_SOURCES = new Set(["camera", "screen"]);

/** Fills the view's section; see main.js for what a view is. */
export function mount(root, context) {
  const view = new PublishView(root, context);
  return { start: () => view.start() };
}

class PublishView {
  #root;
  #context;
  #state;
  #publisher;
  #source;
  #address;
  #opening = 0; // counts what is opened, so that a stop makes it stale
  #rate = new Rate();
  #plots;
  #pictures = { seen: 0, at: 0 };
  #lock; // keeps the screen of a phone on

  constructor(root, context) {
    this.#root = root;
    this.#context = context;
    this.#state = new ViewState(root, "Publish", context.log);
    this.#state.set("idle", "Off air.", "plain", false);
    this.#build();
    this.#plots = {
      rate: new Plot(byId("publish-plot-rate"), { label: "Bit rate", format: rateText, color: "--plot-1" }),
      backlog: new Plot(byId("publish-plot-backlog"), { label: "Backlog", format: secondsText, color: "--plot-3", top: 0.5 }),
      pictures: new Plot(byId("publish-plot-pictures"), { label: "Pictures a second", format: (value) => value.toFixed(0), color: "--plot-2" }),
    };
    this.#wire();
    this.#chosen();
    prepareFrame();
    setInterval(() => this.#show(), 500);
  }

  // --- what stands in the view ---

  #build() {
    const formats = recordingFormats();
    const source = defaultSource();
    this.#root.append(
      el("div", { class: "split publish-split" },
        el("div", { class: "side" },
          el("div", { class: "card publish-stage" },
            el("div", { class: "screen" },
              el("video", { id: "publish-video", playsinline: true, "aria-label": "Preview" }),
              el("p", { class: "publish-empty" }, icon("air"), "The preview appears here."),
              el("span", { class: "pill publish-air" }, el("span", { class: "publish-dot" }), "ON AIR ", el("span", { id: "publish-time" }, "0:00"))),
            el("div", { class: "card-head publish-bar" },
              this.#state.line,
              el("div", { class: "row" },
                el("button", { type: "button", class: "button primary", id: "publish-start" }, icon("air"), "Go on air"),
                el("button", { type: "button", class: "button", id: "publish-stop", disabled: true }, icon("stop"), "Stop"),
                el("button", { type: "button", class: "button", id: "publish-mute", "aria-pressed": "false", disabled: true }, icon("sound"), "Sound on"))),
            el("div", { class: "publish-link", id: "publish-link-row", hidden: true },
              el("label", { for: "publish-link", class: "label" }, "Link to watch, with the key in it"),
              el("div", { class: "joined" },
                el("input", { id: "publish-link", readonly: true, spellcheck: "false" }),
                el("button", { type: "button", class: "button", id: "publish-copy" }, icon("link"), "Copy")))),
          el("div", { class: "card plots publish-plots" }, ...["rate", "backlog", "pictures"].map((name) => el("canvas", { id: `publish-plot-${name}` })))),
        el("div", { class: "side" },
          el("form", { class: "card publish-settings", id: "publish-settings" },
            el("fieldset", { class: "publish-sources", id: "publish-source" },
              el("legend", { class: "label" }, "Source"),
              ...SOURCES.map(([value, text]) =>
                el("label", { class: "publish-source", id: `publish-source-${value}` },
                  el("input", { type: "radio", name: "publish-source", value, checked: value === source }),
                  icon(value), el("span", {}, text)))),
            el("div", { class: "field publish-file", id: "publish-file-field", hidden: true },
              el("label", { for: "publish-file" }, "File"),
              el("input", { type: "file", id: "publish-file", accept: "video/*,audio/*,.mkv" }),
              el("label", { class: "check" }, el("input", { type: "checkbox", id: "publish-loop", checked: true }), "Begin again at its end")),
            el("div", { class: "options" },
              choice("publish-format", "Format", formats.map(({ record, name }) => [record, name]), formats[0]?.record),
              choice("publish-bitrate", "Bit rate of the picture", RATES, "2500000"),
              choice("publish-size", "Size", SIZES, "1280x720"),
              choice("publish-fps", "Pictures", PICTURES, "30"),
              choice("publish-timeslice", "One packet every", SLICES, "100"),
              choice("publish-key", "Key pictures", choosesKeyPictures() ? KEYS : [["", "as the browser likes"]], choosesKeyPictures() ? "2" : ""),
              choice("publish-backlog", "Drop a backlog of", BACKLOGS, "5")),
            el("p", { class: "soft publish-hint", id: "publish-hint" })),
          el("div", { class: "card publish-numbers" },
            numbers(["publish-bytes", "Sent"], ["publish-packets", "Packets"], ["publish-rate", "Bit rate"], ["publish-waiting", "Backlog"], ["publish-behind", "Waiting for"],
              ["publish-fps-now", "Pictures / s"], ["publish-dimensions", "Size"], ["publish-runs", "Recorders"], ["publish-type", "Type", true])))));
    if (formats.length === 0) {
      byId("publish-start").disabled = true;
      this.#state.set("failed", "This browser records nothing that it could also play, so it cannot publish.", "bad");
    }
  }

  #wire() {
    byId("publish-start").addEventListener("click", () => this.start());
    byId("publish-stop").addEventListener("click", () => this.#stop("Stopped."));
    byId("publish-mute").addEventListener("click", () => this.#mute());
    byId("publish-copy").addEventListener("click", () => this.#copy());
    byId("publish-link").addEventListener("focus", (event) => event.target.select());
    byId("publish-settings").addEventListener("change", () => this.#chosen());
    byId("publish-settings").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#keepAwake();
      else if (this.#publisher && this.#kind() === "clock") this.#context.log("Publish: browsers slow down hidden pages; the clock may stutter until this one is seen again.", "warn");
    });
    byId("publish-video").muted = true;
  }

  #kind() {
    return this.#root.querySelector('input[name="publish-source"]:checked').value;
  }

  // What is chosen decides what else can be.
  #chosen() {
    const kind = this.#kind();
    const format = byId("publish-format").value;
    byId("publish-file-field").hidden = kind !== "file";
    const hints = [];
    if (kind !== "clock" && kind !== "file" && !isSecureContext) {
      hints.push("This page was not loaded over https:// nor from localhost: browsers give it no camera and no screen.");
    }
    if (!slices(format)) hints.push("MP4 leaves most browsers only at key pictures: the shorter their interval, the less delay.");
    byId("publish-hint").textContent = hints.join(" ");
    byId("publish-hint").hidden = hints.length === 0;
  }

  #busy(busy) {
    byId("publish-start").disabled = busy;
    byId("publish-stop").disabled = !busy;
    byId("publish-mute").disabled = !busy;
    for (const field of byId("publish-settings").elements) field.disabled = busy;
  }

  // --- on air ---

  async start() {
    if (byId("publish-start").disabled) return;
    const address = this.#context.connection.checked();
    if (!address) return;
    const kind = this.#kind();
    const opening = ++this.#opening;
    this.#address = address;
    byId("publish-link-row").hidden = true;
    this.#busy(true);
    this.#state.set("opening", MICROPHONE_SOURCES.has(kind) ? "Waiting for your permission …" : "Opening the source …");
    let source;
    try {
      source = await openSource(kind, this.#wishes(), () => {
        if (opening === this.#opening) this.#stop("The source ended.");
      });
    } catch (error) {
      if (opening === this.#opening) this.#end("failed", error.message, "bad");
      return;
    }
    if (opening !== this.#opening) {
      source.stop();
      return;
    }
    this.#source = source;
    this.#preview(source.stream);
    this.#publish(source.stream, opening);
  }

  #wishes() {
    const [width, height] = byId("publish-size").value.split("x").map(Number);
    return {
      width: width || undefined,
      height,
      fps: Number(byId("publish-fps").value),
      file: byId("publish-file").files[0],
      loop: byId("publish-loop").checked,
    };
  }

  #publish(stream, opening) {
    const publisher = new Publisher({
      address: this.#address,
      stream,
      format: byId("publish-format").value,
      slice: Number(byId("publish-timeslice").value),
      bitsPerSecond: Number(byId("publish-bitrate").value),
      keySeconds: Number(byId("publish-key").value) || undefined,
      backlogSeconds: Number(byId("publish-backlog").value),
    });
    this.#publisher = publisher;
    this.#rate = new Rate();
    this.#pictures = { seen: 0, at: 0 };
    for (const plot of Object.values(this.#plots)) plot.clear();
    this.#plots.backlog.limit = publisher.backlog.maxSeconds;
    publisher.addEventListener("state", (event) => {
      if (opening === this.#opening) this.#follow(event.detail);
    });
    publisher.start();
  }

  #follow({ state, words, tone, code }) {
    if (code !== undefined) this.#root.dataset.code = String(code);
    if (state === "idle" || state === "failed") {
      this.#end(state, words, tone);
      return;
    }
    this.#state.set(state, words, tone);
    if (state !== "live") return;
    const link = byId("publish-link");
    link.value = this.#context.linkTo("watch", this.#address);
    byId("publish-link-row").hidden = false;
    this.#keepAwake();
  }

  #stop(words) {
    if (this.#publisher) this.#publisher.stop(words);
    else this.#end("idle", words);
  }

  #end(state, words, tone = "plain") {
    this.#show();
    this.#opening++;
    this.#publisher = undefined;
    this.#source?.stop();
    this.#source = undefined;
    this.#preview(null);
    this.#lock?.release().catch(() => {});
    this.#lock = undefined;
    this.#sound(true);
    this.#busy(false);
    this.#state.set(state, words, tone);
  }

  #preview(stream) {
    const video = byId("publish-video");
    video.srcObject = stream;
    if (stream) video.play().catch(() => {});
  }

  #mute() {
    const tracks = this.#source?.stream.getAudioTracks() ?? [];
    const on = !tracks.some((track) => track.enabled);
    for (const track of tracks) track.enabled = on;
    this.#sound(on);
  }

  #sound(on) {
    const button = byId("publish-mute");
    button.setAttribute("aria-pressed", String(!on));
    button.replaceChildren(icon(on ? "sound" : "mute"), on ? "Sound on" : "Sound off");
  }

  async #copy() {
    const link = byId("publish-link");
    try {
      await navigator.clipboard.writeText(link.value);
      this.#context.log("The link to watch this channel, with its key, was copied.");
    } catch {
      link.focus(); // it is selected, ready to be copied
    }
  }

  // A phone that goes to sleep stops its camera.
  async #keepAwake() {
    if (this.#publisher?.state !== "live" || !navigator.wakeLock) return;
    try {
      const lock = await navigator.wakeLock.request("screen");
      if (this.#publisher && this.#lock?.released !== false) this.#lock = lock;
      else await lock.release(); // off the air by now, or there is one already
    } catch {
      // The battery is low, or the page is hidden.
    }
  }

  // --- numbers ---

  #show() {
    const publisher = this.#publisher;
    if (!publisher) return;
    const now = performance.now() / 1000;
    const backlog = publisher.backlog;
    const rate = this.#rate.next(publisher.bytes);
    const pictures = this.#picturesNow(now);
    show("publish-bytes", publisher.bytes, sizeText(publisher.bytes));
    show("publish-packets", publisher.packets);
    show("publish-rate", Math.round(rate), rateText(rate));
    show("publish-waiting", backlog.bytes, sizeText(backlog.bytes));
    show("publish-behind", backlog.seconds.toFixed(3), secondsText(backlog.seconds));
    show("publish-runs", publisher.runs);
    show("publish-type", publisher.type, publisher.type || "–");
    show("publish-time", publisher.secondsOnAir.toFixed(1), clockText(publisher.secondsOnAir));
    this.#plots.rate.push(rate, now);
    this.#plots.backlog.push(backlog.seconds, now);
    if (pictures === undefined) return;
    show("publish-fps-now", pictures.toFixed(1));
    this.#plots.pictures.push(pictures, now);
  }

  // Counted at the preview, over at least a second.
  #picturesNow(now) {
    const video = byId("publish-video");
    show("publish-dimensions", `${video.videoWidth}x${video.videoHeight}`, video.videoWidth ? `${video.videoWidth} × ${video.videoHeight}` : "–");
    const seen = video.getVideoPlaybackQuality().totalVideoFrames;
    const before = this.#pictures;
    if (before.at > 0 && now - before.at < 0.9) return undefined;
    this.#pictures = { seen, at: now };
    return before.at > 0 ? (seen - before.seen) / (now - before.at) : undefined;
  }
}

// A page that gets no camera begins with what it does get.
function defaultSource() {
  return navigator.mediaDevices ? "camera" : "clock";
}

function clockText(seconds) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const minutes = `${seconds >= 3600 ? two((seconds / 60) % 60) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  return seconds >= 3600 ? `${Math.floor(seconds / 3600)}:${minutes}` : minutes;
}
