// One lead as /api/leads/ID has it, now or at another moment.

import { eventName, ownName, text, words } from "../text";
import type { Lead, Score } from "../leads/lead";

export type Line = { group: string; rule: string; kind: string; points: number; text?: string | null };
export type Entry = {
  at: string; model: string; change: number; previous: number; total: number; bands: Record<string, string | null>;
  lines: Line[]; caused_by: string; event: { type: string; name?: string | null; about: string | null } | null;
};
export type Joined = {
  by: "email" | "phone" | "lead_id" | "merge" | "own_id" | "visitor"; email: string | null; phone: string | null; lead_id: string | null;
  at: string; event_id: string | null; event_type: string | null;
};
/** Another lead that has an address of the identity, and that it is not: they differ in the field `by`. */
export type KeptApart = { lead_id: string; by: string; at: string };
export type Detail = {
  as_of: string;
  lead: Lead;
  profile: Record<string, unknown>;
  revenue: Record<string, number> | null;
  merged_into: string | null;
  merged_in_circle: string[];
  ledger: Entry[];
  next_cursor: string | null;
  identities: { identity: string; kind: "visitor" | "lead"; name: string; joined: Joined; kept_apart: KeptApart[] }[];
  sessions: { session_id: string; started_at: string; duration_seconds: number; pages: number; clicks: number; score: number | null; ended: boolean }[];
  stages: { stage: string; previous: string | null; reason: string | null; at: string }[];
  scores: Record<string, Score & { lines: Line[] }>;
  workflows: { id: number; workflow_name: string; reason: string; action_type: string; outcome: string; executed_at: string }[];
};

const LEAST_POINTS = 0.005;
const OTHER_KINDS: Record<string, "limit" | "decay" | "mean"> = { limit: "limit", decay: "decay", mean: "mean" };

/** What each rule gives after its own cap, which the evidence names. */
export function netted(lines: readonly Line[]): Line[] {
  const net: Line[] = [];
  for (const line of lines) {
    const capped = line.kind === "rule cap" ? net.find((each) => each.group === line.group && each.rule === line.rule) : undefined;
    if (capped) capped.points += line.points;
    else net.push({ ...line });
  }
  return net.filter((line) => Math.abs(line.points) >= LEAST_POINTS);
}

export function nameOf({ group, rule, kind }: Line): string {
  if (kind === "points") return ownName(rule);
  if (kind.endsWith(" cap")) return text("capOn", { what: ownName(rule || group) });
  return kind in OTHER_KINDS ? text(OTHER_KINDS[kind] ?? "limit") : words(kind);
}

export function evidenceOf(line: Line): string {
  const found = line.text ?? "";
  return words(found.startsWith(`${line.rule}: `) ? found.slice(line.rule.length + 2) : found);
}

export function causeOf(entry: Entry): string {
  if (entry.event) return eventName(entry.event.type, entry.event.name) + (entry.event.about ? `: ${entry.event.about}` : "");
  const [kind, ...rest] = entry.caused_by.split(":");
  const [name = "", version = ""] = rest.slice(-2);
  switch (kind) {
    case "due": return text("timePassed");
    case "model": return text("modelPublished", { name: ownName(name), version });
    case "settings": return text("settingsPublished", { version });
    case "attached": return text("recognised");
    case "detached": return text("parted");
    case "redirect": return text("merged");
    default: return entry.caused_by;
  }
}

/** Entries of one cause and moment together, in their order. */
export function grouped(ledger: readonly Entry[]): Entry[][] {
  const groups: Entry[][] = [];
  for (const entry of ledger) {
    const last = groups.at(-1);
    if (last?.[0] && last[0].at === entry.at && last[0].caused_by === entry.caused_by) last.push(entry);
    else groups.push([entry]);
  }
  return groups;
}
