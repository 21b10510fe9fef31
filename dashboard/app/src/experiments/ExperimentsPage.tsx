// Experiments: those that run and those that have ended, and what each has shown.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { path, query } from "../route";
import { share } from "../Table";
import { number, text, words } from "../text";
import "../models/models.css";
import "./experiments.css";
import { EXPERIMENTS, type Experiment, experimentAddress, reasonOf, type Report, sentenceOf, unitName } from "./experiment";
import { ResultsOf } from "./ResultsOf";

export default function ExperimentsPage() {
  useEffect(() => { document.title = `${text("experiments")} · Leadstream`; });
  const chosen = path.value.split("/")[2];
  return <div class="models-page experiments-page">{chosen ? <OneExperiment key={chosen} name={decodeURIComponent(chosen)} /> : <AllExperiments />}</div>;
}

function AllExperiments() {
  const found = useSignal<Experiment[] | null>(null);
  const problem = useSignal<string | null>(null);
  const load = () => read<{ experiments: Experiment[] }>(EXPERIMENTS).then(
    (answer) => { found.value = answer.experiments; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, []);
  const listed = (status: Experiment["status"]) => (found.value ?? []).filter((each) => each.status === status);
  return <>
    <h2>{text("experiments")}</h2>
    <p class="soft">{text("experimentsAbout")}</p>
    {problem.value && <p class="notice" role="alert">{problem.value} <button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p>}
    {!found.value && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
    {found.value?.length === 0 && <section class="card"><h2>{text("noExperimentsYet")}</h2><p>{text("noExperimentsHint")}</p></section>}
    {(["running", "stopped"] as const).map((status) => listed(status).length > 0 && (
      <section key={status} aria-labelledby={status}>
        <h3 id={status} class="of-status">{text(status === "running" ? "trialsRunning" : "trialsEnded")}</h3>
        <ul class="model-list">{listed(status).map((each) => <Summary key={each.name} experiment={each} />)}</ul>
      </section>
    ))}
  </>;
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
      {results?.exposed === 0 && <p class="soft">{text("trialNoLeadsYet")}</p>}
      {!!results?.exposed && <p><b>{text("leadsCounted", { n: number(results.exposed) })}</b>{" "}
        {results.variants.filter((each) => each.variant !== experiment.control).map((each) => sentenceOf(results, each, goal, experiment.control)).join(" ")}</p>}
      {results?.balance.verdict === "mismatch" && <p class="wrong">{text("trialMismatch")}</p>}
    </li>
  );
}

function OneExperiment({ name }: { name: string }) {
  const report = useSignal<Report | null>(null);
  const problem = useSignal<string | null>(null);
  const lift = query.value.get("lift");
  const load = () => read<Report>(`${EXPERIMENTS}/${encodeURIComponent(name)}${lift ? `?lift=${encodeURIComponent(lift)}` : ""}`).then(
    (answer) => { report.value = answer; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, [lift]);
  const back = <p><a href="/experiments">{text("allExperiments")}</a></p>;
  if (problem.value) return <>{back}<section class="card" role="alert"><h2>{problem.value}</h2><p><button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p></section></>;
  if (!report.value) return <>{back}<p class="hint" role="status">{text("loading")}</p></>;
  const { experiment, results } = report.value;
  return <>
    {back}
    <header class="model-head"><h2>{words(experiment.name)}</h2>
      <span class={`band ${experiment.status === "running" ? "warm" : ""}`}>{text(experiment.status === "running" ? "trialRunning" : "trialEnded")}</span>
      {experiment.winner && <span>{text("trialWinner", { variant: experiment.winner })}</span>}</header>
    {experiment.about && <p><bdi>{experiment.about}</bdi></p>}
    <dl class="figures">
      {([["leads", number(results.exposed)], ["trialCoverage", share(experiment.coverage)], ["trialWindow", text("inDays", { n: number(experiment.window_days) })], ["trialUnit", unitName(experiment.unit)]] as const).map(([key, value]) => (
        <div key={key}><dt>{text(key)}</dt><dd>{value}</dd></div>
      ))}
    </dl>
    <ResultsOf report={report.value} />
    <section class="part" aria-labelledby="variants"><h3 id="variants">{text("trialVariants")}</h3>
      <dl class="variants">{experiment.variants.map((each) => (
        <div key={each.name}><dt><b>{each.name}</b> <span class="soft">{share(each.weight)}{each.name === experiment.control && ` · ${text("trialControl")}`}</span></dt><dd><pre dir="ltr" tabIndex={0} aria-label={each.name}>{JSON.stringify(each.config, null, 2)}</pre></dd></div>
      ))}</dl></section>
  </>;
}
