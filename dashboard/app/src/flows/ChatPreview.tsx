// The real chat widget on the draft. It runs in an empty frame whose requests come here instead of to the chat's API, so nothing is
// recorded: the server says what the chat would say to everything that was done so far.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Refused, send } from "../api";
import { language, number, signed, text, words } from "../text";
import { type Flow, writtenText } from "./flow";

type Step = Record<string, unknown>;
type Line = { rule: string; points: number; text: string };
type Previewed = {
  flow: Record<string, unknown>; products: unknown[]; cta_options: unknown[]; events: { type: string; event_id: string; text?: string }[];
  score: { rounded: number; bands: Record<string, string>; lines: Line[] };
};

const ENDPOINT = "/preview-of-the-chat/";
const SESSION = "preview";

export function ChatPreview({ model, now }: { model: string; now: Flow }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const shown = useSignal<Previewed | null>(null);
  const problem = useSignal<string | null>(null);
  const spoken = useSignal<string | null>(null);
  const variant = useSignal<string | null>(null);
  const runs = useSignal(0);
  const draft = writtenText.value;
  const chosen = spoken.value !== null && now.languages.includes(spoken.value) ? spoken.value : now.languages[0] ?? "en";
  useEffect(() => {
    const window = frame.current?.contentWindow as (Window & typeof globalThis) | null;
    if (!window || !draft) return undefined;
    const stop = { is: false };
    const ask = async (steps: Step[], language: string | null) => {
      const answer = await send<Previewed>(`/api/flows/${encodeURIComponent(model)}/preview`, { text: draft, steps, language });
      if (!stop.is) { shown.value = answer; problem.value = null; }
      return answer;
    };
    const begun = start(window, chosen, variant.value, ask);
    begun.catch((error) => { if (!stop.is) problem.value = error instanceof Refused ? error.message : text("off"); });
    return () => { stop.is = true; };
  }, [draft, chosen, variant.value, runs.value, model]);
  return (
    <section class="part preview" aria-labelledby="preview">
      <h3 id="preview">{text("flowPreview")}</h3>
      <p class="soft">{text("flowPreviewHint")}</p>
      <p class="choices">
        {now.languages.length > 1 && <label class="field">{text("language")} <select value={chosen} onChange={(event) => { spoken.value = event.currentTarget.value; }}>{now.languages.map((each) => <option key={each} value={each}>{each}</option>)}</select></label>}
        {Object.keys(now.greeting.variants).length > 0 && <label class="field">{text("flowGreeting")} <select value={variant.value ?? ""} onChange={(event) => { variant.value = event.currentTarget.value || null; }}>
          <option value="">{text("flowNoVariant")}</option>{Object.keys(now.greeting.variants).map((each) => <option key={each} value={each}>{each}</option>)}</select></label>}
        <button type="button" onClick={() => { runs.value += 1; }}>{text("flowAgain")}</button></p>
      {problem.value && <p class="wrong" role="alert">{problem.value}</p>}
      <iframe key={`${draft} ${chosen} ${variant.value} ${runs.value} ${language.value}`} ref={frame} class="chat-frame" title={text("flowPreview")} />
      {shown.value && <Score shown={shown.value} />}
    </section>
  );
}

function Score({ shown }: { shown: Previewed }) {
  return (
    <div role="status">
      <p><b>{text("score", { n: number(shown.score.rounded) })}</b>{Object.values(shown.score.bands).map((each) => <span class="band" key={each}>{each}</span>)}</p>
      <ul class="entries">{shown.score.lines.map((each) => <li key={each.text}><span class="gain">{signed(each.points)}</span> <bdi>{each.rule || each.text}</bdi></li>)}</ul>
      <details><summary>{text("flowEvents", { n: number(shown.events.length) })}</summary>
        <ul class="entries">{shown.events.map((each) => <li key={each.event_id}>{words(each.type)}{each.text && <>: <bdi>{each.text}</bdi></>}</li>)}</ul></details>
    </div>
  );
}

/** The widget in the frame, open, with an API of ours. */
async function start(window: Window & typeof globalThis, spoken: string, variant: string | null, ask: (steps: Step[], language: string | null) => Promise<Previewed>): Promise<void> {
  await ask([], spoken);
  const steps: Step[] = [];
  const after = async (step: Step, asked: unknown) => {
    steps.push(step);
    try {
      return (await ask(steps, typeof asked === "string" ? asked : spoken)).flow;
    } catch (error) {
      steps.pop();
      throw error;
    }
  };
  const answered = async (address: string, body: Record<string, unknown>): Promise<unknown> => {
    const { session_id: _, language, ...fields } = body;
    switch (address) {
      case "session/start": return { session_id: SESSION };
      case "answer": case "lead/profile": case "behavior": return after(fields, language);
      case "questions": return (await ask(steps, spoken)).flow;
      case "product-menu": return { products: (await ask(steps, spoken)).products };
      case "cta-options": return { cta_options: (await ask(steps, spoken)).cta_options };
      default: return { variant, config: {} };
    }
  };
  window.fetch = async (address, request) => {
    const path = String(address).split(ENDPOINT)[1]?.split("?")[0] ?? "";
    try {
      const body = typeof request?.body === "string" ? JSON.parse(request.body) as Record<string, unknown> : {};
      return new Response(JSON.stringify(await answered(path, body)), { status: 200 });
    } catch (error) {
      return new Response("{}", { status: error instanceof Refused ? error.status : 503 });
    }
  };
  // What the widget keeps is this chat's alone.
  for (const store of ["sessionStorage", "localStorage"] as const) Object.defineProperty(window, store, { value: memoryStorage() });
  const { document } = window;
  document.documentElement.lang = spoken;
  const script = document.createElement("script");
  script.src = "/chat.js";
  script.setAttribute("data-endpoint", ENDPOINT);
  script.setAttribute("data-language", spoken);
  script.addEventListener("load", () => (window as unknown as { leadstreamChat?: { open: () => void } }).leadstreamChat?.open());
  document.body.append(script);
}

function memoryStorage(): Pick<Storage, "getItem" | "setItem"> {
  const kept = new Map<string, string>();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => { kept.set(key, value); } };
}
