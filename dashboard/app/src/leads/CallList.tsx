// Whom to call next, and why: the page at /.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { may, person } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { ago, BANDS, bandName, leftToRight, number, ownName, shortNumber, signed, stageName, text } from "../text";
import { When } from "../When";
import { Band } from "./Band";
import { FirstRun } from "./FirstRun";
import { Flags } from "./Flags";
import { BOARD_MODEL, bandOf, reachedBy, sentenceOf, titleOf } from "./lead";
import { LeadRows } from "./LeadRows";
import { Total } from "./Total";
import { latestChanges } from "./latestChanges";
import { Snooze } from "./Snooze";
import { BulkActions } from "./BulkActions";
import { SavedViews } from "./SavedViews";
import { asOf, chosen, counts, includesAnonymous, isLoaded, lastSnooze, leads, model, ME, models, NOBODY, problem, reasons, recent, watchLeads } from "./leadList";

const SILENT_DAYS = "30";
const SLIDER_DAYS = 90;
const DAY_MS = 86_400_000;
const SEARCH_WAIT_MS = 200;
const AT_REST = new Set(["customer", "churned", "lost", "disqualified"]);
const TIERS: [keyof typeof BANDS, "burningDo" | "hotDo" | "warmDo" | "coldDo"][] = [["burning", "burningDo"], ["hot", "hotDo"], ["warm", "warmDo"], ["cold", "coldDo"]];

export function CallList() {
  useEffect(watchLeads, []);
  useEffect(() => { document.title = `${text("callList")} · Leadstream`; });
  const isNarrowed = ["q", "band", "stage", "owner", "silent_days", "snoozed", "as_of"].some((name) => query.value.get(name)) || query.value.get("anonymous") === "false";
  const isEmpty = isLoaded.value && !leads.value.length && !problem.value;
  return (
    <div class={asOf.value ? "call-list is-past" : "call-list"}>
      <Filters />
      <When asOf={asOf.value} begin={Date.now() - SLIDER_DAYS * DAY_MS} note={text("asOfList")} />
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {includesAnonymous.value && !query.value.get("anonymous") && leads.value.length > 0 &&
        <p class="hint">{text("nobodyYet")} <a href={withQuery({ anonymous: "true", model: "web_session", band: null })}>{text("byVisits")}</a></p>}
      {!isLoaded.value && <p class="hint" role="status">{text("loading")}</p>}
      {isEmpty && !isNarrowed && <FirstRun />}
      {isEmpty && isNarrowed && <section class="card"><h2>{text("noMatch")}</h2><p>{text("noMatchHint")}</p><p><a href="/">{text("clear")}</a></p></section>}
      {lastSnooze.value && !asOf.value && <p class="undo" role="status">{lastSnooze.value.what}{" "}<button type="button" onClick={() => { const { undo } = lastSnooze.value ?? {}; lastSnooze.value = null; void undo?.(); }}>{text("undo")}</button></p>}
      {chosen.value.size > 0 && may("write") && !asOf.value && <BulkActions />}
      {leads.value.length > 0 && <div class="board">
        <div class="main-column">
          {!asOf.value && <CallNext />}
          <LeadRows />
        </div>
        <Recent />
      </div>}
    </div>
  );
}

