// The Status view: what the server does now, as its admin listener tells.

import { Api } from "./api.js";
import { ViewState, byId, el, secondsText, show, sizeText } from "./dom.js";
import { Plot } from "./plot.js";
import { Table, twoPress } from "./table.js";

const EVERY_MS = 1000;
const MOST_SESSIONS = 100; // rows; a channel may have very many receivers
const MOST_CHANNELS = 200; // rows; whoever waits for a channel makes one
const READ_MS = 8000;
const LAG_WARN = 2; // seconds
const LAG_BAD = 10;

/** Fills the view's section; see main.js for what a view is. */
export function mount(root, context) {
  const view = new StatusView(root, context);
  return { shown: () => view.look(true), hidden: () => view.look(false) };
}

class StatusView {
  #root;
  #context;
  #state;
  #api = new Api();
  #looking = false; // the view is on the screen
  #timer = 0;
  #turn = 0; // counts polls, so that an answer of an old one is dropped
  #before; // {at, received, sent} of the last answer
  #open = ""; // the channel whose sessions are shown
  #readUntil = 0; // milliseconds; until then a refusal stays in the status line
  #plots;
  #tables;

  constructor(root, context) {
    this.#root = root;
    this.#context = context;
    this.#state = new ViewState(root, "Status", context.log);
    this.#state.set("idle", "Asking the server …", "plain", false);
    this.#tables = { channels: this.#channelTable(), sessions: this.#sessionTable("status-sessions"), slowest: this.#sessionTable("status-slowest") };
    this.#build();
    const plot = (name, options) => new Plot(byId(`status-plot-${name}`), options);
    this.#plots = {
      received: plot("received", { label: "Received", format: bitsText, color: "--plot-2" }),
      sent: plot("sent", { label: "Sent", format: bitsText, color: "--plot-1" }),
      receivers: plot("receivers", { label: "Receivers", format: (n) => n.toFixed(0), color: "--plot-4", top: 4 }),
      lag: plot("lag", { label: "Worst lag", format: secondsText, color: "--plot-3", top: 0.5 }),
    };
    document.addEventListener("visibilitychange", () => this.#schedule(0));
  }

  /** The view came on the screen, or left it: only then is the server asked. */
  look(looking) {
    this.#looking = looking;
    this.#schedule(0);
  }

  // --- what stands in the view ---

