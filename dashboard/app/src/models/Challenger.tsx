// Champion and challenger: a second model that scores the same leads beside the first, is read by nobody, and sets nothing off.
// It is a model of its own name, so it is versioned, rescored and compared like any other.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, Refused, send } from "../api";
import { navigate, withQuery } from "../route";
import { ago, exactly, number, text, words } from "../text";
import { apiPath, author, isChanged, isRight, mayPublish, type Model, modelName, openModel, published, reasonOf, setText, text as modelText } from "./editing";
import { BacktestForm, useBacktest, Verdict } from "./Evidence";

const SUFFIX = "_challenger";

export const isChallenger = (name: string): boolean => name.endsWith(SUFFIX);

const renamed = (source: string, name: string): string => source.replace(/^([ \t]*model[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*')/m, `$1"${name}"`);

export function Challenger() {
  const challenger = useSignal<Model | null>(null);
  const isLoaded = useSignal(false);
  const note = useSignal("");
  const failure = useSignal<string | null>(null);
  const name = `${modelName.value}${SUFFIX}`;
  const test = useBacktest(() => ({ against: [name] }));

  const load = async () => {
    try {
      const found = await read<Model>(apiPath("", name));
      challenger.value = found.retired || found.text === null ? null : found;
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) failure.value = reasonOf(error);
      challenger.value = null;
    }
    isLoaded.value = true;
  };
  useEffect(() => { void load(); }, [name]);

  const act = async (work: () => Promise<unknown>) => {
    failure.value = null;
    try {
      await work();
      note.value = "";
      await load();
    } catch (error) {
      failure.value = reasonOf(error);
    }
  };
  const saying = () => ({ note: note.value.trim(), ...(author() && { by: author() }) });
  const start = () => act(() => send(apiPath("/publish", name), { text: renamed(modelText.value, name), ...saying() }));
  const end = () => send(apiPath(`?note=${encodeURIComponent(note.value.trim())}`, name), null, "DELETE");
  const promote = () => act(async () => {
    await send(apiPath("/publish"), { text: renamed(challenger.value?.text ?? "", modelName.value), ...saying(), based_on: published.value?.version ?? 0 });
    await end();
    await openModel(modelName.value, null, new AbortController().signal);
  });
  const isReady = mayPublish.value && note.value.trim() !== "";
  const found = challenger.value;
  if (!isLoaded.value) return <p class="hint" role="status">{text("loading")}</p>;
  return <>
    <section class="part" aria-labelledby="challenger">
      <h3 id="challenger">{text("challenger")}</h3>
      <p>{text("challengerHint")}</p>
      {found && <dl class="facts">
        <dt>{text("champion")}</dt><dd>{words(modelName.value)}, {text("versionNumber", { n: number(published.value?.version ?? 0) })}{published.value?.since && `, ${exactly(published.value.since)}`}</dd>
        <dt>{text("challenger")}</dt><dd>{words(found.model)}, {text("versionNumber", { n: number(found.version) })}{found.since && `, ${ago(found.since)}`} <bdi class="soft">{[found.note, found.by].filter(Boolean).join(" · ")}</bdi></dd>
      </dl>}
      <div class="input"><label for="challenger-reason">{text("reason")}</label>
        <input id="challenger-reason" type="text" dir="auto" maxLength={512} autocomplete="off" value={note.value} onInput={(event) => { note.value = event.currentTarget.value; }} /></div>
      <div class="choices">
        {found ? <>
          <button type="button" class="primary" disabled={!isReady} onClick={() => void promote()}>{text("promote")}</button>
          <button type="button" disabled={!isReady} onClick={() => void act(end)}>{text("endChallenger")}</button>
          <button type="button" onClick={() => { setText(renamed(found.text ?? "", modelName.value)); navigate(withQuery({ view: null })); }}>{text("openInEditor")}</button>
          <a href={`/?model=${encodeURIComponent(found.model)}`}>{text("listByChallenger")}</a>
        </> : <button type="button" class="primary" disabled={!isReady || !isRight.value || !isChanged.value} aria-describedby="challenger-why" onClick={() => void start()}>{text("startChallenger")}</button>}
        {!found && <span class="soft" id="challenger-why">{!mayPublish.value ? text("mayNotPublish") : !isChanged.value ? text("challengerNeedsDraft") : !note.value.trim() ? text("reasonNeeded") : ""}</span>}
      </div>
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
    </section>
    {found && <section class="part" aria-labelledby="contest">
      <h3 id="contest">{text("contest")}</h3>
      <BacktestForm test={test} />
      {test.result.value && <Verdict result={test.result.value} />}
    </section>}
  </>;
}
