// An experiment as a form beside its text, and its publication. What the server refuses is shown at its field.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { send } from "../api";
import { later } from "../later";
import { number, text, words } from "../text";
import { EVENT_NAMES } from "../texts/names";
import * as edited from "./editing";
import { byMe, change, failure, type Form, form, isChanged, mayPublishText, type GoalForm, name, problem, refused, type VariantForm } from "./editing";
import { experimentPath, mayEdit, reasonOf, unitName } from "./experiment";

const TextEditor = later(() => import("../models/TextEditor"));

const replaced = <T,>(list: readonly T[], at: number, part: Partial<T>): T[] => list.map((each, index) => (index === at ? { ...each, ...part } : each));
const without = <T,>(list: readonly T[], at: number): T[] => list.filter((_, index) => index !== at);

/** `hasStarted`: what decides who sees which variant stays as it is. */
export function EditExperiment({ hasStarted, published }: { hasStarted: boolean; published: () => Promise<void> }) {
  const now = form.value;
  return (
    <div class="side-by-side">
      <div class="stack">
        {failure.value && <p class="notice" role="alert">{failure.value}</p>}
        {hasStarted && <p class="hint">{text("trialFixed")}</p>}
        {now && <ExperimentForm now={now} isFixed={hasStarted} />}
        <Publish published={published} />
      </div>
      <section class="part text-part" aria-labelledby="as-text">
        <h3 id="as-text">{text("asText")}</h3>
        <p id="text-problem" role="status" class={problem.value ? "wrong" : "soft"}>
          {problem.value ? <><button type="button" class="plain" onClick={() => { edited.goTo.value = { line: problem.value?.line ?? 1 }; }}>{text("lineColumn", { line: number(problem.value.line), column: number(problem.value.column) })}</button>{" "}<bdi>{problem.value.reason}</bdi></> : text("textIsRight")}</p>
        <TextEditor label={text("asText")} edited={edited} />
      </section>
    </div>
  );
}

function ExperimentForm({ now, isFixed }: { now: Form; isFixed: boolean }) {
  return (
    <fieldset class="flow-form" disabled={!mayEdit()}>
      <section class="part"><h3>{text("trialQuestion")}</h3>
        <Input field="about" label={text("trialAbout")} value={now.about} typed={(about) => change({ about })} />
        <div class="pairs">
          <Moment field="starts_at" label={text("trialStarts")} value={now.starts_at} typed={(starts_at) => change({ starts_at })} isFixed={isFixed} />
          <Moment field="ends_at" label={text("trialEnds")} value={now.ends_at} typed={(ends_at) => change({ ends_at })} />
        </div></section>
      <section class="part"><h3>{text("trialVariants")}</h3>
        {now.variants.map((each, at) => <Variant key={at} variant={each} at={at} now={now} isFixed={isFixed} />)}
        <Reason field="variants" />
        <p><button type="button" disabled={isFixed} onClick={() => change({ variants: evenly([...now.variants, { name: String.fromCharCode(65 + now.variants.length), weight: null, config: {} }]) })}>{text("trialAddVariant")}</button></p></section>
      <section class="part"><h3>{text("trialGoals")}</h3>
        {now.goals.map((each, at) => <OneGoal key={at} goal={each} at={at} now={now} />)}
        <Reason field="goals" />
        <p><button type="button" onClick={() => change({ goals: [...now.goals, { name: `goal_${now.goals.length + 1}`, about: "", event: "contact_shared", conversion: null }] })}>{text("trialAddGoal")}</button></p>
        <Whole field="window_days" label={text("trialWindowDays")} value={now.window_days} typed={(window_days) => change({ window_days })} /></section>
      <section class="part"><h3>{text("trialAudience")}</h3>
        <div class="pairs">
          <Whole field="coverage" label={text("trialCoveragePercent")} value={percent(now.coverage)} typed={(typed) => change({ coverage: typed / 100 })} />
          <p class="input"><label for="unit">{text("trialUnit")}</label>
            <select id="unit" value={now.unit} disabled={isFixed} onChange={(event) => change({ unit: event.currentTarget.value })}>{(["visitor", "lead"] as const).map((each) => <option key={each} value={each}>{unitName(each)}</option>)}</select></p>
        </div>
        <p class="soft">{text("trialAudienceHint")}</p></section>
      <datalist id="goal-events">{Object.keys(EVENT_NAMES).map((each) => <option key={each} value={each} />)}</datalist>
    </fieldset>
  );
}

