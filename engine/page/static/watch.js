// The Watch view: what a channel's receivers get, played and measured.

import { addControls } from "./controls.js";
import { ViewState, byId, choice, el, icon, numbers, rateText, secondsText, show, sizeText } from "./dom.js";
import { streamURL } from "./link.js";
import { Player, STARTS, canPlay } from "./player.js";
import { Plot } from "./plot.js";

const PLOT_SECONDS = 120;

const LATENCY_NAMES = [
  ["low", "Low: 0.7 s behind live"],
  ["normal", "Normal: 1.5 s behind live"],
  ["smooth", "Smooth: 4 s behind live"],
  ["all", "Play everything"],
];

const START_NAMES = [
  ["", "As the server is set"],
  ["full", "Full cache"],
  ["keyframe", "Last key frame"],
  ["live", "Live: the next key frame"],
];

/** Fills the view's section; see main.js for what a view is. */
export function mount(root, context) {
  const state = new ViewState(root, "Watch", context.log);
  build(root, state.line);
  const video = byId("watch-video");
  video.muted = true;
  const player = new Player(video, { latency: byId("watch-latency").value });
  const plots = new Plots();
  addControls(byId("watch-screen"), video, player, { start, active: () => !root.hidden });

  const url = () => streamURL({ ...context.connection.fields(), kind: "receive" });

  function start() {
    if (!context.connection.checked()) return;
    plots.clear();
    for (const place of root.querySelectorAll(".numbers dd")) show(place.id, "", "–");
    show("watch-type", "", "–");
    byId("watch-elsewhere").hidden = true;
    delete root.dataset.code;
    player.start(url());
  }

  player.addEventListener("state", (event) => {
    const { state: word, words, tone, code } = event.detail;
    if (code !== undefined) root.dataset.code = String(code);
    // Stalls come and go; the plots have them, the log need not.
    const small = word === "buffering" || (word === "playing" && state.state === "buffering" && player.stats.stalls > 0);
    state.set(word, words, tone, !small);
    const running = !["idle", "failed"].includes(word) && !(word === "ended" && !byId("watch-again").checked);
    byId("watch-start").disabled = running;
    byId("watch-stop").disabled = !running;
  });
  player.addEventListener("type", (event) => show("watch-type", event.detail));
  player.addEventListener("jump", (event) => context.log(`Watch: skipped ${secondsText(event.detail)}.`));
  player.addEventListener("restart", () => context.log("Watch: the publisher began a new stream."));
  player.addEventListener("error", (event) => showElsewhere(event.detail.commands));
  player.addEventListener("stats", (event) => {
    showNumbers(event.detail);
    plots.push(event.detail);
  });

  byId("watch-start").addEventListener("click", start);
  byId("watch-stop").addEventListener("click", () => player.stop());
  byId("watch-latency").addEventListener("change", (event) => player.setLatency(event.target.value));
  byId("watch-from").addEventListener("change", (event) => {
    player.setStart(event.target.value);
    if (byId("watch-start").disabled) start(); // it is seen at once
  });
  byId("watch-again").addEventListener("change", (event) => player.setReconnect(event.target.checked));
  byId("copy-link").addEventListener("click", () => copy(context, "watch", (link) => link));
  byId("copy-embed").addEventListener("click", () => copy(context, "embed", embedCode));
  if (!canPlay) state.set("failed", "This browser has no Media Source Extensions, which watching needs.", "bad");

  return {
    start() {
      if (!byId("watch-start").disabled) start();
    },
    // A link to watch plays at once, but only from the server that the page came from.
    // On the way back from another view what plays goes on.
    arrived(params) {
      if (LATENCY_NAMES.some(([name]) => name === params.get("latency"))) {
        byId("watch-latency").value = params.get("latency");
        player.setLatency(params.get("latency"));
      }
      if (params.has("reconnect")) {
        byId("watch-again").checked = params.get("reconnect") !== "no";
        player.setReconnect(byId("watch-again").checked);
      }
      const from = STARTS.includes(params.get("start")) ? params.get("start") : byId("watch-from").value;
      const same = from === byId("watch-from").value;
      byId("watch-from").value = from;
      player.setStart(from);
      const { host, channel, key } = context.connection.fields();
      if (params.get("view") !== "watch" || !channel || !key || host !== location.host || !canPlay) return;
      if (!(byId("watch-start").disabled && player.url === url() && same)) start();
    },
  };
}

