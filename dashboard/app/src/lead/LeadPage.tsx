// One lead: what its score is made of, how it came about, and as it was at any moment.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { undoMerge } from "../acts";
import { may, read, Refused } from "../api";
import { later } from "../later";
import { Band } from "../leads/Band";
import { Flags } from "../leads/Flags";
import { BOARD_MODEL, bandOf, type Override, type Score, reachedBy, titleOf } from "../leads/lead";
import { Total } from "../leads/Total";
import { follow } from "../live";
import { leadAddress, navigate, query, withQuery } from "../route";
import { ago, anyOf, bandName, eventName, exactly, lengthOf, number, ownName, shownMoment, signed, stageName, text, words } from "../text";
import { Actions } from "./Actions";
import { Attribution } from "./Attribution";
import { causeOf, type Detail, type Entry, evidenceOf, grouped, type Line, nameOf, netted } from "./detail";
import { Identities } from "./Identities";
import { UnderDraft } from "./UnderDraft";
import { Voice } from "./Voice";

const ScoreChart = later(() => import("./ScoreChart"));

const NAMES = new Set(["name", "first_name", "last_name", "assigned_to"]); // the title and the owner say them
const DAY_MS = 86_400_000;
const SLIDER_STEPS = 1_000;
const SLIDER_WAIT_MS = 150;
const MOST_ENTRIES = 1_000;
const LIVE_WAIT_MS = 500;

