// The flow as a form: greeting and its variants, questions with their answers, contact, thanks and offers, in every language.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { navigate, query, withQuery } from "../route";
import { number, signed, text } from "../text";
import { change, type Flow, flowProblem, inEvery, inLanguages, moved, nextId, type Offer, optionPoints, type Question, replaced, without, type Wording } from "./flow";

const LANGUAGE = /^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$/;
const RIGHT_TO_LEFT = /^(ar|fa|he|ur|ps|sd|ug|yi|ckb)\b/;

export function FlowForm({ now, isLocked }: { now: Flow; isLocked: boolean }) {
  return (
    <fieldset class="flow-form" disabled={isLocked}>
      <Part title={text("flowLanguages")}><Languages now={now} /></Part>
      <Part title={text("flowGreeting")}>
        <Worded field="greeting.text" label={text("flowText")} now={now} value={now.greeting.text} typed={(value) => change({ greeting: { ...now.greeting, text: value } })} />
        <Variants now={now} />
      </Part>
      <Part title={text("flowQuestions")}>
        <ol class="questions">{now.questions.map((each, at) => <OneQuestion key={each.id} now={now} question={each} at={at} />)}</ol>
        <p><button type="button" onClick={() => {
          const id = nextId(now);
          change({ questions: [...now.questions, { id, text: inEvery(now.languages, text("flowNewQuestion")), options: Object.fromEntries(now.languages.map((each) => [each, []])), several: false, step: "profile", profile_field: null }] });
          navigate(withQuery({ question: String(id) }), true);
        }}>{text("flowAddQuestion")}</button></p>
        <Reason field="questions" />
      </Part>
      <Part title={text("flowContact")}>
        <Worded field="contact.text" label={text("flowText")} now={now} value={now.contact.text} typed={(value) => change({ contact: { ...now.contact, text: value } })} />
        {now.contact.button
          ? <><Worded field="contact.button" label={text("flowButton")} now={now} value={now.contact.button} typed={(button) => change({ contact: { ...now.contact, button } })} />
            <p><button type="button" onClick={() => change({ contact: { ...now.contact, button: null } })}>{text("flowRemoveButton")}</button></p></>
          : <p><button type="button" onClick={() => change({ contact: { ...now.contact, button: inEvery(now.languages, text("flowButtonExample")) } })}>{text("flowAddButton")}</button></p>}
        <Worded field="thanks" label={text("flowThanks")} now={now} value={now.thanks} typed={(thanks) => change({ thanks })} />
        <Plain field="assigned_to" label={text("flowOwner")} value={now.assigned_to ?? ""} typed={(value) => change({ assigned_to: value || null })} />
      </Part>
      <Offers now={now} list="ctas" title={text("flowCtas")} action="cta_clicked" />
      <Offers now={now} list="products" title={text("flowProducts")} action="clicked_product" />
    </fieldset>
  );
}

const Part = ({ title, children }: { title: string; children: ComponentChildren }) => <section class="part"><h3>{title}</h3>{children}</section>;

const wrongAt = (field: string): string | null => (flowProblem.value?.field === field ? flowProblem.value.reason : null);

function Reason({ field }: { field: string }) {
  const reason = wrongAt(field);
  return reason ? <p class="wrong" role="alert" id={`wrong-${field}`}>{reason}</p> : null;
}

function Plain({ field, label, value, typed, hint }: { field: string; label: string; value: string; typed: (value: string) => void; hint?: string }) {
  const isWrong = wrongAt(field) !== null;
  return (
    <div class="input"><label for={field}>{label}</label>
      <input id={field} type="text" dir="auto" maxLength={600} value={value} aria-invalid={isWrong || undefined} aria-describedby={isWrong ? `wrong-${field}` : undefined} onInput={(event) => typed(event.currentTarget.value)} />
      {hint && <p class="soft">{hint}</p>}<Reason field={field} /></div>
  );
}

/** A text in every language of the flow. */
function Worded({ field, label, now, value, typed }: { field: string; label: string; now: Flow; value: Wording; typed: (value: Wording) => void }) {
  const isWrong = wrongAt(field) !== null;
  const several = now.languages.length > 1;
  return (
    <div class="worded" role="group" aria-label={label}>{now.languages.map((each) => (
      <div class="input" key={each}><label for={`${field} ${each}`}>{label}{several && ` (${each})`}</label>
        <input id={`${field} ${each}`} type="text" lang={each} dir={RIGHT_TO_LEFT.test(each) ? "rtl" : "ltr"} maxLength={600} value={value[each] ?? ""} aria-invalid={isWrong || undefined} aria-describedby={isWrong ? `wrong-${field}` : undefined}
          onInput={(event) => typed({ ...value, [each]: event.currentTarget.value })} /></div>
    ))}<Reason field={field} /></div>
  );
}

