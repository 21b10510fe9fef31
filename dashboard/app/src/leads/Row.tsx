import { Component } from "preact";
import { leadAddress } from "../route";
import { ago, exactly, lengthOf, number, shortNumber, signed, stageName, text, words } from "../text";
import { Band } from "./Band";
import { Flags } from "./Flags";
import { type Lead, type Reason, SESSION_MODEL, bandOf, reachedBy, sentenceOf, titleOf } from "./lead";
import { asOf } from "./leadList";
import { isSnoozed } from "./Snooze";
import { Spark } from "./Spark";
import { Total } from "./Total";

export type RowProps = {
  lead: Lead; model: string; index: number; top: number; height: number; isActive: boolean; isChosen: boolean;
  reason: Reason | undefined; movement: number | undefined; minute: number; language: string;
};

const NAMES_OF_PROPS = ["lead", "model", "index", "top", "height", "isActive", "isChosen", "reason", "movement", "minute", "language"] as const;

/** A row is drawn again only if something in it has changed. */
export class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    return NAMES_OF_PROPS.some((name) => next[name] !== this.props[name]);
  }

  override render({ lead, model, index, top, height, isActive, isChosen, reason, movement }: RowProps) {
    const score = lead.scores[model];
    const name = titleOf(lead);
    const phone = reachedBy("phone", lead.phone);
    return (
      <div class={`row${movement ? " moved" : ""}${isActive ? " active" : ""}`} role="row" id={rowId(lead.lead_id)} data-id={lead.lead_id} aria-rowindex={index + 1}
        aria-selected={isChosen} style={{ height: `${height}px`, transform: `translateY(${top}px)` }}>
        <span role="gridcell" class="in-band" title={text("choose")}><span class="mark" aria-hidden="true" /><Band band={bandOf(score?.bands)} /></span>
        <span role="rowheader" class="who">
          <span class="title">
            <a class="name" href={leadAddress(lead.lead_id, asOf.value)} tabIndex={-1} dir="auto">{name}</a>{" "}
            <Total lead={lead} score={score} />
            {movement ? <span class={movement < 0 ? "movement down" : "movement up"}>{movement < 0 ? "▼" : "▲"} {signed(movement)}</span> : null}
          </span>
          <span class="contact">
            {lead.phone && lead.phone !== name && (phone ? <a href={phone} tabIndex={-1} dir="ltr">{lead.phone}</a> : <bdi>{lead.phone}</bdi>)}
            {lead.email && lead.email !== name && <bdi>{lead.email}</bdi>}
            {lead.company && <bdi>{lead.company}</bdi>}
            <span>{stageName(lead.stage)}</span>
            {lead.qualification_override && <span title={text("setByHand")}>✋ {words(lead.qualification_override.band)}</span>}
            {lead.assigned_to && <bdi title={text("owner")}>👤 {lead.assigned_to}</bdi>}
          </span>
        </span>
        <span role="gridcell" class="reason" title={reason?.event ? exactly(reason.event.occurred_at) : undefined}>
          <span class="just-happened"><bdi>{sentenceOf(reason)}</bdi></span>
          <span class="then">
            {!lead.identified && reason?.session && <span>{text("visitOf", { length: lengthOf(reason.session.duration_seconds), pages: number(reason.session.pages), clicks: number(reason.session.clicks) })}</span>}
            {!asOf.value && isSnoozed(lead) && <span>😴 {exactly(lead.snoozed_until ?? "")}</span>}
            {reason?.gain && <span class="gain">{signed(reason.gain.change)}</span>}
            {(reason?.event || lead.last_interaction_at) && <time dateTime={reason?.event?.occurred_at ?? lead.last_interaction_at ?? ""}>{ago(reason?.event?.occurred_at ?? lead.last_interaction_at)}</time>}
            {reason?.missing && reason.missing.points > 0 && <span>{text("toNext", { points: number(reason.missing.points), band: bandWord(reason.missing.band) })}</span>}
            {reason?.budget ? <span title={text("budget", { amount: number(reason.budget) })}>💰 {shortNumber(reason.budget)}</span> : null}
            {reason?.property && <bdi>🏡 {reason.property}</bdi>}
          </span>
          <span class="then signs"><Flags flags={score?.flags} /></span>
        </span>
        <span role="gridcell" class="counts">{countsOf(lead, model, reason)}</span>
        <span role="gridcell" class="line"><Spark totals={(reason?.totals ?? []).map((each) => each.total)} /></span>
      </div>
    );
  }
}

const bandWord = (band: string): string => (["burning", "hot", "warm", "cold"].includes(band) ? text(band as "hot").toLocaleLowerCase() : words(band));

function countsOf(lead: Lead, model: string, reason: Reason | undefined) {
  const counted: [string, number, string][] = model === SESSION_MODEL || !lead.identified
    ? [["👣", lead.sessions, text("visits")], ["📄", lead.page_views, text("pages")]]
    : [["📱", lead.qr_scan_count, text("scans")], ["📄", lead.catalog_views, text("views")], ["💬", lead.messages_count, text("messages")]];
  const voice = reason?.voice_seconds;
  return <>
    {counted.map(([sign, times, what]) => (
      <span key={what} class={times ? "count" : "count none"} title={what}><span aria-hidden="true">{sign}</span> {shortNumber(times)}<span class="unseen"> {what}</span></span>
    ))}
    {voice !== undefined && voice !== null && <span class="count" title={text("voiceSeconds", { n: number(voice) })}><span aria-hidden="true">🎤</span><span class="unseen">{text("voice")}</span></span>}
  </>;
}

export const rowId = (leadId: string): string => `lead-${encodeURIComponent(leadId)}`;
