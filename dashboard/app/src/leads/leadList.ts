// The leads that are loaded: pages of the server's list, read again while they change, and kept in order while somebody points
// at them.

import { batch, computed, effect, signal } from "@preact/signals";
import { isLocked, person, read, Refused } from "../api";
import { follow, type Changes, type ScoreChange } from "../live";
import { query } from "../route";
import { clockSkew, shownMoment } from "../text";
import { BOARD_MODEL, type Lead, type LeadPage, type Reason } from "./lead";

const PAGE = 100;
const REFRESH_MS = 700;
const RETRY_MS = 2_000;
const REASONS_AT_ONCE = 60;
const MOST_RECENT = 30;
const MOVEMENT_MS = 6_000;

/** Values of the parameter `owner`: beside them it may be any name. */
export const ME = "@me";
export const NOBODY = "@nobody";
const namesOfMe = (): string[] => (person.value ? [person.value.email, person.value.name] : [ME]);

export const model = computed(() => query.value.get("model") ?? BOARD_MODEL);
/** The moment of the list; null: now, and live. */
export const asOf = computed(() => query.value.get("as_of"));
/** The filters of the list, as the API names them. Owner, silence and snoozing are of now only. */
const filters = computed(() => {
  const asked = new URLSearchParams({ sort: model.value });
  for (const name of ["q", "stage", "band"]) {
    const value = query.value.get(name);
    if (value) asked.set(name, value);
  }
  const anonymous = query.value.get("anonymous");
  if (anonymous) asked.set("include_anonymous", anonymous);
  if (asOf.value) {
    asked.set("as_of", asOf.value);
    return asked.toString();
  }
  const owner = query.value.get("owner");
  if (owner === NOBODY) asked.append("assigned_to", "");
  else if (owner === ME) for (const name of namesOfMe()) asked.append("assigned_to", name);
  else if (owner) asked.append("assigned_to", owner);
  const silent = query.value.get("silent_days");
  if (silent && /^\d{1,4}$/.test(silent)) asked.set("silent_days", silent);
  asked.set("snoozed", String(query.value.get("snoozed") === "true"));
  return asked.toString();
});

const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Counts = { leads: number; bands: Record<string, number>; stages: Record<string, number> };
type Movement = { points: number; until: number };

export const leads = signal<readonly Lead[]>([]);
export const models = signal<string[]>([BOARD_MODEL]);
export const includesAnonymous = signal(false);
export const isLoaded = signal(false);
export const hasMore = signal(false);
export const problem = signal<string | null>(null);
/** The server has another order than what is shown, since somebody points at the list. */
export const orderWaits = signal(false);
export const counts = signal<{ identified: Counts; anonymous: Counts; snoozed: number } | null>(null);
export const reasons = signal<ReadonlyMap<string, Reason>>(new Map());
export const movements = signal<ReadonlyMap<string, Movement>>(new Map());
export const recent = signal<readonly ScoreChange[]>([]);
/** What was put off last, for whoever wants it back. */
export const lastSnooze = signal<{ undo: () => Promise<number>; what: string } | null>(null);
/** The leads that are chosen for an action on several. */
export const chosen = signal<ReadonlySet<string>>(new Set());

export function choose(leadId: string): void {
  const now = new Set(chosen.peek());
  if (!now.delete(leadId)) now.add(leadId);
  chosen.value = now;
}

let starts: string[] = [""]; // the query of each loaded page beyond the filters
let isHeld = false;
let mayHaveErased = false; // everything is read again: a lead that is missing then has been erased
let newest: readonly Lead[] = [];
let running: AbortController | null = null;
let retry: ReturnType<typeof setTimeout> | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
let waking: ReturnType<typeof setTimeout> | undefined;
const askedReasons = new Set<string>();

/** The query that leads to the page after this one; null: there is none. */
const following = (page: LeadPage): string | null => {
  if (page.next) return `&after=${encodeURIComponent(page.next)}`;
  return page.next_offset === null ? null : `&offset=${page.next_offset}`;
};

async function refresh(pages = starts.length): Promise<void> {
  running?.abort();
  clearTimeout(retry);
  const stop = (running = new AbortController());
  const asked = filters.peek();
  try {
    const found = new Map<string, Lead>();
    const begun: string[] = [];
    let start: string | null = "";
    let last: LeadPage | null = null;
    while (start !== null && begun.length < pages) {
      last = await read<LeadPage>(`/api/leads?${asked}&limit=${PAGE}${start}`, stop.signal);
      begun.push(start);
      for (const lead of last.leads) if (!found.has(lead.lead_id)) found.set(lead.lead_id, lead);
      start = following(last);
    }
    if (stop.signal.aborted || asked !== filters.peek() || !last) return;
    const { as_of, includes_anonymous, models: active, next_waking } = last;
    clearTimeout(waking);
    if (next_waking && !asOf.peek()) waking = setTimeout(() => { void refresh(); scheduleCounts(); }, Math.min(Math.max(0, Date.parse(next_waking) - Date.parse(as_of)) + 50, LONGEST_TIMER_MS));
    batch(() => {
      starts = begun;
      if (!asOf.peek()) clockSkew.value = Date.parse(as_of) - Date.now();
      models.value = active;
      includesAnonymous.value = includes_anonymous;
      hasMore.value = start !== null;
      problem.value = null;
      isLoaded.value = true;
      newest = [...found.values()];
      noteMovements(newest);
      show();
    });
  } catch (error) {
    if (stop.signal.aborted || isLocked.peek()) return;
    if (error instanceof Refused) batch(() => { isLoaded.value = true; problem.value = error.message; });
    else retry = setTimeout(() => void refresh(pages), RETRY_MS); // the network is away
  } finally {
    if (running === stop) running = null;
  }
}

