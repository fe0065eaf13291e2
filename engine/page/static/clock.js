// A generated clock with sound: a stream that needs no camera, no microphone and no
// permission. Next to it, the watching side shows how far behind it is.

const BARS = ["#c9ccd1", "#c6bd3f", "#3fb9c0", "#3fae5a", "#b04fb0", "#c2453f", "#3f5fc2"];
const FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";
const BEEP_SECONDS = 0.08;
const BEEP_HZ = 1000; // 1500 at a full minute

/** Starts at once; its stream, one picture track and one sound track, ends with stop(). */
export class Clock {
  #canvas = document.createElement("canvas");
  #pen;
  #audio = new AudioContext();
  #out;
  #timer;
  #second = new Date().getSeconds(); // at the last beep
  #picture = 0;

  constructor({ width, height, fps }) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#pen = this.#canvas.getContext("2d", { alpha: false });
    this.#out = this.#audio.createMediaStreamDestination();
    // Without any tone there would be no sound at all, not even silence, and a stream
    // with holes where nothing is heard. This one is too soft to be heard.
    const murmur = this.#audio.createOscillator();
    const soft = this.#audio.createGain();
    soft.gain.value = 0.0001;
    murmur.connect(soft).connect(this.#out);
    murmur.start();
    this.#audio.resume().catch(() => {}); // without a click it stays silent
    this.#tick();
    this.#timer = setInterval(() => this.#tick(), 1000 / fps);
    this.stream = new MediaStream([...this.#canvas.captureStream(fps).getVideoTracks(), ...this.#out.stream.getAudioTracks()]);
  }

  stop() {
    clearInterval(this.#timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.#audio.close();
  }

  #tick() {
    const now = new Date();
    if (now.getSeconds() !== this.#second) {
      this.#second = now.getSeconds();
      this.#beep(this.#second === 0 ? BEEP_HZ * 1.5 : BEEP_HZ);
    }
    this.#draw(now);
  }

  #beep(hertz) {
    const at = this.#audio.currentTime;
    const tone = this.#audio.createOscillator();
    const loudness = this.#audio.createGain();
    tone.frequency.value = hertz;
    loudness.gain.setValueAtTime(0, at);
    loudness.gain.linearRampToValueAtTime(0.25, at + 0.005);
    loudness.gain.setValueAtTime(0.25, at + BEEP_SECONDS - 0.01);
    loudness.gain.linearRampToValueAtTime(0, at + BEEP_SECONDS);
    tone.connect(loudness).connect(this.#out);
    tone.start(at);
    tone.stop(at + BEEP_SECONDS);
  }

  #draw(now) {
    const { width: w, height: h } = this.#canvas;
    const p = this.#pen;
    p.fillStyle = "#0e1420";
    p.fillRect(0, 0, w, h);
    BARS.forEach((color, i) => {
      p.fillStyle = color;
      p.fillRect(Math.floor((i * w) / BARS.length), Math.round(h * 0.9), Math.ceil(w / BARS.length), h);
    });
    this.#drawDial(now, w * 0.2, h * 0.46, h * 0.28);
    p.textAlign = "left";
    p.textBaseline = "alphabetic";
    const left = w * 0.39;
    const write = (text, y, size, color) => {
      p.font = `600 ${Math.round(h * size)}px ${FONT}`;
      p.fillStyle = color;
      p.fillText(text, left, h * y, w * 0.58);
    };
    const ms = String(now.getMilliseconds()).padStart(3, "0");
    write(now.toLocaleDateString("en-CA"), 0.3, 0.075, "#93a4bd");
    write(`${now.toTimeString().slice(0, 8)}.${ms.slice(0, 2)}`, 0.53, 0.19, "#ffffff");
    write(`picture ${this.#picture++}`, 0.68, 0.075, "#93a4bd");
  }

  // A dial whose hand turns once a second shows lost and repeated pictures.
  #drawDial(now, x, y, radius) {
    const p = this.#pen;
    const part = now.getMilliseconds() / 1000;
    const ring = (from, to, color) => {
      p.strokeStyle = color;
      p.lineWidth = radius * 0.16;
      p.beginPath();
      p.arc(x, y, radius, (from - 0.25) * 2 * Math.PI, (to - 0.25) * 2 * Math.PI);
      p.stroke();
    };
    ring(0, 1, "#243049");
    ring(0, part, part < BEEP_SECONDS * 2 ? "#ffffff" : "#7fa4ff"); // a flash with each beep
    p.fillStyle = "#ffffff";
    p.beginPath();
    p.arc(x + radius * Math.sin(part * 2 * Math.PI), y - radius * Math.cos(part * 2 * Math.PI), radius * 0.14, 0, 2 * Math.PI);
    p.fill();
    p.textAlign = "center";
    p.textBaseline = "middle";
    p.font = `600 ${Math.round(radius * 0.7)}px ${FONT}`;
    p.fillText(String(now.getSeconds()).padStart(2, "0"), x, y + radius * 0.05);
  }
}
