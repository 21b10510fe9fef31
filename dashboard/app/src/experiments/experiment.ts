// Experiments and their results, as the API has them, and what they mean in a sentence.

import { may, Refused } from "../api";
import { number, text } from "../text";
import type { Texts } from "../texts/en";

export type Sign = { event: string; named: string | null };
export type Goal = { name: string; about: string; counts: Sign[] };
export type Variant = { name: string; weight: number; config: unknown };
export type Phase = "draft" | "scheduled" | "running" | "ended" | "stopped";
export type Experiment = {
  name: string; about: string; status: "draft" | "running" | "stopped"; phase: Phase; winner: string | null; unit: "visitor" | "lead"; coverage: number; window_days: number; starts_at: string | null; ends_at: string | null;
  version: number; published_at: string | null; by: string | null; note: string | null; change: string | null;
  control: string; variants: Variant[]; goals: Goal[];
};
export type Verdict = "too_early" | "higher" | "lower" | "no_difference" | "unreliable";
export type Comparison = { difference: number; interval: [number, number]; lift: number | null; p: number; verdict: Verdict };
export type Reached = { converted: number; saw_several: number; rate: number | null; interval: [number, number] | null; pure_rate: number | null; against_control: Comparison | null };
export type VariantResult = { variant: string; weight: number; exposed: number; saw_several: number; goals: Record<string, Reached> };
export type Needed = { lift: number; each: number | null; more: number | null };
export type Results = {
  exposed: number; saw_several: number; unknown: number; since: string | null; until: string | null; variants: VariantResult[];
  balance: { chi_square: number; p: number; verdict: "ok" | "no leads" | "mismatch" }; needed: Record<string, Needed>;
};
export type Report = { experiment: Experiment; text: string; results: Results; as_of: string };
export type LeadOfVariant = { lead_id: string | number; name: string | null; company: string | null; anonymous: boolean; variant: string; exposed_at: string; goals: string[]; saw_several: boolean };

export const EXPERIMENTS = "/api/experiments";
export const LIFTS = [0.05, 0.1, 0.2, 0.5];
export const DEFAULT_LIFT = 0.1;

export const experimentPath = (name: string, rest = ""): string => `${EXPERIMENTS}/${encodeURIComponent(name)}${rest}`;
export const mayEdit = (): boolean => may("author");
export const phaseName = (phase: Phase): string => text(`phase_${phase}`);
export const experimentAddress = (name: string): string => `/experiments/${encodeURIComponent(name)}`;
export const reasonOf = (error: unknown): string => (error instanceof Refused ? error.message : text("off"));

/** A probability; what is too small to matter is only said to be small. */
export const probability = (p: number): string => (p < 0.0001 ? `< ${number(0.0001, 4)}` : number(p, 4));

/** From one share to another, in points of a hundred: `3 to 9`. */
function pointsBetween(low: number, high: number): { low: string; high: string } {
  const digits = low < 0.01 ? 1 : 0;
  return { low: number(low * 100, digits), high: number(high * 100, digits) };
}

/** What may be concluded of a variant: one plain sentence. */
export function sentenceOf(results: Results, result: VariantResult, goal: string, control: string): string {
  const names = { variant: result.variant, control };
  const compared = result.goals[goal]?.against_control;
  if (!compared) return text("trial_nobody", names);
  const [low, high] = compared.interval;
  const needed = results.needed[goal];
  switch (compared.verdict) {
    case "higher": return text("trial_higher", { ...names, ...pointsBetween(low, high) });
    case "lower": return text("trial_lower", { ...names, ...pointsBetween(-high, -low) });
    case "no_difference": return text("trial_no_difference", { ...names, lift: number((needed?.lift ?? DEFAULT_LIFT) * 100) });
    case "unreliable": return text("trial_unreliable", names);
    case "too_early": return `${text("trial_too_early", names)} ${needed?.more ? text("trialMore", { n: number(needed.more) }) : ""}`.trim();
  }
}

/** What is yet to come where a difference shows already: who stops at the first one finds differences that are none. */
export function cautionOf(results: Results, result: VariantResult, goal: string): string | null {
  const verdict = result.goals[goal]?.against_control?.verdict;
  const more = results.needed[goal]?.more;
  return more && (verdict === "higher" || verdict === "lower") ? text("trialCaution", { n: number(more) }) : null;
}

export const verdictMark: Record<Verdict, { mark: string; kind: string }> = {
  higher: { mark: "▲", kind: "up" }, lower: { mark: "▼", kind: "down" }, too_early: { mark: "…", kind: "soft" }, no_difference: { mark: "=", kind: "soft" }, unreliable: { mark: "!", kind: "down" },
};

export const unitName = (unit: Experiment["unit"]): string => text(`trialUnit_${unit}` as keyof Texts);
