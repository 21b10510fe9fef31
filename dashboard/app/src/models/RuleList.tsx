// The rules and criteria of the text as forms: requirement 4's eight inputs.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { navigate, query, withQuery } from "../route";
import { number, signed, text, words } from "../text";
import { checked, type Criterion, cursorLine, goTo, problem, type Rule } from "./editing";
import { EntryForm, type Field, type Values } from "./EntryForm";

const OPERATORS = [
  "equals", "not_equals", "in_list", "not_in_list", "contains", "not_contains", "starts_with", "ends_with", "longer_than", "matches",
  "greater_than", "less_than", "greater_or_equal", "less_or_equal", "between", "is_set", "is_not_set",
] as const;
const operatorText = (name: string): string => text(`operator_${name as (typeof OPERATORS)[number]}`);
const OF_LISTS = new Set(["in_list", "not_in_list", "between"]);
const WITHOUT_VALUE = new Set(["is_set", "is_not_set"]);
const GROUPS = ["demographic", "behavioral", "firmographic", "engagement"];
const STAGES = ["mql", "sql", "hot"];
const COMPUTED = ["days_since_creation", "last_activity_days_ago", "email_opens_count", "email_clicks_count", "activities_count"];
const ENRICHMENT = ["company_revenue", "job_level", "technologies", "social_profiles"];
const ACTIONS = ["email_opened", "email_clicked", "email_replied", "form_submitted", "demo_requested", "meeting_scheduled", "content_downloaded", "page_viewed"];
const NEW_RULE: Values = { name: "", rule_type: "firmographic", field_name: "", operator: "equals", value: "", points: 10, priority: 0, is_active: true };
const NEW_CRITERION: Values = { name: "", stage: "mql", minimum_score: 40, required_fields: "", required_actions: "", time_constraint_days: null, is_active: true };

const proposed = (names: readonly string[]): string[] => [...new Set(names)];

/** `a, b` is a list, too: people type it so. */
function asList(value: unknown): string[] {
  const written = String(value ?? "").trim();
  if (written.startsWith("[")) {
    try {
      const list: unknown = JSON.parse(written);
      if (Array.isArray(list)) return list as string[];
    } catch { /* the server says what is wrong with it */ }
  }
  return written.split(",").map((each) => each.trim()).filter(Boolean);
}

function ruleFields(values: Values): Record<string, unknown> {
  const all: Record<string, unknown> = { ...values };
  const operator = String(values["operator"]);
  if (WITHOUT_VALUE.has(operator)) all["value"] = null;
  else if (OF_LISTS.has(operator)) all["value"] = JSON.stringify(asList(values["value"]).map((each) => (operator === "between" ? Number(each) : each)));
  return all;
}

const criterionFields = (values: Values): Record<string, unknown> => ({
  ...values, required_fields: asList(values["required_fields"]), required_actions: asList(values["required_actions"]),
});

export function RuleList() {
  const fieldNames = useSignal<string[]>([]);
  useEffect(() => {
    const stop = new AbortController();
    read<{ profile_fields: { name: string }[] }>("/api/lead-qualification/profile-fields/", stop.signal)
      .then((answer) => { fieldNames.value = answer.profile_fields.map((each) => each.name); }, () => undefined);
    return () => stop.abort();
  }, []);
  const answer = checked.value;
  if (!answer) return <p class="hint" role="status">{text("loading")}</p>;
  const isLocked = problem.value !== null;
  const open = query.value.get("rule");
  const openCriterion = query.value.get("criterion");
  const groups = proposed([...GROUPS, ...answer.rules.map((each) => each.rule_type)]);
  const names = proposed([...fieldNames.value, ...COMPUTED, ...ENRICHMENT]);
  const fields: Field[] = [
    { name: "name", label: text("ruleName"), kind: "text" },
    { name: "rule_type", label: text("ruleType"), kind: "text", options: groups },
    { name: "field_name", label: text("fieldName"), kind: "text", options: names },
    { name: "operator", label: text("operator"), kind: "choice", options: OPERATORS, shown: operatorText },
    { name: "value", label: text("value"), kind: "text", hint: text("valueHint"), optional: true },
    { name: "points", label: text("points"), kind: "number" },
    { name: "priority", label: text("priority"), kind: "number" },
    { name: "is_active", label: text("isActive"), kind: "switch" },
  ];
  const toggle = (name: string, value: string | null) => navigate(withQuery({ rule: null, criterion: null, [name]: value }), true);
  return <>
    {groups.filter((group) => answer.rules.some((each) => each.rule_type === group)).map((group) => (
      <section key={group} aria-label={words(group)}>
        <h4>{words(group)}</h4>
        <ul class="rules">{answer.rules.filter((each) => each.rule_type === group).map((rule) => (
          <li key={rule.id} class={rule.line === cursorLine.value ? "at-cursor" : undefined}>
            <button type="button" class="rule" aria-expanded={open === String(rule.id)}
              onClick={() => { toggle("rule", open === String(rule.id) ? null : String(rule.id)); if (rule.line) goTo.value = { line: rule.line }; }}>
              <b><bdi>{rule.name}</bdi></b>
              <span class="condition"><bdi>{rule.condition}</bdi></span>
              <PointsOf rule={rule} />
            </button>
            {open === String(rule.id) && <>
              {!rule.editable && <p class="hint">{text("ruleInText")}</p>}
              <EntryForm entry="rule" id={rule.id} fields={fields} values={rule as unknown as Values} read={ruleFields} isLocked={isLocked} close={() => toggle("rule", null)}
                disabled={rule.editable ? [] : ["field_name", "operator", "value", ...(rule.points === null ? ["points"] : [])]} />
            </>}
          </li>
        ))}</ul>
      </section>
    ))}
    {open === "new" ? <section class="new-entry" aria-label={text("addRule")}><h4>{text("addRule")}</h4>
      <EntryForm entry="rule" id={null} fields={fields} values={NEW_RULE} read={ruleFields} isLocked={isLocked} close={() => toggle("rule", null)} />
      <p><button type="button" onClick={() => toggle("rule", null)}>{text("cancel")}</button></p></section>
      : <p><button type="button" disabled={isLocked} onClick={() => toggle("rule", "new")}>{text("addRule")}</button></p>}
    <Criteria criteria={answer.criteria} open={openCriterion} isLocked={isLocked} names={names} toggle={(value) => toggle("criterion", value)} />
  </>;
}

