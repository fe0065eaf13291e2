// How a player stays near the live edge: a decision without a video, so that a table
// tests it.

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
