// What lies over a picture: the unmute button, the controls, and a word while nothing
// plays. The same in the Watch view and in the embedded one.

import { el, icon, secondsText } from "./dom.js";

const HIDE_MS = 2500; // the controls of a running picture, when nothing moves
const LIVE_SLACK = 1.5; // seconds beyond the target that still count as live

/**
 * Puts the controls over the video in `screen`, for a player. Keys, while `active()` and
 * no field has the focus: k or space (play), m (sound), f (whole screen), l (live).
 * start is called by the button to play when nothing is connected. Returns {say}.
 */
export function addControls(screen, video, player, { start, active = () => true }) {
  const play = button("play", "Play");
  const sound = button("mute", "Sound on");
  const volume = el("input", { type: "range", min: "0", max: "1", step: "0.05", "aria-label": "Volume", class: "volume" });
  const live = el("button", { type: "button", class: "live", title: "Go to the live edge (l)" }, el("span", { class: "dot" }), el("span", { class: "live-words" }, "Live"));
  const inset = button("inset", "Picture in picture");
  const full = button("full", "Whole screen");
  const unmute = el("button", { type: "button", class: "unmute", hidden: true }, icon("mute"), "Tap for sound");
  const words = el("span", { class: "note-words" });
  const note = el("div", { class: "note", hidden: true }, el("span", { class: "spinner", "aria-hidden": "true" }), words);
  const big = el("button", { type: "button", class: "big", "aria-label": "Play" }, icon("play"));
  const bar = el("div", { class: "bar" }, play, sound, volume, live, el("span", { class: "spring" }), inset, full);
  screen.append(note, big, unmute, bar);
  inset.hidden = !document.pictureInPictureEnabled;
  full.hidden = !document.fullscreenEnabled && !video.webkitEnterFullscreen;

  const running = () => ["playing", "buffering"].includes(player.state);
  const idle = () => ["idle", "failed"].includes(player.state);
  let refused = false; // words stand there that are not the player's

  function toggle() {
    if (idle()) start();
    else if (video.paused) player.toLive();
    else video.pause();
  }
  function toggleSound() {
    video.muted = !video.muted;
    if (!video.muted && video.volume === 0) video.volume = 0.5;
  }
  function toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (screen.requestFullscreen) screen.requestFullscreen().catch(() => {});
    else video.webkitEnterFullscreen?.(); // iPhones have it for videos only
  }
  async function toggleInset() {
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else await video.requestPictureInPicture();
    } catch {
      // there is no picture yet, or the browser does not want to
    }
  }

  play.addEventListener("click", toggle);
  big.addEventListener("click", toggle);
  sound.addEventListener("click", toggleSound);
  unmute.addEventListener("click", toggleSound);
  volume.addEventListener("input", () => {
    video.volume = Number(volume.value);
    video.muted = video.volume === 0;
  });
  live.addEventListener("click", () => player.toLive());
  full.addEventListener("click", toggleFull);
  inset.addEventListener("click", toggleInset);
  video.addEventListener("dblclick", toggleFull);

  const keys = { k: toggle, " ": toggle, m: toggleSound, f: toggleFull, l: () => player.toLive() };
  document.addEventListener("keydown", (event) => {
    if (!active() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, button, a, [role=tab], [role=log]") && (event.key === " " || event.target.closest("input, select, textarea"))) return;
    const act = keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    wake();
    act();
  });

  // The controls go away while it plays and nobody touches anything.
  let timer = 0;
  function wake() {
    screen.dataset.awake = "true";
    clearTimeout(timer);
    timer = setTimeout(() => delete screen.dataset.awake, HIDE_MS);
  }
  for (const type of ["pointermove", "pointerdown", "focusin"]) screen.addEventListener(type, wake);
  screen.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") delete screen.dataset.awake;
  });

  function draw() {
    const { state, mime } = player;
    screen.dataset.state = refused ? "failed" : state;
    swap(play, video.paused ? "play" : "pause", video.paused ? "Play (k)" : "Pause (k)");
    swap(sound, video.muted ? "mute" : "sound", video.muted ? "Sound on (m)" : "Sound off (m)");
    swap(full, document.fullscreenElement ? "leave" : "full", document.fullscreenElement ? "Leave the whole screen (f)" : "Whole screen (f)");
    swap(inset, "inset", "Picture in picture");
    volume.value = video.muted ? 0 : video.volume;
    unmute.hidden = !video.muted || !running() || !/opus|vorbis|mp4a|flac/i.test(mime);
    big.hidden = refused || !(idle() || state === "blocked" || state === "paused");
    note.hidden = !refused && ["playing", "paused", "idle", "blocked"].includes(state);
    note.dataset.busy = String(["connecting", "waiting", "buffering", "retrying"].includes(state));
    screen.dataset.sound = String(mime.startsWith("audio/"));
    if (!running()) live.dataset.near = "false";
  }
  player.addEventListener("state", (event) => {
    refused = false;
    words.textContent = event.detail.words;
    draw();
  });
  player.addEventListener("type", draw);
  player.addEventListener("stats", (event) => {
    const { behind } = event.detail;
    const near = behind <= (player.target || 1) + LIVE_SLACK;
    live.dataset.near = String(near && running());
    live.lastChild.textContent = near ? "Live" : `−${secondsText(behind)}`;
  });
  for (const type of ["play", "pause", "volumechange"]) video.addEventListener(type, draw);
  document.addEventListener("fullscreenchange", draw);
  draw();

  return {
    /** Shows words that are not the player's. */
    say(text) {
      words.textContent = text;
      refused = true;
      draw();
    },
  };
}

function button(name, label) {
  return el("button", { type: "button", class: "control", "aria-label": label, title: label, "data-icon": name }, icon(name));
}

function swap(button, name, label) {
  if (button.dataset.icon !== name) {
    button.dataset.icon = name;
    button.replaceChildren(icon(name));
  }
  if (button.title !== label) {
    button.title = label;
    button.setAttribute("aria-label", label);
  }
}
