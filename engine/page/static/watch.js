// The Watch view: what a channel's receivers get, played.

import { Rate, ViewState, byId, choice, el, numbers, rateText, secondsText, show, sizeText } from "./dom.js";
import { connect } from "./link.js";
import { Player, canPlay } from "./player.js";

let watch; // the view's state
let context;

function busy(on) {
  byId("watch-start").disabled = on;
  byId("watch-stop").disabled = !on;
}

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
  const address = context.connection.checked();
  if (!address) return;
  dropWatching();
  watching.address = address;
  watching.attempts = 0;
  busy(true);
  connectWatching();
}

function connectWatching() {
  watching.player?.destroy();
  watching.player = undefined;
  Object.assign(watching, { bytes: 0, packets: 0, rate: new Rate() });
  show("watch-type", "", "–");
  watch.set("connecting", `Connecting to ${watching.address.host} …`);
  let link;
  try {
    link = connect(watching.address, "receive");
  } catch (error) {
    watch.set("failed", error.message, "bad");
    busy(false);
    return;
  }
  const player = new Player(byId("watch-video"), { maxBehind: Number(byId("watch-behind").value) });
  Object.assign(watching, { link, player });
  let failed = false;

  player.addEventListener("type", (event) => show("watch-type", event.detail));
  player.addEventListener("jump", (event) => context.log(`Watch: skipped ${secondsText(event.detail)}.`));
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
    byId("watch").dataset.code = String(code);
    if (opened) watching.attempts = 0;
    if (failed) {
      busy(false);
    } else if (!asked && retry && byId("watch-again").checked) {
      reconnectLater(words);
    } else {
      if (!asked) player.end();
      watch.set(asked ? "idle" : code === 1000 ? "ended" : "failed", words, asked || code === 1000 ? "plain" : "bad");
      busy(false);
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
  busy(false);
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

async function copyLink() {
  const address = context.connection.checked();
  if (!address) return;
  const link = context.linkTo("watch", address);
  try {
    await navigator.clipboard.writeText(link);
    context.log("The link to watch this channel, with its key, was copied.");
  } catch {
    history.replaceState(null, "", link);
    context.log("The address bar now holds the link to watch this channel, with its key.");
  }
}

function build(root) {
  root.append(
    el("div", { class: "card split" },
      el("div", { class: "screen" }, el("video", { id: "watch-video", muted: true, playsinline: true, controls: true, "aria-label": "Stream" })),
      el("div", { class: "side" },
        watch.line,
        el("div", { class: "row" },
          el("button", { type: "button", class: "button primary", id: "watch-start" }, "Watch"),
          el("button", { type: "button", class: "button", id: "watch-stop", disabled: true }, "Stop"),
          el("button", { type: "button", class: "button", id: "watch-mute", "aria-pressed": "true" }, "Unmute"),
          el("button", { type: "button", class: "button", id: "copy-link" }, "Copy link")),
        el("div", { class: "options" },
          choice("watch-behind", "Stay live", [["2", "within 2 s"], ["6", "within 6 s"], ["20", "within 20 s"], ["0", "play everything"]], "6"),
          el("label", { class: "check" }, el("input", { type: "checkbox", id: "watch-again" }), " Reconnect")),
        numbers(["watch-bytes", "Received"], ["watch-packets", "Packets"], ["watch-rate", "Rate"], ["watch-ahead", "Behind"], ["watch-held", "Buffer"],
          ["watch-queued", "Queue"], ["watch-pictures", "Pictures"], ["watch-dropped", "Dropped"], ["watch-size", "Size"], ["watch-type", "Type", true]))));
}

/** Fills the view's section; see main.js for what a view is. */
export function mount(root, given) {
  context = given;
  watch = new ViewState(root, "Watch", context.log);
  build(root);
  wireWatch();
  setInterval(showWatching, 500);
  return {
    start() {
      if (!byId("watch-start").disabled) startWatching();
    },
    // A link to watch plays at once, but only from the server that the page came from.
    arrived(params) {
      const { host, channel, key } = context.connection.fields();
      if (params.get("view") === "watch" && channel && key && host === location.host && canPlay) startWatching();
    },
  };
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