const percent = (share: number): number => Math.round(share * 10_000) / 100;

/** The same share for each, which sums to 1: what is left over goes to the first. */
function evenly(variants: readonly VariantForm[]): VariantForm[] {
  const each = Math.floor(10_000 / variants.length);
  return variants.map((variant, at) => ({ ...variant, weight: (at ? each : 10_000 - each * (variants.length - 1)) / 10_000 }));
}

function Variant({ variant, at, now, isFixed }: { variant: VariantForm; at: number; now: Form; isFixed: boolean }) {
  const put = (part: Partial<VariantForm>) => change({ variants: replaced(now.variants, at, part) });
  return (
    <fieldset class="variant-form"><legend>{variant.name}{at === 0 && <span class="soft"> · {text("trialControl")}</span>}</legend>
      <div class="pairs">
        <Input id={`variants.${at}.name`} field={`variants.${variant.name}`} label={text("trialVariantName")} value={variant.name} typed={(typed) => put({ name: typed })} isFixed={isFixed} />
        <Whole id={`variants.${at}.weight`} field={`variants.${variant.name}.weight`} label={text("trialWeightPercent")} value={variant.weight === null ? percent(1 / now.variants.length) : percent(variant.weight)} typed={(typed) => put({ weight: Math.round(typed * 100) / 10_000 })} isFixed={isFixed} />
      </div>
      <Config at={at} variant={variant} typed={(config) => put({ config })} />
      {now.variants.length > 2 && <button type="button" disabled={isFixed} onClick={() => change({ variants: evenly(without(now.variants, at)) })}>{text("trialRemoveVariant", { variant: variant.name })}</button>}
    </fieldset>
  );
}

/** Any JSON. What is no JSON stays as it is typed, and is not sent. */
function Config({ at, variant, typed }: { at: number; variant: VariantForm; typed: (config: unknown) => void }) {
  const typing = useSignal<string | null>(null);
  const isWrong = useSignal(false);
  const id = `variants.${at}.config`;
  const field = `variants.${variant.name}.config`;
  const shown = typing.value ?? JSON.stringify(variant.config ?? {});
  const take = (value: string) => {
    typing.value = value;
    try {
      const config: unknown = JSON.parse(value || "{}");
      isWrong.value = false;
      typed(config);
    } catch {
      isWrong.value = true;
    }
  };
  const reason = isWrong.value ? text("trialNoJson") : null;
  return (
    <div class="input"><label for={id}>{text("trialConfig")}</label>
      <textarea id={id} rows={2} dir="ltr" spellcheck={false} value={shown} aria-invalid={reason ? true : undefined} onInput={(event) => take(event.currentTarget.value)} onBlur={() => { if (!isWrong.value) typing.value = null; }} />
      {reason && <p class="wrong" role="alert">{reason}</p>}<Reason field={field} /></div>
  );
}

function OneGoal({ goal, at, now }: { goal: GoalForm; at: number; now: Form }) {
  const put = (part: Partial<GoalForm>) => change({ goals: replaced(now.goals, at, part) });
  const field = `goals.${goal.name}`;
  return (
    <fieldset class="variant-form"><legend>{words(goal.name)}</legend>
      <div class="pairs">
        <Input id={`goals.${at}.name`} field={field} label={text("trialGoalName")} value={goal.name} typed={(typed) => put({ name: typed })} />
        <Input id={`goals.${at}.event`} field={`${field}.event`} label={text("trialGoalEvent")} value={goal.event ?? ""} typed={(typed) => put({ event: typed || null })} list="goal-events" />
        <Input id={`goals.${at}.conversion`} field={`${field}.conversion`} label={text("trialGoalConversion")} value={goal.conversion ?? ""} typed={(typed) => put({ conversion: typed || null })} />
        <Input id={`goals.${at}.about`} field={`${field}.about`} label={text("trialAbout")} value={goal.about} typed={(about) => put({ about })} />
      </div>
      {now.goals.length > 1 && <button type="button" onClick={() => change({ goals: without(now.goals, at) })}>{text("trialRemoveGoal", { goal: words(goal.name) })}</button>}
    </fieldset>
  );
}

