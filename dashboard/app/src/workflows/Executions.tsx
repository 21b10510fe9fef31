// What workflows did, for whom and why, and what became of it. What was given up is tried again by a button.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, scopes, send } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { ago, exactly, text, words } from "../text";
import { actionName, type Execution, EXECUTIONS, reasonOf } from "./workflow";

const STATUSES = ["waiting", "delivered", "failed", "dead", "skipped", "silent"];
const AGAIN = new Set(["dead", "skipped"]);

export function Executions({ workflow }: { workflow?: number }) {
  const executions = useSignal<Execution[] | null>(null);
  const problem = useSignal<string | null>(null);
  const status = query.value.get("status") ?? "";
  const load = () => read<Execution[]>(`${EXECUTIONS}?limit=50${workflow ? `&workflow_id=${workflow}` : ""}${status ? `&status=${status}` : ""}`).then(
    (found) => { executions.value = found; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, [workflow, status]);
  const again = async (execution: Execution) => {
    try {
      await send(`${EXECUTIONS}${execution.id}/retry/`, {});
      await load();
    } catch (error) {
      problem.value = reasonOf(error);
    }
  };
  return (
    <section class="part" aria-labelledby="executions">
      <h3 id="executions">{text("executions")}</h3>
      <p class="choices"><label for="status">{text("status")}</label>
        <select id="status" value={status} onChange={(event) => navigate(withQuery({ status: event.currentTarget.value || null }), true)}>
          {["", ...STATUSES].map((each) => <option key={each} value={each}>{each ? words(each) : text("all")}</option>)}</select></p>
      {problem.value && <p class="wrong" role="alert">{problem.value}</p>}
      {executions.value?.length === 0 && <p class="soft">{text("noExecutions")}</p>}
      {!!executions.value?.length && <div class="wide"><table>
        <thead><tr><th scope="col">{text("when")}</th><th scope="col">{text("lead")}</th>{!workflow && <th scope="col">{text("workflow")}</th>}<th scope="col">{text("because")}</th><th scope="col">{text("action")}</th><th scope="col">{text("outcome")}</th><th scope="col"><span class="unseen">{text("tryAgain")}</span></th></tr></thead>
        <tbody>{executions.value.map((each) => (
          <tr key={each.id}>
            <td><time dateTime={each.executed_at} title={exactly(each.executed_at)}>{ago(each.executed_at)}</time></td>
            <td><a href={leadAddress(String(each.lead))} dir="auto">{each.lead_name ?? each.lead}</a></td>
            {!workflow && <td><a href={`/workflows/${each.workflow}`} dir="auto">{each.workflow_name}</a></td>}
            <td dir="auto">{each.reason}</td><td>{actionName(each.action_type)}</td><td dir="auto" class={each.status === "dead" || each.status === "failed" ? "down" : undefined}>{each.outcome}</td>
            <td>{AGAIN.has(each.status) && scopes.value.includes("write") && <button type="button" onClick={() => void again(each)}>{text("tryAgain")}</button>}</td>
          </tr>
        ))}</tbody></table></div>}
    </section>
  );
}