export default function LeadPage({ leadId }: { leadId: string }) {
  const detail = useSignal<Detail | null>(null);
  const problem = useSignal<string | null>(null);
  const history = useSignal<readonly Entry[]>([]);
  const tomorrow = useSignal<Detail["scores"] | null>(null);
  const model = query.value.get("model") ?? BOARD_MODEL;
  const asOf = query.value.get("as_of");

  const load = async (stop?: AbortSignal) => {
    try {
      detail.value = await read<Detail>(apiAddress(leadId) + (asOf ? `?as_of=${encodeURIComponent(asOf)}` : ""), stop);
      problem.value = null;
      const known = detail.value.lead.lead_id;
      if (known !== leadId) navigate(leadAddress(known) + location.search, true); // a visitor who turned out to be this lead
      if (!asOf) {
        const then = new Date(Date.parse(detail.value.as_of) + DAY_MS).toISOString();
        tomorrow.value = (await read<Detail>(`${apiAddress(leadId)}?as_of=${encodeURIComponent(then)}`, stop).catch(() => null))?.scores ?? null;
      }
    } catch (error) {
      if (stop?.aborted) return;
      problem.value = error instanceof Refused ? (error.status === 404 ? text("unknownLead") : error.message) : text("off");
    }
  };
  const loadHistory = async (stop: AbortSignal) => {
    const entries: Entry[] = [];
    let cursor = "";
    do {
      const page = await read<{ ledger: Entry[]; next_cursor: string | null }>(`${apiAddress(leadId)}/ledger?model=${model}&limit=500${cursor}`, stop);
      entries.push(...page.ledger);
      cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : "";
    } while (cursor && entries.length < MOST_ENTRIES);
    history.value = entries.filter((each) => each.change).reverse();
  };

  useEffect(() => {
    const stop = new AbortController();
    void load(stop.signal);
    return () => stop.abort();
  }, [leadId, asOf]);
  useEffect(() => {
    const stop = new AbortController();
    const loadQuietly = () => { loadHistory(stop.signal).catch(() => undefined); };
    loadQuietly();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const unfollow = follow((changes) => {
      if (changes && !changes.leads.includes(leadId)) return;
      timer ??= setTimeout(() => { timer = undefined; void load(stop.signal); loadQuietly(); }, LIVE_WAIT_MS);
    });
    return () => { stop.abort(); unfollow(); clearTimeout(timer); };
  }, [leadId, model, asOf]);

  const found = detail.value;
  const at = asOf && found ? Date.parse(found.as_of) : null;
  useEffect(() => { shownMoment.value = at; return () => { shownMoment.value = null; }; }, [at]); // all days of the page count up to its moment
  useEffect(() => { if (found) document.title = `${titleOf(found.lead)} · Leadstream`; });
  if (problem.value && !found) return <section class="card"><h2>{problem.value}</h2><p><a href="/">{text("back")}</a></p></section>;
  if (!found) return <p class="hint" role="status">{text("loading")}</p>;
  const { lead } = found;
  const score = found.scores[model];
  const undo = may("write") && !asOf
    && <button type="button" onClick={() => void undoMerge(leadId).then(() => load(), (error: unknown) => { problem.value = String(error); })}>{text("undoMerge")}</button>;
  return (
    <article class="lead-page">
      <p><a href="/">{text("back")}</a></p>
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {found.merged_into && <p class="notice">{text("mergedInto")} <a href={leadAddress(found.merged_into)}>{found.merged_into}</a>{" "}{undo}</p>}
      {found.merged_in_circle.length > 0 && <p class="notice">{text("mergedInCircle")} <bdi>{found.merged_in_circle.join(", ")}</bdi>{" "}{undo}</p>}
      <header class="lead-head">
        <h2 dir="auto">{titleOf(lead)}</h2>
        <span class="total"><Total lead={lead} score={score} /></span>
        <Band band={bandOf(score?.bands)} />
        <span class="soft">{stageName(lead.stage)}</span>
        <Reach field="phone" value={lead.phone} />
        <Reach field="email" value={lead.email} />
        {lead.qualification_override && <OverrideOf override={lead.qualification_override} />}
        <Flags flags={score?.flags} />
      </header>
      <When detail={found} asOf={asOf} first={history.value[0]?.at} />
      <div class="lead-columns">
        <div>
          <Scores detail={found} model={model} tomorrow={asOf ? null : tomorrow.value} />
          {!asOf && !lead.do_not_score && <UnderDraft leadId={lead.lead_id} model={model} />}
          <section class="part">
            <h3>{text("overTime")}: {ownName(model)}</h3>
            {history.value.length ? <OverTime entries={history.value} until={found.as_of} /> : <p class="soft">{text("noChanges")}</p>}
          </section>
          <Timeline ledger={found.ledger} model={model} />
          {!asOf && <Attribution leadId={leadId} />}
          {found.workflows.length > 0 && <Workflows executions={found.workflows} />}
        </div>
        <div>
          {!asOf && !found.merged_into && lead.identified && may("write") && <Actions lead={lead} changed={() => void load()} />}
          {lead.next_stage && <NextStage next={lead.next_stage} />}
          {!asOf && <Voice leadId={leadId} />}
          <Profile detail={found} />
          {found.stages.length > 0 && <section class="part"><h3>{text("stages")}</h3>
            <ul class="entries">{[...found.stages].reverse().map((each) => (
              <li class="entry" key={`${each.at} ${each.stage}`}><time dateTime={each.at} title={exactly(each.at)}>{ago(each.at)}</time>
                <div><p>{stageName(each.stage)}{each.previous && <span class="soft"> {text("movedFrom", { stage: stageName(each.previous) })}</span>}</p>{each.reason && <p class="why" dir="auto">{each.reason}</p>}</div></li>
            ))}</ul></section>}
          {found.sessions.length > 0 && <section class="part"><h3>{text("visitsTitle")}</h3>
            <ul class="entries">{found.sessions.map((each) => (
              <li class="entry" key={each.session_id}><span class="change">{each.score === null ? "–" : number(each.score)}</span>
                <div><p>{text("visitOf", { length: lengthOf(each.duration_seconds), pages: number(each.pages), clicks: number(each.clicks) })}{!each.ended && ` (${text("stillOpen")})`}</p>
                  <time dateTime={each.started_at} title={exactly(each.started_at)}>{ago(each.started_at)}</time></div></li>
            ))}</ul></section>}
          <Identities identities={found.identities} />
        </div>
      </div>
    </article>
  );
}

const apiAddress = (leadId: string): string => `/api/leads/${encodeURIComponent(leadId)}`;

function Reach({ field, value }: { field: string; value: string | null }) {
  const link = reachedBy(field, value);
  if (!value) return null;
  return link ? <a href={link} dir="ltr">{value}</a> : <bdi>{value}</bdi>;
}

