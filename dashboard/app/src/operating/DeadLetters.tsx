// Records that could not be read or applied: corrected and sent again, one by one or as they are.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, send } from "../api";
import { number, text } from "../text";
import { reasonOf } from "../workflows/workflow";

type DeadLetter = { topic: string; partition: number; position: number; reason: string; field: string | null; key: string | null; bytes: number; text: string | null };
type Answer = { dead_letters: DeadLetter[]; after: string | null };
type Sent = { sent: number; problems: { reason: string; field: string | null }[] };

const MOST_AT_ONCE = 100;

const addressOf = ({ topic, partition, position }: DeadLetter) => ({ topic, partition, position });
const nameOf = ({ topic, partition, position }: DeadLetter) => `${topic} ${partition} ${position}`;

export function DeadLetters() {
  const found = useSignal<Answer | null>(null);
  const problem = useSignal<string | null>(null);
  const done = useSignal("");
  const load = (after?: string) => read<Answer>(`/api/dead-letters?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`).then(
    (answer) => { found.value = { ...answer, dead_letters: [...(after ? found.value?.dead_letters ?? [] : []), ...answer.dead_letters] }; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, []);
  const again = async (letters: object[]) => {
    try {
      const { sent, problems } = await send<Sent>("/api/dead-letters/retry", { dead_letters: letters });
      done.value = text("sentAgain", { n: number(sent) });
      problem.value = problems[0] ? [problems[0].field, problems[0].reason].filter(Boolean).join(": ") : null;
    } catch (error) {
      problem.value = reasonOf(error);
      return;
    }
    const left = problem.value;
    await load();
    problem.value ??= left;
  };
  const letters = found.value?.dead_letters ?? [];
  return (
    <section class="part" aria-labelledby="dead-letters">
      <h3 id="dead-letters">{text("deadLetters")}</h3>
      <p class="soft">{text("deadLettersAbout")}</p>
      <p role="status">{done.value}</p>
      {problem.value && <p class="wrong" role="alert" dir="auto">{problem.value}</p>}
      {found.value && !letters.length && <p class="up">{text("noDeadLetters")}</p>}
      {letters.length > 1 && <p><button type="button" onClick={() => void again(letters.slice(0, MOST_AT_ONCE).map(addressOf))}>{text("sendAllAgain")}</button></p>}
      <ul class="arrivals">{letters.map((each) => <OneDeadLetter key={nameOf(each)} letter={each} again={again} />)}</ul>
      {found.value?.after && <p><button type="button" onClick={() => void load(found.value?.after ?? "")}>{text("more")}</button></p>}
    </section>
  );
}

function OneDeadLetter({ letter, again }: { letter: DeadLetter; again: (letters: object[]) => Promise<void> }) {
  const corrected = useSignal(letter.text ?? "");
  const isChanged = corrected.value !== (letter.text ?? "");
  return (
    <li class="arrival refused">
      <p><code dir="ltr">{nameOf(letter)}</code> {letter.key && <bdi class="who soft">{letter.key}</bdi>}</p>
      <p class="wrong" dir="auto">{letter.field && <><code dir="ltr">{letter.field}</code>: </>}{letter.reason}</p>
      <details><summary>{text("recordAndCorrection")} <span class="soft">{text("inBytes", { n: number(letter.bytes) })}</span></summary>
        {letter.text === null ? <p class="soft">{text("noText")}</p> : (
          <textarea dir="ltr" rows={5} aria-label={text("recordAndCorrection")} value={corrected.value} onInput={(event) => { corrected.value = event.currentTarget.value; }} spellcheck={false} />)}
      </details>
      <p><button type="button" onClick={() => void again([{ ...addressOf(letter), ...(isChanged && { replacement: corrected.value }) }])}>{text(isChanged ? "sendCorrected" : "sendAgain")}</button></p>
    </li>
  );
}
