// A lead as /api/leads lists it, and what of it is shown.

import { eventName, ownName, text } from "../text";

export type Flag = { name: string; colour: "red" | "green"; text: string; evidence: string | null };
export type Score = { total: number; rounded: number; bands: Record<string, string | null>; flags?: Flag[] };
export type Override = { band: string; since: string; by: string | null; until: string | null };
export type Lead = {
  lead_id: string; identified: boolean; name: string | null; phone: string | null; email: string | null; company: string | null;
  assigned_to: string | null; stage: string; created_at: string; last_interaction_at: string | null;
  lead_score: number | null; temperature: string | null; do_not_score: boolean; qualification_override: Override | null; snoozed_until: string | null;
  qr_scan_count: number; catalog_views: number; messages_count: number; page_views: number; sessions: number;
  scores: Record<string, Score>;
  next_stage?: { stage: string; missing: { kind: string; text: string; any_of: string[]; model: string | null; points: number | null; days: number | null }[] } | null;
};
export type LeadPage = {
  leads: Lead[]; models: string[]; includes_anonymous: boolean; as_of: string;
  next_waking: string | null; next_offset: number | null; next?: string | null;
};
export type Reason = {
  event: { type: string; name?: string | null; about: string | null; occurred_at: string } | null;
  gain: { change: number; rule: string; at: string } | null;
  missing: { band: string; points: number } | null;
  totals: { at: string; total: number }[];
  session: { started_at: string; duration_seconds: number; pages: number; clicks: number; score: number | null } | null;
  voice_seconds: number | null;
  voice_url: string | null;
  budget: number | null;
  property: string | null;
};

export const BOARD_MODEL = "temperature";
export const SESSION_MODEL = "web_session";

export const titleOf = (lead: Pick<Lead, "name" | "email" | "phone" | "identified" | "lead_id">): string =>
  lead.name || lead.email || lead.phone || (lead.identified ? lead.lead_id : text("visitor", { id: lead.lead_id.replace(/^anon:/, "") }));

export const bandOf = (bands: Record<string, string | null> | undefined): string | null => Object.values(bands ?? {}).find((band) => band) ?? null;

// What somebody typed becomes a link only if it is an address and nothing else: no "?cc=", no "*21*".
const REACHED_BY: Record<string, { form: RegExp; scheme: string }> = {
  phone: { form: /^\+[1-9][0-9]{6,14}$/, scheme: "tel:" },
  email: { form: /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$/, scheme: "mailto:" },
};

/** The address of a link by which somebody is reached; null: the value is no whole address. */
export function reachedBy(field: string, value: unknown): string | null {
  const way = REACHED_BY[field];
  return way && typeof value === "string" && way.form.test(value) ? way.scheme + value : null;
}

export function sentenceOf(reason: Reason | undefined): string {
  if (!reason) return ""; // it is not read yet
  if (!reason.event) return reason.gain ? ownName(reason.gain.rule) || text("change") : text("noReason");
  const about = reason.event.about && !/^https?:/.test(reason.event.about) ? `: ${reason.event.about}` : "";
  return eventName(reason.event.type, reason.event.name) + about;
}