/** Moves the whole page to a past moment. The address has it. */
function When({ detail, asOf, first }: { detail: Detail; asOf: string | null; first: string | undefined }) {
  const waiting = useMemo<{ timer?: ReturnType<typeof setTimeout> }>(() => ({}), []);
  const begin = Math.min(Date.parse(detail.lead.created_at), Date.parse(first ?? detail.lead.created_at));
  const end = Date.now();
  const place = asOf ? Math.round(((Date.parse(asOf) - begin) / Math.max(1, end - begin)) * SLIDER_STEPS) : SLIDER_STEPS;
  const slide = (event: Event) => {
    const step = Number((event.currentTarget as HTMLInputElement).value);
    clearTimeout(waiting.timer);
    waiting.timer = setTimeout(() => {
      navigate(withQuery({ as_of: step >= SLIDER_STEPS ? null : new Date(begin + ((end - begin) * step) / SLIDER_STEPS).toISOString() }), true);
    }, SLIDER_WAIT_MS);
  };
  return <>
    <label class="when part"><span>{text("asOf")}</span>
      <input type="range" min={0} max={SLIDER_STEPS} value={place} onInput={slide} aria-valuetext={asOf ? exactly(asOf) : text("now")} />
      <b>{asOf ? exactly(asOf) : text("now")}</b></label>
    {asOf && <p class="past" role="status">{text("asOfPast")} <button type="button" onClick={() => navigate(withQuery({ as_of: null }), true)}>{text("backToNow")}</button></p>}
  </>;
}

function NextStage({ next }: { next: NonNullable<Detail["lead"]["next_stage"]> }) {
  return (
    <section class="part"><h3>{text("nextStage", { stage: stageName(next.stage) })}</h3>
      <ul>{next.missing.map((each) => <li key={each.text}><bdi>{each.kind === "event" && each.any_of.length ? anyOf(each.any_of.map((type) => eventName(type))) : each.text}</bdi></li>)}</ul>
    </section>
  );
}

function Scores({ detail, model, tomorrow }: { detail: Detail; model: string; tomorrow: Detail["scores"] | null }) {
  const names = Object.keys(detail.scores).sort((left, right) => Number(right === model) - Number(left === model));
  return (
    <section class="part"><h3>{text("scores")}</h3>
      {names.map((name) => {
        const score = detail.scores[name];
        if (!score) return null;
        const groups = new Map<string, Line[]>();
        for (const line of netted(score.lines)) groups.set(line.group, [...(groups.get(line.group) ?? []), line]);
        return (
          <details class="model" key={name} open={name === model}>
            <summary><b>{ownName(name)}</b>{bandOf(score.bands) && <Band band={bandOf(score.bands)} />}<span class="points">{number(score.total)}{toCome(score, tomorrow?.[name])}</span></summary>
            {groups.size === 0 ? <p class="soft">{text("noPoints")}</p> : (
              <table><tbody>{[...groups].map(([group, lines]) => <>
                <tr key={group}><th class="group" scope="row">{group ? ownName(group) : text("inAll")}</th><td class="points">{number(lines.reduce((sum, line) => sum + line.points, 0))}</td></tr>
                {lines.map((line) => (
                  <tr key={`${group} ${line.rule} ${line.kind}`}>
                    <th scope="row"><bdi class={line.kind === "points" ? undefined : "kind"}>{nameOf(line)}</bdi>{line.text && <span class="evidence"> · <bdi>{evidenceOf(line)}</bdi></span>}</th>
                    <td class={`points ${line.points < 0 ? "down" : "up"}`}>{signed(line.points)}</td></tr>
                ))}</>)}</tbody></table>
            )}
            {name !== model && <p><a href={withQuery({ model: name })}>{text("overTime")}</a></p>}
          </details>
        );
      })}
    </section>
  );
}

/** What it becomes within a day if nothing happens; empty: it stays. */
const toCome = (score: Score, then: Score | undefined): string => (then && then.total !== score.total ? ` · ${text("tomorrow", { total: number(then.total) })}` : "");

function OverTime({ entries, until }: { entries: readonly Entry[]; until: string }) {
  return <>
    <ScoreChart entries={entries} until={until} />
    <details><summary>{text("asTable")}</summary>
      <table>
        <thead><tr><th scope="col">{text("when")}</th><th scope="col">{text("because")}</th><th scope="col" class="points">{text("change")}</th><th scope="col" class="points">{text("total")}</th></tr></thead>
        <tbody>{[...entries].reverse().map((each) => (
          <tr key={`${each.at} ${each.total}`}><td>{exactly(each.at)}</td><td dir="auto">{causeOf(each)}</td><td class={`points ${each.change < 0 ? "down" : "up"}`}>{signed(each.change)}</td><td class="points">{number(each.total)}</td></tr>
        ))}</tbody>
      </table></details>
  </>;
}

