import { number, text } from "../text";
import type { Lead, Score } from "./lead";

/** The rounded score. A lead that objects to profiling has none, which is not 0. */
export function Total({ lead, score }: { lead: Pick<Lead, "do_not_score">; score: Score | undefined }) {
  return lead.do_not_score
    ? <span class="score" title={text("notScoredWhy")}>{text("notScored")}</span>
    : <span class="score">[{number(score?.rounded ?? 0)}]</span>;
}
