// What a person does with a lead: an event of the log with the name of the person on it.

import { person, send } from "./api";

type Recorded = { engagement_id: string; applied: boolean };

const me = (): string | null => person.value?.email ?? null;
const TYPES_WITH_BY = new Set(["lead_assigned", "lead_snoozed", "note_added"]);

/** Records an event of the lead. `details`: the fields of its own type. */
export async function record(leadId: string, type: string, details: Record<string, unknown> = {}): Promise<Recorded> {
  const by = me();
  return send<Recorded>(`/api/lead-tracking/engagement/${encodeURIComponent(leadId)}`, {
    engagement_type: type,
    details: TYPES_WITH_BY.has(type) && by ? { ...details, by } : details,
    ...(by && { metadata: { by } }),
  });
}

export const assign = (leadId: string, owner: string | null) => record(leadId, "lead_assigned", { assigned_to: owner });
/** Until null: the lead is on the list again. */
export const snooze = (leadId: string, until: string | null) => record(leadId, "lead_snoozed", { until });
export const called = (leadId: string) => record(leadId, "call_made");
export const addNote = (leadId: string, note: string) => record(leadId, "note_added", { text: note });
export const addTask = (leadId: string, title: string, due: string | null) => record(leadId, "task_created", { title, ...(due && { due_at: due }) });
export const join = (leadId: string, campaign: string) => record(leadId, "campaign_joined", { campaign_id: campaign, campaign_name: campaign });
export const merge = (leadId: string, into: string) => record(leadId, "leads_merged", { into });
export const undoMerge = (leadId: string) => record(leadId, "merge_undone");
