// A small line of the last totals of a score, drawn as one SVG path.

import { number, text } from "../text";

const WIDTH = 96;
const HEIGHT = 24;

export function Spark({ totals }: { totals: number[] }) {
  const [first, last] = [totals[0], totals.at(-1)];
  if (first === undefined || last === undefined || totals.length < 2) return <span class="spark" />;
  const low = Math.min(...totals);
  const span = Math.max(...totals) - low || 1;
  const points = totals.map((total, index) => `${((index / (totals.length - 1)) * (WIDTH - 2) + 1).toFixed(1)},${(HEIGHT - 2 - ((total - low) / span) * (HEIGHT - 4)).toFixed(1)}`);
  return (
    <svg class={last < first ? "spark down" : "spark"} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={text("spark", { from: number(first), to: number(last) })}>
      <polyline points={points.join(" ")} />
    </svg>
  );
}
