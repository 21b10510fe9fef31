// Bars side by side, as SVG, with the same numbers as a table.

import { number, text } from "../text";

export type Bar = { label: string; values: (number | null)[] };

const WIDTH = 640;
const HEIGHT = 190;
const BELOW = 26;
const ABOVE = 16;

type Props = { title: string; series: readonly string[]; bars: readonly Bar[]; along: string; line?: { at: number; label: string }; shown?: (value: number) => string };

export function Bars({ title, series, bars, along, line, shown = number }: Props) {
  const most = Math.max(line?.at ?? 0, ...bars.flatMap((bar) => bar.values.map((value) => value ?? 0)), 1e-9);
  const step = WIDTH / Math.max(bars.length, 1);
  const width = Math.min(34, (step - 4) / series.length);
  const top = (value: number) => ABOVE + (HEIGHT - ABOVE - BELOW) * (1 - value / most);
  const every = Math.ceil(bars.length / 10);
  return (
    <figure class="bars">
      <figcaption><span>{title}</span>{series.length > 1 && series.map((name, index) => <span class="key" key={name}><i class={`series-${index}`} aria-hidden="true" />{name}</span>)}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={title} dir="ltr">
        {bars.map((bar, at) => bar.values.map((value, index) => {
          const x = at * step + (step - width * series.length) / 2 + index * width;
          return value ? <rect key={`${bar.label} ${index}`} class={`series-${index}`} x={x} y={top(value)} width={Math.max(width - 1, 1)} height={Math.max(HEIGHT - BELOW - top(value), 1)} rx="2"><title>{`${bar.label}: ${shown(value)}`}</title></rect> : null;
        }))}
        <line class="ground" x1="0" x2={WIDTH} y1={HEIGHT - BELOW} y2={HEIGHT - BELOW} />
        {line && <><line class="mark" x1="0" x2={WIDTH} y1={top(line.at)} y2={top(line.at)} /><text x={WIDTH - 4} y={top(line.at) - 4} text-anchor="end">{line.label}</text></>}
        {bars.map((bar, at) => at % every === 0 && <text key={bar.label} x={at * step + step / 2} y={HEIGHT - 8} text-anchor="middle">{bar.label}</text>)}
      </svg>
      <details><summary>{text("asTable")}</summary>
        <table>
          <thead><tr><th scope="col">{along}</th>{series.map((name) => <th scope="col" class="points" key={name}>{name}</th>)}</tr></thead>
          <tbody>{bars.map((bar) => <tr key={bar.label}><th scope="row">{bar.label}</th>{bar.values.map((value, index) => <td class="points" key={series[index]}>{value === null ? "–" : shown(value)}</td>)}</tr>)}</tbody>
        </table></details>
    </figure>
  );
}
