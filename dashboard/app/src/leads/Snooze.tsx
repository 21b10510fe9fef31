// Puts leads off for a while. Lengths of time need no time zone, and most leads come back after one of them.

import { useSignal } from "@preact/signals";
import { snooze } from "../acts";
import { exactly, text } from "../text";
import { forEach } from "./several";

const HOUR_MS = 3_600_000;
const LENGTHS = [["snooze1h", 1], ["snooze3h", 3], ["snooze1d", 24], ["snooze3d", 72], ["snooze1w", 168]] as const;

export type Snoozable = { lead_id: string; snoozed_until: string | null };

/** Whether somebody has put it off until later than now. */
export const isSnoozed = (lead: Pick<Snoozable, "snoozed_until">): boolean => !!lead.snoozed_until && Date.parse(lead.snoozed_until) > Date.now();

/** `done` gets what takes it back, and what happened in words. */
export function Snooze({ leads, disabled, done }: { leads: readonly Snoozable[]; disabled?: boolean; done: (undo: () => Promise<number>, result: string) => void }) {
  const isBusy = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const hours = Number(new FormData(event.currentTarget as HTMLFormElement).get("hours"));
    const until = new Date(Date.now() + hours * HOUR_MS).toISOString();
    isBusy.value = true;
    const failed = await forEach(leads, (lead) => snooze(lead.lead_id, until));
    isBusy.value = false;
    const undo = () => forEach(leads, (lead) => snooze(lead.lead_id, isSnoozed(lead) ? lead.snoozed_until : null));
    done(undo, failed ? text("doneExcept", { n: leads.length - failed, failed }) : text("snoozedUntil", { moment: exactly(until) }));
  };
  return (
    <form class="snooze" onSubmit={(event) => void submit(event)}>
      <select name="hours" aria-label={text("snoozeFor")} defaultValue="24">{LENGTHS.map(([key, hours]) => <option key={key} value={hours} selected={hours === 24}>{text(key)}</option>)}</select>
      <button type="submit" disabled={disabled || isBusy.value}><span aria-hidden="true">😴</span> {text("snooze")}</button>
    </form>
  );
}
