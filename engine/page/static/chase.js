// How a player stays near the live edge and gets over gaps: decisions without a video, so
// that a table tests them.

const FASTEST = 1.08; // hardly heard or seen, and a second is made up in 13
const SLACK_SECONDS = 0.3; // beyond the target before anything is done

/**
 * How near the live edge to play, by name. target: seconds behind it that are aimed at;
 * far: seconds behind it from which on it is jumped to. 0: never.
 */
export const LATENCIES = {
  low: { target: 0.7, far: 3 },
  normal: { target: 1.5, far: 8 },
  smooth: { target: 4, far: 20 },
  all: { target: 0, far: 0 },
};

/**
 * What to do when playing `behind` seconds behind the live edge at `rate`: {rate, jump}.
 * jump is the distance from the live edge to go to, or undefined.
 */
export function chase({ behind, rate, target, far }) {
  if (target === 0) return { rate: 1, jump: undefined };
  if (behind > far) return { rate: 1, jump: target };
  const excess = behind - target;
  // Once faster, it stays so until the target is reached, or it would hunt around it.
  if (excess <= 0 || (rate <= 1 && excess <= SLACK_SECONDS)) return { rate: 1, jump: undefined };
  return { rate: Math.min(FASTEST, 1.02 + 0.03 * excess), jump: undefined };
}

/** Seconds that can be played from a position on. Gaps between the ranges do not count. */
export function playable(ranges, from) {
  let seconds = 0;
  for (let i = 0; i < ranges.length; i++) seconds += Math.max(0, ranges.end(i) - Math.max(ranges.start(i), from));
  return seconds;
}

/** The position from which so many seconds can be played, the first one if there are fewer. */
export function before(ranges, seconds) {
  let i = ranges.length - 1;
  for (; i > 0 && ranges.end(i) - ranges.start(i) < seconds; i--) seconds -= ranges.end(i) - ranges.start(i);
  return i < 0 ? 0 : Math.max(ranges.start(i), ranges.end(i) - seconds);
}

/**
 * Where a position is: {inside, left, next}. inside says whether in a range, more than
 * slack seconds before its end; left is the seconds until then; next is where the range
 * after it, or after the position, begins, undefined if there is none.
 */
export function place(ranges, at, slack) {
  let i = 0;
  while (i < ranges.length && at >= ranges.end(i) - slack) i++;
  const startOf = (n) => (n < ranges.length ? ranges.start(n) : undefined);
  if (i === ranges.length || at < ranges.start(i)) return { inside: false, left: 0, next: startOf(i) };
  return { inside: true, left: ranges.end(i) - slack - at, next: startOf(i + 1) };
}