  #build() {
    const tile = (id, name, ...more) => el("div", { class: "card tile" }, el("span", { class: "label" }, name), el("strong", { id }, "–"), ...more);
    this.#root.append(
      el("div", { class: "card-head status-head" },
        this.#state.line,
        el("button", { type: "button", class: "button", id: "status-again", hidden: true, click: () => this.#schedule(0) }, "Try again"),
        el("button", { type: "button", class: "button quiet", id: "status-forget", hidden: true, click: () => this.#forget() }, "Forget the token")),
      el("form", { class: "card status-token", id: "status-token-form", hidden: true, submit: (event) => this.#useToken(event) },
        el("div", { class: "field" },
          el("label", { for: "status-token" }, "Admin token (the server's ADMIN_TOKEN); this tab keeps it until it is closed"),
          el("div", { class: "joined" },
            el("input", { id: "status-token", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "none" }),
            el("button", { type: "submit", class: "button primary", id: "status-use" }, "Use")))),
      el("div", { class: "card status-how", id: "status-how", hidden: true },
        el("h2", {}, "The status is on the admin listener"),
        el("p", {}, "What a server does now, who is connected and who is slow, is not for everybody: this address does not tell it. Start the server with"),
        el("pre", {}, el("code", {}, "ADMIN_ADDRESS=127.0.0.1:9090")),
        el("p", {}, "and open, on the machine it runs on, ", el("code", {}, "http://127.0.0.1:9090/#view=status"),
          " (type it or paste it: it is served to no page that links to it). To end sessions from there, set ADMIN_TOKEN too. From another machine, a tunnel leads to it: "),
        el("pre", {}, el("code", {}, `ssh -L 9090:127.0.0.1:9090 ${location.hostname}`))),
      el("div", { class: "status-body", id: "status-body", hidden: true },
        el("div", { class: "tiles" },
          tile("status-ready", "Ready", el("span", { class: "soft", id: "status-version" })),
          tile("status-uptime", "Up for", el("span", { class: "soft", id: "status-since" })),
          tile("status-publishers", "Publishers", el("span", { class: "soft", id: "status-handshakes" })),
          tile("status-receivers", "Receivers", el("span", { class: "soft", id: "status-waiting" })),
          tile("status-lag", "Worst lag", el("span", { class: "soft", id: "status-lagging" })),
          tile("status-memory", "Memory", el("meter", { id: "status-meter", min: "0", max: "1", high: "0.8", "aria-label": "Memory, part of its limit" }), el("span", { class: "soft", id: "status-limit" }))),
        el("div", { class: "card plots status-plots" }, ...["received", "sent", "receivers", "lag"].map((name) => el("canvas", { id: `status-plot-${name}` }))),
        el("div", { class: "card" }, el("div", { class: "card-head" }, el("h2", {}, "Channels"), el("span", { class: "soft", id: "status-channel-count" })), this.#tables.channels.element),
        el("div", { class: "card", id: "status-open", hidden: true },
          el("div", { class: "card-head" },
            el("h2", {}, "Sessions of ", el("span", { id: "status-open-name" })),
            el("span", { class: "soft", id: "status-open-count" }),
            el("button", { type: "button", class: "button quiet", id: "status-open-close", click: () => this.#openChannel("") }, "Close")),
          this.#tables.sessions.element),
        el("div", { class: "card" }, el("div", { class: "card-head" }, el("h2", {}, "Slowest receivers"), el("span", { class: "soft" }, "at most ten")), this.#tables.slowest.element),
        el("div", { class: "status-pair" },
          el("div", { class: "card" }, el("h2", {}, "Receivers by lag"), el("ul", { class: "bars", id: "status-lags" })),
          el("div", { class: "card" }, el("h2", {}, "Ends by reason"), el("ul", { class: "bars", id: "status-ends" })))));
  }

  #channelTable() {
    return new Table({
      id: "status-channels",
      label: "Channels",
      key: (channel) => channel.name,
      empty: "No channel: nobody publishes and nobody waits.",
      columns: [
        { name: "name", title: "Channel", make: (row) => el("button", { type: "button", class: "link", click: () => this.#openChannel(row().name) }, row().name) },
        { name: "live", title: "State", text: (row) => (row.live ? "live" : "waits"), tone: (row) => (row.live ? "good" : "plain") },
        { name: "receivers", title: "Receivers", number: true, text: (row) => (row.waiting > 0 ? `${row.receivers} (${row.waiting} wait)` : String(row.receivers)) },
        { name: "rate", title: "Rate", number: true, text: (row) => bitsText(row.bytes_per_second * 8) },
        { name: "cache", title: "Cache", number: true, text: (row) => `${secondsText(row.cache_seconds)} · ${sizeText(row.cache_bytes)}` },
        { name: "type", title: "Media", text: mediaText },
        { name: "since", title: "For", number: true, text: (row) => (row.live ? durationText((Date.now() - Date.parse(row.since)) / 1000) : "–") },
        { name: "end", title: "", make: (row) => this.#endButton(() => `channel ${row().name}`, () => `channels/${encodeURIComponent(row().name)}`) },
      ],
    });
  }

  #sessionTable(id) {
    const lag = (row) => (row.lag_seconds >= LAG_BAD ? "bad" : row.lag_seconds >= LAG_WARN ? "warn" : undefined);
    return new Table({
      id,
      label: id === "status-slowest" ? "Slowest receivers" : "Sessions",
      key: (session) => session.id,
      empty: id === "status-slowest" ? "Nobody is behind." : "No session.",
      columns: [
        { name: "channel", title: "Channel" },
        { name: "address", title: "Address" },
        { name: "kind", title: "Kind", text: (row) => (row.door === "http" ? `${row.kind} (http)` : row.kind) },
        { name: "lag_seconds", title: "Behind", number: true, text: (row) => (row.kind === "publish" || row.waiting ? "–" : secondsText(row.lag_seconds) + skipsText(row.skips)), tone: lag },
        { name: "lag_bytes", title: "Behind, bytes", number: true, text: (row) => (row.kind === "publish" || row.waiting ? "–" : sizeText(row.lag_bytes)) },
        { name: "bytes", title: "Bytes", number: true, text: (row) => sizeText(row.bytes) },
        { name: "rate", title: "Rate", number: true, text: (row) => bitsText(row.bytes_per_second * 8) },
        { name: "since", title: "For", number: true, text: (row) => durationText((Date.now() - Date.parse(row.since)) / 1000) },
        { name: "end", title: "", make: (row) => this.#endButton(() => `session of ${row().address}`, () => `sessions/${row().id}`) },
      ],
    });
  }

  #endButton(what, path) {
    return twoPress("End", "Really end?", () => `End ${what()}`, async () => {
      try {
        await this.#api.end(path());
        this.#context.log(`Status: ended the ${what()}.`, "good");
      } catch (problem) {
        if (problem.status === 401) this.#askToken("To end something the server wants its admin token.");
        else if (problem.status === 404) this.#context.log(`Status: the ${what()} was over already.`);
        else {
          this.#readUntil = performance.now() + READ_MS;
          this.#state.set("refused", `The server did not end the ${what()}: ${problem.message}.`, "bad");
        }
      }
      this.#schedule(0);
    });
  }

  // --- asking ---

  #schedule(delay) {
    clearTimeout(this.#timer);
    this.#turn++;
    if (this.#looking && !document.hidden) this.#timer = setTimeout(() => this.#poll(this.#turn), delay);
  }

  async #poll(turn) {
    try {
      const open = this.#open;
      const server = await this.#api.get("server");
      const [channels, sessions] = await Promise.all([
        this.#api.get("channels"),
        open ? this.#api.get(`sessions?channel=${encodeURIComponent(open)}&limit=${MOST_SESSIONS}`) : { sessions: [], total: 0 },
      ]);
      if (turn !== this.#turn) return;
      this.#show(server, channels.channels, sessions);
    } catch (problem) {
      if (turn !== this.#turn) return;
      if (!this.#explain(problem)) return; // asking again would not help
    }
    this.#schedule(EVERY_MS);
  }

  // Says what is wrong; true when it may be better in a moment.
  #explain(problem) {
    for (const plot of Object.values(this.#plots)) plot.push(undefined);
    this.#before = undefined;
    switch (problem.status) {
      case 401:
        byId("status-body").hidden = true;
        this.#askToken(this.#api.hasToken ? "The server does not accept this token." : "The server wants its admin token.");
        return false;
      case 404:
        byId("status-body").hidden = true;
        byId("status-how").hidden = false;
        byId("status-again").hidden = false;
        this.#state.set("elsewhere", "This address does not tell what the server does.", "warn", false);
        return false;
      case 0:
        this.#state.set("lost", `${problem.message} Asking again …`, "bad");
        return true;
      default:
        byId("status-again").hidden = false;
        this.#state.set("failed", `The server refuses: ${problem.message}.`, "bad");
        return problem.status >= 500;
    }
  }

  #askToken(words) {
    this.#state.set("token", words, "warn", false);
    byId("status-token-form").hidden = false;
    byId("status-token").focus();
  }

  #useToken(event) {
    event.preventDefault();
    const field = byId("status-token");
    const token = field.value.trim();
    field.value = "";
    // A header takes nothing else, and the browser would not even ask.
    if (!/^[!-~]+$/.test(token)) {
      this.#askToken("An admin token has visible characters of ASCII only, no spaces.");
      return;
    }
    this.#api.token = token;
    byId("status-token-form").hidden = true;
    this.#state.set("idle", "Asking the server …", "plain", false);
    this.#schedule(0);
  }

  #forget() {
    this.#api.token = "";
    this.#schedule(0);
  }

  #openChannel(name) {
    this.#open = name === this.#open ? "" : name;
    byId("status-open").hidden = this.#open === "";
    byId("status-open-name").textContent = this.#open;
    this.#tables.sessions.update([]);
    this.#schedule(0);
  }

  // --- showing ---

  #show(server, channels, { sessions, total }) {
    for (const id of ["status-how", "status-again"]) byId(id).hidden = true;
    byId("status-body").hidden = false;
    byId("status-forget").hidden = !this.#api.hasToken;
    if (!byId("status-token-form").hidden && this.#state.state !== "token") byId("status-token-form").hidden = true;
    this.#showTiles(server);
    this.#showPlots(server);
    channels.sort((a, b) => b.live - a.live || b.receivers - a.receivers || (a.name < b.name ? -1 : 1));
    this.#tables.channels.update(channels.slice(0, MOST_CHANNELS));
    byId("status-channel-count").textContent = `${channels.filter((channel) => channel.live).length} live of ${channels.length}${channels.length > MOST_CHANNELS ? `; the first ${MOST_CHANNELS}` : ""}`;
    this.#tables.slowest.update(server.slowest);
    this.#tables.sessions.update(sessions);
    byId("status-open-count").textContent = total > sessions.length ? `the ${sessions.length} slowest of ${total}` : "";
    bars(byId("status-lags"), lagBars(server.lag_seconds));
    bars(byId("status-ends"), Object.entries(server.ends).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).map(([name, n]) => [name.replaceAll("_", " "), n]));
    if (this.#state.state === "token" || performance.now() < this.#readUntil) return;
    this.#state.set("live", server.ready ? "The server is ready." : `The server is not ready: ${server.not_ready}.`, server.ready ? "good" : "warn");
  }

  #showTiles({ version, uptime_seconds: uptime, ready, connections, memory, slowest }) {
    show("status-ready", ready, ready ? "Yes" : "No");
    byId("status-ready").dataset.tone = ready ? "good" : "bad";
    show("status-version", version, version && `version ${version}`);
    show("status-uptime", uptime, durationText(uptime));
    show("status-since", "", `since ${new Date(Date.now() - uptime * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`);
    show("status-publishers", connections.publishers);
    show("status-handshakes", connections.handshakes, `${connections.handshakes} in handshakes`);
    show("status-receivers", connections.receivers);
    show("status-waiting", connections.waiting, `${connections.waiting} wait for a publisher or a key frame`);
    const lag = slowest[0]?.lag_seconds ?? 0;
    show("status-lag", lag, secondsText(lag));
    byId("status-lag").dataset.tone = lag >= LAG_BAD ? "bad" : lag >= LAG_WARN ? "warn" : "";
    show("status-lagging", slowest.length, slowest.length > 0 ? `${slowest[0].address} on ${slowest[0].channel}` : "nobody is behind");
    const limited = memory.limit_bytes > 0;
    show("status-memory", memory.used_bytes, sizeText(memory.used_bytes));
    show("status-limit", memory.limit_bytes ?? "", limited ? `of ${sizeText(memory.limit_bytes)}` : "without a limit");
    byId("status-meter").hidden = !limited;
    if (limited) byId("status-meter").value = memory.used_bytes / memory.limit_bytes;
  }

  #showPlots({ totals, connections, slowest }) {
    const now = { at: performance.now() / 1000, received: totals.received_bytes, sent: totals.sent_bytes };
    const before = this.#before;
    this.#before = now;
    const rate = (name) => (before && now[name] >= before[name] ? ((now[name] - before[name]) * 8) / (now.at - before.at) : undefined);
    this.#plots.received.push(rate("received"), now.at);
    this.#plots.sent.push(rate("sent"), now.at);
    this.#plots.receivers.push(connections.receivers, now.at);
    this.#plots.lag.push(slowest[0]?.lag_seconds ?? 0, now.at);
  }
}

// --- texts and bars ---

function bitsText(bits) {
  if (bits < 1e6) return `${(bits / 1e3).toFixed(0)} kbit/s`;
  return bits < 1e9 ? `${(bits / 1e6).toFixed(2)} Mbit/s` : `${(bits / 1e9).toFixed(2)} Gbit/s`;
}

const CONTAINERS = { webm: "WebM", matroska: "Matroska", mp4: "MP4", flv: "FLV", mpegts: "MPEG-TS" };

// mediaText says what a channel's stream is, as far as the server can tell.
function mediaText({ container, codecs, width, height, key_frame_seconds: keySeconds, content_type: type }) {
  const said = [
    CONTAINERS[container] ?? (type || container),
    codecs?.join(", "),
    width && height && `${width}×${height}`,
    keySeconds && `key frame every ${secondsText(keySeconds)}`,
  ];
  return said.filter(Boolean).join(" · ") || "–";
}

const skipsText = (skips) => (skips ? ` · ${skips} ${skips === 1 ? "skip" : "skips"}` : "");

function durationText(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/** Cumulative buckets as pairs of what and how many. */
function lagBars({ count, buckets }) {
  let below = 0;
  const pairs = buckets.map(({ le, count: upTo }) => {
    const here = upTo - below;
    below = upTo;
    return [`up to ${le < 1 ? `${Math.round(le * 1000)} ms` : `${le} s`}`, here];
  });
  return [...pairs, [`over ${buckets.at(-1)?.le ?? 0} s`, count - below]];
}

/** Fills a list with bars, one per pair of name and number. */
function bars(list, pairs) {
  if (pairs.length === 0) {
    list.replaceChildren(el("li", { class: "soft" }, "None yet."));
    return;
  }
  if (list.querySelector("progress") === null) list.replaceChildren();
  const most = Math.max(1, ...pairs.map(([, n]) => n));
  while (list.children.length > pairs.length) list.lastElementChild.remove();
  while (list.children.length < pairs.length) list.append(el("li", {}, el("span"), el("progress", { max: "1", value: "0", "aria-hidden": "true" }), el("strong")));
  pairs.forEach(([name, n], i) => {
    const [label, bar, number] = list.children[i].children;
    label.textContent = name;
    bar.value = n / most;
    number.textContent = String(n);
  });
}
