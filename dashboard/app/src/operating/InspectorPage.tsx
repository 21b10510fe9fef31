// The last events at the server's door: taken or refused and why, and what each did. For who connects a producer.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { ago, eventName, exactly, number, ownName, signed, stageName, text, words } from "../text";
import "../models/models.css";
import "./operating.css";

type Outcome = "taken" | "refused" | "not_stored";
type Effect = {
  state: "counted" | "waiting" | "repeated" | "not_counted" | "bot"; lead_id: string | null; late: boolean;
  scores: { model: string; change: number; total: number }[]; stages: { stage: string; previous: string | null }[];
};
type Arrival = {
  number: number; at: string; outcome: Outcome; type: string | null; event_id: string | null; visitor_id: string | null; lead_id: string | null;
  source: string | null; bot: string | null; field: string | null; reason: string | null; sent: object | null; effect: Effect | null;
};
type Answer = { since: string; kept: number; counts: Record<Outcome, number>; events: Arrival[]; before: number | null };

const OUTCOMES: readonly Outcome[] = ["taken", "refused", "not_stored"];
const FILTERS = ["outcome", "type", "source", "id"];
const EVERY_MS = 2_000;

export default function InspectorPage() {
  const answer = useSignal<Answer | null>(null);
  const problem = useSignal<string | null>(null);
  const isPaused = useSignal(false);
  const filters = new URLSearchParams(FILTERS.map((name) => [name, query.value.get(name) ?? ""]).filter(([, value]) => value)).toString();
  const before = query.value.get("before");
  useEffect(() => { document.title = `${text("inspector")} · Leadstream`; });
  useEffect(() => {
    const stop = new AbortController();
    const load = () => read<Answer>(`/api/inspector/events?limit=50${filters && `&${filters}`}${before ? `&before=${before}` : ""}`, stop.signal).then(
      (came) => { answer.value = came; problem.value = null; },
      (error) => { if (!stop.signal.aborted) problem.value = error instanceof Error ? error.message : String(error); },
    );
    void load();
    const again = setInterval(() => { if (!isPaused.value && !before && !document.hidden) void load(); }, EVERY_MS);
    return () => { stop.abort(); clearInterval(again); };
  }, [filters, before]);
  const found = answer.value;
  return (
    <div class="models-page operating-page">
      <h2>{text("inspector")}</h2>
      <p class="soft">{text("inspectorAbout")}{found && ` ${text("inspectorSince", { n: number(found.kept), moment: exactly(found.since) })}`}</p>
      <Filters answer={found} isPaused={isPaused.value} pause={() => { isPaused.value = !isPaused.value; }} />
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {!found && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
      {found?.events.length === 0 && (found.kept ? <p class="soft">{text("inspectorNoneSuch")}</p> : <FirstEvent />)}
      {!!found?.events.length && <ul class="arrivals">{found.events.map((each) => <OneArrival key={each.number} arrival={each} />)}</ul>}
      {(found?.before || before) && <p class="choices">
        {before && <button type="button" onClick={() => navigate(withQuery({ before: null }))}>{text("newestFirst")}</button>}{" "}
        {found?.before && <button type="button" onClick={() => navigate(withQuery({ before: String(found.before) }))}>{text("older")}</button>}</p>}
    </div>
  );
}

function Filters({ answer, isPaused, pause }: { answer: Answer | null; isPaused: boolean; pause: () => void }) {
  const chosen = query.value.get("outcome");
  const change = (name: string, value: string) => navigate(withQuery({ [name]: value || null, before: null }), true);
  return (
    <div class="arrival-filters">
      <div role="group" aria-label={text("outcome")}>
        {OUTCOMES.map((each) => (
          <button type="button" key={each} class="chip" aria-pressed={chosen === each} onClick={() => change("outcome", chosen === each ? "" : each)}>
            {text(`door_${each}`)} {answer && <span>{number(answer.counts[each])}</span>}</button>
        ))}
      </div>
      {(["type", "source", "id"] as const).map((name) => (
        <label class="field" key={name}><span>{text(`inspect_${name}`)}</span>
          <input type="search" value={query.value.get(name) ?? ""} maxLength={200} onChange={(event) => change(name, event.currentTarget.value.trim())} /></label>
      ))}
      <button type="button" aria-pressed={isPaused} onClick={pause}>{text(isPaused ? "goOn" : "pause")}</button>
    </div>
  );
}

function OneArrival({ arrival }: { arrival: Arrival }) {
  const who = arrival.lead_id ?? arrival.visitor_id;
  return (
    <li class={`arrival ${arrival.outcome}`}>
      <p><time dateTime={arrival.at} title={exactly(arrival.at)}>{ago(arrival.at)}</time>{" "}
        <span class={`door-outcome ${arrival.outcome}`}>{text(`door_${arrival.outcome}`)}</span>{" "}
        {arrival.type && <b><bdi>{eventName(arrival.type)}</bdi></b>} {arrival.type && <code dir="ltr">{arrival.type}</code>}{" "}
        {who && <bdi class="who">{who}</bdi>} {arrival.source && <span class="soft"><bdi>{arrival.source}</bdi></span>}</p>
      {arrival.reason && <p class={arrival.outcome === "refused" ? "wrong" : "soft"} dir="auto">{arrival.field && <><code dir="ltr">{arrival.field}</code>: </>}{arrival.reason}</p>}
      {arrival.effect && <EffectOf effect={arrival.effect} bot={arrival.bot} />}
      {arrival.sent && <details><summary>{text("whatWasSent")}</summary><pre dir="ltr" tabIndex={0} aria-label={text("whatWasSent")}>{JSON.stringify(arrival.sent, null, 2)}</pre></details>}
    </li>
  );
}

function EffectOf({ effect, bot }: { effect: Effect; bot: string | null }) {
  if (effect.state !== "counted") return <p class="soft">{text(`effect_${effect.state}`, { bot: bot ?? "" })}</p>;
  const scores = effect.scores.filter((each) => each.change);
  return (
    <p>{effect.lead_id && <a href={leadAddress(effect.lead_id)}><bdi>{effect.lead_id}</bdi></a>}{" "}
      {scores.map((each) => <span key={each.model} class="score-effect"><bdi>{ownName(words(each.model))}</bdi> <b class={each.change < 0 ? "down" : "up"}>{signed(each.change)}</b> = {number(each.total)}</span>)}
      {effect.stages.map((each) => <span key={each.stage} class="score-effect">→ <b>{stageName(each.stage)}</b></span>)}
      {!scores.length && !effect.stages.length && <span class="soft">{text("effectNone")}</span>}
      {effect.late && <span class="soft"> {text("effectLate")}</span>}</p>
  );
}

function FirstEvent() {
  const line = `curl ${location.origin}/v1/events -H 'Content-Type: application/json' -d '{"type": "page_viewed", "visitor_id": "browser-7"}'`;
  return <section class="card"><h3>{text("inspectorEmpty")}</h3><p>{text("inspectorEmptyHint")}</p><pre class="wrapped" dir="ltr" tabIndex={0} aria-label="curl">{line}</pre></section>;
}
