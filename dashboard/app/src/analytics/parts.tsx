// What every tab is made of: cards, and charts with their tables.

import type { ComponentChildren } from "preact";
import { type Shown, Table } from "../Table";
import { amount, number, signed, text } from "../text";
import { Drawing, type Drawn } from "./Drawing";
import type { Money, Reported } from "./report";

export { share, Table } from "../Table";

export const days: Shown = (value) => text("inDays", { n: number(Math.round(value * 10) / 10) });
export const money = (values: Money): string => Object.entries(values).map(([currency, value]) => amount(value, currency)).join(" · ") || "–";

export function Loaded<T>({ report, children }: { report: Reported<T>; children: (now: T, before: T | null) => ComponentChildren }) {
  if (report.problem) return <p class="notice" role="alert">{report.problem} <button type="button" onClick={report.again}>{text("tryAgain")}</button></p>;
  if (!report.now) return <p class="hint" role="status">{text("loading")}</p>;
  return <>{children(report.now, report.before)}</>;
}

export const Cards = ({ children }: { children: ComponentChildren }) => <dl class="cards">{children}</dl>;

type CardProps = { title: string; value: number | null | string; before?: number | null | undefined; shown?: Shown; href?: string };

/** A number, what it was in the window before, and a way to its leads. */
export function Card({ title, value, before, shown = number, href }: CardProps) {
  const what = value === null ? "–" : typeof value === "string" ? value : shown(value);
  const change = typeof value === "number" && typeof before === "number" ? value - before : null;
  return (
    <div class="figure"><dt>{title}</dt>
      <dd><b dir="auto">{href ? <a href={href}>{what}</a> : what}</b>
        {typeof before === "number" && change !== null && <span class={`soft ${change > 0 ? "up" : change < 0 ? "down" : ""}`}> {text("wasBefore", { before: shown(before) })}{change ? ` (${signed(Math.round(change * 100) / 100)})` : ""}</span>}</dd></div>
  );
}

type ChartProps = Drawn & { along: string; hrefs?: readonly (string | null)[]; shown?: Shown };

export function Chart({ along, hrefs, shown = number, ...drawn }: ChartProps) {
  const isEmpty = !drawn.series.some((each) => each.values.some((value) => value));
  const rows = drawn.labels.map((label, index) => [label, ...drawn.series.map((each) => each.values[index] ?? null)]);
  return (
    <section class="part chart-part"><h3>{drawn.title}</h3>
      {isEmpty ? <p class="soft">{text("nothingInWindow")}</p> : <>
        <Drawing {...drawn} />
        <details><summary>{text("asTable")}</summary><Table title={drawn.title} heads={[along, ...drawn.series.map((each) => each.name)]} rows={rows} hrefs={hrefs} shown={shown} /></details></>}
    </section>
  );
}
