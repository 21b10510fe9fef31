// The reports of /api/lead-tracking over a window of time, and the same over the window before.

import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, Refused } from "../api";
import { query } from "../route";
import { text } from "../text";

export const RANGES = [7, 30, 90, 180, 365];
export const DEFAULT_RANGE = 90;

type Window = { from: string; to: string; time_zone: string; as_of: string };
export type Money = Record<string, number>;
export type Funnel = Window & {
  total_leads: number;
  stages: { stage: string; reached: number; share: number; conversion_rate: number | null; drop_off: number | null; current: number; current_share: number; avg_duration_days: number | null; median_duration_days: number | null }[];
  outside: { stage: string; current: number; current_share: number }[];
  conversions: { from: string; to: string; leads: number; converted: number; conversion_rate: number | null; target: number | null; meets_target: boolean | null }[];
};
export type Quality = Window & {
  total_leads: number; average_score: number | null; a_b_share: number | null;
  by_grade: { grade: string; leads: number; share: number; average_score: number | null }[];
  by_temperature: { temperature: string; leads: number; share: number; average_score: number | null }[];
  trend: { period: string; from: string; average_score: number | null }[];
};
export type Engagement = Window & {
  total_engagements: number; total_leads: number; engagement_rate: number | null; revenue: Money;
  by_type: { engagement_type: string; engagements: number; share: number; revenue: Money }[];
  by_channel: { engagement_channel: string; engagements: number; share: number }[];
};
export type Attribution = Window & {
  total_conversions: number; total_revenue: Money; avg_journey_duration_days: number | null; models: string[];
  conversions_by_type: { conversion_type: string; conversions: number; without_touchpoints: number; values: Record<string, { value: number; conversions: number; avg_value: number }>; avg_journey_duration_days: number | null }[];
  channels: { channel: string; conversions: Record<string, number>; values: Record<string, Record<string, number>> }[];
};
export type Journeys = Window & {
  total_journeys: number; avg_duration_days: number | null; avg_engagements: number | null; high_churn_risk_count: number; high_churn_risk_share: number | null; avg_risk_of_churn: number | null;
  engagement_trends: Record<string, number>; activity: Record<string, number>;
  revenue: Record<string, { customers: number; total_lifetime_value: number; avg_lifetime_value: number; total_revenue: number }>;
};
export type Cohorts = Window & {
  cohorts: { cohort: string; leads: number; customers: number; conversion_rate: number | null; revenue: Money; average_score: number | null }[];
  total: { leads: number; customers: number; conversion_rate: number | null; revenue: Money; average_score: number | null };
};

export const PATHS = {
  funnel: "analytics/funnel", quality: "analytics/lead-quality", engagement: "engagement/stats/summary",
  attribution: "attribution/stats/summary", journeys: "journey/stats/overview", cohorts: "analytics/cohort",
} as const;

export type Reported<T> = { now: T | null; before: T | null; problem: string | null; again: () => void };

/** The window that the address has: `days`, or `from` and `to` (dates; `to` is not included). */
export function windowQuery(): string {
  const [from, to] = [query.value.get("from"), query.value.get("to")];
  if (from || to) return `${from ? `from=${encodeURIComponent(from)}` : ""}${from && to ? "&" : ""}${to ? `to=${encodeURIComponent(to)}` : ""}`;
  const days = Number(query.value.get("days") ?? DEFAULT_RANGE);
  return `days=${Number.isInteger(days) && days > 0 ? days : DEFAULT_RANGE}`;
}

/** The window of the last report that was read, in the tenant's zone. */
export const shownWindow = signal<Window | null>(null);

/** The report in the window of the address; where the address asks for it, also of the window before, of equal length. */
export function useReport<T extends Window>(path: string): Reported<T> {
  const now = useSignal<T | null>(null);
  const before = useSignal<T | null>(null);
  const problem = useSignal<string | null>(null);
  const tries = useSignal(0);
  const windowOfAddress = windowQuery();
  const compares = query.value.get("compare") === "before";
  useEffect(() => {
    const stop = new AbortController();
    problem.value = null;
    const load = async () => {
      const report = await read<T>(`/api/lead-tracking/${path}?${windowOfAddress}`, stop.signal);
      now.value = report;
      shownWindow.value = report;
      before.value = null;
      if (!compares) return;
      const begin = Date.parse(report.from);
      const earlier = new Date(begin - (Date.parse(report.to) - begin)).toISOString();
      before.value = await read<T>(`/api/lead-tracking/${path}?from=${encodeURIComponent(earlier)}&to=${encodeURIComponent(report.from)}`, stop.signal);
    };
    load().catch((error) => { if (!stop.signal.aborted) problem.value = error instanceof Refused ? error.message : text("off"); });
    return () => stop.abort();
  }, [path, windowOfAddress, compares, tries.value]);
  return { now: now.value, before: before.value, problem: problem.value, again: () => { tries.value += 1; } };
}
