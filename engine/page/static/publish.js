// The Publish view: a camera, the screen or a generated pattern goes to a channel.

import { Rate, ViewState, byId, choice, el, numbers, rateText, show, sizeText } from "./dom.js";
import { connect } from "./link.js";
import { Pattern } from "./pattern.js";
import { Publisher, recordingFormats } from "./publisher.js";

let publish; // the view's state
let context;

const publishing = { link: undefined, publisher: undefined, source: undefined, rate: new Rate(), run: 0 };

function busy(on) {
  byId("publish-start").disabled = on;
  byId("publish-stop").disabled = !on;
  for (const field of document.querySelectorAll("#publish .options select")) field.disabled = on;
}

/** A stream to publish: {stream, stop}. */
async function openSource(kind, { width, height, fps }) {
  if (kind === "pattern") {
    const pattern = new Pattern({ width, height, fps });
    return { stream: pattern.stream, stop: () => pattern.stop() };
  }
  const devices = navigator.mediaDevices;
  if (!devices) throw new Error("browsers give a camera or screen only to pages loaded over https or from localhost");
  const picture = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  const stream =
    kind === "camera"
      ? await devices.getUserMedia({ video: picture, audio: true }).catch((error) => {
          if (error.name !== "NotFoundError") throw error;
          return devices.getUserMedia({ video: picture }); // no microphone
        })
      : await devices.getDisplayMedia({ video: picture, audio: true });
  return {
    stream,
    stop: () => {
      for (const track of stream.getTracks()) track.stop();
    },
  };
}

function sourceProblem(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the source.";
    case "NotFoundError":
      return "There is no such device.";
    case "NotReadableError":
      return "The device is in use or broken.";
    default:
      return `The source cannot be used: ${error.message}.`;
  }
}

async function startPublishing() {
  const address = context.connection.checked();
  if (!address) return;
  const run = ++publishing.run; // a stop or a new start makes this one stale
  const [width, height] = byId("publish-size").value.split("x").map(Number);
  busy(true);
  publish.set("connecting", "Opening the source …");
  let source;
  try {
    source = await openSource(byId("publish-source").value, { width, height, fps: Number(byId("publish-fps").value) });
  } catch (error) {
    if (run === publishing.run) {
      publish.set("failed", sourceProblem(error), "bad");
      busy(false);
    }
    return;
  }
  if (run !== publishing.run) {
    source.stop();
    return;
  }
  publishing.source = source;
  const preview = byId("publish-video");
  preview.srcObject = source.stream;
  preview.play().catch(() => {});
  // The user can also end a screen share, or pull the camera's plug.
  for (const track of source.stream.getTracks()) {
    track.addEventListener("ended", () => {
      if (run === publishing.run) stopPublishing("The source ended.");
    });
  }
  connectPublishing(address, run);
}

function connectPublishing(address, run) {
  publish.set("connecting", `Connecting to ${address.host} …`);
  let link;
  try {
    link = connect(address, "publish");
  } catch (error) {
    finishPublishing("failed", error.message, "bad");
    return;
  }
  publishing.link = link;
  link.addEventListener("open", () => record(link));
  link.addEventListener("close", (event) => {
    if (run !== publishing.run) return;
    const { code, words, asked } = event.detail;
    byId("publish").dataset.code = String(code);
    publishing.link = undefined;
    if (!asked) {
      finishPublishing(code === 1000 ? "ended" : "failed", code === 1000 ? "The server ended the stream." : words, code === 1000 ? "plain" : "bad");
    }
  });
}

function record(link) {
  let publisher;
  try {
    publisher = new Publisher({
      link,
      stream: publishing.source.stream,
      format: byId("publish-format").value,
      timeslice: Number(byId("publish-timeslice").value),
      bitsPerSecond: Number(byId("publish-bitrate").value),
    });
    publisher.start();
  } catch (error) {
    finishPublishing("failed", `The recorder cannot start: ${error.message}.`, "bad");
    return;
  }
  publishing.publisher = publisher;
  publishing.rate = new Rate();
  show("publish-type", publisher.format);
  publish.set("live", "On air.", "good");
  publisher.addEventListener("pause", () => publish.set("paused", "The network is slow: recording pauses until it has caught up.", "warn"));
  publisher.addEventListener("resume", () => publish.set("live", "On air.", "good"));
  publisher.addEventListener("problem", (event) => finishPublishing("failed", event.detail, "bad"));
}