function PointsOf({ rule }: { rule: Rule }) {
  if (!rule.is_active) return <span class="points soft">{text("switchedOff")}</span>;
  if (rule.points === null) return <span class="points soft">{text("byTable")}</span>;
  return <span class={`points ${rule.points < 0 ? "down" : "up"}`}>{signed(rule.points)}</span>;
}

type CriteriaProps = { criteria: readonly Criterion[]; open: string | null; isLocked: boolean; names: string[]; toggle: (value: string | null) => void };

function Criteria({ criteria, open, isLocked, names, toggle }: CriteriaProps) {
  if (!criteria.length) return null;
  const fields: Field[] = [
    { name: "name", label: text("ruleName"), kind: "text" },
    { name: "stage", label: text("stageOf"), kind: "text", options: STAGES },
    { name: "minimum_score", label: text("minimumScore"), kind: "number" },
    { name: "required_fields", label: text("requiredFields"), kind: "list", hint: names.slice(0, 6).join(", "), optional: true },
    { name: "required_actions", label: text("requiredActions"), kind: "list", hint: ACTIONS.slice(0, 4).join(", "), optional: true },
    { name: "time_constraint_days", label: text("withinDays"), kind: "number", optional: true },
    { name: "is_active", label: text("isActive"), kind: "switch" },
  ];
  const valuesOf = (each: Criterion): Values => ({ ...each, required_fields: each.required_fields.join(", "), required_actions: each.required_actions.join(", ") });
  return (
    <section aria-label={text("criteria")}>
      <h4>{text("criteria")}</h4>
      <ul class="rules">{criteria.map((each) => (
        <li key={each.id}>
          <button type="button" class="rule" aria-expanded={open === String(each.id)} onClick={() => toggle(open === String(each.id) ? null : String(each.id))}>
            <b><bdi>{each.name}</bdi></b>
            <span class="condition"><bdi>{[...each.required_fields, ...each.required_actions].map(words).join(", ")}</bdi></span>
            <span class="points">{each.is_active ? text("fromPoints", { n: number(each.minimum_score) }) : text("switchedOff")}</span>
          </button>
          {open === String(each.id) && <EntryForm entry="criterion" id={each.id} fields={fields} values={valuesOf(each)} read={criterionFields} isLocked={isLocked} close={() => toggle(null)} />}
        </li>
      ))}</ul>
      {open === "new" ? <section class="new-entry" aria-label={text("addCriterion")}><h4>{text("addCriterion")}</h4>
        <EntryForm entry="criterion" id={null} fields={fields} values={NEW_CRITERION} read={criterionFields} isLocked={isLocked} close={() => toggle(null)} />
        <p><button type="button" onClick={() => toggle(null)}>{text("cancel")}</button></p></section>
        : <p><button type="button" disabled={isLocked} onClick={() => toggle("new")}>{text("addCriterion")}</button></p>}
    </section>
  );
}
