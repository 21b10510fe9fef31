// The rates of variants with their intervals, as SVG. The table beside it has the same numbers.

import { text } from "../text";
import { share } from "../Table";

export type RateRow = { name: string; rate: number; interval: readonly [number, number] };

const WIDTH = 640;
const ROW = 44;
const AXIS = 24;
const LEFT = 12;
const RIGHT = 60;
const LONGEST_NAME = 40;
const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
const MOST_STEPS = 5;

export function RateIntervals({ title, rows }: { title: string; rows: readonly RateRow[] }) {
  const highest = Math.max(...rows.map((each) => each.interval[1]));
  const step = STEPS.find((each) => highest <= each * MOST_STEPS) ?? 0.2;
  const ticks = Array.from({ length: Math.max(1, Math.ceil(highest / step)) + 1 }, (_, index) => index * step);
  const most = ticks.at(-1) ?? 1;
  const x = (rate: number) => LEFT + (WIDTH - LEFT - RIGHT) * (rate / most);
  const height = rows.length * ROW + AXIS;
  const said = rows.map((each) => `${each.name}: ${share(each.rate)} (${share(each.interval[0])} – ${share(each.interval[1])})`).join("; ");
  return (
    <figure class="bars rate-intervals">
      <figcaption><span>{title}</span><span>{text("trialChartHint")}</span></figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`${title}. ${said}`} dir="ltr">
        {ticks.map((tick) => <g key={tick}>
          <line class="grid" x1={x(tick)} x2={x(tick)} y1="0" y2={height - AXIS} />
          <text x={x(tick)} y={height - 7} text-anchor={tick ? "middle" : "start"}>{share(tick)}</text></g>)}
        {rows.map((each, at) => {
          const y = at * ROW + 30;
          const [low, high] = each.interval;
          return <g key={each.name} class={`interval-${Math.min(at, 1)}`}>
            <text x={LEFT} y={y - 14}>{each.name.slice(0, LONGEST_NAME)}</text>
            <line class="interval" x1={x(low)} x2={x(high)} y1={y} y2={y} /><line class="interval" x1={x(low)} x2={x(low)} y1={y - 5} y2={y + 5} /><line class="interval" x1={x(high)} x2={x(high)} y1={y - 5} y2={y + 5} />
            <circle cx={x(each.rate)} cy={y} r="6"><title>{`${each.name}: ${share(each.rate)}`}</title></circle>
            <text class="figure-text" x={x(high) + 8} y={y + 4}>{share(each.rate)}</text></g>;
        })}
      </svg>
    </figure>
  );
}
