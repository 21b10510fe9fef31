// What an operator looks after: how far scoring is, rebuilds, dead letters, keys, people, and who changed what.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { may, read, scopes } from "../api";
import { number, text, words } from "../text";
import "../models/models.css";
import "./operating.css";
import { Audit } from "./Audit";
import { DeadLetters } from "./DeadLetters";
import { Keys } from "./Keys";
import { People } from "./People";
import { reasonOf } from "../workflows/workflow";

type Stage = { stage: string; behind: number | null; age_seconds: number | null; unowned: number };
type Operations = {
  ready: boolean; reason: string | null; backlog: number | null; stages: Stage[]; rebuild: { done: number; of: number } | null;
  dead_letters: { reason: string; count: number }[]; deliveries: Record<string, number>;
};
const openDeliveries = (now: Operations) => Object.entries(now.deliveries).filter(([, count]) => count);
const EVERY_MS = 2_000;

export default function OperationsPage() {
  useEffect(() => { document.title = `${text("operations")} · Leadstream`; });
  if (!scopes.value.length) return <p role="status">{text("loading")}</p>;
  if (!may("admin")) return <section class="card"><h2>{text("operations")}</h2><p>{text("onlyAdmins")}</p></section>;
  return (
    <div class="models-page operating-page">
      <h2>{text("operations")}</h2>
      <HowFar />
      <DeadLetters />
      <Keys />
      <People />
      <Audit />
    </div>
  );
}

function HowFar() {
  const found = useSignal<Operations | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    const load = () => read<Operations>("/api/operations").then((answer) => { found.value = answer; problem.value = null; }, (error) => { problem.value = reasonOf(error); });
    void load();
    const again = setInterval(() => { if (!document.hidden) void load(); }, EVERY_MS);
    return () => clearInterval(again);
  }, []);
  const now = found.value;
  const counted = (value: number | null) => (value === null ? text("unknown") : number(value));
  return (
    <section class="part" aria-labelledby="how-far">
      <h3 id="how-far">{text("howFar")}</h3>
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {!now && !problem.value && <p role="status">{text("loading")}</p>}
      {now && <>
        <p class={now.ready ? "up" : "wrong"}>{now.ready ? text("isReady") : now.reason}</p>
        <div class="wide" tabIndex={0} role="group" aria-labelledby="how-far"><table><thead><tr><th scope="col">{text("step")}</th><th scope="col" class="points">{text("recordsBehind")}</th><th scope="col" class="points">{text("oldestWaits")}</th><th scope="col" class="points">{text("recordsUnowned")}</th></tr></thead>
          <tbody>{now.stages.map((each) => (
            <tr key={each.stage}><th scope="row">{words(each.stage)}</th><td class="points">{counted(each.behind)}</td><td class="points">{each.age_seconds === null ? text("unknown") : `${number(each.age_seconds, 1)} s`}</td><td class="points">{number(each.unowned)}</td></tr>
          ))}</tbody></table></div>
        {now.rebuild && <p><label>{text("rebuildRuns")} <progress value={now.rebuild.done} max={now.rebuild.of || 1} /></label> {number(Math.floor((100 * now.rebuild.done) / (now.rebuild.of || 1)))} %</p>}
        {openDeliveries(now).length > 0 && <p><a href="/workflows?status=dead">{text("deliveriesOpen")}</a>: {openDeliveries(now).map(([status, count]) => `${words(status)} ${number(count)}`).join(" · ")}</p>}
      </>}
    </section>
  );
}