function build(root, line) {
  root.append(
    el("div", { class: "card split" },
      el("div", { class: "screen", id: "watch-screen" }, el("video", { id: "watch-video", playsinline: true, "aria-label": "Stream" })),
      el("div", { class: "side" },
        line,
        el("div", { class: "row" },
          el("button", { type: "button", class: "button primary", id: "watch-start" }, icon("play"), "Watch"),
          el("button", { type: "button", class: "button", id: "watch-stop", disabled: true }, icon("stop"), "Stop")),
        el("div", { class: "elsewhere", id: "watch-elsewhere", hidden: true }),
        choice("watch-latency", "Delay", LATENCY_NAMES, "normal"),
        choice("watch-from", "Start", START_NAMES, ""),
        el("label", { class: "check" }, el("input", { type: "checkbox", id: "watch-again", checked: true }), "Connect again, also for the next stream"),
        el("div", { class: "row" },
          el("button", { type: "button", class: "button small", id: "copy-link" }, icon("link"), "Copy link"),
          el("button", { type: "button", class: "button small", id: "copy-embed" }, icon("code"), "Copy embed code")),
        el("p", { class: "keys" }, key("k"), " play ", key("m"), " sound ", key("f"), " whole screen ", key("l"), " live"))),
    el("div", { class: "card", role: "group", "aria-labelledby": "watch-figures" },
      el("div", { class: "card-head" },
        el("h2", { id: "watch-figures" }, "Now"),
        el("span", { class: "pill", id: "watch-type" }, "–")),
      el("div", { class: "plots", id: "watch-plots" }),
      numbers(["watch-bytes", "Received"], ["watch-packets", "Packets"], ["watch-rate", "Bit rate"], ["watch-size", "Picture"], ["watch-pictures", "Pictures"],
        ["watch-dropped", "Dropped"], ["watch-ahead", "Buffer"], ["watch-behind", "Behind live"], ["watch-speed", "Speed"],
        ["watch-held", "Kept"], ["watch-queued", "Queue"], ["watch-stalls", "Stalls"], ["watch-skips", "Skips"])));
}

const key = (name) => el("kbd", {}, name);

function showNumbers(stats) {
  show("watch-bytes", stats.bytes, sizeText(stats.bytes));
  show("watch-packets", stats.packets, stats.packets.toLocaleString("en"));
  show("watch-rate", Math.round(stats.bitsPerSecond), rateText(stats.bitsPerSecond));
  show("watch-ahead", stats.ahead.toFixed(3), secondsText(stats.ahead));
  show("watch-behind", stats.behind.toFixed(3), secondsText(stats.behind));
  show("watch-held", stats.held.toFixed(3), secondsText(stats.held));
  show("watch-queued", stats.queued, sizeText(stats.queued));
  show("watch-pictures", stats.pictures, stats.pictures.toLocaleString("en"));
  show("watch-dropped", stats.dropped);
  show("watch-speed", stats.rate.toFixed(3), `${stats.rate.toFixed(2)} ×`);
  show("watch-stalls", stats.stalls, stats.stalls ? `${stats.stalls} (${secondsText(stats.stalledSeconds)})` : "none");
  show("watch-skips", stats.jumps, stats.jumps ? `${stats.jumps} (${secondsText(stats.skippedSeconds)})` : "none");
  show("watch-size", `${stats.width}x${stats.height}`, stats.width ? `${stats.width} × ${stats.height}` : "–");
}

/** The plots of the last two minutes. */
class Plots {
  #plots = {};
  #last; // {dropped, stalledSeconds} as they were

  constructor() {
    const add = (name, label, format, color, top) => {
      const canvas = el("canvas", { id: `plot-${name}` });
      byId("watch-plots").append(canvas);
      this.#plots[name] = new Plot(canvas, { label, format, color, top, seconds: PLOT_SECONDS });
    };
    add("rate", "Bit rate", rateText, "--plot-1", 100_000);
    add("buffer", "Buffer", secondsText, "--plot-2", 2);
    add("behind", "Behind live", secondsText, "--plot-4", 2);
    add("dropped", "Dropped pictures", (count) => String(count), "--plot-3", 4);
    add("stalls", "Stalled", (seconds) => `${Math.round(seconds * 1000)} ms`, "--plot-5", 0.5);
  }

  clear() {
    for (const plot of Object.values(this.#plots)) plot.clear();
    this.#last = undefined;
  }

  push(stats) {
    const since = (name) => Math.max(0, stats[name] - (this.#last?.[name] ?? stats[name]));
    this.#plots.rate.push(stats.bitsPerSecond);
    this.#plots.buffer.push(stats.ahead);
    this.#plots.behind.push(stats.behind);
    this.#plots.dropped.push(since("dropped"));
    this.#plots.stalls.push(since("stalledSeconds"));
    this.#last = stats;
  }
}

// showElsewhere shows commands that play the stream in other programs.
function showElsewhere(commands) {
  const place = byId("watch-elsewhere");
  place.hidden = commands.length === 0;
  if (commands.length) place.replaceChildren(el("p", {}, "It plays with one of these:"), ...commands.map((command) => el("code", { class: "command" }, command)));
}

const embedCode = (link) => `<iframe src="${link}" width="640" height="360" allow="autoplay; fullscreen; picture-in-picture" referrerpolicy="no-referrer"></iframe>`;

// copy puts a link, or what is made of it, where the user can paste it from.
async function copy(context, view, make) {
  const address = context.connection.checked();
  if (!address) return;
  const link = context.linkTo(view, { ...address, start: byId("watch-from").value });
  const what = view === "embed" ? "The code that shows this channel in another page" : "The link to watch this channel";
  try {
    await navigator.clipboard.writeText(make(link));
    context.log(`${what}, with its key, was copied.`, "good");
  } catch {
    // Browsers give the clipboard to pages of https and localhost only.
    context.log(`${what}, with its key: ${make(link)}`);
  }
}
