// Experiments: those that run and those that have ended, and what each has shown.

import { batch, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, readPerson, Refused, send } from "../api";
import { Versions } from "../models/Versions";
import { navigate, path, query, withQuery } from "../route";
import { share } from "../Table";
import { ago, exactly, number, text, words } from "../text";
import "../flows/flows.css";
import "../models/models.css";
import "./experiments.css";
import { EditExperiment } from "./EditExperiment";
import { type Form, name as editedName, openText } from "./editing";
import { EXPERIMENTS, type Experiment, experimentAddress, experimentPath, mayEdit, phaseName, reasonOf, type Report, sentenceOf, unitName } from "./experiment";
import { ResultsOf } from "./ResultsOf";
import { NAME, StartStop } from "./StartStop";
import { TryAssignment } from "./TryAssignment";

const GROUPS = [["running", "trialsRunning", ["running"]], ["waiting", "trialsWaiting", ["draft", "scheduled"]], ["stopped", "trialsEnded", ["ended", "stopped"]]] as const;

export default function ExperimentsPage() {
  useEffect(() => { document.title = `${text("experiments")} · Leadstream`; });
  const chosen = path.value.split("/")[2];
  return <div class="models-page experiments-page">{chosen ? <OneExperiment key={chosen} name={decodeURIComponent(chosen)} /> : <AllExperiments />}</div>;
}

