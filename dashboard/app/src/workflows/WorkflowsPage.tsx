// What Leadstream does by itself when something happens to a lead: list, edit, try, and what was done.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, scopes, send } from "../api";
import { navigate, path, query, withQuery } from "../route";
import { number, text, words } from "../text";
import "../models/models.css";
import { Executions } from "./Executions";
import { TryOnLead } from "./TryOnLead";
import { WorkflowForm } from "./WorkflowForm";
import { WorkflowHistory } from "./WorkflowHistory";
import { actionName, NEW, reasonOf, shortConfig, triggerName, type Workflow, WORKFLOWS } from "./workflow";

type Statistics = { total_workflows: number; active_workflows: number; total_executions: number; successful_executions: number; failed_executions: number };

const TABS = { edit: "edit", try: "tryOnLead", done: "executions", history: "changes" } as const;

export default function WorkflowsPage() {
  useEffect(() => { document.title = `${text("workflows")} · Leadstream`; });
  const chosen = path.value.split("/")[2];
  return <div class="models-page workflows-page">{chosen ? <OneWorkflow key={chosen} chosen={chosen} /> : <AllWorkflows />}</div>;
}

export const mayEdit = (): boolean => scopes.value.includes("author");

function AllWorkflows() {
  const workflows = useSignal<Workflow[] | null>(null);
  const statistics = useSignal<Statistics | null>(null);
  const problem = useSignal<string | null>(null);
  const load = async () => {
    try {
      [workflows.value, statistics.value] = await Promise.all([read<Workflow[]>(WORKFLOWS), read<Statistics>(`${WORKFLOWS}statistics/`)]);
      problem.value = null;
    } catch (error) {
      problem.value = reasonOf(error);
    }
  };
  useEffect(() => { void load(); }, []);
  const turn = async (workflow: Workflow) => {
    try {
      await send(`${WORKFLOWS}${workflow.id}/${workflow.is_active ? "deactivate" : "activate"}/`, {});
      await load();
    } catch (error) {
      problem.value = reasonOf(error);
    }
  };
  const counts = statistics.value;
  return <>
    <h2>{text("workflows")}</h2>
    <p class="soft">{text("workflowsAbout")}</p>
    {problem.value && <p class="notice" role="alert">{problem.value}</p>}
    {counts && <dl class="figures">
      {([["active", counts.active_workflows], ["executions", counts.total_executions], ["carriedOut", counts.successful_executions], ["failedOnes", counts.failed_executions]] as const).map(([name, count]) => (
        <div key={name}><dt>{text(name)}</dt><dd>{number(count)}</dd></div>
      ))}
    </dl>}
    <p>{mayEdit() ? <a class="primary" href="/workflows/new">{text("newWorkflow")}</a> : <span class="soft">{text("mayNotEdit")}</span>}</p>
    {!workflows.value && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
    {workflows.value?.length === 0 && <section class="card"><h2>{text("noWorkflowsYet")}</h2><p>{text("noWorkflowsHint")}</p></section>}
    {!!workflows.value?.length && (
      <ul class="workflow-list">{workflows.value.map((each) => (
        <li key={each.id} class={each.is_active ? "part" : "part old"}>
          <h3><a href={`/workflows/${each.id}`} dir="auto">{each.name}</a></h3>
          <p><b>{triggerName(each.trigger_type)}</b> <bdi class="soft">{shortConfig(each.trigger_config)}</bdi></p>
          {each.conditions.length > 0 && <p class="soft">{text("onlyIf", { n: number(each.conditions.length) })}</p>}
          <p><b>{actionName(each.action_type)}</b> <bdi class="soft">{shortConfig(each.action_config)}</bdi></p>
          <button type="button" role="switch" aria-checked={each.is_active} aria-label={each.name} disabled={!mayEdit()} onClick={() => void turn(each)}>{text(each.is_active ? "isOn" : "isOff")}</button>
        </li>
      ))}</ul>
    )}
    <Executions />
  </>;
}

function OneWorkflow({ chosen }: { chosen: string }) {
  const workflow = useSignal<Workflow | null>(null);
  const problem = useSignal<string | null>(null);
  const isNew = chosen === "new";
  const load = () => read<Workflow>(`${WORKFLOWS}${encodeURIComponent(chosen)}/`).then(
    (found) => { workflow.value = found; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { if (!isNew) void load(); }, []);
  const tab = (query.value.get("tab") ?? "edit") as keyof typeof TABS;
  const back = <p><a href="/workflows">{text("allWorkflows")}</a></p>;
  if (problem.value) return <>{back}<section class="card"><h2>{problem.value}</h2></section></>;
  if (isNew) return <>{back}<h2>{text("newWorkflow")}</h2><WorkflowForm workflow={NEW} saved={(made) => navigate(`/workflows/${made.id}?tab=try`, true)} /></>;
  const found = workflow.value;
  if (!found) return <>{back}<p class="hint" role="status">{text("loading")}</p></>;
  return <>
    {back}
    <h2 dir="auto">{found.name} <span class="soft">({text(found.is_active ? "isOn" : "isOff")})</span></h2>
    <nav class="chips" aria-label={text("workflows")}>{Object.entries(TABS).map(([name, title]) => (
      <a key={name} class="chip" href={withQuery({ tab: name === "edit" ? null : name })} aria-current={tab === name ? "page" : undefined}>{text(title)}</a>
    ))}</nav>
    {tab === "try" ? <TryOnLead workflow={found} /> : tab === "done" ? <Executions workflow={found.id} /> : tab === "history" ? <WorkflowHistory workflow={found.id} /> : (
      <WorkflowForm workflow={found} saved={(changed) => { workflow.value = changed; }} deleted={() => navigate("/workflows")} />
    )}
    <p class="soft">{words("id")} {found.id}</p>
  </>;
}
