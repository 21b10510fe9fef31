// A table that can be taken along as CSV. Its numbers are those that the page shows.

import { number, text } from "./text";

export type Cell = string | number | null;
export type Shown = (value: number) => string;

export const share: Shown = (value) => `${number(Math.round(value * 1000) / 10)} %`;

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
