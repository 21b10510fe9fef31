// The seven tabs. Each number is the API's; links lead to the leads behind it.

import { bandName, number, text, words } from "../text";
import { Card, Cards, Chart, days, Loaded, money, share, Table } from "./parts";
import { type Attribution, type Cohorts, type Engagement, type Funnel, type Journeys, PATHS, type Quality, useReport } from "./report";

const withStage = (stage: string): string => `/?stage=${encodeURIComponent(stage)}`;
const withBand = (band: string): string => `/?model=composite&band=${encodeURIComponent(band)}`;

export function Overview() {
  return <>
    <JourneyCards of={["totalJourneys", "avgDuration", "highRisk", "lifetimeValue"]} />
    <div class="chart-grid"><FunnelChart /><GradePie /><TypesChart /><ConversionsChart /></div>
  </>;
}

export function LifecycleFunnel() {
  const report = useReport<Funnel>(PATHS.funnel);
  return <>
    <FunnelChart />
    <Loaded report={report}>{(now, before) => <>
      <section class="part"><h3>{text("stageBreakdown")}</h3>
        <Table title={text("stageBreakdown")} heads={[text("stage"), text("reached"), text("shareOfAll"), text("wentOn"), text("lost"), text("areThere"), text("avgStay"), text("medianStay")]}
          shown={[null, number, share, share, number, number, days, days]} hrefs={now.stages.map((each) => withStage(each.stage))}
          rows={[...now.stages.map((each) => [words(each.stage), each.reached, each.share, each.conversion_rate, each.drop_off, each.current, each.avg_duration_days, each.median_duration_days])]} />
        <Table title={text("outsideFunnel")} heads={[text("outsideFunnel"), text("areThere"), text("shareOfAll")]} shown={[null, number, share]} hrefs={now.outside.map((each) => withStage(each.stage))}
          rows={now.outside.map((each) => [words(each.stage), each.current, each.current_share])} /></section>
      <section class="part"><h3>{text("conversionRates")}</h3>
        <Table title={text("conversionRates")} heads={[text("fromTo"), text("leads"), text("converted"), text("rate"), text("rateBefore"), text("target"), text("isMet")]} shown={[null, number, number, share, share, share]}
          rows={now.conversions.map((each, index) => [`${words(each.from)} → ${words(each.to)}`, each.leads, each.converted, each.conversion_rate, before?.conversions[index]?.conversion_rate ?? null, each.target, each.meets_target === null ? null : text(each.meets_target ? "yes" : "no")])} /></section>
    </>}</Loaded>
  </>;
}

export function LeadQuality() {
  const report = useReport<Quality>(PATHS.quality);
  return <Loaded report={report}>{(now, before) => {
    const leadsOf = (of: Quality | null, temperature: string) => of?.by_temperature.find((each) => each.temperature === temperature)?.leads ?? null;
    return <>
      <Cards>
        <Card title={text("avgScore")} value={now.average_score} before={before?.average_score} />
        <Card title={text("hotLeads")} value={leadsOf(now, "hot")} before={leadsOf(before, "hot")} href={withBand("hot")} />
        <Card title={text("warmLeads")} value={leadsOf(now, "warm")} before={leadsOf(before, "warm")} href={withBand("warm")} />
        <Card title={text("goodGrades")} value={now.a_b_share} before={before?.a_b_share} shown={share} />
      </Cards>
      <div class="chart-grid">
        <GradePie />
        <Chart kind="bars" title={text("byTemperature")} along={text("temperature")} labels={now.by_temperature.map((each) => bandName(each.temperature))} hrefs={now.by_temperature.map((each) => withBand(each.temperature))}
          series={[{ name: text("leads"), values: now.by_temperature.map((each) => each.leads) }]} />
        <Chart kind="line" title={text("scoreTrend")} along={text("period")} labels={now.trend.map((each) => each.period)} series={[{ name: text("avgScore"), values: now.trend.map((each) => each.average_score) }]} />
      </div>
    </>;
  }}</Loaded>;
}

