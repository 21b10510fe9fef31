// What the text would change if it were published now: who moves, and how many leads have which score.

import { leadAddress } from "../route";
import { leftToRight, number, signed, text, words } from "../text";
import { Bars } from "./Bars";
import { isChanged, isRight, type Moves, problem, text as modelText, whatIf, whatIfProblem, whatIfProgress } from "./editing";
import { WorkflowsFired } from "./WorkflowsFired";

const MOST_MOVERS = 8;

/** What is known now, in one sentence. */
export function whatIfSentence(): string {
  const last = whatIf.value;
  const progress = whatIfProgress.value;
  if (problem.value) return text("whatIfWaitsForText");
  if (progress === "waiting") return text("whatIfComing");
  if (progress) return text("whatIfProgress", { done: number(progress.done), of: number(progress.of) });
  return whatIfProblem.value ?? (last && last.text === modelText.value ? sentence(last.result.leads) : text("whatIfComing"));
}

export function WhatIfPanel() {
  const last = whatIf.value;
  const isOld = last !== null && last.text !== modelText.value;
  return (
    <section class="part what-if" aria-labelledby="what-if" aria-busy={whatIfProgress.value !== null}>
      <h3 id="what-if">{text("whatIf")}</h3>
      <p class="soft" role="status">{whatIfSentence()}</p>
      {last && <div class={isOld ? "old" : undefined}>
        {isChanged.value && <Movers moves={last.result.leads} />}
        {isChanged.value && last.result.workflows.length > 0 && <><h4>{text("wouldFire")}</h4><WorkflowsFired workflows={last.result.workflows} /></>}
        {last.result.needs_replay && <p class="hint">{text("startsAtZero", { signals: last.result.needs_replay.signals.join(", ") })}</p>}
        {last.result.leads.leads > 0 && <Distribution moves={last.result.leads} isCompared={isChanged.value} />}
      </div>}
    </section>
  );
}

function sentence(moves: Moves): string {
  if (!moves.leads) return text("noLeadsToCompare");
  if (!isChanged.value || !isRight.value) return text("asPublished", { n: number(moves.leads) });
  if (!moves.up && !moves.down) return text("nobodyMoves", { n: number(moves.leads) });
  return text("whoMoves", { n: number(moves.leads), up: number(moves.up), down: number(moves.down), bands: number(moves.change_band) });
}

function Movers({ moves }: { moves: Moves }) {
  if (!moves.movers.length) return null;
  const flows = moves.bands.filter((each) => each.from !== each.to && !each.scale.startsWith("flag"));
  return <>
    {flows.length > 0 && <ul class="flows">{flows.map((each) => (
      <li key={`${each.scale} ${each.from} ${each.to}`}><b>{number(each.leads)}</b> {words(each.from ?? "–")} → {words(each.to ?? "–")}</li>
    ))}</ul>}
    <div class="wide"><table class="movers">
      <caption class="unseen">{text("movers")}</caption>
      <thead><tr><th scope="col">{text("lead")}</th><th scope="col" class="points">{text("before")}</th><th scope="col" class="points">{text("after")}</th><th scope="col">{text("because")}</th></tr></thead>
      <tbody>{moves.movers.slice(0, MOST_MOVERS).map((each) => (
        <tr key={each.lead_id}>
          <th scope="row"><a href={leadAddress(each.lead_id)} dir="auto">{each.name ?? each.lead_id}</a></th>
          <td class="points">{number(each.before)}</td>
          <td class="points"><b class={each.change < 0 ? "down" : "up"}>{number(each.after)}</b></td>
          <td>{each.bands.map((band) => <span class="soft" key={band.scale}>{leftToRight(`${words(band.from ?? "–")} → ${words(band.to ?? "–")}`)} · </span>)}
            <bdi>{each.lines.slice(0, 2).map((line) => `${signed(line.points)} ${line.rule || words(line.kind)}`).join(", ")}</bdi></td>
        </tr>
      ))}</tbody>
    </table></div>
    {moves.movers.length > MOST_MOVERS && <p class="soft">{text("andMore", { n: number(moves.up + moves.down - MOST_MOVERS) })}</p>}
  </>;
}

function Distribution({ moves, isCompared }: { moves: Moves; isCompared: boolean }) {
  const bins = new Map(moves.histogram.map((each) => [each.from, each]));
  const froms = moves.histogram.filter((each) => each.before || each.after).map((each) => each.from);
  const low = Math.min(0, ...froms);
  const high = Math.max(100, ...froms.map((each) => each + 5));
  const bars = [];
  for (let from = low; from < high; from += 5) {
    const bin = bins.get(from);
    bars.push({ label: number(from), values: isCompared ? [bin?.before ?? 0, bin?.after ?? 0] : [bin?.before ?? 0] });
  }
  return <Bars title={text("distribution")} along={text("score5")} series={isCompared ? [text("before"), text("after")] : [text("leadsCount")]} bars={bars} />;
}
