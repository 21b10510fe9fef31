// Models for marketers: the list, and one model with its editor, what-if, versions, evidence and challenger.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { later } from "../later";
import { path, query, withQuery } from "../route";
import { ago, exactly, number, text, words } from "../text";
import { Challenger, isChallenger } from "./Challenger";
import {
  checked, discardChanges, endWhatIf, goTo, type Hint, isChanged, loadProblem, mayPublish, modelName, openModel, problem, published, reasonOf, type Version,
} from "./editing";
import { Evidence } from "./Evidence";
import "./models.css";
import { PublishPanel } from "./PublishPanel";
import { RuleList } from "./RuleList";
import { TestLead } from "./TestLead";
import { Versions } from "./Versions";
import { WhatIfPanel, whatIfSentence } from "./WhatIfPanel";

const TextEditor = later(() => import("./TextEditor"));

export default function ModelsPage() {
  const name = path.value.match(/^\/models\/([^/]+)\/?$/)?.[1];
  return name === undefined ? <ModelList /> : <OneModel key={name} name={name} />;
}

function ModelList() {
  const models = useSignal<Version[] | null>(null);
  const failure = useSignal<string | null>(null);
  useEffect(() => {
    document.title = `${text("models")} · Leadstream`;
    const stop = new AbortController();
    read<{ models: Version[] }>("/api/models", stop.signal).then((answer) => { models.value = answer.models; }, (error) => { if (!stop.signal.aborted) failure.value = reasonOf(error); });
    return () => stop.abort();
  }, []);
  // The one that qualifies leads first: its rules are what a marketer comes for.
  const listed = [...models.value ?? []].sort((left, right) => Number(right.model === "rules") - Number(left.model === "rules"));
  return (
    <div class="models-page">
      <h2>{text("models")}</h2>
      {failure.value && <p class="notice" role="alert">{failure.value}</p>}
      {!models.value && !failure.value && <p class="hint" role="status">{text("loading")}</p>}
      <ul class="model-list">{listed.map((each) => (
        <li class="part" key={each.model}>
          <h3><a href={`/models/${encodeURIComponent(each.model)}`}>{each.model === "rules" ? text("scoringRules") : words(each.model)}</a></h3>
          <p><bdi>{each.about}</bdi></p>
          <p class="soft">{text("versionNumber", { n: number(each.version) })}{each.since && <>, <time dateTime={each.since} title={exactly(each.since)}>{ago(each.since)}</time></>}{each.by && <>, <bdi>{each.by}</bdi></>}{each.note && <>: <bdi>{each.note}</bdi></>}</p>
          {each.model === "rules" && <p><a href="/models/rules?rule=new">{text("addRule")}</a></p>}
        </li>
      ))}</ul>
    </div>
  );
}

const VIEWS = ["", "versions", "evidence", "challenger"] as const;

function OneModel({ name }: { name: string }) {
  const draft = query.value.get("draft");
  const view = query.value.get("view") ?? "";
  useEffect(() => {
    const stop = new AbortController();
    void openModel(name, draft, stop.signal);
    return () => { stop.abort(); endWhatIf(); };
  }, [name, draft]);
  useEffect(() => { document.title = `${words(name)} · Leadstream`; });
  if (loadProblem.value) return <section class="card"><h2>{loadProblem.value}</h2><p><a href="/models">{text("allModels")}</a></p></section>;
  const model = published.value;
  if (!model || modelName.value !== name) return <p class="hint" role="status">{text("loading")}</p>;
  const labels = { "": text("edit"), versions: text("versions"), evidence: text("evidence"), challenger: text("challenger") };
  return (
    <article class="models-page">
      <p><a href="/models">{text("allModels")}</a></p>
      <header class="model-head">
        <h2>{name === "rules" ? text("scoringRules") : words(name)}</h2>
        <span class="soft">{text("versionNumber", { n: number(model.version) })}{model.since && <>, <time dateTime={model.since} title={exactly(model.since)}>{ago(model.since)}</time></>}{model.by && <>, <bdi>{model.by}</bdi></>}</span>
        {isChanged.value && <span class="changed">{text("unpublished")} <button type="button" onClick={discardChanges}>{text("discardChanges")}</button></span>}
      </header>
      <p class="soft"><bdi>{model.about}</bdi></p>
      {!mayPublish.value && <p class="hint">{text("mayNotPublish")}</p>}
      <nav class="chips" aria-label={words(name)}>{VIEWS.filter((each) => each !== "challenger" || !isChallenger(name)).map((each) => (
        <a key={each} href={withQuery({ view: each || null })} aria-current={view === each ? "page" : undefined}>{labels[each]}</a>
      ))}</nav>
      {view === "versions" ? <Versions /> : view === "evidence" ? <Evidence /> : view === "challenger" ? <Challenger /> : <Editing />}
    </article>
  );
}

function Editing() {
  const wrong = problem.value;
  return <>
    <div class="side-by-side">
      <section class="part" aria-labelledby="as-form">
        <h3 id="as-form">{text("asForm")}</h3>
        {wrong && <p class="hint" role="status">{text("formWaits", { line: number(wrong.line) })}</p>}
        <Hints hints={checked.value?.hints ?? []} />
        <RuleList />
      </section>
      <section class="part text-part" aria-labelledby="as-text">
        <h3 id="as-text">{text("asText")}</h3>
        <p id="text-problem" role="status" class={wrong ? "wrong" : "soft"}>{wrong
          ? <><button type="button" class="plain" onClick={() => { goTo.value = { line: wrong.line }; }}>{text("lineColumn", { line: number(wrong.line), column: number(wrong.column) })}</button> <bdi>{wrong.reason}</bdi></>
          : checked.value ? text("textIsRight") : text("loading")}</p>
        <TextEditor label={text("asText")} />
      </section>
    </div>
    <div class="side-by-side">
      <WhatIfPanel />
      <div class="stack"><TestLead /><PublishPanel /></div>
    </div>
    {isChanged.value && <p class="what-if-bar">
      <span>{whatIfSentence()}</span>
      {mayPublish.value && <button type="button" class="primary" onClick={() => document.getElementById("publish-reason")?.focus()}>{text("publish")}</button>}
    </p>}
  </>;
}

function Hints({ hints }: { hints: readonly Hint[] }) {
  if (!hints.length) return null;
  return (
    <ul class="hints" aria-label={text("hints")}>{hints.map((each) => (
      <li key={`${each.kind} ${each.rule}`}>{text(`hint_${each.kind}`, { rule: each.rule ?? "", points: number(each.points ?? 0) })}
        {each.line !== null && <> <button type="button" class="plain" onClick={() => { goTo.value = { line: each.line ?? 1 }; }}>{text("line")} {number(each.line)}</button></>}</li>
    ))}</ul>
  );
}
