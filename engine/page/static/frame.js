// The windows that a publisher's sockets live in, never seen. A WebSocket cannot be
// ended without sending first what waits in it; but a window that is gone takes its
// sockets along, and what waits in them.

let spare; // loaded long before it is needed: some browsers load even an empty window in their own time

function make() {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  frame.title = "connection";
  document.body.append(frame);
  return frame;
}

/** Makes a window ready for the first takeFrame. */
export function prepareFrame() {
  spare ??= make();
}

/** A window for one socket; the caller removes it. */
export function takeFrame() {
  prepareFrame();
  const frame = spare;
  spare = make();
  return frame;
}
