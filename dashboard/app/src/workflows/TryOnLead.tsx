// A workflow tried on a lead, without doing anything; and run for it, which does.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { scopes, send } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { text } from "../text";
import { reasonOf, type Workflow, WORKFLOWS } from "./workflow";

type Met = { met: boolean; text: string };
type Trial = { lead: string; lead_id: string | number; would_fire: boolean; trigger: Met; conditions: Met[]; action: { text: string }; failed_condition: string | null };

export function TryOnLead({ workflow }: { workflow: Workflow }) {
  const trial = useSignal<Trial | null>(null);
  const problem = useSignal<string | null>(null);
  const note = useSignal<string | null>(null);
  const lead = query.value.get("lead");
  useEffect(() => {
    trial.value = problem.value = note.value = null;
    if (!lead) return;
    send<Trial>(`${WORKFLOWS}${workflow.id}/test/`, { lead_id: lead }).then((answer) => { trial.value = answer; }, (error) => { problem.value = reasonOf(error); });
  }, [lead, workflow]);
  const attempt = (event: SubmitEvent) => {
    event.preventDefault();
    const field = (event.currentTarget as HTMLFormElement).elements.namedItem("lead") as HTMLInputElement;
    navigate(withQuery({ lead: field.value.trim() || null }), true);
  };
  const run = async () => {
    try {
      await send(`${WORKFLOWS}${workflow.id}/run/`, { lead_id: lead });
      note.value = text("hasRun");
    } catch (error) {
      note.value = reasonOf(error);
    }
  };
  return (
    <section class="part">
      <form class="choices" onSubmit={attempt}><label for="lead-to-try">{text("leadId")}</label><input id="lead-to-try" name="lead" type="text" defaultValue={lead ?? ""} maxLength={128} />
        <button type="submit">{text("tryIt")}</button></form>
      <p class="soft">{text("tryAbout")}</p>
      {problem.value && <p class="wrong" role="alert">{problem.value}</p>}
      {trial.value && <div role="status">
        <p><a href={leadAddress(String(trial.value.lead_id))} dir="auto">{trial.value.lead}</a>: <b>{text(trial.value.would_fire ? "itWouldFire" : "itWouldNotFire")}</b></p>
        <ul>{[trial.value.trigger, ...trial.value.conditions].map((each) => (
          <li key={each.text}><span aria-hidden="true">{each.met ? "✓" : "✗"}</span><span class="unseen">{text(each.met ? "yes" : "no")}</span> <bdi>{each.text}</bdi></li>
        ))}<li class="soft"><bdi>{trial.value.action.text}</bdi></li></ul>
        {workflow.is_active && scopes.value.includes("write") && <p><button type="button" onClick={() => void run()}>{text("runNow")}</button></p>}
        {note.value && <p>{note.value}</p>}
      </div>}
    </section>
  );
}
