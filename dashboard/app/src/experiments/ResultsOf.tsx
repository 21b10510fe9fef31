// The results of an experiment: what may be concluded, the rates with their intervals, and whether the split can be trusted.

import { navigate, query, withQuery } from "../route";
import { share, Table } from "../Table";
import { exactly, number, signed, text, words } from "../text";
import { cautionOf, DEFAULT_LIFT, type Experiment, LIFTS, probability, type Report, type Results, sentenceOf, verdictMark } from "./experiment";
import { RateIntervals } from "./RateIntervals";
import { VariantLeads } from "./VariantLeads";

const inPoints = (value: number): string => signed(Math.round(value * 1000) / 10);

export function goalOf(experiment: Experiment): string {
  const chosen = query.value.get("goal");
  return experiment.goals.find((each) => each.name === chosen)?.name ?? experiment.goals[0]?.name ?? "";
}

export function ResultsOf({ report }: { report: Report }) {
  const { experiment, results } = report;
  const goal = goalOf(experiment);
  const about = experiment.goals.find((each) => each.name === goal)?.about;
  const leads = query.value.get("leads");
  const rows = results.variants.flatMap((each) => {
    const { rate, interval } = each.goals[goal] ?? {};
    return rate == null || !interval ? [] : [{ name: each.variant, rate, interval }];
  });
  return <>
    <Mismatch results={results} />
    <section class="part" aria-labelledby="conclusion">
      <h3 id="conclusion">{text("trialConclusion")}</h3>
      {experiment.goals.length > 1 && <nav class="chips" aria-label={text("trialGoal")}>{experiment.goals.map((each, index) => (
        <a key={each.name} class="chip" href={withQuery({ goal: index ? each.name : null })} aria-current={each.name === goal ? "true" : undefined}>{words(each.name)}</a>
      ))}</nav>}
      {about && <p class="soft"><bdi>{about}</bdi></p>}
      {results.exposed === 0 ? <p>{text("trialNoLeadsYet")}</p> : <Conclusions results={results} goal={goal} control={experiment.control} />}
      <p class="choices"><label class="field">{text("trialLift")} <select value={query.value.get("lift") ?? String(DEFAULT_LIFT)} onChange={(event) => navigate(withQuery({ lift: Number(event.currentTarget.value) === DEFAULT_LIFT ? null : event.currentTarget.value }), true)}>
        {LIFTS.map((each) => <option key={each} value={String(each)}>{share(each)}</option>)}</select></label>
        {results.needed[goal]?.each != null && <span class="soft">{text("trialNeeded", { n: number(results.needed[goal]?.each ?? 0) })}</span>}</p>
    </section>
    {results.exposed > 0 && <section class="part" aria-labelledby="rates">
      <h3 id="rates">{text("rate")}</h3>
      {rows.length > 0 && <RateIntervals title={words(goal)} rows={rows} />}
      <Numbers results={results} goal={goal} name={experiment.name} />
      <p class="soft">{text("trialMethod", { days: number(experiment.window_days) })}</p>
    </section>}
    {leads !== null && <VariantLeads experiment={experiment} goal={goal} />}
    {results.since && results.until && <p class="soft">{text("trialBetween", { from: exactly(results.since), to: exactly(results.until) })}{results.unknown > 0 && ` ${text("trialUnknown", { n: number(results.unknown) })}`}</p>}
  </>;
}

function Mismatch({ results }: { results: Results }) {
  if (results.balance.verdict !== "mismatch") return null;
  const whole = results.variants.reduce((sum, each) => sum + each.weight, 0);
  return (
    <div class="notice" role="alert">
      <b>{text("trialMismatch")}</b>
      <p>{text("trialMismatchWhy", { p: probability(results.balance.p), chi: number(results.balance.chi_square) })}</p>
      <ul>{results.variants.map((each) => <li key={each.variant}>{text("trialExpected", { variant: each.variant, n: number(each.exposed), expected: number(results.exposed * each.weight / whole, 1) })}</li>)}</ul>
      <p>{text("trialMismatchDo")}</p>
    </div>
  );
}

function Conclusions({ results, goal, control }: { results: Results; goal: string; control: string }) {
  return (
    <ul class="conclusions">{results.variants.filter((each) => each.variant !== control).map((each) => {
      const { mark, kind } = verdictMark[each.goals[goal]?.against_control?.verdict ?? "too_early"];
      const caution = cautionOf(results, each, goal);
      return <li key={each.variant}><span class={`verdict ${kind}`} aria-hidden="true">{mark}</span><span><b>{sentenceOf(results, each, goal, control)}</b>{caution && <span class="soft"> {caution}</span>}</span></li>;
    })}</ul>
  );
}

function Numbers({ results, goal, name }: { results: Results; goal: string; name: string }) {
  const rows = results.variants.map((each) => {
    const reached = each.goals[goal];
    const compared = reached?.against_control;
    return [each.variant, each.weight, each.exposed, reached?.converted ?? 0, reached?.rate ?? null, reached?.interval?.[0] ?? null, reached?.interval?.[1] ?? null,
      compared?.difference ?? null, compared?.interval[0] ?? null, compared?.interval[1] ?? null, compared?.p ?? null];
  });
  return <Table title={`${name} ${goal}`} heads={[text("trialVariant"), text("trialWeight"), text("leads"), text("trialReached"), text("rate"), text("trialRateFrom"), text("trialRateTo"), text("trialDifference"), text("trialDifferenceFrom"), text("trialDifferenceTo"), "p"]}
    shown={[null, share, number, number, share, share, share, inPoints, inPoints, inPoints, probability]}
    hrefs={results.variants.map((each) => withQuery({ leads: each.variant, reached: null }))} rows={rows} />;
}
