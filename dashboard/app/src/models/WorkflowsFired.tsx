// Workflows that a publication would set off, with the leads for which they would act.

import { number, text, words } from "../text";
import type { Fired } from "./editing";

export function WorkflowsFired({ workflows }: { workflows: readonly Fired[] }) {
  if (!workflows.length) return <p class="soft">{text("noWorkflows")}</p>;
  return (
    <ul class="fired">{workflows.map((each) => (
      <li key={each.workflow_id}><b dir="auto">{each.workflow}</b> <span class="soft">({words(each.action)})</span>: {each.leads === 1 ? text("forLead") : text("forLeads", { n: number(each.leads) })}
        {each.first.length > 0 && <ul>{each.first.slice(0, 3).map((lead) => <li key={lead.lead_id} class="soft"><bdi>{lead.lead_id}: {lead.reason}</bdi></li>)}</ul>}</li>
    ))}</ul>
  );
}