function AllExperiments() {
  const found = useSignal<Experiment[] | null>(null);
  const problem = useSignal<string | null>(null);
  const load = () => Promise.all([read<{ experiments: Experiment[] }>(EXPERIMENTS), readPerson()]).then(
    ([answer]) => { found.value = answer.experiments; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, []);
  const listed = (phases: readonly string[]) => (found.value ?? []).filter((each) => phases.includes(each.phase));
  return <>
    <h2>{text("experiments")}</h2>
    <p class="soft">{text("experimentsAbout")}</p>
    {problem.value && <p class="notice" role="alert">{problem.value} <button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p>}
    {!found.value && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
    {found.value?.length === 0 && <section class="card"><h2>{text("noExperimentsYet")}</h2><p>{text("noExperimentsHint")}</p></section>}
    {GROUPS.map(([key, title, phases]) => listed(phases).length > 0 && (
      <section key={key} aria-labelledby={key}>
        <h3 id={key} class="of-status">{text(title)}</h3>
        <ul class="model-list">{listed(phases).map((each) => <Summary key={each.name} experiment={each} />)}</ul>
      </section>
    ))}
    {found.value && (mayEdit() ? <NewExperiment names={found.value.map((each) => each.name)} /> : <p class="soft">{text("mayNotPublish")}</p>)}
  </>;
}

function NewExperiment({ names }: { names: readonly string[] }) {
  const name = useSignal("");
  const isTaken = names.includes(name.value.trim());
  return (
    <section class="part" aria-labelledby="new-experiment"><h3 id="new-experiment">{text("trialNew")}</h3>
      <form class="choices" onSubmit={(event) => { event.preventDefault(); if (!isTaken) navigate(`${experimentAddress(name.value.trim())}?view=edit`); }}>
        <label class="field">{text("trialNewName")}{" "}<input type="text" dir="ltr" required pattern={NAME} title={text("trialNameHint")} autocomplete="off" aria-describedby="name-hint" value={name.value} onInput={(event) => { name.value = event.currentTarget.value; }} /></label>
        <button type="submit" class="primary" disabled={isTaken}>{text("trialCreate")}</button>
        <span class={isTaken ? "wrong" : "soft"} id="name-hint" role="status">{text(isTaken ? "trialNameTaken" : "trialNameHint")}</span>
      </form>
    </section>
  );
}

function Summary({ experiment }: { experiment: Experiment }) {
  const report = useSignal<Report | null>(null);
  useEffect(() => { read<Report>(`${EXPERIMENTS}/${encodeURIComponent(experiment.name)}`).then((answer) => { report.value = answer; }, () => undefined); }, []);
  const results = report.value?.results;
  const goal = experiment.goals[0]?.name ?? "";
  return (
    <li class="part">
      <h3><a href={experimentAddress(experiment.name)}>{words(experiment.name)}</a></h3>
      {experiment.about && <p><bdi>{experiment.about}</bdi></p>}
      <p class="soft">{experiment.variants.map((each) => `${each.name} ${share(each.weight)}`).join(" · ")}</p>
      {experiment.phase !== "running" && experiment.phase !== "stopped" && <p><span class="band">{phaseName(experiment.phase)}</span>{experiment.phase === "scheduled" && experiment.starts_at && <> {exactly(experiment.starts_at)}</>}</p>}
      {results?.exposed === 0 && experiment.phase !== "draft" && <p class="soft">{text("trialNoLeadsYet")}</p>}
      {!!results?.exposed && <p><b>{text("leadsCounted", { n: number(results.exposed) })}</b>{" "}
        {results.variants.filter((each) => each.variant !== experiment.control).map((each) => sentenceOf(results, each, goal, experiment.control)).join(" ")}</p>}
      {results?.balance.verdict === "mismatch" && <p class="wrong">{text("trialMismatch")}</p>}
    </li>
  );
}

function OneExperiment({ name }: { name: string }) {
  const report = useSignal<Report | null>(null);
  const problem = useSignal<string | null>(null);
  const isNew = useSignal(false);
  const lift = query.value.get("lift");
  const view = query.value.get("view") ?? "";
  const load = async () => {
    try {
      const [answer] = await Promise.all([read<Report>(`${experimentPath(name)}${lift ? `?lift=${encodeURIComponent(lift)}` : ""}`), readPerson()]);
      batch(() => { report.value = answer; problem.value = null; isNew.value = false; });
    } catch (error) {
      batch(() => { isNew.value = error instanceof Refused && error.status === 404 && view === "edit"; problem.value = isNew.value ? null : reasonOf(error); });
    }
  };
  useEffect(() => { void load(); }, [lift]);
  const back = <p><a href="/experiments">{text("allExperiments")}</a></p>;
  if (isNew.value) return <>{back}<header class="model-head"><h2>{words(name)}</h2><span class="soft">{text("trialNotYet")}</span></header><Editing name={name} active={null} hasStarted={false} published={load} /></>;
  if (problem.value) return <>{back}<section class="card" role="alert"><h2>{problem.value}</h2><p><button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p></section></>;
  if (!report.value) return <>{back}<p class="hint" role="status">{text("loading")}</p></>;
  const { experiment } = report.value;
  const tab = (key: string | null, label: string) => <a href={withQuery({ view: key, copy: null })} aria-current={view === (key ?? "") ? "page" : undefined}>{label}</a>;
  return <>
    {back}
    <header class="model-head"><h2>{words(experiment.name)}</h2>
      <span class={`band ${experiment.phase === "running" ? "warm" : ""}`}>{phaseName(experiment.phase)}</span>
      {experiment.winner && <span>{text("trialWinner", { variant: experiment.winner })}</span>}
      <span class="soft">{experiment.version === 0 ? text("trialInitial") : <>{text("versionNumber", { n: number(experiment.version) })}{experiment.published_at && <>, <time dateTime={experiment.published_at} title={exactly(experiment.published_at)}>{ago(experiment.published_at)}</time></>}{experiment.by && <>, <bdi>{experiment.by}</bdi></>}{experiment.note && <>: <bdi>{experiment.note}</bdi></>}</>}</span></header>
    {experiment.about && <p><bdi>{experiment.about}</bdi></p>}
    <StartStop experiment={experiment} changed={load} />
    <nav class="chips" aria-label={text("experiments")}>{tab(null, text("trialResults"))}{tab("edit", text("edit"))}{tab("versions", text("versions"))}</nav>
    {view === "edit" ? <Editing name={name} active={report.value.text} hasStarted={!["draft", "scheduled"].includes(experiment.phase)} published={load} />
      : view === "versions" ? <Versions of={{ path: (rest) => experimentPath(name, rest), current: experiment.version, mayRollBack: mayEdit(), reopen: load }} />
      : <Shown report={report.value} />}
  </>;
}

function Shown({ report }: { report: Report }) {
  const { experiment, results } = report;
  const dates = ([["trialStarts", experiment.starts_at], ["trialEnds", experiment.ends_at]] as const).filter(([, moment]) => moment);
  return <>
    <dl class="figures">
      {([["leads", number(results.exposed)], ["trialCoverage", share(experiment.coverage)], ["trialWindow", text("inDays", { n: number(experiment.window_days) })], ["trialUnit", unitName(experiment.unit)]] as const).map(([key, value]) => (
        <div key={key}><dt>{text(key)}</dt><dd>{value}</dd></div>
      ))}
      {dates.map(([key, moment]) => <div key={key}><dt>{text(key)}</dt><dd class="date">{exactly(moment ?? "")}</dd></div>)}
    </dl>
    <ResultsOf report={report} />
    <section class="part" aria-labelledby="variants"><h3 id="variants">{text("trialVariants")}</h3>
      <dl class="variants">{experiment.variants.map((each) => (
        <div key={each.name}><dt><b>{each.name}</b> <span class="soft">{share(each.weight)}{each.name === experiment.control && ` · ${text("trialControl")}`}</span></dt><dd><pre dir="ltr" tabIndex={0} aria-label={each.name}>{JSON.stringify(each.config, null, 2)}</pre></dd></div>
      ))}</dl></section>
    <TryAssignment experiment={experiment} />
  </>;
}

/** Opens the text, or a new one: with the form of another experiment if it is a copy. */
function Editing({ name, active, hasStarted, published }: { name: string; active: string | null; hasStarted: boolean; published: () => Promise<void> }) {
  const copied = query.value.get("copy");
  useEffect(() => {
    void (async () => {
      const from = active === null && copied ? (await send<{ form: Form | null }>(experimentPath(copied, "/check"), {}).catch(() => null))?.form ?? null : null;
      await openText(name, active, from && { ...from, starts_at: null, ends_at: null });
    })();
  }, [name, active]);
  if (editedName.value !== name) return <p class="hint" role="status">{text("loading")}</p>;
  return <EditExperiment hasStarted={hasStarted} published={published} />;
}
