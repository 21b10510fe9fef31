// Which lines a lead would get by the text, beside those of the published version.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, send } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { number, signed, text, words } from "../text";
import { apiPath, isChanged, isRight, modelName, reasonOf, text as modelText } from "./editing";

type Line = { group: string; rule: string; kind: string; points: number; text: string };
type Score = { total: number; rounded: number; bands: Record<string, string | null>; lines: Line[] };
type Tried = { lead_id: string | number; name: string | null; draft: Score; active: Score | null };
type Candidate = { lead_id: string; name: string | null; company: string | null };

const WAIT_MS = 400;
const MOST_CANDIDATES = 20;

export function TestLead() {
  const candidates = useSignal<Candidate[]>([]);
  const tried = useSignal<Tried | null>(null);
  const failure = useSignal<string | null>(null);
  const lead = query.value.get("lead");

  const search = async (typed: string) => {
    const found = await read<{ leads: Candidate[] }>(`/api/leads?limit=${MOST_CANDIDATES}&q=${encodeURIComponent(typed)}`).catch(() => null);
    if (found) candidates.value = found.leads;
  };
  useEffect(() => { void search(""); }, []);
  useEffect(() => {
    if (!lead || !isRight.value) return undefined;
    let isCurrent = true;
    const timer = setTimeout(() => {
      send<Tried>(apiPath("/test"), { text: modelText.value, lead_id: lead }).then(
        (answer) => { if (isCurrent) { tried.value = answer; failure.value = null; } },
        (error) => { if (isCurrent) { tried.value = null; failure.value = reasonOf(error); } },
      );
    }, WAIT_MS);
    return () => { isCurrent = false; clearTimeout(timer); };
  }, [lead, modelText.value, isRight.value, modelName.value]);

  const choose = (value: string) => {
    const match = candidates.value.find((each) => nameOf(each) === value);
    if (match) navigate(withQuery({ lead: match.lead_id }), true);
    else void search(value);
  };
  return (
    <section class="part" aria-labelledby="test-lead">
      <h3 id="test-lead">{text("testLead")}</h3>
      <p class="test-lead"><label for="lead-to-test">{text("lead")}</label>
        <input type="search" id="lead-to-test" list="leads-to-test" autocomplete="off" maxLength={320} placeholder={text("searchHint")}
          onInput={(event) => choose(event.currentTarget.value)}
          onKeyDown={(event) => { if (event.key === "Enter" && event.currentTarget.value.trim()) navigate(withQuery({ lead: candidates.value[0]?.lead_id ?? event.currentTarget.value.trim() }), true); }} />
        <datalist id="leads-to-test">{candidates.value.map((each) => <option key={each.lead_id} value={nameOf(each)} />)}</datalist></p>
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
      {!lead && <p class="soft">{text("testLeadHint")}</p>}
      {tried.value && lead && <Lines tried={tried.value} />}
    </section>
  );
}

const nameOf = (lead: Candidate): string => `${lead.name ?? lead.company ?? ""} (${lead.lead_id})`.trim();

function Lines({ tried }: { tried: Tried }) {
  const { draft, active } = tried;
  const before = new Map(active?.lines.map((line) => [`${line.group} ${line.rule} ${line.kind}`, line.points]));
  const isCompared = isChanged.value && active !== null;
  const lines = draft.lines.filter((line) => line.points || before.get(`${line.group} ${line.rule} ${line.kind}`));
  return <>
    <p><a href={leadAddress(String(tried.lead_id))} dir="auto">{tried.name ?? tried.lead_id}</a>{": "}
      <b>{number(draft.rounded)}</b> {Object.values(draft.bands).filter(Boolean).map((band) => words(band ?? "")).join(", ")}
      {isCompared && <span class="soft"> · {text("published")}: {number(active.rounded)} {Object.values(active.bands).filter(Boolean).map((band) => words(band ?? "")).join(", ")}</span>}</p>
    {lines.length === 0 ? <p class="soft">{text("noPoints")}</p> : (
      <div class="wide"><table>
        <caption class="unseen">{text("testLead")}</caption>
        <thead><tr><th scope="col">{text("ruleName")}</th>{isCompared && <th scope="col" class="points">{text("before")}</th>}<th scope="col" class="points">{text("points")}</th></tr></thead>
        <tbody>{lines.map((line) => {
          const was = before.get(`${line.group} ${line.rule} ${line.kind}`) ?? 0;
          return (
            <tr key={`${line.group} ${line.rule} ${line.kind}`} class={isCompared && was !== line.points ? "differs" : undefined}>
              <th scope="row"><bdi>{line.text || line.rule || words(line.kind)}</bdi></th>
              {isCompared && <td class="points">{signed(was)}</td>}
              <td class={`points ${line.points < 0 ? "down" : "up"}`}>{signed(line.points)}</td>
            </tr>
          );
        })}</tbody>
      </table></div>
    )}
  </>;
}