function Languages({ now }: { now: Flow }) {
  const wanted = useSignal("");
  const isNew = LANGUAGE.test(wanted.value) && !now.languages.includes(wanted.value);
  const use = (languages: string[]) => change(inLanguages(now, languages));
  const add = () => { if (isNew) { use([...now.languages, wanted.value]); wanted.value = ""; } };
  return <>
    <ul class="languages">{now.languages.map((each, at) => (
      <li key={each}><b>{each}</b>{at === 0 ? <span class="soft"> {text("flowDefault")}</span> : <button type="button" class="plain" onClick={() => use([each, ...without(now.languages, at)])}>{text("flowMakeDefault")}</button>}
        {now.languages.length > 1 && <button type="button" class="plain" onClick={() => use(without(now.languages, at))}>{text("remove")}<span class="unseen"> {each}</span></button>}</li>
    ))}</ul>
    <p class="choices"><label for="new-language">{text("flowNewLanguage")}</label>
      <input id="new-language" type="text" size={6} maxLength={12} placeholder="hi" value={wanted.value} onInput={(event) => { wanted.value = event.currentTarget.value.trim(); }} onKeyDown={(event) => { if (event.key === "Enter") { event.preventDefault(); add(); } }} />
      <button type="button" disabled={!isNew} onClick={add}>{text("add")}</button><span class="soft">{text("flowLanguageHint")}</span></p>
    <Reason field="languages" />
  </>;
}

function Variants({ now }: { now: Flow }) {
  const { greeting } = now;
  const names = Object.keys(greeting.variants);
  const use = (variants: Record<string, Wording>) => change({ greeting: { ...greeting, variants } });
  const free = ["A", "B", "C", "D", "E", "F", "G", "H"].find((each) => !names.includes(each));
  return <>
    <h4>{text("flowVariants")}</h4>
    <p class="soft">{text("flowVariantsHint")} <a href="/experiments/greeting_message">{text("flowVariantsResults")}</a></p>
    {names.map((name) => (
      <div class="with-button" key={name}>
        <Worded field={`greeting.variants ${name}`} label={text("flowVariant", { name })} now={now} value={greeting.variants[name] ?? {}} typed={(value) => use({ ...greeting.variants, [name]: value })} />
        <button type="button" onClick={() => { const { [name]: _, ...rest } = greeting.variants; use(rest); }}>{text("remove")}<span class="unseen"> {name}</span></button>
      </div>
    ))}
    {free && <p><button type="button" onClick={() => use({ ...greeting.variants, [free]: { ...greeting.text } })}>{text("flowAddVariant")}</button></p>}
    <Reason field="greeting.variants" />
  </>;
}

function Order({ of, at, last, move, remove }: { of: string; at: number; last: number; move: (by: number) => void; remove: (() => void) | null }) {
  return (
    <p class="choices">
      <button type="button" disabled={at === 0} onClick={() => move(-1)}><span aria-hidden="true">↑</span> {text("moveUp")}<span class="unseen"> {of}</span></button>
      <button type="button" disabled={at === last} onClick={() => move(1)}><span aria-hidden="true">↓</span> {text("moveDown")}<span class="unseen"> {of}</span></button>
      <button type="button" disabled={!remove} onClick={() => remove?.()}>{text("remove")}<span class="unseen"> {of}</span></button></p>
  );
}

function OneQuestion({ now, question, at }: { now: Flow; question: Question; at: number }) {
  const first = now.languages[0] ?? "en";
  const field = `questions.${at}`;
  const isOpen = query.value.get("question") === String(question.id);
  const isWrong = flowProblem.value?.field?.startsWith(`${field}.`);
  const use = (part: Partial<Question>) => change({ questions: replaced(now.questions, at, { ...question, ...part }) });
  const answers = question.options[first]?.length ?? 0;
  return (
    <li class={isWrong ? "is-wrong" : undefined}>
      <button type="button" class="rule" aria-expanded={isOpen} onClick={() => navigate(withQuery({ question: isOpen ? null : String(question.id) }), true)}>
        <b dir="auto">{question.text[first] || "…"}</b>
        <span class="condition">{answers ? text("flowAnswers", { n: number(answers) }) : text("flowFreeText")}{question.several && ` · ${text("flowSeveral")}`}{question.profile_field && ` · ${question.profile_field}`}{isWrong && ` · ${flowProblem.value?.reason}`}</span></button>
      {isOpen && <div class="question-form">
        <Worded field={`${field}.text`} label={text("flowQuestion")} now={now} value={question.text} typed={(value) => use({ text: value })} />
        <Answers now={now} question={question} field={field} use={(options) => use({ options })} />
        <label class="tick"><input type="checkbox" checked={question.several} onChange={(event) => use({ several: event.currentTarget.checked })} />{text("flowSeveralAllowed")}</label>
        <div class="pairs"><Plain field={`${field}.profile_field`} label={text("flowProfileField")} value={question.profile_field ?? ""} typed={(value) => use({ profile_field: value || null })} hint={text("flowProfileFieldHint")} />
          <Plain field={`${field}.step`} label={text("flowStep")} value={question.step} typed={(step) => use({ step })} /></div>
        <Reason field={`${field}.id`} />
        <Order of={question.text[first] ?? ""} at={at} last={now.questions.length - 1} move={(by) => change({ questions: moved(now.questions, at, by) })} remove={now.questions.length > 1 ? () => change({ questions: without(now.questions, at) }) : null} />
      </div>}
    </li>
  );
}

