// The experiment that is being edited: one text, which the form and the editor both change, and what the server says of it.

import { batch, computed, signal } from "@preact/signals";
import { person, send } from "../api";
import type { Problem } from "../models/editing";
import { experimentPath, reasonOf } from "./experiment";

export type VariantForm = { name: string; weight: number | null; config: unknown };
export type GoalForm = { name: string; about: string; event: string | null; conversion: string | null };
export type Form = {
  about: string; unit: string; coverage: number; window_days: number; starts_at: string | null; ends_at: string | null;
  namespace: { name: string; from: number; to: number } | null; variants: VariantForm[]; goals: GoalForm[];
};
type Placed = Problem & { field: string | null };
type Checked = { text: string; based_on: number; problem: Placed | null; form: Form | null; refused: { field: string; reason: string } | null; change: string | null };

const CHECK_WAIT_MS = 250;

export const name = signal("");
export const text = signal("");
export const checked = signal<Checked | null>(null);
/** What the form shows; null: it is not read yet. While the text has a mistake it stays as it was. */
export const form = signal<Form | null>(null);
/** The text that is active. */
export const activeText = signal<string | null>(null);
export const goTo = signal<{ line: number } | null>(null);
export const failure = signal<string | null>(null);

export const problem = computed(() => (checked.value?.text === text.value ? checked.value.problem : null));
export const refused = computed(() => (checked.value?.text === text.value ? checked.value.refused : null));
/** Something was typed that the server has not seen yet. */
const isPending = signal(false);
export const isChanged = computed(() => text.value !== (activeText.value ?? ""));
export const mayPublishText = computed(() => isChanged.value && !isPending.value && checked.value?.text === text.value && !problem.value && !refused.value);

/** What a new experiment begins with. */
export const NEW_FORM: Form = {
  about: "", unit: "visitor", coverage: 1, window_days: 30, starts_at: null, ends_at: null, namespace: null,
  variants: [{ name: "A", weight: 0.5, config: {} }, { name: "B", weight: 0.5, config: {} }],
  goals: [{ name: "demo_request", about: "", event: "demo_requested", conversion: null }],
};

/** Opens the active text, or a new one with the form of another experiment. */
export async function openText(opened: string, active: string | null, copied: Form | null): Promise<void> {
  clearTimeout(waiting);
  batch(() => { name.value = opened; isPending.value = false; activeText.value = active; text.value = active ?? ""; form.value = null; checked.value = null; failure.value = null; });
  await check(active === null ? { form: copied ?? NEW_FORM } : { text: active });
}

let waiting: ReturnType<typeof setTimeout> | undefined;

export function setText(next: string): void {
  if (next === text.value) return;
  text.value = next;
  later({ text: next });
}

export function change(part: Partial<Form>): void {
  if (!form.value) return;
  form.value = { ...form.value, ...part };
  later({ text: text.value, form: form.value });
}

function later(body: { text: string; form?: Form }): void {
  isPending.value = true;
  clearTimeout(waiting);
  waiting = setTimeout(() => { void check(body); }, CHECK_WAIT_MS);
}

async function check(body: { text?: string; form?: Form }): Promise<void> {
  const [before, formBefore] = [text.value, form.value];
  try {
    const answer = await send<Checked>(experimentPath(name.value, "/check"), body);
    if (text.value !== before || form.value !== formBefore) return; // somebody typed meanwhile
    batch(() => {
      text.value = answer.text;
      isPending.value = false;
      checked.value = answer;
      failure.value = null;
      // The form that was sent stays as it was typed: 0.50 is not to become 0.5 under the cursor.
      if (!body.form || !form.value) form.value = answer.form ?? form.value ?? body.form ?? null;
    });
  } catch (error) {
    failure.value = reasonOf(error);
  }
}

export const byMe = (): { by?: string } => (person.value ? { by: person.value.name } : {});
