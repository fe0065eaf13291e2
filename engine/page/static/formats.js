// What this browser can record, and play back: the formats that may be chosen.

// The name of a format for a recorder is not always the one for a player: a recorder
// takes "vp9", a player wants the profile too.
const FORMATS = [
  { name: "VP8 in WebM", record: "video/webm;codecs=vp8,opus", play: 'video/webm;codecs="vp8,opus"' },
  { name: "VP9 in WebM", record: "video/webm;codecs=vp9,opus", play: 'video/webm;codecs="vp9,opus"' },
  { name: "AV1 in WebM", record: "video/webm;codecs=av1,opus", play: 'video/webm;codecs="av01.0.08M.08,opus"' },
  { name: "H.264 and AAC in MP4", record: "video/mp4;codecs=avc1.42E01E,mp4a.40.2", play: 'video/mp4;codecs="avc1.42E01E,mp4a.40.2"' },
  { name: "H.264 and Opus in MP4", record: "video/mp4;codecs=avc1.42E01E,opus", play: 'video/mp4;codecs="avc1.42E01E,opus"' },
  { name: "VP9 in MP4", record: "video/mp4;codecs=vp9,opus", play: 'video/mp4;codecs="vp09.00.10.08,opus"' },
  { name: "AV1 in MP4", record: "video/mp4;codecs=av01.0.08M.08,opus", play: 'video/mp4;codecs="av01.0.08M.08,opus"' },
];

/**
 * The formats that recorder makes and player takes, best first: {name, record, play},
 * the last two as MIME types. Empty when this browser has no such format. Both are
 * asked with isTypeSupported; the defaults are this browser's own.
 */
export function recordingFormats(recorder = globalThis.MediaRecorder, player = globalThis.ManagedMediaSource ?? globalThis.MediaSource) {
  if (!recorder || !player) return [];
  return FORMATS.filter((format) => recorder.isTypeSupported(format.record) && player.isTypeSupported(format.play));
}

/** Whether a recorder of this browser lets the interval between two key pictures be chosen. */
export function choosesKeyPictures() {
  let asked = false;
  try {
    // Only an option that the browser knows is read.
    new MediaRecorder(new MediaStream(), {
      get videoKeyFrameIntervalDuration() {
        asked = true;
        return 1000;
      },
    });
  } catch {
    // A recorder that does not want an empty stream has read its options before.
  }
  return asked;
}

/** Whether a format goes out in pieces that may be as short as a slice: MP4 only leaves at key pictures. */
export const slices = (format) => !format.startsWith("video/mp4");
