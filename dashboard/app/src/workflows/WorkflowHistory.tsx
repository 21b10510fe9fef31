// What was done to a workflow, by whom and when.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { ago, exactly, number, text, words } from "../text";
import { shownValue } from "./forms";
import { reasonOf, WORKFLOWS } from "./workflow";

type Change = { version: number; at: string; by: string | null; note: string | null; change: string; before: Record<string, unknown> | null; after: Record<string, unknown> | null };

export function WorkflowHistory({ workflow }: { workflow: number }) {
  const changes = useSignal<Change[]>([]);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    read<Change[]>(`${WORKFLOWS}${workflow}/history/`).then((found) => { changes.value = found; }, (error) => { problem.value = reasonOf(error); });
  }, [workflow]);
  return (
    <section class="part">
      <h3>{text("changes")}</h3>
      {problem.value && <p class="wrong" role="alert">{problem.value}</p>}
      <ul class="entries">{changes.value.map((each) => (
        <li class="entry" key={each.version}><time dateTime={each.at} title={exactly(each.at)}>{ago(each.at)}</time>
          <div><p>{words(each.change)} · {text("version")} {number(each.version)} <bdi>{each.by}</bdi>{each.note && <> · <bdi>{each.note}</bdi></>}</p>
            {each.change === "changed" && Object.keys(each.after ?? {}).map((field) => (
              <p class="why" key={field}><bdi>{words(field)}: {shownValue(each.before?.[field])} → {shownValue(each.after?.[field])}</bdi></p>
            ))}</div></li>
      ))}</ul>
    </section>
  );
}
