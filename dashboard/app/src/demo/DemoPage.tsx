// The demo: a small shop with the tracking script and the chat, and beside it what sales sees of you, click by click.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { bandOf, BOARD_MODEL } from "../leads/lead";
import { Band } from "../leads/Band";
import { causeOf, type Detail, grouped } from "../lead/detail";
import { follow } from "../live";
import { leadAddress, path } from "../route";
import { ago, number, signed, text, words } from "../text";
import { Shop } from "./Shop";

type Watched = Detail & { engagements: { type: string }[] };

const LOOK_WAIT_MS = 300;
const LOOK_AGAIN_MS = 3_000;
const MOST_SHOWN = 12;
const SEEN_PAGE = "demo-lead-page";

export default function DemoPage() {
  const detail = useSignal<Watched | null>(null);
  useEffect(() => { document.title = `${text("demoShop")} · ${text("demo")}`; });
  useEffect(() => {
    loadScript("/track.js", { formFields: "name, email" });
    loadScript("/chat.js", { title: "YouShop", side: "start" });
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        void readVisitor(stop.signal).then((found) => { if (found) detail.value = found; });
      }, LOOK_WAIT_MS);
    };
    look();
    // Any change may be ours: a visitor who leaves an address becomes a lead with another id.
    const unfollow = follow(look);
    const again = setInterval(look, LOOK_AGAIN_MS);
    return () => { stop.abort(); unfollow(); clearTimeout(timer); clearInterval(again); };
  }, []);
  return (
    <div class="demo">
      <Shop page={path.value} />
      <aside class="watched" aria-label={text("demoYou")}>
        <h2>{text("demoYou")}</h2>
        <Steps detail={detail.value} />
        {detail.value ? <Watching detail={detail.value} /> : <p class="hint" role="status">{text("demoWaiting")}</p>}
      </aside>
    </div>
  );
}

/** The id of this browser's visitor, once the tracking script runs. */
function visitorLead(): string | null {
  const tracker = (window as { leadstream?: ((verb: string) => string | undefined) & { ready?: number } }).leadstream;
  const visitor = tracker?.ready ? tracker("visitor") : null;
  return visitor ? `anon:${visitor}` : null;
}

/** The lead that this visitor is by now. */
async function readVisitor(stop: AbortSignal): Promise<Watched | null> {
  let id = visitorLead();
  for (let followed = 0; id && followed < 5; followed += 1) {
    const found: Watched | null = await read<Watched>(`/api/leads/${encodeURIComponent(id)}`, stop).catch(() => null);
    if (!found?.merged_into) return found;
    id = found.merged_into;
  }
  return null;
}

function loadScript(address: string, options: Record<string, string>) {
  if (document.querySelector(`script[src="${address}"]`)) return;
  const script = document.createElement("script");
  script.src = address;
  script.async = false; // in the order of the calls
  Object.assign(script.dataset, options);
  document.head.append(script);
}

function Steps({ detail }: { detail: Watched | null }) {
  const types = new Set(detail?.engagements.map((each) => each.type));
  const isKnown = !!detail && detail.lead.identified;
  const steps: [boolean, string][] = [
    [types.has("page_viewed"), text("demoStepPage")],
    [types.has("element_clicked"), text("demoStepClick")],
    [types.has("demo_requested"), text("demoStepDemo")],
    [types.has("question_answered"), text("demoStepChat")],
    [isKnown, text("demoStepContact")],
    [sessionStorage.getItem(SEEN_PAGE) === "1", text("demoStepWhy")],
  ];
  const next = steps.findIndex(([done]) => !done);
  return (
    <ol class="steps">{steps.map(([done, what], index) => (
      <li key={what} class={done ? "done" : index === next ? "next" : ""} aria-current={index === next ? "step" : undefined}>
        <span aria-hidden="true">{done ? "✓" : index + 1}</span> {what}{done && <span class="unseen"> ({text("demoDone")})</span>}
      </li>
    ))}</ol>
  );
}

function Watching({ detail }: { detail: Watched }) {
  const scores = Object.entries(detail.scores).filter(([, score]) => score.total);
  scores.sort(([one], [other]) => Number(other === BOARD_MODEL) - Number(one === BOARD_MODEL) || one.localeCompare(other));
  return <>
    <dl class="demo-scores" aria-live="polite">{scores.map(([name, score]) => (
      <div key={name}><dt>{words(name)}</dt><dd><b key={score.rounded} class="moved">{number(score.rounded)}</b> <Band band={bandOf(score.bands)} /></dd></div>
    ))}</dl>
    {scores.length === 0 && <p class="soft">{text("noPoints")}</p>}
    <p><a class="primary" href={leadAddress(detail.lead.lead_id)} onClick={() => sessionStorage.setItem(SEEN_PAGE, "1")}>{text("open")}</a>{" "}
      <a href={detail.lead.identified ? "/" : "/?anonymous=true&model=web_session"}>{text("callList")}</a></p>
    <h3>{text("timeline")}</h3>
    <ol class="entries">{grouped(detail.ledger).slice(0, MOST_SHOWN).map((entries) => {
      const moved = entries.filter((each) => each.change);
      const first = entries[0];
      return first && (
        <li class="entry" key={`${first.at} ${first.caused_by}`}>
          <span class={`change ${(moved[0]?.change ?? 0) < 0 ? "down" : moved[0] ? "up" : ""}`}>{moved[0] ? signed(Math.max(...moved.map((each) => each.change))) : "="}</span>
          <div><p dir="auto">{causeOf(first)}</p>
            <p class="why">{moved.map((each) => `${words(each.model)} ${signed(each.change)}`).join(", ")}</p>
            <time dateTime={first.at}>{ago(first.at)}</time></div>
        </li>
      );
    })}</ol>
  </>;
}
