// A small plot of one number over the last seconds, drawn on a canvas: sharp on
// every screen, in the page's own colours, and with its numbers in words for
// those who do not see it.

const PAD = 2; // CSS pixels at the edges, so that a line at the top is not cut
const FONT_SIZE = 12;
const ROW = 18; // one row of text
const NICE = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** The smallest "round" number that is not below value. */
export function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return NICE.find((step) => step * power >= value * (1 - 1e-9)) * power;
}

/**
 * A plot of one number.
 *
 * Options, all but label with a default:
 * - label: what is plotted, in a word or two;
 * - format: turns a value into words, default String;
 * - seconds: how much time is shown, default 60;
 * - color: the custom property with the line's colour, default "--accent";
 * - limit: a value with a line of its own, for instance a bound; default none;
 * - top: the least height of the scale, default 0, so the scale fits the values.
 *
 * The canvas takes its size from CSS and its colours from the custom properties
 * --text, --soft, --line, --bad and the one that is named by color.
 */
export class Plot {
  #canvas;
  #options;
  #points = []; // {time, value} in order; a value that is not finite is a gap
  #pending = 0; // the animation frame in which the plot is drawn
  #observer;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#later();

  constructor(canvas, options) {
    this.#canvas = canvas;
    this.#options = { format: String, seconds: 60, color: "--accent", limit: undefined, top: 0, ...options };
    canvas.setAttribute("role", "img");
    this.#describe();
    this.#observer = new ResizeObserver(this.#redraw);
    this.#observer.observe(canvas);
    this.#scheme.addEventListener("change", this.#redraw);
    document.addEventListener("themechange", this.#redraw);
  }

  /**
   * Adds a value at a time in seconds, default now. Times must not go back. A
   * value that is not a finite number (undefined, NaN) leaves a gap.
   */
  push(value, time = performance.now() / 1000) {
    this.#points.push({ time, value: Number.isFinite(value) ? value : NaN });
    // The point before the window stays: the line begins there.
    const begin = time - this.#options.seconds;
    let past = 0;
    while (past + 1 < this.#points.length && this.#points[past + 1].time <= begin) past++;
    this.#points.splice(0, past);
    this.#describe();
    this.#later();
  }

  /** Forgets every value. */
  clear() {
    this.#points = [];
    this.#describe();
    this.#later();
  }

  /** The value with a line of its own, undefined for none. */
  set limit(limit) {
    this.#options.limit = limit;
    this.#later();
  }

  /** {min, max, now} of what is shown; each is undefined without a value. */
  get summary() {
    const values = this.#points.map((point) => point.value).filter(Number.isFinite);
    const now = this.#points.at(-1)?.value;
    return {
      min: values.length ? Math.min(...values) : undefined,
      max: values.length ? Math.max(...values) : undefined,
      now: Number.isFinite(now) ? now : undefined,
    };
  }

  /** Stops looking at the canvas; the plot is not drawn again. */
  destroy() {
    cancelAnimationFrame(this.#pending);
    this.#observer.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
    document.removeEventListener("themechange", this.#redraw);
  }

  #words(value) {
    return value === undefined ? "–" : this.#options.format(value);
  }

  #describe() {
    const { label, seconds } = this.#options;
    const { min, max, now } = this.summary;
    const text = max === undefined ? "no values yet" : `now ${this.#words(now)}, lowest ${this.#words(min)}, highest ${this.#words(max)}`;
    this.#canvas.setAttribute("aria-label", `${label}, last ${seconds} seconds: ${text}`);
  }

  // However many values come, one picture is drawn per picture of the screen.
  #later() {
    this.#pending ||= requestAnimationFrame(() => {
      this.#pending = 0;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (width === 0 || height === 0) return; // not shown; its size will change when it is
    const scale = devicePixelRatio || 1;
    const pixels = { width: Math.round(width * scale), height: Math.round(height * scale) };
    if (canvas.width !== pixels.width) canvas.width = pixels.width;
    if (canvas.height !== pixels.height) canvas.height = pixels.height;
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    // A custom property may hold light-dark(), which only an element resolves.
    const color = (name) => {
      canvas.style.color = `var(${name})`;
      return style.color;
    };
    const area = { left: PAD, right: width - PAD, top: ROW + PAD + 4, bottom: height - ROW - PAD };
    const { max = 0 } = this.summary;
    const { limit, top } = this.#options;
    // The bound is part of the scale once the values come near it.
    const ceiling = niceCeiling(Math.max(max * 1.05, top, limit !== undefined && max > limit / 2 ? limit : 0));
    const y = (value) => area.bottom - (Math.max(0, value) / ceiling) * (area.bottom - area.top);
    this.#drawGrid(pen, area, color, scale);
    this.#drawLine(pen, area, y, color);
    if (limit !== undefined && limit <= ceiling) this.#drawLimit(pen, area, y(limit), color);
    this.#drawText(pen, style.fontFamily, area, height, ceiling, color);
  }

  #drawGrid(pen, area, color, scale) {
    const hair = 1 / scale;
    const snap = (at) => (Math.round(at * scale) + 0.5) / scale;
    pen.lineWidth = hair;
    pen.strokeStyle = color("--line");
    pen.beginPath();
    for (const part of [0, 0.5, 1]) {
      const at = snap(area.top + part * (area.bottom - area.top) - hair);
      pen.moveTo(area.left, at);
      pen.lineTo(area.right, at);
    }
    for (const part of [0.25, 0.5, 0.75]) {
      const at = snap(area.left + part * (area.right - area.left));
      pen.moveTo(at, area.top);
      pen.lineTo(at, area.bottom);
    }
    pen.stroke();
  }

