// What every tab is made of: cards, charts with their tables, and tables that can be taken along as CSV.

import type { ComponentChildren } from "preact";
import { amount, number, signed, text } from "../text";
import { Drawing, type Drawn } from "./Drawing";
import type { Money, Reported } from "./report";

export type Cell = string | number | null;
type Shown = (value: number) => string;

export const share: Shown = (value) => `${number(Math.round(value * 1000) / 10)} %`;
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

type TableProps = { title: string; heads: readonly string[]; rows: readonly (readonly Cell[])[]; hrefs?: readonly (string | null)[] | undefined; shown?: Shown | readonly (Shown | null)[] };

/** The first cell of a row is its head. `shown`: how numbers are written, of all columns or of each. */
export function Table({ title, heads, rows, hrefs, shown = number }: TableProps) {
  const written = (value: Cell, column: number): string => {
    const write = typeof shown === "function" ? shown : shown[column] ?? number;
    return value === null ? "–" : typeof value === "number" ? write(value) : value;
  };
  return <>
    <div class="wide"><table>
      <caption class="unseen">{title}</caption>
      <thead><tr>{heads.map((each, index) => <th scope="col" key={each} class={index ? "points" : undefined}>{each}</th>)}</tr></thead>
      <tbody>{rows.map((cells, row) => (
        <tr key={String(cells[0])}>{cells.map((cell, column) => (column
          ? <td class="points" key={heads[column]} dir="auto">{written(cell, column)}</td>
          : <th scope="row" key="head">{hrefs?.[row] ? <a href={hrefs[row] ?? ""}>{written(cell, 0)}</a> : <bdi>{written(cell, 0)}</bdi>}</th>))}</tr>
      ))}</tbody></table></div>
    <p><button type="button" onClick={() => download(title, [heads, ...rows])}>{text("asCsv")}</button></p>
  </>;
}

function download(title: string, rows: readonly (readonly Cell[])[]) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", csvOf(rows)], { type: "text/csv;charset=utf-8" }));
  link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}

/** RFC 4180. A text that a spreadsheet would run as a formula begins with an apostrophe. */
export function csvOf(rows: readonly (readonly Cell[])[]): string {
  const cell = (value: Cell) => {
    const plain = value === null ? "" : typeof value === "number" ? String(value) : /^\s*[=+\-@＝＋－＠]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
