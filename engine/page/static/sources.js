// Where a published stream comes from: a camera, the screen, a file, the clock.

import { Clock } from "./clock.js";

export const SOURCES = [
  ["camera", "Camera"],
  ["screen", "Screen"],
  ["file", "File"],
  ["clock", "Clock"],
];

/** Why a source cannot be used, in words for people. */
class SourceProblem extends Error {}

/**
 * Opens a source. wishes: {width, height} of the picture (undefined: as the source
 * has it), fps, and for a file {file, loop}. ended is called, once, when the source ends
 * by itself: the file is over, the screen is not shared any more, a plug was pulled.
 *
 * Returns {stream, stop}; the caller calls stop(). Throws an error whose message is
 * meant for people.
 */
export async function openSource(kind, wishes, ended) {
  let over = false;
  const once = () => {
    if (!over) ended();
    over = true;
  };
  try {
    const source = await openers[kind](wishes, once);
    for (const track of source.stream.getTracks()) track.addEventListener("ended", once);
    return source;
  } catch (error) {
    throw error instanceof SourceProblem ? error : new SourceProblem(sourceProblem(kind, error));
  }
}

const openers = {
  async camera({ width, height, fps }) {
    const picture = pictureWishes(width, height, fps);
    const devices = needDevices("camera");
    const stream = await devices.getUserMedia({ video: picture, audio: true }).catch((error) => {
      if (error.name !== "NotFoundError") throw error;
      return devices.getUserMedia({ video: picture }); // no microphone
    });
    return { stream, stop: () => stopTracks(stream) };
  },

  async screen({ width, height, fps }) {
    const devices = needDevices("screen");
    if (!devices.getDisplayMedia) throw new SourceProblem("This browser cannot share its screen.");
    const stream = await devices.getDisplayMedia({ video: pictureWishes(width, height, fps), audio: true });
    return { stream, stop: () => stopTracks(stream) };
  },

  file: openFile,

  async clock({ width = 1280, height = 720, fps }) {
    const clock = new Clock({ width, height, fps });
    return { stream: clock.stream, stop: () => clock.stop() };
  },
};

function needDevices(what) {
  if (navigator.mediaDevices) return navigator.mediaDevices;
  throw new SourceProblem(
    isSecureContext
      ? `This browser gives no page a ${what}.`
      : `Browsers give a ${what} only to pages that were loaded over https:// or from localhost. The clock and a file work here too.`,
  );
}

const pictureWishes = (width, height, fps) => ({
  ...(width && { width: { ideal: width }, height: { ideal: height } }),
  frameRate: { ideal: fps },
});

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}

// A file plays in an element that nobody sees. As it is, the element's own capture is
// the stream; in another size, a canvas that it is drawn on.
async function openFile({ file, loop, width, height, fps }, ended) {
  if (!file) throw new SourceProblem("Choose a file first.");
  const video = document.createElement("video");
  const capture = video.captureStream ?? video.mozCaptureStream;
  if (!capture) throw new SourceProblem("This browser cannot publish a file: it does not give out what it plays.");
  const address = URL.createObjectURL(file);
  let canvas;
  let captured;
  const stop = () => {
    video.pause();
    canvas?.stop();
    if (captured) stopTracks(captured);
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(address);
  };
  try {
    Object.assign(video, { loop, playsInline: true, muted: true });
    await loaded(video, address, file.name);
    captured = capture.call(video);
    video.addEventListener("ended", ended);
    await video.play();
    if (!width || !video.videoWidth) return { stream: captured, stop };
    canvas = scaled(video, width, height, fps);
    return { stream: new MediaStream([...canvas.tracks, ...captured.getAudioTracks()]), stop };
  } catch (error) {
    stop();
    throw error;
  }
}

function loaded(video, address, name) {
  return new Promise((resolve, reject) => {
    video.addEventListener("loadeddata", resolve, { once: true });
    video.addEventListener("error", () => reject(new SourceProblem(`This browser cannot play ${name}: ${video.error?.message || "it is not a format that it knows"}.`)), { once: true });
    video.src = address;
  });
}

/** A video in another size, fps times a second: {tracks, stop}. What does not fit is black. */
function scaled(video, width, height, fps) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { alpha: false });
  const draw = () => {
    const factor = Math.min(width / video.videoWidth, height / video.videoHeight);
    const [w, h] = [video.videoWidth * factor, video.videoHeight * factor];
    pen.drawImage(video, (width - w) / 2, (height - h) / 2, w, h);
  };
  draw();
  const timer = setInterval(draw, 1000 / fps);
  const tracks = canvas.captureStream(fps).getVideoTracks();
  return {
    tracks,
    stop() {
      clearInterval(timer);
      for (const track of tracks) track.stop();
    },
  };
}

/** What a browser's error means for a source of this kind, in words. */
export function sourceProblem(kind, error) {
  switch (error.name) {
    case "NotAllowedError":
      return kind === "screen"
        ? "The screen is not shared: nothing was chosen, or the browser may not share it."
        : "The browser may not use the camera or the microphone. Allow it beside the address, then try again.";
    case "NotFoundError":
      return "There is no camera.";
    case "NotReadableError":
      return `The ${kind} cannot be read: another program may be using it.`;
    default:
      return `The ${kind} cannot be used: ${error.message || error.name}.`;
  }
}