/** While somebody points at the list, rows keep their places, and only what is in them changes. */
function show(): void {
  const old = leads.peek();
  const isSame = old.length === newest.length && old.every((lead, index) => lead.lead_id === newest[index]?.lead_id);
  if (!isHeld || isSame || !old.length) {
    leads.value = newest;
    orderWaits.value = mayHaveErased = false;
    return;
  }
  const byId = new Map(newest.map((lead) => [lead.lead_id, lead]));
  const kept = mayHaveErased ? old.filter((lead) => byId.has(lead.lead_id)) : old;
  mayHaveErased = false;
  leads.value = kept.map((lead) => byId.get(lead.lead_id) ?? lead);
  orderWaits.value = true;
}

export function hold(held: boolean): void {
  isHeld = held;
  if (!held) show();
}

export function showOrder(): void {
  leads.value = newest;
  orderWaits.value = false;
}

const totals = new Map<string, number>();
let totalsOf = "";

function noteMovements(rows: readonly Lead[]): void {
  const scoredBy = model.peek();
  if (totalsOf !== scoredBy || asOf.peek()) totals.clear();
  totalsOf = scoredBy;
  const now = Date.now();
  const moved = new Map([...movements.peek()].filter(([, each]) => each.until > now));
  for (const lead of rows) {
    const total = lead.scores[scoredBy]?.rounded;
    if (total === undefined) { // none, or taken back: that is no fall to 0
      totals.delete(lead.lead_id);
      continue;
    }
    const before = totals.get(lead.lead_id);
    if (before !== undefined && before !== total) moved.set(lead.lead_id, { points: total - before, until: now + MOVEMENT_MS });
    totals.set(lead.lead_id, total);
  }
  movements.value = moved;
  if (moved.size) setTimeout(() => { movements.value = new Map([...movements.peek()].filter(([, each]) => each.until > Date.now())); }, MOVEMENT_MS);
}

export function loadMore(): void {
  if (hasMore.peek() && !running) void refresh(starts.length + 1);
}

async function readCounts(): Promise<void> {
  const counted = asOf.peek() ? null : await read<NonNullable<typeof counts.value>>(`/api/call-list/counts?model=${model.peek()}`).catch(() => null);
  counts.value = asOf.peek() ? null : counted;
}

/** Reads why to call these leads, once for each state of a lead. */
export async function askReasons(ids: readonly string[]): Promise<void> {
  const missing = ids.filter((id) => !askedReasons.has(id)).slice(0, REASONS_AT_ONCE);
  if (!missing.length) return;
  missing.forEach((id) => askedReasons.add(id));
  const at = asOf.peek();
  const asked = new URLSearchParams([["model", model.peek()], ...(at ? [["as_of", at]] : []), ...missing.map((id) => ["lead_id", id])]);
  try {
    const answer = await read<{ reasons: Record<string, Reason> }>(`/api/call-list/reasons?${asked}`);
    if (at !== asOf.peek()) return;
    reasons.value = new Map([...reasons.peek(), ...Object.entries(answer.reasons)]);
  } catch {
    missing.forEach((id) => askedReasons.delete(id));
  }
}

function take(changes: Changes | null): void {
  if (asOf.peek()) return; // the past does not change; going back to now reads everything again
  if (changes) {
    changes.leads.forEach((id) => askedReasons.delete(id));
    noteRecent(changes.scores);
  } else {
    askedReasons.clear();
    recent.value = []; // it may name somebody who was erased
    mayHaveErased = true;
  }
  timer ??= setTimeout(() => {
    timer = undefined;
    void refresh();
    scheduleCounts();
  }, REFRESH_MS);
}

let countsTimer: ReturnType<typeof setTimeout> | undefined;
function scheduleCounts(): void {
  countsTimer ??= setTimeout(() => { countsTimer = undefined; void readCounts(); }, 3_000);
}

function noteRecent(changes: readonly ScoreChange[]): void {
  const seen = new Set(recent.peek().map((each) => `${each.lead_id} ${each.at}`));
  const fresh = changes
    .filter((each) => each.model === model.peek() && each.change && !each.removed && (includesAnonymous.peek() || !each.lead_id.startsWith("anon:")) && !seen.has(`${each.lead_id} ${each.at}`))
    .reverse();
  if (fresh.length) recent.value = [...fresh, ...recent.peek()].slice(0, MOST_RECENT);
}

/** Keeps the list as the address asks, and live, until the returned function is called. */
export function watchLeads(): () => void {
  const stopFilters = effect(() => {
    void filters.value;
    batch(() => { isLoaded.value = leads.peek().length > 0; starts = [""]; orderWaits.value = false; chosen.value = new Set(); });
    isHeld = false;
    void refresh(1);
  });
  const stopModel = effect(() => {
    void model.value;
    const at = asOf.value;
    shownMoment.value = at ? Date.parse(at) : null;
    askedReasons.clear();
    batch(() => { reasons.value = new Map(); recent.value = []; movements.value = new Map(); });
    void readCounts();
  });
  const stopLive = follow(take);
  return () => { stopFilters(); stopModel(); stopLive(); shownMoment.value = null; running?.abort(); clearTimeout(retry); clearTimeout(timer); clearTimeout(waking); timer = undefined; };
}
