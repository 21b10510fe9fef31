// What a person can do with a lead. Each is an event with the person's name, and the page shows what it did.

import { useSignal } from "@preact/signals";
import { addNote, addTask, assign, called, join, merge, snooze } from "../acts";
import { person, send } from "../api";
import { isSnoozed, Snooze } from "../leads/Snooze";
import { exactly, stageName, text } from "../text";

const STAGES = ["new", "contacted", "qualified", "engaged", "opportunity", "customer", "churned", "lost", "recycled", "disqualified"];

type Lead = { lead_id: string; stage: string; assigned_to: string | null; snoozed_until: string | null };

export function Actions({ lead, changed }: { lead: Lead; changed: () => void }) {
  const result = useSignal<string | null>(null);
  const isBusy = useSignal(false);
  const act = async (acting: () => Promise<unknown>, done: string) => {
    isBusy.value = true;
    try {
      await acting();
      result.value = done;
      changed();
    } catch (error) {
      result.value = error instanceof Error ? error.message : String(error);
    }
    isBusy.value = false;
  };
  const submitted = (acting: (typed: (name: string) => string) => Promise<unknown>, done: string) => (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const typed = new FormData(form);
    void act(() => acting((name) => String(typed.get(name) ?? "").trim()), done).then(() => { if (result.value === done) form.reset(); });
  };
  const id = lead.lead_id;
  const move = (typed: (name: string) => string) =>
    send(`/api/lead-tracking/lifecycle/${encodeURIComponent(id)}/transition`, { stage: typed("stage"), reason: typed("reason") || null });
  const me = person.value;
  return (
    <section class="part actions"><h3>{text("actions")}</h3>
      <p>
        <button type="button" disabled={isBusy.value} onClick={() => void act(() => called(id), text("calledDone"))}>{text("contacted")}</button>{" "}
        {me && lead.assigned_to !== me.email && <button type="button" disabled={isBusy.value} onClick={() => void act(() => assign(id, me.email), text("done"))}>{text("assignToMe")}</button>}{" "}
        {lead.assigned_to && <button type="button" disabled={isBusy.value} onClick={() => void act(() => assign(id, null), text("done"))}>{text("unassign")}</button>}
      </p>
      {isSnoozed(lead)
        ? <p><span aria-hidden="true">😴</span> {text("snoozedUntil", { moment: exactly(lead.snoozed_until ?? "") })}{" "}
          <button type="button" disabled={isBusy.value} onClick={() => void act(() => snooze(id, null), text("done"))}>{text("showAgain")}</button></p>
        : <Snooze leads={[lead]} disabled={isBusy.value} done={(_, what) => { result.value = what; changed(); }} />}
      <form onSubmit={submitted(move, text("moved"))}>
        <label>{text("moveTo")}<select name="stage" defaultValue={lead.stage}>{STAGES.map((each) => <option key={each} value={each} selected={each === lead.stage}>{stageName(each)}</option>)}</select></label>
        <label>{text("reason")}<input type="text" name="reason" maxLength={500} autocomplete="off" /></label>
        <button type="submit" disabled={isBusy.value}>{text("move")}</button>
      </form>
      <form onSubmit={submitted((typed) => addNote(id, typed("note")), text("done"))}>
        <label class="grow">{text("note")}<textarea name="note" rows={2} maxLength={4000} required /></label>
        <button type="submit" disabled={isBusy.value}>{text("addNote")}</button>
      </form>
      <details><summary>{text("moreActions")}</summary>
        <form onSubmit={submitted((typed) => assign(id, typed("owner")), text("done"))}>
          <label>{text("owner")}<input type="text" name="owner" maxLength={200} autocomplete="off" required /></label><button type="submit" disabled={isBusy.value}>{text("assign")}</button></form>
        <form onSubmit={submitted((typed) => addTask(id, typed("title"), typed("due") ? new Date(typed("due")).toISOString() : null), text("done"))}>
          <label>{text("task")}<input type="text" name="title" maxLength={200} autocomplete="off" required /></label>
          <label>{text("due")}<input type="datetime-local" name="due" /></label><button type="submit" disabled={isBusy.value}>{text("addTask")}</button></form>
        <form onSubmit={submitted((typed) => snooze(id, new Date(typed("until")).toISOString()), text("done"))}>
          <label>{text("snoozeUntil")}<input type="datetime-local" name="until" required /></label><button type="submit" disabled={isBusy.value}>{text("snooze")}</button></form>
        <form onSubmit={submitted((typed) => join(id, typed("campaign")), text("done"))}>
          <label>{text("campaign")}<input type="text" name="campaign" maxLength={200} autocomplete="off" required /></label><button type="submit" disabled={isBusy.value}>{text("addToCampaign")}</button></form>
        <form onSubmit={submitted((typed) => merge(id, typed("into")), text("mergedDone"))}>
          <label>{text("mergeInto")}<input type="text" name="into" maxLength={128} autocomplete="off" required /></label><button type="submit" disabled={isBusy.value}>{text("merge")}</button></form>
        <p class="soft">{text("mergeHint")}</p>
      </details>
      <p role="status" class="soft">{result.value}</p>
    </section>
  );
}
