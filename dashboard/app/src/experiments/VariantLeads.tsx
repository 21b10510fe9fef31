// The leads behind a number: those of a variant, or of these the ones that reached the goal.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { leadAddress, navigate, query, withQuery } from "../route";
import { ago, exactly, number, text, words } from "../text";
import { EXPERIMENTS, type Experiment, type LeadOfVariant, reasonOf } from "./experiment";

type Page = { count: number; leads: LeadOfVariant[]; next_offset: number | null };

export function VariantLeads({ experiment, goal }: { experiment: Experiment; goal: string }) {
  const leads = useSignal<LeadOfVariant[] | null>(null);
  const count = useSignal(0);
  const next = useSignal<number | null>(null);
  const problem = useSignal<string | null>(null);
  const variant = query.value.get("leads") ?? "";
  const onlyReached = query.value.get("reached") === "yes";
  const load = async (offset = 0) => {
    const filters = new URLSearchParams({ variant, offset: String(offset), ...(onlyReached && { goal }) });
    try {
      const page = await read<Page>(`${EXPERIMENTS}/${encodeURIComponent(experiment.name)}/leads?${filters}`);
      leads.value = offset ? [...leads.value ?? [], ...page.leads] : page.leads;
      count.value = page.count;
      next.value = page.next_offset;
      problem.value = null;
    } catch (error) {
      problem.value = reasonOf(error);
    }
  };
  useEffect(() => { leads.value = null; void load(); }, [experiment.name, variant, onlyReached, goal]);
  return (
    <section class="part" aria-labelledby="variant-leads">
      <h3 id="variant-leads">{text("trialLeadsOf", { variant })} {leads.value && <span class="soft">({number(count.value)})</span>}</h3>
      <p class="choices">
        <label class="tick"><input type="checkbox" checked={onlyReached} onChange={(event) => navigate(withQuery({ reached: event.currentTarget.checked ? "yes" : null }), true)} />{text("trialOnlyReached", { goal: words(goal) })}</label>
        <a href={withQuery({ leads: null, reached: null })}>{text("close")}</a></p>
      {problem.value && <p class="wrong" role="alert">{problem.value} <button type="button" onClick={() => void load()}>{text("tryAgain")}</button></p>}
      {!leads.value && !problem.value && <p class="hint" role="status">{text("loading")}</p>}
      {leads.value?.length === 0 && <p class="soft">{text("trialNoLeads")}</p>}
      {!!leads.value?.length && <div class="wide"><table>
        <thead><tr><th scope="col">{text("lead")}</th><th scope="col">{text("trialFirstSaw")}</th><th scope="col">{text("trialReachedGoals")}</th></tr></thead>
        <tbody>{leads.value.map((each) => (
          <tr key={String(each.lead_id)}>
            <th scope="row"><a href={leadAddress(String(each.lead_id))} dir="auto">{each.name ?? (each.anonymous ? `${text("trialVisitor")} ${String(each.lead_id).slice(-6)}` : String(each.lead_id))}</a>{each.company && <bdi class="soft"> {each.company}</bdi>}</th>
            <td><time dateTime={each.exposed_at} title={exactly(each.exposed_at)}>{ago(each.exposed_at)}</time>{each.saw_several && <span class="soft"> · {text("trialSawSeveral")}</span>}</td>
            <td>{each.goals.map(words).join(", ") || "–"}</td></tr>
        ))}</tbody></table></div>}
      {next.value !== null && <p><button type="button" onClick={() => void load(next.value ?? 0)}>{text("more")}</button></p>}
    </section>
  );
}
