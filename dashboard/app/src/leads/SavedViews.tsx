// Names for filters of the list. They stay in this browser, apart for each person; a view's address can be sent to others.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { person } from "../api";
import { query } from "../route";
import { text } from "../text";

type View = { name: string; search: string };

const views = signal<readonly View[]>([]);
const MOST_VIEWS = 20;
const place = (): string => `views ${person.value?.email ?? ""}`;

function load(): void {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(place()) ?? "[]");
    views.value = Array.isArray(kept) ? kept.filter((each): each is View => typeof each?.name === "string" && typeof each?.search === "string") : [];
  } catch {
    views.value = [];
  }
}

function keep(changed: readonly View[]): void {
  views.value = changed;
  localStorage.setItem(place(), JSON.stringify(changed));
}

export function SavedViews() {
  useEffect(load, [person.value?.email]);
  const search = query.value.toString();
  const isKept = views.value.some((each) => each.search === search);
  const save = () => {
    const name = prompt(text("viewName"))?.trim().slice(0, 60);
    if (name) keep([...views.value.filter((each) => each.name !== name), { name, search }].slice(-MOST_VIEWS));
  };
  if (!views.value.length && !search) return null;
  return (
    <nav class="views" aria-label={text("savedViews")}>
      {views.value.map((each) => (
        <span key={each.name}><a href={`/?${each.search}`} dir="auto" aria-current={each.search === search ? "true" : undefined}>{each.name}</a>
          <button type="button" aria-label={text("forgetView", { name: each.name })} onClick={() => keep(views.value.filter((other) => other !== each))}>×</button></span>
      ))}
      {search && !isKept && <button type="button" onClick={save}>{text("saveView")}</button>}
    </nav>
  );
}
