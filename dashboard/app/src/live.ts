// What changes on the server, as it happens: /api/changes, read by fetch, since EventSource sends no Authorization header.
// A connection that ends is opened again from the last position. A browser opens only six connections to a server: a tab that
// nobody looks at closes its stream, and the tabs of one session share one. The tab that has the lock reads it, and passes on
// what comes. A tab with a token of its own reads alone. If streams do not get through, the page asks every two seconds.

import { signal } from "@preact/signals";
import { isLocked, keyHeaders, person, read, token } from "./api";
import { zone } from "./text";

export type ScoreChange = {
  lead_id: string; model: string; at: string; total: number | null; rounded: number | null; change: number;
  removed: boolean; // the score was taken back: the lead has none of this model
  bands: Record<string, string | null>; lines: { group: string; rule: string; kind: string; points: number }[];
};
export type Changes = { leads: string[]; scores: ScoreChange[]; notifications: { id: number }[] };
type Taker = (changes: Changes | null) => void; // null: something is missing, read everything again

export const liveState = signal<"connecting" | "live" | "polling" | "off">("connecting");

const takers = new Set<Taker>();
const SILENCE_MS = 45_000; // the server sends a comment every 15 s
const POLL_MS = 2_000;
const WAITS_MS = [300, 1_000, 2_000, 5_000, 10_000];
const STREAMS_TRIED = 3;

export function follow(take: Taker): () => void {
  takers.add(take);
  return () => { takers.delete(take); };
}

const hand = (changes: Changes | null) => takers.forEach((take) => take(changes));

type Shared = { state: typeof liveState.value; arrived?: Arrived } | "who reads?";

// One reader for each person: the changes of one are not shown to who signs in after them.
let lockName = "leadstream changes";
let tabs = new BroadcastChannel(lockName);
const isShared = () => !token() && "locks" in navigator; // only a page of https or of this machine has locks
let position = "";
let failures = 0;
let isReader = false;

const take = ({ data }: MessageEvent<Shared>) => {
  if (!isShared()) return;
  if (data === "who reads?") {
    if (isReader) tabs.postMessage({ state: liveState.value });
    return;
  }
  if (isReader) return;
  liveState.value = data.state;
  if (data.arrived) arrive(data.arrived);
};

function arrive({ at, changes }: Arrived): void {
  position = at;
  hand(changes);
}

/** After it is known who reads. */
export async function runLive(): Promise<void> {
  lockName = `leadstream changes of ${person.value?.email ?? "nobody"} ${zone.value}`;
  tabs.close();
  tabs = new BroadcastChannel(lockName);
  tabs.onmessage = take;
  let wasHidden = false;
  for (;;) {
    await untilShown();
    if (!isShared()) {
      await readChanges();
      continue;
    }
    const stop = new AbortController();
    const stopIfHidden = () => { if (document.hidden) stop.abort(); };
    document.addEventListener("visibilitychange", stopIfHidden);
    tabs.postMessage("who reads?");
    if (wasHidden) hand(null); // nobody has read while no tab was shown
    await navigator.locks.request(lockName, { signal: stop.signal }, readWhileShown).catch(() => undefined);
    document.removeEventListener("visibilitychange", stopIfHidden);
    wasHidden = true;
  }
}

async function readWhileShown(): Promise<void> {
  isReader = true;
  while (!document.hidden && !isLocked.value && isShared()) await readChanges();
  isReader = false;
}

/** Reads one connection to its end, and waits as long as its failures demand. */
async function readChanges(): Promise<void> {
  const pages = failures < STREAMS_TRIED ? stream(position) : poll(position);
  try {
    for await (const arrived of pages) {
      failures = failures < STREAMS_TRIED ? 0 : failures;
      liveState.value = failures ? "polling" : "live";
      arrive(arrived);
      if (isReader) tabs.postMessage({ state: liveState.value, arrived });
    }
  } catch {
    failures += 1;
    liveState.value = "off";
    if (isReader) tabs.postMessage({ state: "off" });
  }
  const wait = failures >= STREAMS_TRIED ? POLL_MS : WAITS_MS[failures] ?? POLL_MS;
  await new Promise((resolve) => setTimeout(resolve, wait * (0.7 + 0.6 * Math.random())));
}

async function untilShown(): Promise<void> {
  while (document.hidden || isLocked.value) {
    await new Promise<void>((resolve) => {
      document.addEventListener("visibilitychange", () => resolve(), { once: true });
      const stop = isLocked.subscribe((locked) => { if (!locked && !document.hidden) { resolve(); setTimeout(() => stop()); } });
    });
  }
}

type Arrived = { at: string; changes: Changes | null };

async function* poll(position: string): AsyncGenerator<Arrived> {
  const after = position && `?after=${encodeURIComponent(position)}`;
  const page = await read<{ position: string; reset: boolean; changes: Changes[] }>(`/api/changes${after}`);
  if (page.reset) yield { at: page.position, changes: null };
  for (const changes of page.changes) yield { at: page.position, changes };
}

async function* stream(position: string): AsyncGenerator<Arrived> {
  const stop = new AbortController();
  const closeIfHidden = () => { if (document.hidden) stop.abort(); };
  document.addEventListener("visibilitychange", closeIfHidden);
  let watchdog = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const headers = { ...keyHeaders(), Accept: "text/event-stream", ...(position && { "Last-Event-ID": position }) };
    const response = await fetch("/api/changes", { headers, cache: "no-store", signal: stop.signal });
    if (response.status === 401 || response.status === 403) isLocked.value = true;
    if (!response.ok || !response.body) throw new Error(`the server answered ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => stop.abort(), SILENCE_MS);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const fields = new Map(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
        const at = fields.get("id");
        if (at) yield { at, changes: fields.get("event") === "changes" ? JSON.parse(fields.get("data") ?? "{}") as Changes : null };
      }
    }
  } catch (error) {
    if (!document.hidden) throw error;
  } finally {
    clearTimeout(watchdog);
    document.removeEventListener("visibilitychange", closeIfHidden);
    stop.abort();
  }
}
