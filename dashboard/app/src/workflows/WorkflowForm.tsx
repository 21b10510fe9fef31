// A workflow as a form. What the server refuses is shown at its field.

import { useSignal } from "@preact/signals";
import { Refused, send } from "../api";
import { text, words } from "../text";
import type { Texts } from "../texts/en";
import { ACTIONS, type Config, type Input, shownValue, TRIGGERS, typedValue } from "./forms";
import { actionName, keyName, type Condition, reasonOf, triggerName, type Workflow, WORKFLOWS } from "./workflow";
import { mayEdit } from "./WorkflowsPage";

const OPERATORS = ["equals", "not_equals", "greater_than", "greater_or_equal", "less_than", "less_or_equal", "contains", "not_contains", "starts_with", "ends_with", "in_list", "not_in_list", "is_set", "is_not_set"];

type Draft = Omit<Workflow, "id" | "created_at"> & { id?: number; created_at?: string | null };
type Refusal = { field: string; reason: string };

export function WorkflowForm({ workflow, saved, deleted }: { workflow: Draft; saved: (made: Workflow) => void; deleted?: () => void }) {
  const draft = useSignal<Draft>(structuredClone(workflow));
  const refusal = useSignal<Refusal | null>(null);
  const note = useSignal<string | null>(null);
  const change = (part: Partial<Draft>) => { draft.value = { ...draft.value, ...part }; note.value = null; };
  const now = draft.value;
  const save = async (event: SubmitEvent) => {
    event.preventDefault();
    const { id, created_at: _, ...body } = now;
    try {
      const made = await send<Workflow>(id === undefined ? WORKFLOWS : `${WORKFLOWS}${id}/`, body, id === undefined ? "POST" : "PUT");
      refusal.value = null;
      note.value = text("workflowSaved");
      saved(made);
    } catch (error) {
      refusal.value = { field: error instanceof Refused ? error.field ?? "" : "", reason: reasonOf(error) };
    }
  };
  const remove = async () => {
    if (!confirm(text("deleteReally", { name: now.name }))) return;
    try {
      await send(`${WORKFLOWS}${now.id}/`, {}, "DELETE");
      deleted?.();
    } catch (error) {
      refusal.value = { field: "", reason: reasonOf(error) };
    }
  };
  const locked = !mayEdit();
  return (
    <form class="part workflow-form" onSubmit={(event) => void save(event)}>
      {locked && <p class="soft">{text("mayNotEdit")}</p>}
      <fieldset disabled={locked}>
        <Typed name="name" label={text("workflowName")} value={now.name} refusal={refusal.value} typed={(name) => change({ name })} />
        <h3>{text("whenTitle")}</h3>
        <Chosen name="trigger_type" label={text("trigger")} value={now.trigger_type} choices={Object.keys(TRIGGERS)} nameOf={triggerName}
          chosen={(type) => change({ trigger_type: type, trigger_config: {} })} />
        <div class="pairs"><Configured of="trigger_config" inputs={TRIGGERS[now.trigger_type] ?? []} config={now.trigger_config} refusal={refusal.value} changed={(trigger_config) => change({ trigger_config })} /></div>
        <h3>{text("onlyIfTitle")}</h3>
        <Conditions conditions={now.conditions} refusal={refusal.value} changed={(conditions) => change({ conditions })} />
        <h3>{text("thenTitle")}</h3>
        <Chosen name="action_type" label={text("action")} value={now.action_type} choices={Object.keys(ACTIONS)} nameOf={actionName}
          chosen={(type) => change({ action_type: type, action_config: {} })} />
        <div class="pairs"><Configured of="action_config" inputs={ACTIONS[now.action_type] ?? []} config={now.action_config} refusal={refusal.value} changed={(action_config) => change({ action_config })} /></div>
        <label class="tick"><input type="checkbox" checked={now.is_active} onChange={(event) => change({ is_active: event.currentTarget.checked })} />{text("isOn")}</label>
        <label class="tick"><input type="checkbox" checked={now.anonymous} onChange={(event) => change({ anonymous: event.currentTarget.checked })} />{text("alsoAnonymous")}</label>
        <Typed name="priority" label={text("priorityOfWorkflow")} value={String(now.priority)} refusal={refusal.value} typed={(typed) => change({ priority: Number(typed) })} isNumber />
        {refusal.value && <p class="wrong" role="alert">{refusal.value.field && <code>{refusal.value.field}</code>} {refusal.value.reason}</p>}
        {note.value && <p role="status">{note.value}</p>}
        <p class="choices"><button type="submit" class="primary">{text("save")}</button>
          {now.id !== undefined && <button type="button" onClick={() => void remove()}>{text("delete")}</button>}</p>
      </fieldset>
    </form>
  );
}