export function Engagements() {
  const report = useReport<Engagement>(PATHS.engagement);
  return <Loaded report={report}>{(now, before) => <>
    <Cards>
      <Card title={text("totalEngagements")} value={now.total_engagements} before={before?.total_engagements} />
      <Card title={text("revenue")} value={money(now.revenue)} />
      <Card title={text("engagementTypes")} value={now.by_type.length} before={before?.by_type.length} />
      <Card title={text("perLead")} value={now.engagement_rate} before={before?.engagement_rate} />
    </Cards>
    <div class="chart-grid">
      <TypesChart rows />
      <Chart kind="pie" title={text("byChannel")} along={text("channel")} labels={now.by_channel.map((each) => words(each.engagement_channel))} series={[{ name: text("engagements"), values: now.by_channel.map((each) => each.engagements) }]} />
    </div>
  </>}</Loaded>;
}

export function AttributionTab() {
  const report = useReport<Attribution>(PATHS.attribution);
  return <Loaded report={report}>{(now, before) => <>
    <Cards>
      <Card title={text("conversions")} value={now.total_conversions} before={before?.total_conversions} />
      <Card title={text("revenue")} value={money(now.total_revenue)} />
      <Card title={text("avgJourney")} value={now.avg_journey_duration_days} before={before?.avg_journey_duration_days} shown={days} />
    </Cards>
    <ConversionsChart />
    <section class="part"><h3>{text("conversionsByType")}</h3>
      <Table title={text("conversionsByType")} heads={[text("conversionType"), text("conversions"), text("withoutTouch"), text("valueOfAll"), text("avgValue"), text("avgJourney")]} shown={[null, number, number, null, null, days]}
        rows={now.conversions_by_type.map((each) => [words(each.conversion_type), each.conversions, each.without_touchpoints, money(valuesOf(each.values, "value")), money(valuesOf(each.values, "avg_value")), each.avg_journey_duration_days])} /></section>
    <section class="part"><h3>{text("creditOfChannels")}</h3>
      <Table title={text("creditOfChannels")} heads={[text("channel"), ...now.models.map(words)]} rows={now.channels.map((each) => [each.channel, ...now.models.map((model) => each.conversions[model] ?? null)])} /></section>
  </>}</Loaded>;
}

export function JourneyHealth() {
  const report = useReport<Journeys>(PATHS.journeys);
  return <>
    <JourneyCards of={["totalJourneys", "avgDuration", "highRisk", "lifetimeValue"]} />
    <Loaded report={report}>{(now, before) => <>
      <div class="chart-grid">
        <Chart kind="pie" title={text("engagementTrends")} along={text("trend")} labels={Object.keys(now.engagement_trends).map(trendName)} series={[{ name: text("leads"), values: Object.values(now.engagement_trends) }]} />
        <Chart kind="bars" title={text("activityOfLeads")} along={text("activityOfLeads")} labels={Object.keys(now.activity).map(trendName)} series={[{ name: text("leads"), values: Object.values(now.activity) }]} />
      </div>
      <section class="part"><h3>{text("churnRisk")}</h3>
        <Cards>
          <Card title={text("highRisk")} value={now.high_churn_risk_count} before={before?.high_churn_risk_count} />
          <Card title={text("highRiskShare")} value={now.high_churn_risk_share} before={before?.high_churn_risk_share} shown={share} />
          <Card title={text("avgRisk")} value={now.avg_risk_of_churn} before={before?.avg_risk_of_churn} shown={share} />
        </Cards></section>
    </>}</Loaded>
  </>;
}

export function CohortAnalysis() {
  const report = useReport<Cohorts>(PATHS.cohorts);
  return <Loaded report={report}>{(now) => <>
    <Chart kind="line" title={text("cohortTrend")} along={text("cohort")} labels={now.cohorts.map((each) => each.cohort)}
      series={[{ name: text("leads"), values: now.cohorts.map((each) => each.leads) }, { name: text("customersWon"), values: now.cohorts.map((each) => each.customers) }]} />
    <Chart kind="line" title={text("rateOverTime")} along={text("cohort")} labels={now.cohorts.map((each) => each.cohort)} shown={share} series={[{ name: text("rate"), values: now.cohorts.map((each) => each.conversion_rate) }]} />
    <section class="part"><h3>{text("cohortDetails")}</h3>
      <Table title={text("cohortDetails")} heads={[text("cohort"), text("leads"), text("customersWon"), text("rate"), text("revenue"), text("avgScore")]} shown={[null, number, number, share]}
        rows={[...now.cohorts.map((each) => [each.cohort, each.leads, each.customers, each.conversion_rate, money(each.revenue), each.average_score]),
          [text("all"), now.total.leads, now.total.customers, now.total.conversion_rate, money(now.total.revenue), now.total.average_score]]} /></section>
  </>}</Loaded>;
}