// An orderly stop: the recorder's last packet goes out before the close.
function stopPublishing(words) {
  const { link, publisher } = publishing;
  if (!publisher || !link?.isOpen) {
    finishPublishing("idle", words);
    return;
  }
  publish.set("stopping", "Sending the rest …");
  publisher.addEventListener("stop", () => finishPublishing("idle", words));
  publisher.stop();
}

function finishPublishing(state, words, tone = "plain") {
  publishing.run++;
  showPublishing();
  publishing.publisher?.stop();
  publishing.link?.close();
  publishing.publisher = publishing.link = undefined;
  releaseSource();
  publish.set(state, words, tone);
  busy(false);
}

function releaseSource() {
  publishing.source?.stop();
  publishing.source = undefined;
  byId("publish-video").srcObject = null;
}

function showPublishing() {
  const { publisher } = publishing;
  if (!publisher) return;
  show("publish-bytes", publisher.bytes, sizeText(publisher.bytes));
  show("publish-packets", publisher.packets);
  const rate = publishing.rate.next(publisher.bytes);
  show("publish-rate", Math.round(rate), rateText(rate));
  show("publish-waiting", publisher.waiting, sizeText(publisher.waiting));
}

function build(root) {
  root.append(
    el("div", { class: "card split" },
      el("div", { class: "screen" }, el("video", { id: "publish-video", muted: true, playsinline: true, "aria-label": "Preview" })),
      el("div", { class: "side" },
        publish.line,
        el("div", { class: "row" },
          el("button", { type: "button", class: "button primary", id: "publish-start" }, "Publish"),
          el("button", { type: "button", class: "button", id: "publish-stop", disabled: true }, "Stop")),
        el("div", { class: "options" },
          choice("publish-source", "Source", [["pattern", "Pattern"], ["camera", "Camera"], ["screen", "Screen"]]),
          choice("publish-size", "Size", [["320x180", "320 × 180"], ["640x360", "640 × 360"], ["1280x720", "1280 × 720"], ["1920x1080", "1920 × 1080"]], "640x360"),
          choice("publish-fps", "Pictures a second", [["15", "15"], ["30", "30"], ["60", "60"]], "30"),
          choice("publish-bitrate", "Bitrate", [["500000", "0.5 Mbit/s"], ["1500000", "1.5 Mbit/s"], ["4000000", "4 Mbit/s"], ["10000000", "10 Mbit/s"]], "1500000"),
          choice("publish-timeslice", "One packet every", [["50", "50 ms"], ["100", "100 ms"], ["250", "250 ms"], ["1000", "1 s"]], "100"),
          choice("publish-format", "Format", [])),
        numbers(["publish-bytes", "Sent"], ["publish-packets", "Packets"], ["publish-rate", "Rate"], ["publish-waiting", "Waiting"], ["publish-type", "Type", true]))));
}

/** Fills the view's section; see main.js for what a view is. */
export function mount(root, given) {
  context = given;
  publish = new ViewState(root, "Publish", context.log);
  build(root);
  byId("publish-video").muted = true;
  wirePublish();
  setInterval(showPublishing, 500);
  return {
    start() {
      if (!byId("publish-start").disabled) startPublishing();
    },
  };
}

function wirePublish() {
  byId("publish-start").addEventListener("click", startPublishing);
  byId("publish-stop").addEventListener("click", () => stopPublishing("Stopped."));
  const formats = recordingFormats();
  for (const { name, mime } of formats) byId("publish-format").add(new Option(name, mime));
  if (formats.length === 0) {
    publish.set("failed", "This browser has no MediaRecorder, which publishing needs.", "bad");
    byId("publish-start").disabled = true;
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && publishing.publisher && byId("publish-source").value === "pattern") {
      context.log("Publish: browsers slow down hidden tabs; the pattern may stutter until this one is seen again.", "warn");
    }
  });
}
