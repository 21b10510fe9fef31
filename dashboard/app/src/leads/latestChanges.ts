// The log of changes beside the list: what has come while the page is open, and before that the last rise of each lead in it.

import type { ScoreChange } from "../live";
import { eventName, ownName } from "../text";
import { bandOf, type Reason } from "./lead";

export type LatestChange = { leadId: string; at: string; change: number; because: string; band: string | null };

const MOST = 30;

export function latestChanges(live: readonly ScoreChange[], reasons: ReadonlyMap<string, Reason>): LatestChange[] {
  const came = live.map((each) => ({ leadId: each.lead_id, at: each.at, change: each.change, because: becauseOf(each), band: bandOf(each.bands) }));
  const seen = new Set(came.map((each) => `${each.leadId} ${Date.parse(each.at)}`));
  const before = [...reasons].flatMap(([leadId, { gain, event }]) => {
    if (!gain || seen.has(`${leadId} ${Date.parse(gain.at)}`)) return [];
    const isOfEvent = event !== null && Date.parse(event.occurred_at) === Date.parse(gain.at);
    return [{ leadId, at: gain.at, change: gain.change, because: isOfEvent ? eventName(event.type, event.name) : ownName(gain.rule), band: null }];
  });
  return [...came, ...before].sort((left, right) => Date.parse(right.at) - Date.parse(left.at)).slice(0, MOST);
}

/** The rule that gave most of it. */
function becauseOf({ lines }: ScoreChange): string {
  const [first, ...others] = lines;
  if (!first) return "";
  return ownName(others.reduce((best, line) => (Math.abs(line.points) > Math.abs(best.points) ? line : best), first).rule);
}