type TypedInput = { name: string; label: string; value: string; refusal: Refusal | null; typed: (value: string) => void; isNumber?: boolean; isLong?: boolean };

function Typed({ name, label, value, refusal, typed, isNumber, isLong }: TypedInput) {
  const isWrong = refusal?.field === name || undefined;
  return (
    <p class="input"><label for={name}>{label}</label>
      {isLong
        ? <textarea id={name} rows={3} aria-invalid={isWrong} value={value} onInput={(event) => typed(event.currentTarget.value)} dir="auto" />
        : isNumber ? <input id={name} type="number" aria-invalid={isWrong} value={value} onInput={(event) => typed(event.currentTarget.value)} />
        : <input id={name} type="text" aria-invalid={isWrong} value={value} onInput={(event) => typed(event.currentTarget.value)} dir="auto" />}</p>
  );
}

function Chosen({ name, label, value, choices, nameOf, chosen }: { name: string; label: string; value: string; choices: readonly string[]; nameOf: (value: string) => string; chosen: (value: string) => void }) {
  return (
    <p class="input"><label for={name}>{label}</label>
      <select id={name} value={value} onChange={(event) => chosen(event.currentTarget.value)}>{choices.map((each) => <option key={each} value={each}>{nameOf(each)}</option>)}</select></p>
  );
}

function Configured({ of, inputs, config, refusal, changed }: { of: string; inputs: readonly Input[]; config: Config; refusal: Refusal | null; changed: (config: Config) => void }) {
  const put = (key: string, value: unknown) => {
    const { [key]: _, ...rest } = config;
    changed(value === undefined ? rest : { ...rest, [key]: value });
  };
  // What the API has and the form does not, such as an operator, stays as it is and is shown.
  const others = Object.keys(config).filter((key) => !inputs.some((each) => each.key === key));
  return <>
    {inputs.map((input) => {
      const name = `${of}.${input.key}`;
      const value = config[input.key];
      if (input.kind === "flag") return <label class="tick" key={name}><input type="checkbox" checked={value === true} onChange={(event) => put(input.key, event.currentTarget.checked || undefined)} />{keyName(input.key)}</label>;
      if (input.kind === "choice") return <Chosen key={name} name={name} label={keyName(input.key)} value={shownValue(value)} choices={["", ...(input.choices ?? [])]} nameOf={words} chosen={(chosen) => put(input.key, chosen || undefined)} />;
      return <Typed key={name} name={name} label={keyName(input.key)} value={shownValue(value)} refusal={refusal} typed={(typed) => put(input.key, typedValue(input, typed))} isNumber={input.kind === "number"} isLong={input.kind === "long"} />;
    })}
    {others.map((key) => <p class="soft" key={key}>{words(key)}: <code>{shownValue(config[key])}</code> <button type="button" onClick={() => put(key, undefined)}>{text("remove")}</button></p>)}
  </>;
}

function Conditions({ conditions, refusal, changed }: { conditions: Condition[]; refusal: Refusal | null; changed: (conditions: Condition[]) => void }) {
  const put = (index: number, part: Condition) => changed(conditions.map((each, at) => (at === index ? { ...each, ...part } : each)));
  return <>
    {conditions.map((each, index) => {
      const at = `conditions.${index}`;
      const isWrong = refusal?.field.startsWith(at);
      return (
        <fieldset class="condition" key={index}><legend class="unseen">{text("condition", { n: index + 1 })}</legend>
          {each.field_name === undefined ? <code>{shownValue(each)}</code> : <>
            <Typed name={`${at}.field_name`} label={text("field")} value={each.field_name} refusal={isWrong ? refusal : null} typed={(field_name) => put(index, { field_name })} />
            <Chosen name={`${at}.operator`} label={text("operator")} value={each.operator ?? "equals"} choices={OPERATORS} nameOf={(operator) => text(`operator_${operator}` as keyof Texts)} chosen={(operator) => put(index, { operator })} />
            <Typed name={`${at}.value`} label={text("value")} value={shownValue(each.value)} refusal={isWrong ? refusal : null} typed={(value) => put(index, { value })} />
          </>}
          <button type="button" onClick={() => changed(conditions.filter((_, at) => at !== index))}>{text("remove")}</button></fieldset>
      );
    })}
    <p><button type="button" onClick={() => changed([...conditions, { field_name: "", operator: "equals", value: "" }])}>{text("addCondition")}</button></p>
  </>;
}