  // Each run of values between two gaps is a line with a soft area below.
  #drawLine(pen, area, y, color) {
    const last = this.#points.at(-1)?.time ?? 0;
    const x = (time) => area.right - ((last - time) / this.#options.seconds) * (area.right - area.left);
    const ink = color(this.#options.color);
    pen.save();
    pen.beginPath();
    pen.rect(area.left, 0, area.right - area.left + PAD, area.bottom + PAD);
    pen.clip();
    pen.lineJoin = pen.lineCap = "round";
    for (const run of runs(this.#points)) {
      const line = new Path2D();
      for (const point of run) line.lineTo(x(point.time), y(point.value));
      const below = new Path2D(line);
      below.lineTo(x(run.at(-1).time), area.bottom);
      below.lineTo(x(run[0].time), area.bottom);
      pen.globalAlpha = 0.14;
      pen.fillStyle = ink;
      pen.fill(below);
      pen.globalAlpha = 1;
      pen.strokeStyle = ink;
      pen.lineWidth = 1.75;
      pen.stroke(line);
    }
    const { now } = this.summary;
    if (now !== undefined) {
      pen.fillStyle = ink;
      pen.beginPath();
      pen.arc(area.right - 2, y(now), 3, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.restore();
  }

  #drawLimit(pen, area, at, color) {
    pen.save();
    pen.strokeStyle = color("--bad");
    pen.lineWidth = 1;
    pen.setLineDash([4, 4]);
    pen.beginPath();
    pen.moveTo(area.left, at);
    pen.lineTo(area.right, at);
    pen.stroke();
    pen.restore();
  }

  // Above: what it is, and now. Below: how far back, lowest and highest. At the
  // upper grid line: what it stands for.
  #drawText(pen, family, area, height, ceiling, color) {
    const { label, seconds } = this.#options;
    const { min, max, now } = this.summary;
    const write = (text, at, base, align, ink, weight = "") => {
      pen.font = `${weight} ${FONT_SIZE}px ${family}`;
      pen.textAlign = align;
      pen.textBaseline = "middle";
      pen.fillStyle = color(ink);
      pen.fillText(text, at, base);
    };
    write(label, area.left, ROW / 2, "left", "--soft");
    write(this.#words(now), area.right, ROW / 2, "right", "--text", "600");
    const span = `${seconds} s`;
    const range = max === undefined ? "" : `min ${this.#words(min)} · max ${this.#words(max)}`;
    write(range, area.right, height - ROW / 2, "right", "--soft");
    // On a narrow canvas there is no room for both.
    if (pen.measureText(`${span} ${range}`).width < area.right - area.left) write(span, area.left, height - ROW / 2, "left", "--soft");
    if (max === undefined) return;
    write(this.#words(ceiling), area.left + 3, area.top + 9, "left", "--soft");
  }
}

/** The runs of finite values in points, in order. */
function* runs(points) {
  let run = [];
  for (const point of points) {
    if (!Number.isNaN(point.value)) {
      run.push(point);
    } else if (run.length) {
      yield run;
      run = [];
    }
  }
  if (run.length) yield run;
}
