// Publishing: the reason, now or later, what it would set off, and how far the rescoring is. Drafts and what is scheduled.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, Refused, send } from "../api";
import { navigate, withQuery } from "../route";
import { exactly, number, text, words } from "../text";
import {
  apiPath, author, discardChanges, type Fired, isChanged, isRight, mayPublish, modelName, problem, published, readPublished, reasonOf, text as modelText,
} from "./editing";
import { readSteps } from "./steps";
import { WorkflowsFired } from "./WorkflowsFired";

type Draft = { id: number; state: string; by: string | null; note: string | null; effective_from: string | null; problem: string | null; changed_at: string };
type ProgressAnswer = { version: number; complete: boolean; leads: { visited: number; of: number } | null };

const POLL_MS = 700;

export function PublishPanel() {
  const note = useSignal("");
  const isLater = useSignal(false);
  const moment = useSignal("");
  const fire = useSignal(false);
  const preview = useSignal<{ text: string; workflows: Fired[] } | null>(null);
  const isBusy = useSignal(false);
  const failure = useSignal<string | null>(null);
  const done = useSignal<string | null>(null);
  const drafts = useSignal<Draft[]>([]);

  const loadDrafts = () => read<{ drafts: Draft[] }>(apiPath("/drafts")).then((answer) => { drafts.value = answer.drafts; }, () => undefined);
  useEffect(() => { void loadDrafts(); }, [modelName.value, published.value?.version]);

  const isPreviewed = preview.value !== null && preview.value.text === modelText.value;
  const why = !mayPublish.value ? text("mayNotPublish")
    : problem.value ? text("correctFirst", { line: number(problem.value.line) })
    : !isChanged.value ? text("nothingChanged")
    : !note.value.trim() ? text("reasonNeeded")
    : isLater.value && !moment.value ? text("momentNeeded") : null;

  const act = async (work: () => Promise<void>) => {
    isBusy.value = true;
    failure.value = null;
    try {
      await work();
    } catch (error) {
      failure.value = error instanceof Refused && error.status === 409 ? `${error.message} ${text("seeVersions")}` : reasonOf(error);
    }
    isBusy.value = false;
  };
  const look = () => act(async () => {
    const asked = modelText.value;
    const answer = await readSteps<{ workflows: Fired[] }>(apiPath("/preview"), { text: asked }, AbortSignal.timeout(120_000), () => undefined);
    preview.value = { text: asked, workflows: answer.workflows };
  });
  const publish = () => act(async () => {
    const body = {
      text: modelText.value, note: note.value.trim(), ...(author() && { by: author() }), based_on: published.value?.version ?? 0,
      fire: fire.value && isPreviewed, ...(isLater.value && { effective_from: new Date(moment.value).toISOString() }),
    };
    const answer = await send<{ version: number | null; state: string; effective_from?: string }>(apiPath("/publish"), body);
    fire.value = false;
    preview.value = null;
    note.value = "";
    if (answer.state === "scheduled") {
      done.value = text("scheduledFor", { moment: exactly(answer.effective_from ?? moment.value) });
      await loadDrafts();
      return;
    }
    await readPublished();
    discardChanges();
    await follow(answer.version ?? 0);
  });
  const follow = async (version: number) => {
    for (let tries = 0; tries < 600; tries += 1) {
      const progress = await read<ProgressAnswer>(apiPath("/progress"));
      if (progress.complete && progress.version >= version) break;
      done.value = progress.leads ? text("rescoring", { done: number(progress.leads.visited), of: number(progress.leads.of) }) : text("rescoringSoon");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    done.value = text("publishedAs", { version: number(version) });
  };
  const save = () => act(async () => {
    const draft = await send<Draft>(apiPath("/drafts"), { text: modelText.value, note: note.value.trim() || null, ...(author() && { by: author() }), based_on: published.value?.version ?? 0 });
    done.value = text("draftSaved");
    navigate(withQuery({ draft: String(draft.id) }), true);
    await loadDrafts();
  });
  const discard = (id: number) => act(async () => {
    await send(apiPath(`/drafts/${id}`), null, "DELETE");
    await loadDrafts();
  });

  return (
    <section class="part publish" aria-labelledby="publish">
      <h3 id="publish">{text("publish")}</h3>
      <form onSubmit={(event) => { event.preventDefault(); if (!why) void publish(); }}>
        <div class="input"><label for="publish-reason">{text("reason")}</label>
          <input id="publish-reason" type="text" dir="auto" maxLength={512} autocomplete="off" placeholder={text("reasonHint")} value={note.value} onInput={(event) => { note.value = event.currentTarget.value; }} /></div>
        <div class="choices">
          <label class="tick"><input type="radio" name="publish-when" checked={!isLater.value} onChange={() => { isLater.value = false; }} /><span>{text("atOnce")}</span></label>
          <label class="tick"><input type="radio" name="publish-when" checked={isLater.value} onChange={() => { isLater.value = true; }} /><span>{text("later")}</span></label>
          {isLater.value && <><label class="unseen" for="publish-moment">{text("moment")}</label>
            <input id="publish-moment" type="datetime-local" value={moment.value} onInput={(event) => { moment.value = event.currentTarget.value; }} /></>}
        </div>
        <div class="choices">
          <button type="button" disabled={isBusy.value || !isRight.value || !isChanged.value} onClick={() => void look()}>{text("previewWorkflows")}</button>
          <label class="tick"><input type="checkbox" checked={fire.value && isPreviewed} disabled={!isPreviewed || !mayPublish.value} aria-describedby="fire-hint" onChange={(event) => { fire.value = event.currentTarget.checked; }} /><span>{text("fire")}</span></label>
          {!isPreviewed && <span class="soft" id="fire-hint">{text("fireHint")}</span>}
        </div>
        {isPreviewed && <WorkflowsFired workflows={preview.value?.workflows ?? []} />}
        <div class="choices">
          <button type="submit" class="primary" disabled={isBusy.value || why !== null} aria-describedby="publish-why">{text(isLater.value ? "schedule" : "publish")}</button>
          <button type="button" disabled={isBusy.value || !mayPublish.value || !isRight.value || !isChanged.value} onClick={() => void save()}>{text("saveDraft")}</button>
          <button type="button" disabled={isBusy.value || !isChanged.value} onClick={discardChanges}>{text("discardChanges")}</button>
          <span class="soft" id="publish-why">{why}</span>
        </div>
      </form>
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
      <p role="status">{done.value}{done.value && !isBusy.value && <> <a href="/">{text("openCallList")}</a></>}</p>
      {drafts.value.length > 0 && <>
        <h4>{text("drafts")}</h4>
        <ul class="entries">{drafts.value.map((each) => (
          <li class="draft" key={each.id}>
            <p><a href={withQuery({ draft: String(each.id) })}>{text("draftNumber", { n: number(each.id) })}</a>{" "}
              {each.state === "scheduled" && each.effective_from ? <b>{text("scheduledFor", { moment: exactly(each.effective_from) })}</b> : <span class="soft">{words(each.state)}, {exactly(each.changed_at)}</span>}{" "}
              <bdi class="soft">{[each.note, each.by].filter(Boolean).join(" · ")}</bdi>
              {each.problem && <span class="wrong"> {each.problem}</span>}</p>
            <button type="button" disabled={isBusy.value || !mayPublish.value} onClick={() => void discard(each.id)}>{text("discard")}<span class="unseen"> {number(each.id)}</span></button>
          </li>
        ))}</ul></>}
    </section>
  );
}