function Answers({ now, question, field, use }: { now: Flow; question: Question; field: string; use: (options: Record<string, string[]>) => void }) {
  const first = now.languages[0] ?? "en";
  const count = question.options[first]?.length ?? 0;
  const points = optionPoints.value[String(question.id)];
  const each = (work: (list: string[]) => string[]) => Object.fromEntries(now.languages.map((language) => [language, work(question.options[language] ?? [])]));
  return (
    <div role="group" aria-label={text("flowAnswersTitle")}>
      <h4>{text("flowAnswersTitle")}</h4>
      {count === 0 ? <p class="soft">{text("flowFreeTextHint")}</p> : <p class="soft">{text("flowPointsHint")} <a href="/models/chatbot">{text("flowPointsChange")}</a></p>}
      <ol class="answers">{Array.from({ length: count }, (_, at) => (
        <li key={at}>{now.languages.map((language) => (
          <input key={language} type="text" lang={language} dir={RIGHT_TO_LEFT.test(language) ? "rtl" : "ltr"} maxLength={600} aria-label={`${text("flowAnswer", { n: number(at + 1) })}${now.languages.length > 1 ? ` (${language})` : ""}`} aria-invalid={wrongAt(`${field}.options`) !== null || undefined}
            value={question.options[language]?.[at] ?? ""} onInput={(event) => use({ ...question.options, [language]: replaced(question.options[language] ?? [], at, event.currentTarget.value) })} />
        ))}
        <span class={points?.[at] ? "gain" : "soft"}>{points?.[at] === undefined ? "" : signed(points[at] ?? 0)}</span>
        <button type="button" disabled={at === 0} onClick={() => use(each((list) => moved(list, at, -1)))}><span aria-hidden="true">↑</span><span class="unseen">{text("moveUp")} {question.options[first]?.[at]}</span></button>
        <button type="button" onClick={() => use(each((list) => without(list, at)))}><span aria-hidden="true">×</span><span class="unseen">{text("remove")} {question.options[first]?.[at]}</span></button></li>
      ))}</ol>
      <p><button type="button" onClick={() => use(each((list) => [...list, text("flowNewAnswer", { n: number(count + 1) })]))}>{text("flowAddAnswer")}</button></p>
      <Reason field={`${field}.options`} />
    </div>
  );
}

function Offers({ now, list, title, action }: { now: Flow; list: "products" | "ctas"; title: string; action: string }) {
  const offers = now[list];
  const use = (changed: Offer[]) => change({ [list]: changed });
  const put = (at: number, part: Partial<Offer>) => use(replaced(offers, at, { ...(offers[at] as Offer), ...part }));
  const add = () => {
    const taken = new Set(offers.map((each) => each.id));
    const id = Array.from({ length: offers.length + 1 }, (_, index) => `${list === "ctas" ? "action" : "product"}-${index + 1}`).find((each) => !taken.has(each)) ?? "new";
    use([...offers, { id, text: inEvery(now.languages, text("flowNewOffer")), about: inEvery(now.languages, ""), action }]);
  };
  return (
    <Part title={title}>
      {offers.map((each, at) => (
        <fieldset class="offer" key={at}><legend class="unseen">{each.text[now.languages[0] ?? "en"]}</legend>
          <Worded field={`${list}.${at}.text`} label={text("flowText")} now={now} value={each.text} typed={(value) => put(at, { text: value })} />
          {list === "products" && <Worded field={`${list}.${at}.about`} label={text("flowAbout")} now={now} value={each.about} typed={(about) => put(at, { about })} />}
          <div class="pairs"><Plain field={`${list}.${at}.id`} label={text("flowOfferId")} value={each.id} typed={(id) => put(at, { id })} />
            {list === "ctas" && <Plain field={`${list}.${at}.action`} label={text("flowAction")} value={each.action} typed={(value) => put(at, { action: value })} />}</div>
          <Order of={each.text[now.languages[0] ?? "en"] ?? ""} at={at} last={offers.length - 1} move={(by) => use(moved(offers, at, by))} remove={() => use(without(offers, at))} />
        </fieldset>
      ))}
      <p><button type="button" onClick={add}>{text("flowAddOffer")}</button></p>
      <Reason field={list} />
    </Part>
  );
}
