// What the lead would score by a draft of the model, beside what it scores now. The address has the draft.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, Refused, send } from "../api";
import { bandOf } from "../leads/lead";
import { navigate, query, withQuery } from "../route";
import { bandName, exactly, number, ownName, signed, text } from "../text";
import { type Line, nameOf } from "./detail";

type Draft = { id: number; created_at: string; created_by?: string | null; note?: string | null };
type Side = { total: number; rounded: number; bands: Record<string, string | null>; lines: Line[] };
type Tried = { draft: Side; active: Side | null };

const keyOf = (line: Line): string => `${line.group} ${line.rule} ${line.kind}`;

export function UnderDraft({ leadId, model }: { leadId: string; model: string }) {
  const drafts = useSignal<readonly Draft[]>([]);
  const tried = useSignal<Tried | null>(null);
  const problem = useSignal<string | null>(null);
  const chosen = query.value.get("draft");
  const address = `/api/models/${encodeURIComponent(model)}`;
  useEffect(() => {
    const stop = new AbortController();
    read<{ drafts: Draft[] }>(`${address}/drafts`, stop.signal).then((answer) => { drafts.value = answer.drafts; }, () => { drafts.value = []; });
    return () => stop.abort();
  }, [model]);
  useEffect(() => {
    tried.value = problem.value = null;
    if (!chosen) return undefined;
    let isCurrent = true;
    const score = async () => {
      const { text: draft } = await read<{ text: string }>(`${address}/drafts/${encodeURIComponent(chosen)}`);
      return send<Tried>(`${address}/test`, { text: draft, lead_id: leadId });
    };
    score().then((found) => { if (isCurrent) tried.value = found; }, (error: unknown) => { if (isCurrent) problem.value = error instanceof Refused ? error.message : text("off"); });
    return () => { isCurrent = false; };
  }, [model, chosen, leadId]);
  if (!drafts.value.length && !chosen) return null;
  return (
    <section class="part under-draft"><h3>{text("underDraft")}: {ownName(model)}</h3>
      <p><label class="field"><span>{text("draft")}</span>
        <select value={chosen ?? ""} onChange={(event) => navigate(withQuery({ draft: event.currentTarget.value }), true)}>
          <option value="">{text("chooseDraft")}</option>
          {drafts.value.map((each) => <option key={each.id} value={String(each.id)}>{text("draftNumber", { n: number(each.id) })} · {exactly(each.created_at)}{each.note ? ` · ${each.note}` : ""}</option>)}
        </select></label></p>
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {tried.value && <Difference tried={tried.value} />}
    </section>
  );
}

function Difference({ tried: { draft, active } }: { tried: Tried }) {
  const before = new Map(active?.lines.map((line) => [keyOf(line), line]));
  const after = new Map(draft.lines.map((line) => [keyOf(line), line]));
  const differing = [...new Map([...before, ...after])].filter(([key]) => (before.get(key)?.points ?? 0) !== (after.get(key)?.points ?? 0));
  const band = bandOf(draft.bands);
  return <>
    <p role="status"><b>{number(active?.total ?? 0)} → {number(draft.total)}</b>{band && ` · ${bandName(band)}`}</p>
    {differing.length === 0 ? <p class="soft">{text("draftSame")}</p> : (
      <table><thead><tr><th scope="col">{text("ruleName")}</th><th scope="col" class="points">{text("before")}</th><th scope="col" class="points">{text("after")}</th></tr></thead>
        <tbody>{differing.map(([key, line]) => (
          <tr key={key}><th scope="row"><bdi>{nameOf(line)}</bdi></th><td class="points">{signed(before.get(key)?.points ?? 0)}</td><td class="points">{signed(after.get(key)?.points ?? 0)}</td></tr>
        ))}</tbody></table>)}
  </>;
}
