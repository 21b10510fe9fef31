// The score over time with the events that changed it. The table beside it has the same. Tooltips are drawn ("richText"): those
// that ECharts makes of markup carry style attributes, which the Content-Security-Policy refuses.

import { LineChart } from "echarts/charts";
import { AriaComponent, GridComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { useEffect, useRef } from "preact/hooks";
import { exactly, number, signed, text } from "../text";
import { causeOf, type Entry } from "./detail";

use([LineChart, GridComponent, TooltipComponent, AriaComponent, SVGRenderer]);

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const night = matchMedia("(prefers-color-scheme: dark)");
type Hovered = { dataIndex: number };

/** `entries`: of one model, the oldest first. `until`: the line goes on to this moment. */
export default function ScoreChart({ entries, until }: { entries: readonly Entry[]; until: string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    const last = entries.at(-1);
    if (!element || !last) return undefined;
    const chart = init(element, night.matches ? "dark" : null, { renderer: "svg" });
    const dress = () => chart.setTheme(night.matches ? "dark" : "default");
    const points = [...entries.map((each) => [each.at, each.total]), [until > last.at ? until : last.at, last.total]];
    chart.setOption({
      backgroundColor: "transparent",
      animation: !still,
      aria: { enabled: true, label: { description: text("overTime") } },
      grid: { left: 36, right: 16, top: 12, bottom: 28 },
      tooltip: {
        trigger: "axis", renderMode: "richText", confine: true,
        formatter: (hovered: Hovered[]) => {
          const entry = entries[hovered[0]?.dataIndex ?? 0];
          return entry ? `${exactly(entry.at)}\n${number(entry.total)} (${signed(entry.change)})\n${causeOf(entry).slice(0, 60)}` : exactly(until);
        },
      },
      xAxis: { type: "time", splitNumber: 5 },
      yAxis: { type: "value", splitNumber: 4 },
      series: [{ type: "line", step: "end", data: points, symbolSize: 5, showSymbol: points.length < 60, areaStyle: { opacity: 0.12 } }],
    });
    const watch = new ResizeObserver(() => chart.resize());
    watch.observe(element);
    night.addEventListener("change", dress);
    return () => { night.removeEventListener("change", dress); watch.disconnect(); chart.dispose(); };
  }, [entries, until]);
  return <div class="chart" ref={place} role="img" aria-label={text("overTime")} dir="ltr" />;
}