const reasonAt = (field: string): string | null => (problem.value?.field === field ? problem.value.reason : refused.value?.field === field ? refused.value.reason : null);

function Reason({ field }: { field: string }) {
  const reason = reasonAt(field);
  return reason ? <p class="wrong" role="alert" id={`wrong-${field}`}><bdi>{reason}</bdi></p> : null;
}

type Field = { field: string; label: string; id?: string; isFixed?: boolean };

function Input({ field, label, id = field, isFixed, value, typed, list }: Field & { value: string; typed: (value: string) => void; list?: string }) {
  return <Labelled field={field} label={label} id={id}><input id={id} type="text" dir="auto" value={value} list={list} disabled={isFixed} aria-invalid={reasonAt(field) ? true : undefined} aria-describedby={reasonAt(field) ? `wrong-${field}` : undefined} onInput={(event) => typed(event.currentTarget.value)} /></Labelled>;
}

function Whole({ field, label, id = field, isFixed, value, typed }: Field & { value: number; typed: (value: number) => void }) {
  return <Labelled field={field} label={label} id={id}><input id={id} type="number" min="0" step="any" value={value} disabled={isFixed} aria-invalid={reasonAt(field) ? true : undefined} aria-describedby={reasonAt(field) ? `wrong-${field}` : undefined} onChange={(event) => typed(Number(event.currentTarget.value))} /></Labelled>;
}

function Moment({ field, label, id = field, isFixed, value, typed }: Field & { value: string | null; typed: (value: string | null) => void }) {
  return <Labelled field={field} label={label} id={id}><input id={id} type="datetime-local" value={value ? inputMoment(value) : ""} disabled={isFixed} aria-invalid={reasonAt(field) ? true : undefined} aria-describedby={reasonAt(field) ? `wrong-${field}` : undefined} onChange={(event) => typed(event.currentTarget.value ? new Date(event.currentTarget.value).toISOString() : null)} /></Labelled>;
}

function Labelled({ field, label, id, children }: { field: string; label: string; id: string; children: ComponentChildren }) {
  return <div class="input"><label for={id}>{label}</label>{children}<Reason field={field} /></div>;
}

/** As the input wants it: in the browser's own time zone. */
function inputMoment(moment: string): string {
  const at = new Date(moment);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function Publish({ published }: { published: () => Promise<void> }) {
  const note = useSignal("");
  const isBusy = useSignal(false);
  const refusal = useSignal<string | null>(null);
  const done = useSignal<string | null>(null);
  useEffect(() => { if (isChanged.value) done.value = null; }, [edited.text.value]);
  const why = !mayEdit() ? text("mayNotPublish")
    : problem.value ? text("correctFirst", { line: number(problem.value.line) })
    : !isChanged.value ? text("nothingChanged")
    : !note.value.trim() ? text("reasonNeeded") : null;
  const publish = async () => {
    isBusy.value = true;
    refusal.value = null;
    try {
      const answer = await send<{ version: number }>(experimentPath(name.value, "/publish"), { text: edited.text.value, note: note.value.trim(), based_on: edited.checked.value?.based_on ?? 0, ...byMe() });
      note.value = "";
      await published();
      done.value = text("trialPublished", { n: number(answer.version) });
    } catch (error) {
      refusal.value = reasonOf(error);
    }
    isBusy.value = false;
  };
  return (
    <section class="part" aria-labelledby="publish"><h3 id="publish">{text("publish")}</h3>
      {refused.value && <p class="wrong" role="alert"><bdi>{refused.value.reason}</bdi></p>}
      <form onSubmit={(event) => { event.preventDefault(); void publish(); }}>
        <div class="input"><label for="publish-note">{text("reason")}</label><input id="publish-note" type="text" dir="auto" maxLength={512} autocomplete="off" value={note.value} onInput={(event) => { note.value = event.currentTarget.value; }} /></div>
        <div class="choices"><button type="submit" class="primary" aria-describedby="publish-why" disabled={isBusy.value || why !== null || !mayPublishText.value}>{text("publish")}</button><span class="soft" id="publish-why">{why}</span></div>
      </form>
      {refusal.value && <p class="wrong" role="alert"><bdi>{refusal.value}</bdi></p>}
      <p role="status">{done.value}</p>
    </section>
  );
}
