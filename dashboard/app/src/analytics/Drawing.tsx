// A chart by ECharts. Its table, beside it, has the same numbers. Tooltips are drawn ("richText"): those of markup carry style
// attributes, which the Content-Security-Policy refuses.

import { BarChart, LineChart, PieChart } from "echarts/charts";
import { AriaComponent, GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { useEffect, useRef } from "preact/hooks";
import { number } from "../text";

use([BarChart, LineChart, PieChart, GridComponent, LegendComponent, TooltipComponent, AriaComponent, SVGRenderer]);

export type Kind = "bars" | "rows" | "pie" | "line" | "two axes";
export type Drawn = { title: string; kind: Kind; labels: readonly string[]; series: readonly { name: string; values: readonly (number | null)[] }[] };

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const night = matchMedia("(prefers-color-scheme: dark)");

export function Drawing(drawn: Drawn) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const chart = init(element, night.matches ? "dark" : null, { renderer: "svg" });
    const dress = () => chart.setTheme(night.matches ? "dark" : "default");
    chart.setOption({ backgroundColor: "transparent", animation: !still, aria: { enabled: true, label: { description: drawn.title } }, ...optionsOf(drawn) });
    const watch = new ResizeObserver(() => chart.resize());
    watch.observe(element);
    night.addEventListener("change", dress);
    return () => { night.removeEventListener("change", dress); watch.disconnect(); chart.dispose(); };
  }, [JSON.stringify(drawn)]);
  return <div class="chart" ref={place} role="img" aria-label={drawn.title} dir="ltr" />;
}

function optionsOf({ kind, labels, series }: Drawn): object {
  const tooltip = { renderMode: "richText", confine: true, valueFormatter: (value: unknown) => (typeof value === "number" ? number(value) : "–") };
  const legend = { bottom: 0, type: "scroll" };
  if (kind === "pie") {
    const values = series[0]?.values ?? [];
    const data = labels.map((name, index) => ({ name, value: values[index] ?? 0 })).filter((each) => each.value);
    return { tooltip: { ...tooltip, trigger: "item" }, legend, series: [{ type: "pie", radius: ["38%", "66%"], center: ["50%", "44%"], data, label: { show: false } }] };
  }
  const names = { type: "category", data: labels, axisTick: { show: false }, axisLabel: { interval: labels.length > 13 ? "auto" : 0, rotate: kind !== "rows" && labels.length > 4 ? 30 : 0 } };
  const scale = { type: "value", splitNumber: 4 };
  const isRows = kind === "rows";
  const several = series.length > 1;
  return {
    tooltip: { ...tooltip, trigger: "axis" },
    ...(several && { legend }),
    grid: { left: 8, right: 16, top: 16, bottom: several ? 34 : 8, outerBoundsMode: "same" },
    xAxis: isRows ? scale : names,
    yAxis: isRows ? { ...names, inverse: true } : kind === "two axes" ? [scale, { ...scale, splitLine: { show: false } }] : scale,
    series: series.map(({ name, values }, index) => ({
      name, data: values, type: kind === "line" ? "line" : "bar",
      yAxisIndex: kind === "two axes" ? Math.min(index, 1) : 0, barMaxWidth: 36, connectNulls: false,
    })),
  };
}
