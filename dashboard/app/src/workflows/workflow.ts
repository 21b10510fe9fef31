// A workflow and what it did, as the API has them.

import { Refused } from "../api";
import { text, words } from "../text";
import { en, type Texts } from "../texts/en";
import { type Config, shownValue } from "./forms";

export type Condition = { field_name?: string; operator?: string; value?: unknown };
export type Workflow = {
  id: number; name: string; trigger_type: string; trigger_config: Config; conditions: Condition[];
  action_type: string; action_config: Config; is_active: boolean; priority: number; anonymous: boolean; created_at: string | null;
};
export type Execution = {
  id: number; workflow: number; workflow_name: string; lead: string | number; lead_name: string | null; trigger_type: string; reason: string;
  action_type: string; status: string; executed_at: string; error: string | null; outcome: string;
};

export const WORKFLOWS = "/api/lead-qualification/workflows/";
export const EXECUTIONS = "/api/lead-qualification/workflow-executions/";

export const NEW: Omit<Workflow, "id" | "created_at"> = {
  name: "", trigger_type: "score_threshold", trigger_config: { score: 75 }, conditions: [],
  action_type: "create_task", action_config: {}, is_active: true, priority: 0, anonymous: false,
};

const TRIGGER_NAMES = {
  score_threshold: "whenScoreRises", score_falls: "whenScoreFalls", stage_change: "whenStage", field_update: "whenField",
  event: "whenEvent", time_based: "whenTime", not_contacted: "whenNotContacted", manual: "whenManual",
} as const;
const ACTION_NAMES = {
  assign_owner: "doAssign", change_status: "doStatus", send_email: "doEmail", create_task: "doTask", send_notification: "doNotify",
  move_to_stage: "doStage", update_field: "doField", add_to_campaign: "doCampaign", send_webhook: "doWebhook",
} as const;

export const triggerName = (type: string): string => (type in TRIGGER_NAMES ? text(TRIGGER_NAMES[type as keyof typeof TRIGGER_NAMES]) : words(type));
export const actionName = (type: string): string => (type in ACTION_NAMES ? text(ACTION_NAMES[type as keyof typeof ACTION_NAMES]) : words(type));

/** A key of a trigger or an action, in words. */
export const keyName = (key: string): string => (`key_${key}` in en ? text(`key_${key}` as keyof Texts) : words(key));

/** The values of a configuration in one line. */
export const shortConfig = (config: Config): string => Object.entries(config).map(([key, value]) => `${keyName(key)}: ${shownValue(value)}`).join(", ");

export const reasonOf = (error: unknown): string => (error instanceof Refused ? error.message : text("off"));
