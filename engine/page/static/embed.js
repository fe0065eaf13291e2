// The embedded view: one channel on the whole page, for an <iframe> of any site. What to
// play stands in the fragment: #channel=…&key=… and, if wanted, host, scheme, latency
// (low, normal, smooth, all), start (full, keyframe, live), reconnect=no. The page around it is told each state as a
// message {source: "ws-stream-server", state, words}.

import { pageScheme } from "./connection.js";
import { addControls } from "./controls.js";
import { byId } from "./dom.js";
import { hostProblem, idProblem, streamURL } from "./link.js";
import { Player } from "./player.js";

const video = byId("video");
video.muted = true;
const player = new Player(video);
const controls = addControls(byId("screen"), video, player, { start });

function say(state, words) {
  document.body.dataset.state = state;
  byId("state").textContent = words;
  if (parent !== window) parent.postMessage({ source: "ws-stream-server", state, words }, "*");
}

player.addEventListener("state", (event) => say(event.detail.state, event.detail.words));

function start() {
  const params = new URLSearchParams(location.hash.slice(1));
  const address = {
    scheme: ["ws", "wss"].includes(params.get("scheme")) ? params.get("scheme") : pageScheme(),
    host: params.get("host") ?? location.host,
    channel: params.get("channel") ?? "",
    key: params.get("key") ?? "",
    kind: "receive",
  };
  const problem = hostProblem(address.host) || idProblem("Channel", address.channel) || idProblem("Key", address.key);
  if (problem) {
    player.stop();
    controls.say(`The link to this page is not complete. ${problem}`);
    say("failed", `The link to this page is not complete. ${problem}`);
    return;
  }
  player.setLatency(params.get("latency") ?? "normal");
  player.setStart(params.get("start") ?? "");
  player.setReconnect(params.get("reconnect") !== "no");
  player.start(streamURL(address));
}

addEventListener("hashchange", start);
start();
document.body.dataset.ready = "true";
