// The page itself: fields, the two views, the log. Everything a test or a user
// needs to see stands in the document, in texts and data attributes.

import { Link, hostProblem, idProblem, streamURL } from "./link.js";
import { Pattern } from "./pattern.js";
import { Player, canPlay } from "./player.js";
import { Publisher, recordingFormats } from "./publisher.js";

const byId = (id) => document.getElementById(id);

// --- log, texts, numbers ---

const LOG_LINES = 200;

function log(text, tone = "plain") {
  const now = new Date();
  const item = document.createElement("li");
  item.dataset.tone = tone;
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toTimeString().slice(0, 8);
  const words = document.createElement("span");
  words.textContent = text;
  item.append(time, words);
  const list = byId("log");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(item);
  while (list.children.length > LOG_LINES) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

function rateText(bitsPerSecond) {
  return bitsPerSecond < 1e6 ? `${(bitsPerSecond / 1e3).toFixed(0)} kbit/s` : `${(bitsPerSecond / 1e6).toFixed(2)} Mbit/s`;
}

const secondsText = (seconds) => `${seconds.toFixed(1)} s`;

function show(id, value, text = String(value)) {
  const place = byId(id);
  place.dataset.value = String(value);
  place.textContent = text;
}

/** Bits a second over the last few calls of next(bytes so far). */
class Rate {
  #points = [];

  next(bytes) {
    const now = performance.now();
    this.#points.push({ now, bytes });
    while (this.#points.length > 8) this.#points.shift();
    const first = this.#points[0];
    return now > first.now ? ((bytes - first.bytes) * 8000) / (now - first.now) : 0;
  }
}

/** One of the two views: its state, its status line, its buttons. */
class View {
  constructor(name) {
    this.name = name;
    this.section = byId(name);
  }

  get state() {
    return this.section.dataset.state;
  }

  set(state, text, tone = "plain", logged = true) {
    this.section.dataset.state = state;
    const status = byId(`${this.name}-status`);
    if (status.textContent === text && status.dataset.tone === tone) return;
    status.textContent = text;
    status.dataset.tone = tone;
    const label = this.name === "watch" ? "Watch" : "Publish";
    if (logged) log(`${label}: ${text}`, tone);
  }

  busy(busy) {
    byId(`${this.name}-start`).disabled = busy;
    byId(`${this.name}-stop`).disabled = !busy;
    for (const field of this.section.querySelectorAll(".options select")) {
      if (this.name === "publish") field.disabled = busy;
    }
  }
}

// --- the connection's fields ---

function fields() {
  return {
    scheme: byId("scheme").value,
    host: byId("host").value.trim(),
    channel: byId("channel").value.trim(),
    key: byId("key").value.trim(),
  };
}

const checks = {
  host: (value) => hostProblem(value),
  channel: (value) => idProblem("Channel", value),
  key: (value) => idProblem("Key", value),
};

function check(id) {
  const problem = checks[id](byId(id).value.trim());
  byId(id).setAttribute("aria-invalid", String(problem !== ""));
  byId(`${id}-problem`).textContent = problem;
  byId(`${id}-problem`).hidden = problem === "";
  return problem;
}

/** The checked fields, or undefined with the problems shown. */
function checkedFields() {
  const wrong = Object.keys(checks).filter((id) => check(id) !== "");
  if (wrong.length === 0) return fields();
  byId(wrong[0]).focus();
  return undefined;
}

function open(view, kind, address) {
  try {
    return new Link(streamURL({ ...address, kind }), kind);
  } catch (error) {
    const mixed = location.protocol === "https:" && address.scheme === "ws";
    const words = mixed ? "A page that was loaded over https may only use wss://." : `The browser refuses the address: ${error.message}.`;
    view.set("failed", words, "bad");
    return undefined;
  }
}

// --- watch ---

const watch = new View("watch");

const watching = {
  link: undefined,
  player: undefined,
  again: 0, // timer of a reconnection
  attempts: 0,
  address: undefined,
  bytes: 0,
  packets: 0,
  rate: new Rate(),
};

function startWatching() {
  const address = checkedFields();
  if (!address) return;
  dropWatching();
  watching.address = address;
  watching.attempts = 0;
  watch.busy(true);
  connectWatching();
}

function connectWatching() {
  watching.player?.destroy();
  watching.player = undefined;
  Object.assign(watching, { bytes: 0, packets: 0, rate: new Rate() });
  show("watch-type", "", "–");
  watch.set("connecting", `Connecting to ${watching.address.host} …`);
  const link = open(watch, "receive", watching.address);
  if (!link) {
    watch.busy(false);
    return;
  }
  const player = new Player(byId("watch-video"), { maxBehind: Number(byId("watch-behind").value) });
  Object.assign(watching, { link, player });
  let failed = false;

  player.addEventListener("type", (event) => show("watch-type", event.detail));
  player.addEventListener("jump", (event) => log(`Watch: skipped ${secondsText(event.detail)}.`));
  player.addEventListener("blocked", () => watch.set("blocked", "The browser wants a click: press play in the picture.", "warn"));
  player.addEventListener("problem", (event) => {
    failed = true;
    watch.set("failed", event.detail, "bad");
    link.close();
  });

  link.addEventListener("open", () => watch.set("waiting", "Connected; waiting for the first packet."));
  link.addEventListener("packet", (event) => {
    if (watching.packets === 0) watch.set("buffering", "Receiving.");
    watching.bytes += event.detail.byteLength;
    watching.packets++;
    player.push(event.detail);
  });
  link.addEventListener("close", (event) => {
    if (watching.link !== link) return;
    watching.link = undefined;
    const { code, words, retry, opened, asked } = event.detail;
    watch.section.dataset.code = String(code);
    if (opened) watching.attempts = 0;
    if (failed) {
      watch.busy(false);
    } else if (!asked && retry && byId("watch-again").checked) {
      reconnectLater(words);
    } else {
      if (!asked) player.end();
      watch.set(asked ? "idle" : code === 1000 ? "ended" : "failed", words, asked || code === 1000 ? "plain" : "bad");
      watch.busy(false);
    }
    showWatching();
  });
}

function reconnectLater(words) {
  const delay = Math.min(15, 2 ** watching.attempts++) * (0.75 + Math.random() / 2);
  watch.set("connecting", `${words} Connecting again in ${Math.ceil(delay)} s.`, "warn");
  watching.again = setTimeout(connectWatching, delay * 1000);
}

function dropWatching() {
  clearTimeout(watching.again);
  const { link, player } = watching;
  watching.link = watching.player = undefined;
  link?.close();
  player?.destroy();
}

function stopWatching() {
  dropWatching();
  watch.set("idle", "Stopped.");
  watch.busy(false);
}

function showWatching() {
  const { player } = watching;
  if (!player) return;
  const stats = player.stats;
  show("watch-bytes", watching.bytes, sizeText(watching.bytes));
  show("watch-packets", watching.packets);
  const rate = watching.rate.next(watching.bytes);
  show("watch-rate", Math.round(rate), rateText(rate));
  show("watch-ahead", stats.ahead.toFixed(3), secondsText(stats.ahead));
  show("watch-held", stats.held.toFixed(3), secondsText(stats.held));
  show("watch-queued", stats.queued, sizeText(stats.queued));
  show("watch-pictures", stats.pictures);
  show("watch-dropped", stats.dropped);
  show("watch-size", `${stats.width}x${stats.height}`, stats.width ? `${stats.width} × ${stats.height}` : "–");
}

function wireWatch() {
  const video = byId("watch-video");
  video.muted = true;
  byId("watch-start").addEventListener("click", startWatching);
  byId("watch-stop").addEventListener("click", stopWatching);
  byId("watch-mute").addEventListener("click", () => (video.muted = !video.muted));
  byId("watch-behind").addEventListener("change", (event) => {
    if (watching.player) watching.player.maxBehind = Number(event.target.value);
  });
  video.addEventListener("volumechange", () => {
    byId("watch-mute").textContent = video.muted ? "Unmute" : "Mute";
    byId("watch-mute").setAttribute("aria-pressed", String(video.muted));
  });
  video.addEventListener("playing", () => {
    if (watching.link) watch.set("playing", "Playing.", "good");
  });
  video.addEventListener("waiting", () => {
    if (watching.link && watch.state === "playing") watch.set("buffering", "Waiting for more.", "plain", false);
  });
  byId("copy-link").addEventListener("click", copyLink);
  if (!canPlay) watch.set("failed", "This browser has no Media Source Extensions, which watching needs.", "bad");
}

// --- publish ---

const publish = new View("publish");

const publishing = { link: undefined, publisher: undefined, source: undefined, rate: new Rate(), run: 0 };

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
  const address = checkedFields();
  if (!address) return;
  const run = ++publishing.run; // a stop or a new start makes this one stale
  const [width, height] = byId("publish-size").value.split("x").map(Number);
  publish.busy(true);
  publish.set("connecting", "Opening the source …");
  let source;
  try {
    source = await openSource(byId("publish-source").value, { width, height, fps: Number(byId("publish-fps").value) });
  } catch (error) {
    if (run === publishing.run) {
      publish.set("failed", sourceProblem(error), "bad");
      publish.busy(false);
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
  const link = open(publish, "publish", address);
  if (!link) {
    releaseSource();
    publish.busy(false);
    return;
  }
  publishing.link = link;
  link.addEventListener("open", () => record(link));
  link.addEventListener("close", (event) => {
    if (run !== publishing.run) return;
    const { code, words, asked } = event.detail;
    publish.section.dataset.code = String(code);
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
  publish.busy(false);
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
      log("Publish: browsers slow down hidden tabs; the pattern may stutter until this one is seen again.", "warn");
    }
  });
}

// --- tabs and the address bar ---

const VIEWS = ["watch", "publish"];

function selectView(name, focus = false) {
  document.body.dataset.view = name;
  for (const view of VIEWS) {
    const tab = byId(`tab-${view}`);
    const chosen = view === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(view).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
}

function wireTabs() {
  for (const view of VIEWS) {
    const tab = byId(`tab-${view}`);
    tab.addEventListener("click", () => selectView(view));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      selectView(VIEWS[1 - VIEWS.indexOf(view)], true);
    });
  }
}

// The fragment is never sent to a server, so it may carry the key.
function readFragment() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const id of ["host", "channel", "key"]) {
    if (wanted.has(id)) byId(id).value = wanted.get(id);
  }
  if (["ws", "wss"].includes(wanted.get("scheme"))) byId("scheme").value = wanted.get("scheme");
  if (VIEWS.includes(wanted.get("view"))) selectView(wanted.get("view"));
  // A link to watch plays at once, but only from the server that the page came from.
  const { host, channel, key } = fields();
  if (wanted.get("view") === "watch" && channel && key && host === location.host && canPlay) startWatching();
}

