// A generated picture and sound: needs no camera, microphone or permission. The
// clock shows the delay when the watching side stands next to it.

const BARS = ["#c8c8c8", "#c8c800", "#00c8c8", "#00c800", "#c800c8", "#c80000", "#0000c8"];

/** Starts a pattern; its stream ends with stop(). */
export class Pattern {
  #canvas = document.createElement("canvas");
  #picture;
  #audio;
  #beepLoudness;
  #timer;
  #second = -1; // of the clock, at the last beep
  #frame = 0;
  #started = performance.now();

  constructor({ width, height, fps }) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#picture = this.#canvas.getContext("2d", { alpha: false });
    this.#draw();
    this.#timer = setInterval(() => this.#draw(), 1000 / fps);
    const sound = this.#startSound();
    this.stream = new MediaStream([...this.#canvas.captureStream(fps).getVideoTracks(), ...sound.getAudioTracks()]);
  }

  stop() {
    clearInterval(this.#timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.#audio.close();
  }

  // A quiet tone with a short higher one at each second of the clock.
  #startSound() {
    this.#audio = new AudioContext();
    const out = this.#audio.createMediaStreamDestination();
    const tone = this.#audio.createOscillator();
    const loudness = this.#audio.createGain();
    tone.frequency.value = 440;
    loudness.gain.value = 0.08;
    tone.connect(loudness).connect(out);
    tone.start();
    const beep = this.#audio.createOscillator();
    this.#beepLoudness = this.#audio.createGain();
    beep.frequency.value = 1000;
    this.#beepLoudness.gain.value = 0;
    beep.connect(this.#beepLoudness).connect(out);
    beep.start();
    this.#audio.resume();
    return out.stream;
  }

  #draw() {
    const { width: w, height: h } = this.#canvas;
    const p = this.#picture;
    const now = new Date();
    const t = (performance.now() - this.#started) / 1000;

    BARS.forEach((color, i) => {
      p.fillStyle = color;
      p.fillRect(Math.floor((i * w) / BARS.length), 0, Math.ceil(w / BARS.length), h);
    });
    p.fillStyle = "#101418";
    p.fillRect(0, h * 0.3, w, h * 0.4);

    // A disc that goes to and fro shows lost or repeated pictures.
    const swing = (1 - Math.cos(t * 1.5)) / 2;
    p.fillStyle = "#ffffff";
    p.beginPath();
    p.arc(h * 0.1 + swing * (w - h * 0.2), h * 0.15, h * 0.08, 0, 2 * Math.PI);
    p.fill();

    p.textAlign = "center";
    p.textBaseline = "middle";
    p.font = `bold ${Math.round(h * 0.18)}px monospace`;
    p.fillText(`${now.toTimeString().slice(0, 8)}.${Math.floor(now.getMilliseconds() / 100)}`, w / 2, h * 0.46, w * 0.92);
    p.font = `${Math.round(h * 0.08)}px monospace`;
    p.fillStyle = "#9fb4cc";
    p.fillText(`picture ${this.#frame++}`, w / 2, h * 0.61, w * 0.92);

    // One turn a second.
    p.strokeStyle = "#ffffff";
    p.lineWidth = h * 0.03;
    p.beginPath();
    p.arc(w / 2, h * 0.85, h * 0.09, -Math.PI / 2, -Math.PI / 2 + (now.getMilliseconds() / 1000) * 2 * Math.PI);
    p.stroke();

    if (now.getSeconds() !== this.#second) {
      this.#second = now.getSeconds();
      if (!this.#beepLoudness) return; // the first picture comes before the sound
      const at = this.#audio.currentTime;
      this.#beepLoudness.gain.setValueAtTime(0.3, at);
      this.#beepLoudness.gain.setValueAtTime(0, at + 0.08);
    }
  }
}