function Filters() {
  const search = useRef<HTMLInputElement>(null);
  const waiting = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    const focusSearch = (event: KeyboardEvent) => {
      if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) return;
      event.preventDefault();
      search.current?.focus();
    };
    document.addEventListener("keydown", focusSearch);
    return () => document.removeEventListener("keydown", focusSearch);
  }, []);
  const asked = query.value.get("q") ?? "";
  useEffect(() => { if (search.current && document.activeElement !== search.current) search.current.value = asked; }, [asked]);
  const typed = (event: Event) => {
    clearTimeout(waiting.current);
    const found = (event.target as HTMLInputElement).value.trim();
    waiting.current = setTimeout(() => navigate(withQuery({ q: found }), true), SEARCH_WAIT_MS);
  };
  const counted = counts.value && (includesAnonymous.value ? sum(counts.value.identified.bands, counts.value.anonymous.bands) : counts.value.identified.bands);
  const stages = counts.value && (includesAnonymous.value ? sum(counts.value.identified.stages, counts.value.anonymous.stages) : counts.value.identified.stages);
  const band = query.value.get("band") ?? "";
  const stage = query.value.get("stage") ?? "";
  const owner = query.value.get("owner") ?? "";
  const isSnoozedShown = query.value.get("snoozed") === "true";
  const silent = query.value.get("silent_days");
  const owners = [...new Set([...leads.value.map((each) => each.assigned_to), owner])].filter((each): each is string => !!each && each !== ME && each !== NOBODY).sort();
  return (
    <form class="filters" role="search" aria-label={text("search")} onSubmit={(event) => event.preventDefault()}>
      <label class="field grow"><span class="unseen">{text("search")}</span>
        <input type="search" ref={search} placeholder={text("searchHint")} autocomplete="off" maxLength={320} defaultValue={asked} onInput={typed} /></label>
      <label class="field"><span>{text("stage")}</span>
        <select value={stage} onChange={(event) => navigate(withQuery({ stage: event.currentTarget.value }))}>
          <option value="">{text("allStages")}</option>
          {Object.entries({ ...(stage && { [stage]: 0 }), ...stages }).sort().map(([name, times]) => <option key={name} value={name}>{stageName(name)}{counts.value && ` (${number(times)})`}</option>)}
        </select></label>
      {!asOf.value && <label class="field"><span>{text("owner")}</span>
        <select value={owner} onChange={(event) => navigate(withQuery({ owner: event.currentTarget.value }))}>
          <option value="">{text("team")}</option>
          {person.value && <option value={ME}>{text("mine")}</option>}
          <option value={NOBODY}>{text("nobody")}</option>
          {owners.map((each) => <option key={each} value={each}>{each}</option>)}
        </select></label>}
      <label class="field"><span>{text("scoreBy")}</span>
        <select value={model.value} onChange={(event) => navigate(withQuery({ model: event.currentTarget.value === BOARD_MODEL ? null : event.currentTarget.value, band: null }))}>
          {[...new Set([...models.value, model.value])].map((name) => <option key={name} value={name}>{ownName(name)}</option>)}
        </select></label>
      <label class="tick"><input type="checkbox" checked={includesAnonymous.value} onChange={(event) => navigate(withQuery({ anonymous: String(event.currentTarget.checked) }))} /><span>{text("anonymous")}</span></label>
      {model.value === BOARD_MODEL && <nav class="chips" aria-label={text("temperature")}>
        <a href={withQuery({ band: null })} aria-current={band ? undefined : "true"}>{text("all")}</a>
        {TIERS.map(([tier, doing]) => (
          <a key={tier} class={tier} href={withQuery({ band: tier })} aria-current={band === tier ? "true" : undefined}>
            <span aria-hidden="true">{BANDS[tier]}</span> {text(tier)} <span class="doing">{text(doing)}</span>{counted && <b>{shortNumber(counted[tier] ?? 0)}</b>}
          </a>
        ))}
        <a href={withQuery({ stage: stage === "customer" ? null : "customer" })} aria-current={stage === "customer" ? "true" : undefined}><span aria-hidden="true">🤝</span> {text("customers")}{stages && <b>{shortNumber(stages["customer"] ?? 0)}</b>}</a>
        {!asOf.value && <a href={withQuery({ snoozed: isSnoozedShown ? null : "true" })} aria-current={isSnoozedShown ? "true" : undefined}><span aria-hidden="true">😴</span> {text("snoozed")}{counts.value && <b>{shortNumber(counts.value.snoozed)}</b>}</a>}
        {!asOf.value && <a href={withQuery({ silent_days: silent ? null : SILENT_DAYS })} aria-current={silent ? "true" : undefined}><span aria-hidden="true">💤</span> {text("silent")} <span class="doing">{text("silentFor", { n: number(Number(silent ?? SILENT_DAYS)) })}</span></a>}
      </nav>}
      <SavedViews />
    </form>
  );
}

function sum(left: Record<string, number>, right: Record<string, number>): Record<string, number> {
  const total = { ...left };
  for (const [name, times] of Object.entries(right)) total[name] = (total[name] ?? 0) + times;
  return total;
}

function CallNext() {
  const candidates = leads.value.filter((each) => !AT_REST.has(each.stage) && !each.do_not_score);
  const lead = candidates.find((each) => each.phone) ?? candidates[0];
  if (!lead) return null;
  const score = lead.scores[model.value];
  const reason = reasons.value.get(lead.lead_id);
  const phone = reachedBy("phone", lead.phone);
  return (
    <section class="call-next" aria-labelledby="call-next">
      <h2 id="call-next">{text("callNext")}</h2>
      <p class="whom"><a href={leadAddress(lead.lead_id)} dir="auto">{titleOf(lead)}</a> <Total lead={lead} score={score} /> <Band band={bandOf(score?.bands)} /></p>
      <p class="why"><bdi>{sentenceOf(reason)}</bdi>{reason?.gain && `, ${signed(reason.gain.change)}`}{reason?.event && `, ${ago(reason.event.occurred_at)}`} <Flags flags={score?.flags} /></p>
      <p class="do">
        {phone && <a class="primary" href={phone}>{text("call", { phone: leftToRight(lead.phone ?? "") })}</a>}
        <a href={leadAddress(lead.lead_id)}>{text("open")}</a>
        {may("write") && lead.identified && <Snooze key={lead.lead_id} leads={[lead]} done={(undo, what) => { lastSnooze.value = { undo, what: `${titleOf(lead)}: ${what}` }; }} />}
      </p>
    </section>
  );
}

function Recent() {
  const tick = useSignal(0);
  useEffect(() => { const clock = setInterval(() => { tick.value += 1; }, 15_000); return () => clearInterval(clock); }, []);
  void tick.value;
  const titles = new Map(leads.value.map((lead) => [lead.lead_id, titleOf(lead)]));
  return (
    <aside class="recent" aria-labelledby="recent">
      <h2 id="recent">{text("recent")}</h2>
      {recent.value.length === 0 && reasons.value.size === 0 && <p class="hint">{text("noRecent")}</p>}
      <ol>
        {latestChanges(recent.value, reasons.value).map((each) => (
          <li key={`${each.leadId} ${each.at}`}>
            <a href={leadAddress(each.leadId, asOf.value)} dir="auto">{titles.get(each.leadId) ?? each.leadId}</a>{" "}
            <b class={each.change < 0 ? "down" : "up"}>{signed(each.change)}</b>{" "}
            <span class="soft">{each.because ? `${each.because}, ` : ""}{ago(each.at)}{each.band ? ` · ${bandName(each.band)}` : ""}</span>
          </li>
        ))}
      </ol>
    </aside>
  );
}