function watchLink() {
  const { scheme, host, channel, key } = fields();
  const link = new URLSearchParams();
  if (host !== location.host) link.set("host", host);
  if (scheme !== pageScheme()) link.set("scheme", scheme);
  link.set("channel", channel);
  link.set("key", key);
  link.set("view", "watch");
  return `${location.origin}${location.pathname}#${link}`;
}

async function copyLink() {
  if (!checkedFields()) return;
  try {
    await navigator.clipboard.writeText(watchLink());
    log("The link to watch this channel, with its key, was copied.");
  } catch {
    history.replaceState(null, "", watchLink());
    log("The address bar now holds the link to watch this channel, with its key.");
  }
}

const pageScheme = () => (location.protocol === "https:" ? "wss" : "ws");

function wireConnection() {
  byId("host").value = location.host;
  byId("scheme").value = pageScheme();
  for (const id of Object.keys(checks)) {
    byId(id).addEventListener("input", () => {
      if (byId(id).getAttribute("aria-invalid") === "true") check(id);
    });
  }
  byId("connection").addEventListener("submit", (event) => {
    event.preventDefault();
    const start = byId(`${document.body.dataset.view}-start`);
    if (!start.disabled) start.click();
  });
  byId("show-key").addEventListener("click", (event) => {
    const shown = byId("key").type === "password";
    byId("key").type = shown ? "text" : "password";
    event.target.textContent = shown ? "Hide" : "Show";
    event.target.setAttribute("aria-pressed", String(shown));
  });
}

wireConnection();
wireTabs();
wireWatch();
wirePublish();
byId("log-clear").addEventListener("click", () => byId("log").replaceChildren());
setInterval(() => {
  showWatching();
  showPublishing();
}, 500);
addEventListener("hashchange", readFragment);
readFragment();
document.body.dataset.ready = "true";
