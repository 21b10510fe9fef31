// Does the model work? A backtest in plain words with its lift, and what became of the leads of each rule: which rules earn their
// points, and what points the outcomes suggest.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { navigate, query, withQuery } from "../route";
import { number, signed, text, words } from "../text";
import { Bars } from "./Bars";
import { apiPath, checked, edit, isChanged, isRight, modelName, reasonOf, text as modelText } from "./editing";
import { type Progress, readSteps } from "./steps";

type Figures = {
  model: string; leads: number; converted: number; conversion_rate: number | null; auc: number | null;
  capacity: { chosen: number; converted: number; precision: number | null; recall: number | null; converted_by_chance: number; times_chance: number | null };
  deciles: { decile: number; leads: number; converted: number; conversion_rate: number | null; lift: number | null; gain: number | null }[];
};
type RuleFigures = {
  group: string; rule: string; leads: number; converted: number; rate: number | null; other_rate: number | null; times: number | null;
  verdict: "earns" | "costs" | "no_difference" | "too_few"; suggested_points: number | null;
};
export type Backtest = {
  conversion: string; every_days: number; horizon_days: number; capacity: number; events: number; cutoffs: number;
  models: Figures[]; more_converted_than: { model: string; leads: number }[]; rules: RuleFigures[];
};

const CONVERSIONS = ["purchase_made", "meeting_scheduled", "demo_requested", "form_submitted", "contact_shared", "stage:opportunity", "stage:customer"];
const FEW_CONVERSIONS = 10;
/** Kinds of rules whose points a lead gets once. Those of the others are per event, or by a table: a suggestion would not fit them. */
const GIVEN_ONCE = new Set(["value", "has", "once", "base"]);

const percent = (share: number | null): string => (share === null ? "–" : `${number(Math.round(share * 1000) / 10)} %`);
const times = (value: number | null): string => (value === null ? "–" : `${number(Math.round(value * 10) / 10)}×`);
const rounded = (value: number): string => number(Math.round(value * 10) / 10);

/** Runs backtests; the newest one wins. `contenders`: what the request says of the models. */
export function useBacktest(contenders: () => Record<string, unknown>) {
  const result = useSignal<Backtest | null>(null);
  const progress = useSignal<Progress | null>(null);
  const failure = useSignal<string | null>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const run = async () => {
    running.current?.abort();
    const stop = new AbortController();
    running.current = stop;
    progress.value = { done: 0, of: 0 };
    failure.value = null;
    try {
      const conversion = query.value.get("conversion");
      const capacity = Number(query.value.get("capacity"));
      const body = { ...contenders(), ...(conversion && { conversion }), ...(capacity > 0 && { capacity: Math.floor(capacity) }) };
      result.value = await readSteps<Backtest>(apiPath("/backtest"), body, stop.signal, (step) => { progress.value = step; });
    } catch (error) {
      if (!stop.signal.aborted) failure.value = reasonOf(error);
    }
    if (running.current === stop) progress.value = null;
  };
  return { result, progress, failure, run, stop: () => { running.current?.abort(); progress.value = null; } };
}