function Timeline({ ledger, model }: { ledger: readonly Entry[]; model: string }) {
  return (
    <section class="part"><h3>{text("timeline")}</h3>
      {ledger.length === 0 && <p class="soft">{text("noChanges")}</p>}
      <ol class="entries">{grouped(ledger).map((entries) => {
        const main = entries.find((each) => each.model === model) ?? entries.find((each) => each.change) ?? entries[0];
        if (!main) return null;
        return (
          <li class="entry" key={`${main.at} ${main.caused_by}`}>
            <span class={`change ${main.change < 0 ? "down" : main.change ? "up" : ""}`}>{main.change ? signed(main.change) : "="}</span>
            <div>
              <p dir="auto">{causeOf(main)}</p>
              {[main, ...entries.filter((each) => each !== main)].map((each) => (
                <p class="why" key={each.model}><bdi>{each.change ? `${ownName(each.model)} ${number(each.previous)} → ${number(each.total)}` : `${ownName(each.model)}: ${bandWord(each)}`}
                  {each.change ? ` (${netted(each.lines).map((line) => `${signed(line.points)} ${nameOf(line)}`).join(", ")})` : ""}</bdi></p>
              ))}
              <time dateTime={main.at} title={exactly(main.at)}>{ago(main.at)}</time>
            </div>
          </li>
        );
      })}</ol>
    </section>
  );
}

const bandWord = (entry: Entry): string => { const band = bandOf(entry.bands); return band ? bandName(band) : number(entry.total); };

function OverrideOf({ override: { band, since, by, until } }: { override: Override }) {
  return <span class="soft" title={exactly(since)}>✋ {text("setByHand")}: {words(band)}{by && <>, <bdi>{by}</bdi></>}{until && `, ${text("until", { moment: exactly(until) })}`}</span>;
}

function Workflows({ executions }: { executions: Detail["workflows"] }) {
  return (
    <section class="part"><h3>{text("workflows")}</h3>
      <ol class="entries">{executions.map((each) => (
        <li class="entry" key={each.id}><span class="change" aria-hidden="true">⚙</span>
          <div><p dir="auto">{each.workflow_name}</p>
            <p class="why"><bdi>{words(each.action_type)}: {each.outcome}</bdi></p><p class="why" dir="auto">{each.reason}</p>
            <time dateTime={each.executed_at} title={exactly(each.executed_at)}>{ago(each.executed_at)}</time></div></li>
      ))}</ol>
    </section>
  );
}

function Profile({ detail }: { detail: Detail }) {
  const { lead, profile } = detail;
  const fields = Object.entries(profile).filter(([name]) => !NAMES.has(name));
  const own = fields.filter(([name]) => name === "phone" || name === "email");
  return (
    <section class="part"><h3>{text("profile")}</h3>
      <dl class="facts">
        {own.map(([name, value]) => <Fact key={name} name={words(name)}>{reachedBy(name, value) ? <a href={reachedBy(name, value) ?? ""} dir="ltr">{String(value)}</a> : <bdi>{shown(value)}</bdi>}</Fact>)}
        <Fact name={text("stage")}>{stageName(lead.stage)}</Fact>
        <Fact name={text("owner")}><bdi>{lead.assigned_to ?? text("nobody")}</bdi></Fact>
        <Fact name={text("lastInteraction")}>{lead.last_interaction_at ? <time dateTime={lead.last_interaction_at} title={exactly(lead.last_interaction_at)}>{ago(lead.last_interaction_at)}</time> : text("never")}</Fact>
        {fields.filter(([name]) => name !== "phone" && name !== "email").map(([name, value]) => <Fact key={name} name={words(name)}><bdi>{shown(value)}</bdi></Fact>)}
        {detail.revenue && Object.keys(detail.revenue).length > 0 && <Fact name={text("revenue")}><bdi>{Object.entries(detail.revenue).map(([currency, amount]) => `${number(amount)} ${currency}`).join(", ")}</bdi></Fact>}
        <Fact name={text("lead")}><bdi>{lead.lead_id}</bdi></Fact>
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return <><dt>{name}</dt><dd>{children}</dd></>;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  if (typeof value === "boolean") return text(value ? "yes" : "no");
  return typeof value === "number" ? number(value) : String(value);
}
