// A slider that moves a whole page to a past moment. The address has the moment (`as_of`); the key `n` goes back to now.

import { useEffect, useMemo } from "preact/hooks";
import { navigate, withQuery } from "./route";
import { exactly, text } from "./text";

const STEPS = 1_000;
const WAIT_MS = 150;

const backToNow = (): void => navigate(withQuery({ as_of: null }), true);

/** `begin`: ms of the slider's left end; `note` says what is shown of then. */
export function When({ asOf, begin, note }: { asOf: string | null; begin: number; note: string }) {
  const waiting = useMemo<{ timer?: ReturnType<typeof setTimeout> }>(() => ({}), []);
  const end = Date.now();
  const step = asOf ? Math.min(Math.max(Math.round(((Date.parse(asOf) - begin) / Math.max(1, end - begin)) * STEPS), 0), STEPS) : STEPS;
  useEffect(() => {
    if (!asOf) return undefined;
    const onKey = (event: KeyboardEvent) => {
      const field = document.activeElement;
      const isTyping = field instanceof HTMLInputElement ? field.type !== "range" : /^(SELECT|TEXTAREA)$/.test(field?.tagName ?? "");
      if (event.key === "n" && !event.ctrlKey && !event.metaKey && !event.altKey && !isTyping) backToNow();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [asOf]);
  const slide = (event: Event) => {
    const to = Number((event.currentTarget as HTMLInputElement).value);
    clearTimeout(waiting.timer);
    waiting.timer = setTimeout(() => {
      navigate(withQuery({ as_of: to >= STEPS ? null : new Date(begin + ((end - begin) * to) / STEPS).toISOString() }), true);
    }, WAIT_MS);
  };
  return <>
    <label class="when part"><span>{text("asOf")}</span>
      <input type="range" min={0} max={STEPS} value={step} onInput={slide} aria-valuetext={asOf ? exactly(asOf) : text("now")} />
      <b>{asOf ? exactly(asOf) : text("now")}</b></label>
    {asOf && <p class="past" role="status">{note} <button type="button" aria-keyshortcuts="n" onClick={backToNow}>{text("backToNow")} <kbd aria-hidden="true">N</kbd></button></p>}
  </>;
}