export function BacktestForm({ test }: { test: ReturnType<typeof useBacktest> }) {
  const { progress, failure } = test;
  return <>
    <form class="choices" onSubmit={(event) => { event.preventDefault(); void test.run(); }}>
      <label class="field"><span>{text("conversion")}</span>
        <select value={query.value.get("conversion") ?? ""} onChange={(event) => navigate(withQuery({ conversion: event.currentTarget.value }), true)}>
          <option value="">{text("automatic")}</option>
          {CONVERSIONS.map((each) => <option key={each} value={each}>{words(each.replace("stage:", `${text("stage")}: `))}</option>)}
        </select></label>
      <label class="field"><span>{text("capacity")}</span>
        <input type="number" min="1" max="100000" placeholder={text("automatic")} value={query.value.get("capacity") ?? ""} onChange={(event) => navigate(withQuery({ capacity: event.currentTarget.value }), true)} /></label>
      <button type="submit" class="primary" disabled={progress.value !== null}>{text("runBacktest")}</button>
      {progress.value && <button type="button" onClick={test.stop}>{text("cancel")}</button>}
    </form>
    <p role="status" class="soft">{progress.value && (progress.value.of ? <>{text("replaying", { done: number(progress.value.done), of: number(progress.value.of) })} <progress max={progress.value.of} value={progress.value.done} aria-label={text("runBacktest")} /></> : text("loading"))}</p>
    {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
  </>;
}

export function Evidence() {
  const test = useBacktest(() => (isChanged.value && isRight.value ? { text: modelText.value, against: [modelName.value] } : {}));
  const result = test.result.value;
  return <>
    <section class="part" aria-labelledby="backtest">
      <h3 id="backtest">{text("backtest")}</h3>
      <p>{text("backtestHint")}</p>
      <BacktestForm test={test} />
      {result && <Verdict result={result} />}
    </section>
    {result && result.cutoffs > 0 && <RuleEvidence result={result} />}
  </>;
}

export function Verdict({ result }: { result: Backtest }) {
  const [first] = result.models;
  if (!first || !result.cutoffs) return <p class="notice">{text("noCutoff")}</p>;
  const named = (figures: Figures) => (figures.model === "draft" ? text("yourDraft") : words(figures.model));
  return <>
    <p class="plain-words">{text("backtestWords", {
      cutoffs: number(result.cutoffs), days: rounded(result.every_days), capacity: number(result.capacity), converted: number(Math.round(first.capacity.converted)), all: number(first.converted),
      what: words(result.conversion), horizon: rounded(result.horizon_days), chance: number(Math.round(first.capacity.converted_by_chance)), times: times(first.capacity.times_chance),
    })}</p>
    {result.more_converted_than.map((each) => (
      <p key={each.model} class="plain-words"><b>{Math.abs(each.leads) < 0.5 ? text("findsSame", { a: named(first), b: words(each.model) })
        : text(each.leads > 0 ? "findsMore" : "findsFewer", { a: named(first), b: words(each.model), n: rounded(Math.abs(each.leads)) })}</b></p>
    ))}
    {first.converted < FEW_CONVERSIONS && <p class="hint">{text("fewConversions", { n: number(first.converted) })}</p>}
    <Bars title={text("liftChart")} along={text("tenth")} series={result.models.map(named)} line={{ at: 1, label: text("byChance") }} shown={(value) => times(value)}
      bars={first.deciles.map((tenth, at) => ({ label: number(tenth.decile), values: result.models.map((each) => each.deciles[at]?.lift ?? null) }))} />
    <details><summary>{text("allNumbers")}</summary><div class="wide"><table>
      <thead><tr><th scope="col">{text("model")}</th><th scope="col" class="points">{text("rankedLeads")}</th><th scope="col" class="points">{text("convertedLeads")}</th><th scope="col" class="points">{text("foundByCalls")}</th><th scope="col" class="points">{text("precision")}</th><th scope="col" class="points">{text("recall")}</th><th scope="col" class="points">AUC</th></tr></thead>
      <tbody>{result.models.map((each) => (
        <tr key={each.model}><th scope="row">{named(each)}</th><td class="points">{number(each.leads)}</td><td class="points">{number(each.converted)}</td><td class="points">{rounded(each.capacity.converted)}</td>
          <td class="points">{percent(each.capacity.precision)}</td><td class="points">{percent(each.capacity.recall)}</td><td class="points">{each.auc === null ? "–" : number(Math.round(each.auc * 1000) / 1000)}</td></tr>
      ))}</tbody>
    </table></div></details>
  </>;
}

function RuleEvidence({ result }: { result: Backtest }) {
  const failure = useSignal<string | null>(null);
  const rules = new Map(checked.value?.rules.map((each) => [`${each.rule_type} ${each.name}`, each]));
  const changeable = result.rules.filter((each) => {
    const rule = rules.get(`${each.group} ${each.rule}`);
    return rule && GIVEN_ONCE.has(rule.kind) && rule.points !== null && each.suggested_points !== null && each.suggested_points !== rule.points;
  });
  const use = async (chosen: readonly RuleFigures[]) => {
    try {
      for (const each of chosen) {
        const rule = rules.get(`${each.group} ${each.rule}`);
        if (rule) await edit({ entry: "rule", action: "change", id: rule.id, fields: { points: each.suggested_points } });
      }
      if (chosen.length > 1) navigate(withQuery({ view: null }));
    } catch (error) {
      failure.value = reasonOf(error);
    }
  };
  return (
    <section class="part" aria-labelledby="rule-evidence">
      <h3 id="rule-evidence">{text("ruleEvidence")}</h3>
      <p>{text("ruleEvidenceHint")}</p>
      <div class="wide"><table>
        <thead><tr><th scope="col">{text("ruleName")}</th><th scope="col" class="points">{text("leadsCount")}</th><th scope="col" class="points">{text("rateWith")}</th><th scope="col" class="points">{text("rateWithout")}</th><th scope="col">{text("verdict")}</th><th scope="col" class="points">{text("points")}</th><th scope="col" class="points">{text("suggested")}</th></tr></thead>
        <tbody>{result.rules.map((each) => {
          const rule = rules.get(`${each.group} ${each.rule}`);
          return (
            <tr key={`${each.group} ${each.rule}`}>
              <th scope="row" dir="auto">{each.rule}</th>
              <td class="points">{number(each.leads)}</td><td class="points">{percent(each.rate)}</td><td class="points">{percent(each.other_rate)}</td>
              <td><span class={`verdict ${each.verdict}`}>{text(`verdict_${each.verdict}`, { times: times(each.times) }).replace(" (–)", "")}</span></td>
              <td class="points">{rule?.points === null || rule?.points === undefined ? "–" : signed(rule.points)}</td>
              <td class="points">{each.suggested_points === null || !GIVEN_ONCE.has(rule?.kind ?? "") ? "–" : changeable.includes(each)
                ? <button type="button" onClick={() => void use([each])} aria-label={text("useFor", { rule: each.rule, points: signed(each.suggested_points) })}>{signed(each.suggested_points)}</button>
                : signed(each.suggested_points)}</td>
            </tr>
          );
        })}</tbody>
      </table></div>
      {changeable.length > 0 && <p><button type="button" class="primary" onClick={() => void use(changeable)}>{text("useAll", { n: number(changeable.length) })}</button> <span class="soft">{text("useAllHint")}</span></p>}
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
    </section>
  );
}
