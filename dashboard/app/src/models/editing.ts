// The model that is being edited: one text, which the form and the editor both change, and what the server says of it.

import { batch, computed, signal } from "@preact/signals";
import { person, read, readPerson, Refused, scopes, send } from "../api";
import { readSteps, type Progress } from "./steps";

export type Version = { model: string; version: number; shared: boolean; retired: boolean; about: string | null; since: string | null; by: string | null; note: string | null };
export type Model = Version & { text: string | null };
export type Rule = {
  id: number; name: string; rule_type: string; field_name: string | null; operator: string | null; value: string | null; points: number | null;
  priority: number; is_active: boolean; condition: string; editable: boolean; kind: string; line: number | null;
};
export type Criterion = {
  id: number; name: string; stage: string; minimum_score: number; required_fields: string[]; required_actions: string[]; time_constraint_days: number | null; is_active: boolean;
};
export type Problem = { line: number; column: number; end_column: number; reason: string };
export type Hint = { kind: "rule_above_25" | "total_not_above_100" | "no_negative_rule"; rule: string | null; line: number | null; points: number | null };
export type Checked = { text: string; problem: Problem | null; rules: Rule[]; criteria: Criterion[]; hints: Hint[] };
export type Edit = { entry: "rule" | "criterion"; action: "create" | "change" | "delete"; id?: number; fields?: Record<string, unknown> };
export type Mover = { lead_id: string; name: string | null; before: number; after: number; change: number; bands: { scale: string; from: string | null; to: string | null }[]; lines: { rule: string; group: string; kind: string; points: number }[] };
export type Moves = {
  leads: number; up: number; down: number; same: number; change_band: number; bands: { scale: string; from: string | null; to: string | null; leads: number }[];
  histogram: { from: number; before: number; after: number }[]; movers: Mover[]; stages: { from: string; to: string; leads: number }[];
};
export type Fired = { workflow_id: number; workflow: string; action: string; leads: number; anonymous: number; first: { lead_id: string; reason: string }[] };
export type WhatIf = { leads: Moves; anonymous: Moves; workflows: Fired[]; needs_replay: { signals: string[] } | null; not_readable_yet: number; seconds: number };

const CHECK_WAIT_MS = 250;
const WHAT_IF_WAIT_MS = 500;

export const modelName = signal("");
export const published = signal<Model | null>(null);
export const text = signal("");
/** What the server says of `text`, or of the last text of which it has said something. */
export const checked = signal<Checked | null>(null);
export const loadProblem = signal<string | null>(null);
/** The line of the cursor in the text, and where it is to go. */
export const cursorLine = signal(0);
export const goTo = signal<{ line: number } | null>(null);

export const mayPublish = computed(() => scopes.value.includes("author") || scopes.value.includes("admin"));
export const isChanged = computed(() => published.value !== null && text.value !== (published.value.text ?? ""));
export const problem = computed(() => (checked.value?.text === text.value ? checked.value.problem : null));
export const isRight = computed(() => checked.value !== null && checked.value.text === text.value && checked.value.problem === null);
export const author = (): string | undefined => person.value?.name;
export const apiPath = (rest = "", name = modelName.value): string => `/api/models/${encodeURIComponent(name)}${rest}`;
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const storageKey = (): string => `text of ${modelName.value}`;

/** Reads the model, and the text of a draft, or what this tab has of it. */
export async function openModel(name: string, draft: string | null, stop: AbortSignal): Promise<void> {
  batch(() => { modelName.value = name; published.value = null; checked.value = null; text.value = ""; loadProblem.value = null; whatIf.value = null; });
  try {
    // Who is signed in: a change needs the token of the session.
    const [model] = await Promise.all([read<Model>(apiPath(), stop), readPerson()]);
    const kept = JSON.parse(sessionStorage.getItem(storageKey()) ?? "null") as { version: number; text: string } | null;
    const drafted = draft ? (await read<{ text: string }>(apiPath(`/drafts/${draft}`), stop)).text : null;
    batch(() => {
      published.value = model;
      text.value = drafted ?? (kept && kept.version === model.version ? kept.text : model.text ?? "");
    });
    await check();
  } catch (error) {
    if (!stop.aborted) loadProblem.value = error instanceof Refused && error.status === 404 ? error.message : reasonOf(error);
  }
}

/** After a publication: the text that is open is the one that is in force. */
export async function readPublished(): Promise<void> {
  const model = await read<Model>(apiPath());
  batch(() => { published.value = model; whatIf.value = null; });
}

// The text, from either side

let checking: ReturnType<typeof setTimeout> | undefined;

export function setText(next: string): void {
  if (next === text.value) return;
  text.value = next;
  keep();
  clearTimeout(checking);
  checking = setTimeout(() => { void check(); }, CHECK_WAIT_MS);
}

export function discardChanges(): void {
  text.value = published.value?.text ?? "";
  keep();
  void check();
}

function keep(): void {
  if (isChanged.value) sessionStorage.setItem(storageKey(), JSON.stringify({ version: published.value?.version, text: text.value }));
  else sessionStorage.removeItem(storageKey());
}

async function check(): Promise<void> {
  const asked = text.value;
  try {
    const answer = await send<Checked>(apiPath("/check"), { text: asked });
    if (text.value === asked) take({ ...answer, text: asked }); // what a viewer gets may be masked
  } catch (error) {
    if (text.value === asked) checked.value = { text: asked, problem: { line: 1, column: 1, end_column: 2, reason: reasonOf(error) }, rules: [], criteria: [], hints: [] };
  }
}

/** One rule or criterion is edited: only its lines of the text change. Throws Refused with the field that is wrong. */
export async function edit(change: Edit): Promise<Checked> {
  for (;;) {
    const before = text.value;
    const answer = await send<Checked>(apiPath("/check"), { text: before, edit: change });
    if (text.value !== before) continue; // somebody typed meanwhile
    text.value = answer.text;
    keep();
    take(answer);
    return answer;
  }
}

function take(answer: Checked): void {
  // While the text has a mistake, the form keeps the rules that it had.
  checked.value = answer.problem && checked.value ? { ...checked.value, text: answer.text, problem: answer.problem } : answer;
  if (!answer.problem) askWhatIf(answer.text);
}

// What if

export const whatIf = signal<{ text: string; result: WhatIf } | null>(null);
export const whatIfProgress = signal<Progress | "waiting" | null>(null);
export const whatIfProblem = signal<string | null>(null);

let waiting: ReturnType<typeof setTimeout> | undefined;
let running: AbortController | null = null;

/** Who moves by this text: asked when nobody has typed for a while; an older question is ended. */
export function askWhatIf(asked: string): void {
  clearTimeout(waiting);
  running?.abort();
  if (whatIf.value?.text === asked) {
    whatIfProgress.value = null;
    return;
  }
  whatIfProgress.value = "waiting";
  waiting = setTimeout(() => { void runWhatIf(asked); }, whatIf.value ? WHAT_IF_WAIT_MS : 0);
}

async function runWhatIf(asked: string): Promise<void> {
  const stop = new AbortController();
  running = stop;
  try {
    const result = await readSteps<WhatIf>(apiPath("/what-if"), { text: asked }, stop.signal, (step) => { whatIfProgress.value = step; });
    batch(() => { whatIf.value = { text: asked, result }; whatIfProblem.value = null; whatIfProgress.value = null; });
  } catch (error) {
    if (stop.signal.aborted) return;
    batch(() => { whatIfProblem.value = reasonOf(error); whatIfProgress.value = null; });
  }
}

export function endWhatIf(): void {
  clearTimeout(waiting);
  running?.abort();
}
