// What chats ask: the list of flows, and one flow with its form, a preview of the real chat, publication, and its versions.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { discardChanges, endWhatIf, isChanged, loadProblem, mayPublish, modelName, openModel, published, reasonOf, text as modelText } from "../models/editing";
import { PublishPanel } from "../models/PublishPanel";
import { Versions } from "../models/Versions";
import { path, query, withQuery } from "../route";
import { ago, exactly, number, text, words } from "../text";
import "../models/models.css";
import "./flows.css";
import { ChatPreview } from "./ChatPreview";
import { flow, flowProblem, forgetFlow, readFlow, writtenText } from "./flow";
import { FlowForm } from "./FlowForm";

type Listed = { model: string; asked: boolean; version: number; since: string | null; by: string | null; note: string | null; languages: string[]; greeting: string; variants: string[]; questions: string[] };

export default function FlowsPage() {
  const name = path.value.split("/")[2];
  useEffect(() => { document.title = `${text("flows")} · Leadstream`; });
  return <div class="models-page flows-page">{name ? <OneFlow key={name} name={decodeURIComponent(name)} /> : <AllFlows />}</div>;
}

function AllFlows() {
  const flows = useSignal<Listed[] | null>(null);
  const problem = useSignal<string | null>(null);
  const load = () => read<{ flows: Listed[] }>("/api/flows").then((answer) => { flows.value = answer.flows; problem.value = null; }, (error) => { problem.value = reasonOf(error); });
  useEffect(() => { void load(); }, []);
  return <>
    <h2>{text("flows")}</h2>
    <p class="soft">{text("flowsAbout")}</p>
    {problem.value && <p class="notice" role="alert">{problem.value} <button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p>}
    {!flows.value && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
    {flows.value?.length === 0 && <section class="card"><h2>{text("noFlows")}</h2><p>{text("noFlowsHint")}</p></section>}
    <ul class="model-list">{flows.value?.map((each) => (
      <li class="part" key={each.model}>
        <h3><a href={`/flows/${encodeURIComponent(each.model)}`}>{each.asked ? text("flowOfChats") : words(each.model)}</a></h3>
        <p><bdi>{each.greeting}</bdi></p>
        <ol class="asked">{each.questions.slice(0, 6).map((question, at) => <li key={at} dir="auto">{question}</li>)}</ol>
        {each.questions.length > 6 && <p class="soft">{text("flowMoreQuestions", { n: number(each.questions.length - 6) })}</p>}
        <p class="soft">{each.languages.join(", ")}{each.variants.length > 0 && ` · ${text("flowVariantNames", { names: each.variants.join(", ") })}`}</p>
        <p class="soft">{text("versionNumber", { n: number(each.version) })}{each.since && <>, <time dateTime={each.since} title={exactly(each.since)}>{ago(each.since)}</time></>}{each.by && <>, <bdi>{each.by}</bdi></>}{each.note && <>: <bdi>{each.note}</bdi></>}</p>
        {!each.asked && <p class="soft">{text("flowNotAsked")}</p>}
      </li>
    ))}</ul>
  </>;
}

function OneFlow({ name }: { name: string }) {
  const draft = query.value.get("draft");
  const view = query.value.get("view") ?? "";
  useEffect(() => {
    const stop = new AbortController();
    forgetFlow();
    void openModel(name, draft, stop.signal);
    return () => { stop.abort(); endWhatIf(); forgetFlow(); };
  }, [name, draft]);
  // Another text than the form has written: a version that was published or rolled back, a draft, changes that were given up.
  useEffect(() => { if (published.value && modelName.value === name && modelText.value !== writtenText.value) void readFlow(); }, [modelText.value, published.value, name]);
  const back = <p><a href="/flows">{text("allFlows")}</a></p>;
  if (loadProblem.value) return <>{back}<section class="card" role="alert"><h2>{loadProblem.value}</h2></section></>;
  const model = published.value;
  if (!model || modelName.value !== name) return <>{back}<p class="hint" role="status">{text("loading")}</p></>;
  return <>
    {back}
    <header class="model-head">
      <h2>{name === "chatbot" ? text("flowOfChats") : words(name)}</h2>
      <span class="soft">{text("versionNumber", { n: number(model.version) })}{model.since && <>, <time dateTime={model.since} title={exactly(model.since)}>{ago(model.since)}</time></>}{model.by && <>, <bdi>{model.by}</bdi></>}</span>
      {isChanged.value && <span class="changed">{text("unpublished")} <button type="button" onClick={() => { discardChanges(); }}>{text("discardChanges")}</button></span>}
    </header>
    {!mayPublish.value && <p class="hint">{text("mayNotPublish")}</p>}
    <nav class="chips" aria-label={text("flows")}>
      <a href={withQuery({ view: null })} aria-current={view ? undefined : "page"}>{text("edit")}</a>
      <a href={withQuery({ view: "versions" })} aria-current={view === "versions" ? "page" : undefined}>{text("versions")}</a>
      <a href={`/models/${encodeURIComponent(name)}`}>{text("flowPoints")}</a></nav>
    {view === "versions" ? <Versions /> : <Editing name={name} />}
  </>;
}

function Editing({ name }: { name: string }) {
  const wrong = flowProblem.value;
  const now = flow.value;
  return <>
    {wrong && !wrong.field && <p class="notice" role="alert">{text("lineColumn", { line: number(wrong.line), column: number(1) })} <bdi>{wrong.reason}</bdi> <a href={`/models/${encodeURIComponent(name)}`}>{text("flowMendText")}</a></p>}
    {wrong?.field && <p class="hint wrong" role="status">{text("flowWaits")}</p>}
    {!now && !wrong && <p class="hint" role="status">{text("loading")}</p>}
    {now && <div class="side-by-side flow-sides">
      <FlowForm now={now} isLocked={!mayPublish.value} />
      <div class="stack"><ChatPreview model={name} now={now} /><PublishPanel /></div>
    </div>}
  </>;
}
