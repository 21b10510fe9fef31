// Which variant a lead or a visitor would get: the hash says it, and nothing is recorded.

import { useSignal } from "@preact/signals";
import { send } from "../api";
import { text } from "../text";
import { type Experiment, experimentPath, reasonOf } from "./experiment";

type Tried = { unit: "visitor" | "lead"; assignments: { id: string; variant: string; in_experiment: boolean }[] };

export function TryAssignment({ experiment }: { experiment: Experiment }) {
  const id = useSignal("");
  const kind = useSignal<"lead_id" | "visitor_id">("lead_id");
  const tried = useSignal<Tried | null>(null);
  const failure = useSignal<string | null>(null);
  const go = async () => {
    tried.value = null;
    try {
      tried.value = await send<Tried>(experimentPath(experiment.name, "/try"), { [kind.value]: id.value.trim() });
      failure.value = null;
    } catch (error) {
      failure.value = reasonOf(error);
    }
  };
  return (
    <section class="part" aria-labelledby="try"><h3 id="try">{text("trialTry")}</h3>
      <p class="soft">{text("trialTryAbout")}</p>
      <form class="choices" onSubmit={(event) => { event.preventDefault(); void go(); }}>
        {experiment.unit === "visitor" && <label class="field">{text("trialTryBy")}{" "}
          <select value={kind.value} onChange={(event) => { kind.value = event.currentTarget.value as "lead_id" | "visitor_id"; }}><option value="lead_id">{text("trialTryLead")}</option><option value="visitor_id">{text("trialTryVisitor")}</option></select></label>}
        <label class="field">{text(kind.value === "lead_id" ? "trialTryLead" : "trialTryVisitor")}{" "}<input type="text" dir="ltr" required maxLength={512} autocomplete="off" value={id.value} onInput={(event) => { id.value = event.currentTarget.value; }} /></label>
        <button type="submit">{text("trialTryNow")}</button>
      </form>
      {failure.value && <p class="wrong" role="alert"><bdi>{failure.value}</bdi></p>}
      <div role="status">{tried.value && (tried.value.assignments.length === 0 ? <p>{text("trialTryNobody")}</p> : <ul class="tried">{tried.value.assignments.map((each) => (
        <li key={each.id}><bdi dir="ltr">{each.id}</bdi>: <b>{each.variant}</b>{!each.in_experiment && <span class="soft"> · {text("trialNotIn")}</span>}</li>
      ))}</ul>)}</div>
    </section>
  );
}
