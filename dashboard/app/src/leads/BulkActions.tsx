// Actions on the leads that are chosen. An assignment can be taken back, since each lead's owner before is known.

import { useSignal } from "@preact/signals";
import { assign, called, join } from "../acts";
import { person } from "../api";
import { number, text } from "../text";
import { chosen, leads, lastSnooze } from "./leadList";
import { forEach } from "./several";
import { Snooze } from "./Snooze";

export function BulkActions() {
  const isBusy = useSignal(false);
  const result = useSignal<string | null>(null);
  const before = useSignal<readonly [string, string | null][]>([]);
  const run = async <T,>(all: readonly T[], act: (one: T) => Promise<unknown>) => {
    isBusy.value = true;
    const failed = await forEach(all, act);
    result.value = failed ? text("doneExcept", { n: number(all.length - failed), failed: number(failed) }) : text("doneFor", { n: number(all.length) });
    isBusy.value = false;
  };
  const assignTo = async (owner: string) => {
    const owners = new Map(leads.peek().map((each) => [each.lead_id, each.assigned_to]));
    before.value = [...chosen.value].map((id) => [id, owners.get(id) ?? null]);
    await run(before.value, ([id]) => assign(id, owner));
  };
  const submitted = (act: (typed: string) => void) => (event: SubmitEvent) => {
    event.preventDefault();
    const typed = String(new FormData(event.currentTarget as HTMLFormElement).get("typed") ?? "").trim();
    if (typed) act(typed);
  };
  const me = person.value;
  return (
    <section class="several" aria-label={text("chosen", { n: number(chosen.value.size) })}>
      <b>{text("chosen", { n: number(chosen.value.size) })}</b>
      {me && <button type="button" disabled={isBusy.value} onClick={() => void assignTo(me.email)}>{text("assignToMe")}</button>}
      <form onSubmit={submitted((owner) => void assignTo(owner))}>
        <input type="text" name="typed" aria-label={text("owner")} placeholder={text("owner")} maxLength={200} autocomplete="off" /><button type="submit" disabled={isBusy.value}>{text("assign")}</button></form>
      <form onSubmit={submitted((campaign) => { before.value = []; void run([...chosen.value], (id) => join(id, campaign)); })}>
        <input type="text" name="typed" aria-label={text("campaign")} placeholder={text("campaign")} maxLength={200} autocomplete="off" /><button type="submit" disabled={isBusy.value}>{text("addToCampaign")}</button></form>
      <button type="button" disabled={isBusy.value} onClick={() => { before.value = []; void run([...chosen.value], called); }}>{text("contacted")}</button>
      <Snooze leads={leads.value.filter((each) => chosen.value.has(each.lead_id))} disabled={isBusy.value} done={(undo, what) => { lastSnooze.value = { undo, what }; chosen.value = new Set(); }} />
      {before.value.length > 0 && !isBusy.value && <button type="button" onClick={() => { const past = before.value; before.value = []; void run(past, ([id, owner]) => assign(id, owner)); }}>{text("undo")}</button>}
      <button type="button" onClick={() => { chosen.value = new Set(); }}>{text("chooseNone")}</button>
      <span role="status" class="soft">{isBusy.value ? text("loading") : result.value}</span>
    </section>
  );
}