// Parts that several tabs have

function JourneyCards({ of }: { of: readonly ("totalJourneys" | "avgDuration" | "highRisk" | "lifetimeValue")[] }) {
  const report = useReport<Journeys>(PATHS.journeys);
  return <Loaded report={report}>{(now, before) => (
    <Cards>
      {of.includes("totalJourneys") && <Card title={text("totalJourneys")} value={now.total_journeys} before={before?.total_journeys} href="/" />}
      {of.includes("avgDuration") && <Card title={text("avgDuration")} value={now.avg_duration_days} before={before?.avg_duration_days} shown={days} />}
      {of.includes("highRisk") && <Card title={text("highRisk")} value={now.high_churn_risk_count} before={before?.high_churn_risk_count} />}
      {of.includes("lifetimeValue") && <Card title={text("lifetimeValue")} value={money(Object.fromEntries(Object.entries(now.revenue).map(([currency, each]) => [currency, each.avg_lifetime_value])))} />}
    </Cards>
  )}</Loaded>;
}

function FunnelChart() {
  const report = useReport<Funnel>(PATHS.funnel);
  return <Loaded report={report}>{(now, before) => (
    <Chart kind="bars" title={text("lifecycleFunnel")} along={text("stage")} labels={now.stages.map((each) => words(each.stage))} hrefs={now.stages.map((each) => withStage(each.stage))}
      series={[{ name: text("reached"), values: now.stages.map((each) => each.reached) }, ...(before ? [{ name: text("before"), values: before.stages.map((each) => each.reached) }] : [])]} />
  )}</Loaded>;
}

function GradePie() {
  const report = useReport<Quality>(PATHS.quality);
  return <Loaded report={report}>{(now) => (
    <Chart kind="pie" title={text("byGrade")} along={text("grade")} labels={now.by_grade.map((each) => each.grade)} hrefs={now.by_grade.map((each) => withBand(each.grade))} series={[{ name: text("leads"), values: now.by_grade.map((each) => each.leads) }]} />
  )}</Loaded>;
}

const MOST_TYPES = 12;

function TypesChart({ rows = false }: { rows?: boolean }) {
  const report = useReport<Engagement>(PATHS.engagement);
  return <Loaded report={report}>{(now) => {
    const shown = now.by_type.slice(0, MOST_TYPES);
    return <Chart kind={rows ? "rows" : "bars"} title={text("byType")} along={text("engagementType")} labels={shown.map((each) => words(each.engagement_type))} series={[{ name: text("engagements"), values: shown.map((each) => each.engagements) }]} />;
  }}</Loaded>;
}

function ConversionsChart() {
  const report = useReport<Attribution>(PATHS.attribution);
  return <Loaded report={report}>{(now) => {
    const currencies = [...new Set(now.conversions_by_type.flatMap((each) => Object.keys(each.values)))];
    return <Chart kind="two axes" title={text("conversionsByType")} along={text("conversionType")} labels={now.conversions_by_type.map((each) => words(each.conversion_type))}
      series={[{ name: text("conversions"), values: now.conversions_by_type.map((each) => each.conversions) },
        ...currencies.map((currency) => ({ name: `${text("valueOfAll")} (${currency})`, values: now.conversions_by_type.map((each) => each.values[currency]?.value ?? null) }))]} />;
  }}</Loaded>;
}

const valuesOf = (values: Record<string, { value: number; avg_value: number }>, key: "value" | "avg_value") => Object.fromEntries(Object.entries(values).map(([currency, each]) => [currency, each[key]]));

const TRENDS = { increasing: "increasing", stable: "stable", declining: "declining", active: "active", dormant: "dormant", inactive: "inactive" } as const;
const trendName = (name: string): string => (name in TRENDS ? text(TRENDS[name as keyof typeof TRENDS]) : words(name));
