// The chat's flow that is being edited: data beside the text of its model. The server writes the one into the other.

import { batch, signal } from "@preact/signals";
import { send } from "../api";
import { modelName, reasonOf, setText, text as modelText } from "../models/editing";

export type Wording = Record<string, string>;
export type Question = { id: number; text: Wording; options: Record<string, string[]>; several: boolean; step: string; profile_field: string | null };
export type Offer = { id: string; text: Wording; about: Wording; action: string };
export type Flow = {
  languages: string[]; thanks: Wording; assigned_to: string | null; greeting: { id: number; text: Wording; variants: Record<string, Wording> };
  questions: Question[]; contact: { id: number; text: Wording; button: Wording | null }; products: Offer[]; ctas: Offer[];
};
export type FlowProblem = { line: number; reason: string; field: string | null };
type Checked = { text: string; problem: FlowProblem | null; flow: Flow | null; points: Record<string, number[]> };

const WRITE_WAIT_MS = 350;

/** What the form shows; null: it is not read yet, or the text has a mistake. */
export const flow = signal<Flow | null>(null);
export const flowProblem = signal<FlowProblem | null>(null);
/** What each option scores as the first answer of a chat, by question. */
export const optionPoints = signal<Record<string, number[]>>({});
/** The text that the form has written last: a preview shows it. */
export const writtenText = signal("");

const check = (body: { text: string; flow?: Flow }): Promise<Checked> => send<Checked>(`/api/flows/${encodeURIComponent(modelName.value)}/check`, body);

export async function readFlow(): Promise<void> {
  const asked = modelText.value;
  try {
    const answer = await check({ text: asked });
    if (modelText.value !== asked) return;
    batch(() => { flow.value = answer.flow; flowProblem.value = answer.problem; optionPoints.value = answer.points; if (!answer.problem) writtenText.value = asked; });
  } catch (error) {
    batch(() => { flow.value = null; flowProblem.value = { line: 1, reason: reasonOf(error), field: null }; });
  }
}

let waiting: ReturnType<typeof setTimeout> | undefined;

export function change(part: Partial<Flow>): void {
  if (!flow.value) return;
  flow.value = { ...flow.value, ...part };
  clearTimeout(waiting);
  waiting = setTimeout(() => { void write(); }, WRITE_WAIT_MS);
}

async function write(): Promise<void> {
  const asked = flow.value;
  if (!asked) return;
  try {
    const answer = await check({ text: modelText.value, flow: asked });
    if (flow.value !== asked) return;
    batch(() => {
      flowProblem.value = answer.problem;
      if (answer.problem) return;
      optionPoints.value = answer.points;
      writtenText.value = answer.text;
      setText(answer.text);
    });
  } catch (error) {
    if (flow.value === asked) flowProblem.value = { line: 1, reason: reasonOf(error), field: null };
  }
}

export const forgetFlow = (): void => { clearTimeout(waiting); batch(() => { flow.value = null; flowProblem.value = null; optionPoints.value = {}; writtenText.value = ""; }); };

// Changes of lists

export const replaced = <T>(list: readonly T[], at: number, item: T): T[] => list.map((each, index) => (index === at ? item : each));
export const without = <T>(list: readonly T[], at: number): T[] => list.filter((_, index) => index !== at);
export function moved<T>(list: readonly T[], at: number, by: number): T[] {
  const copy = [...list];
  copy.splice(at + by, 0, ...copy.splice(at, 1));
  return copy;
}

export const inEvery = (languages: readonly string[], text: string): Wording => Object.fromEntries(languages.map((each) => [each, text]));

/** Ids name answers for good: a new question gets one above all others. */
export const nextId = (now: Flow): number => Math.max(now.greeting.id, now.contact.id, ...now.questions.map((each) => each.id)) + 1;

/** The flow with another list of languages. A new one begins with the texts of the first, to be translated. */
export function inLanguages(now: Flow, languages: readonly string[]): Flow {
  const first = now.languages[0] ?? "en";
  const pick = <T>(worded: Record<string, T>): Record<string, T> => Object.fromEntries(languages.map((each) => [each, worded[each] ?? worded[first] ?? Object.values(worded)[0]])) as Record<string, T>;
  const offers = (list: readonly Offer[]): Offer[] => list.map((each) => ({ ...each, text: pick(each.text), about: pick(each.about) }));
  return {
    ...now, languages: [...languages], thanks: pick(now.thanks),
    greeting: { ...now.greeting, text: pick(now.greeting.text), variants: Object.fromEntries(Object.entries(now.greeting.variants).map(([name, worded]) => [name, pick(worded)])) },
    questions: now.questions.map((each) => ({ ...each, text: pick(each.text), options: pick(each.options) })),
    contact: { ...now.contact, text: pick(now.contact.text), button: now.contact.button && pick(now.contact.button) },
    products: offers(now.products), ctas: offers(now.ctas),
  };
}
