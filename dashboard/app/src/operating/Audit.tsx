// Who changed what, signed in, or was refused.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { navigate, query, withQuery } from "../route";
import { ago, exactly, text, words } from "../text";
import { reasonOf } from "../workflows/workflow";

type Entry = { id: number; at: string; actor: string; action: string; target: string | null; before: string | null; after: string | null; outcome: string };

const OUTCOMES = ["done", "refused", "failed"];

export function Audit() {
  const entries = useSignal<readonly Entry[]>([]);
  const cursor = useSignal<string | null>(null);
  const problem = useSignal<string | null>(null);
  const outcome = query.value.get("audit") ?? "";
  const load = (from?: string) => read<{ entries: Entry[]; cursor: string | null }>(`/api/audit?limit=30${outcome && `&outcome=${outcome}`}${from ? `&cursor=${from}` : ""}`).then(
    (answer) => { entries.value = [...(from ? entries.value : []), ...answer.entries]; cursor.value = answer.cursor; problem.value = null; },
    (error) => { problem.value = reasonOf(error); },
  );
  useEffect(() => { void load(); }, [outcome]);
  return (
    <section class="part" aria-labelledby="audit">
      <h3 id="audit">{text("auditLog")}</h3>
      <p class="choices"><label for="audit-outcome">{text("outcome")}</label>
        <select id="audit-outcome" value={outcome} onChange={(event) => navigate(withQuery({ audit: event.currentTarget.value || null }), true)}>
          {["", ...OUTCOMES].map((each) => <option key={each} value={each}>{each ? words(each) : text("all")}</option>)}</select></p>
      {problem.value && <p class="wrong" role="alert" dir="auto">{problem.value}</p>}
      {!entries.value.length && !problem.value && <p class="soft">{text("noEntries")}</p>}
      {!!entries.value.length && <div class="wide" tabIndex={0} role="group" aria-labelledby="audit"><table><thead><tr><th scope="col">{text("when")}</th><th scope="col">{text("actor")}</th><th scope="col">{text("action")}</th><th scope="col">{text("outcome")}</th><th scope="col">{text("details")}</th></tr></thead>
        <tbody>{entries.value.map((each) => (
          <tr key={each.id}><td><time dateTime={each.at} title={exactly(each.at)}>{ago(each.at)}</time></td><td dir="ltr">{each.actor}</td><td dir="ltr">{each.action} {each.target && <code>{each.target}</code>}</td>
            <td class={each.outcome === "done" ? undefined : "down"}>{words(each.outcome)}</td><td dir="ltr" class="soft audit-change">{[each.before, each.after].filter(Boolean).join(" → ")}</td></tr>
        ))}</tbody></table></div>}
      {cursor.value && <p><button type="button" onClick={() => void load(cursor.value ?? "")}>{text("older")}</button></p>}
    </section>
  );
}
