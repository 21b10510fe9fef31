// The keys of each trigger and action, as inputs. A test compares them with the language of workflows.

export type Input = { key: string; kind: "text" | "long" | "number" | "flag" | "list" | "choice"; choices?: readonly string[] };

const text = (key: string): Input => ({ key, kind: "text" });
const long = (key: string): Input => ({ key, kind: "long" });
const number = (key: string): Input => ({ key, kind: "number" });
const flag = (key: string): Input => ({ key, kind: "flag" });
const list = (key: string): Input => ({ key, kind: "list" });
const choice = (key: string, ...choices: string[]): Input => ({ key, kind: "choice", choices });

export const TRIGGERS: Record<string, readonly Input[]> = {
  score_threshold: [number("score"), text("model"), number("rearm")],
  score_falls: [number("score"), text("model"), number("rearm")],
  stage_change: [text("to"), text("from"), text("set"), text("model")],
  field_update: [text("field"), text("is")],
  event: [list("event"), text("source")],
  time_based: [text("cron"), number("days_without"), text("of")],
  not_contacted: [number("minutes")],
  manual: [],
};

export const ACTIONS: Record<string, readonly Input[]> = {
  assign_owner: [text("owner_id"), list("owners"), choice("by", "round_robin", "capacity"), flag("working_hours"), flag("keep")],
  change_status: [text("status")],
  send_email: [text("channel"), choice("to", "lead", "owner", "channel"), text("template"), text("subject"), long("text")],
  create_task: [text("title"), long("description"), number("due_in_days"), choice("priority", "low", "medium", "high", "urgent")],
  send_notification: [long("message"), text("title"), choice("to", "owner", "everybody"), text("owner_id"), list("channels")],
  move_to_stage: [text("stage"), number("days"), text("reason")],
  update_field: [text("field"), text("value")],
  add_to_campaign: [text("campaign_id"), text("campaign_name")],
  send_webhook: [text("channel")],
};

export type Config = Record<string, unknown>;

/** A value as its input shows it. */
export function shownValue(value: unknown): string {
  if (value === undefined || value === null) return "";
  return Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What was typed, as the API takes it; undefined: nothing. */
export function typedValue({ key, kind }: Input, typed: string): unknown {
  const trimmed = typed.trim();
  if (!trimmed) return undefined;
  if (kind === "number") return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
  if (kind === "list") {
    const items = trimmed.split(",").map((each) => each.trim()).filter(Boolean).map((each) => (key === "owners" ? idOf(each) : each));
    return key === "event" && items.length === 1 ? items[0] : items;
  }
  return key.endsWith("_id") ? idOf(trimmed) : kind === "long" ? typed : trimmed;
}

/** Ids are numbers or texts. */
const idOf = (typed: string): number | string => (/^\d{1,15}$/.test(typed) && String(Number(typed)) === typed ? Number(typed) : typed);
