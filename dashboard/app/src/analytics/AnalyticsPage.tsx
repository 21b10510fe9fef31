// Lead Analytics: seven tabs over one window of time. Tab, window and comparison are in the address.

import { useEffect } from "preact/hooks";
import { navigate, query, withQuery } from "../route";
import { exactDay, number, text } from "../text";
import "../models/models.css";
import "./analytics.css";
import { DEFAULT_RANGE, RANGES, shownWindow } from "./report";
import { AttributionTab, CohortAnalysis, Engagements, JourneyHealth, LeadQuality, LifecycleFunnel, Overview } from "./tabs";

const TABS = [
  ["overview", "📊", "overview", Overview], ["funnel", "🔻", "lifecycleFunnel", LifecycleFunnel], ["quality", "⭐", "leadQuality", LeadQuality], ["engagement", "💬", "engagement", Engagements],
  ["attribution", "🎯", "attributionTab", AttributionTab], ["journeys", "❤️", "journeyHealth", JourneyHealth], ["cohorts", "👥", "cohortAnalysis", CohortAnalysis],
] as const;

export default function AnalyticsPage() {
  useEffect(() => { document.title = `${text("leadAnalytics")} · Leadstream`; });
  const chosen = query.value.get("tab") ?? "overview";
  const Tab = (TABS.find(([name]) => name === chosen) ?? TABS[0])[3];
  return (
    <div class="models-page analytics-page">
      <h2>{text("leadAnalytics")}</h2>
      <Window />
      <nav class="chips" aria-label={text("leadAnalytics")}>{TABS.map(([name, icon, title]) => (
        <a key={name} class="chip" href={withQuery({ tab: name === "overview" ? null : name })} aria-current={chosen === name ? "page" : undefined}><span aria-hidden="true">{icon}</span> {text(title)}</a>
      ))}</nav>
      <Tab />
    </div>
  );
}

function Window() {
  const [from, to] = [query.value.get("from") ?? "", query.value.get("to") ?? ""];
  const isCustom = !!(from || to);
  const days = Number(query.value.get("days") ?? DEFAULT_RANGE);
  const found = shownWindow.value;
  const put = (name: "from" | "to", value: string) => navigate(withQuery({ [name]: value || null, days: null }), true);
  return (
    <section class="window" aria-label={text("period")}>
      <div class="chips">{RANGES.map((each) => (
        <a key={each} class="chip" href={withQuery({ days: each === DEFAULT_RANGE ? null : String(each), from: null, to: null })} aria-current={!isCustom && days === each ? "true" : undefined}>{text("lastDays", { n: number(each) })}</a>
      ))}</div>
      <label class="field">{text("fromDay")} <input type="date" value={from} onChange={(event) => put("from", event.currentTarget.value)} /></label>
      <label class="field">{text("toDay")} <input type="date" value={to} onChange={(event) => put("to", event.currentTarget.value)} /></label>
      <label class="tick"><input type="checkbox" checked={query.value.get("compare") === "before"} onChange={(event) => navigate(withQuery({ compare: event.currentTarget.checked ? "before" : null }), true)} />{text("compareBefore")}</label>
      {found && <p class="soft">{exactDay(found.from, found.time_zone)} – {exactDay(new Date(Date.parse(found.to) - 1), found.time_zone)} ({found.time_zone})</p>}
    </section>
  );
}
