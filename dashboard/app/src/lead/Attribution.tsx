// The touchpoints before each conversion of a lead, with their share of it by every model of attribution.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "../api";
import { eventName, exactly, number, text, words } from "../text";

type Touchpoint = { name: string | null; engagement_type: string; channel: string | null; date: string; event_id: string; weight: number };
type Conversion = {
  conversion_type: string; conversion_id: string; conversion_date: string; values: Record<string, number>; attribution_model: string;
  touchpoints: Touchpoint[];
};

const percent = (weight: number): string => `${number(Math.round(weight * 1_000) / 10)} %`;

export function Attribution({ leadId }: { leadId: string }) {
  const found = useSignal<readonly Conversion[] | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    read<{ history: Conversion[] }>(`/api/lead-tracking/attribution/${encodeURIComponent(leadId)}`, stop.signal).then(({ history }) => { found.value = history; }, () => undefined);
    return () => stop.abort();
  }, [leadId]);
  const conversions = new Map<string, Conversion[]>();
  for (const each of found.value ?? []) {
    const key = `${each.conversion_type} ${each.conversion_id}`;
    conversions.set(key, [...(conversions.get(key) ?? []), each]);
  }
  if (!conversions.size) return null;
  return (
    <section class="part"><h3>{text("attribution")}</h3>
      {[...conversions].map(([key, models]) => {
        const first = models[0];
        if (!first) return null;
        return (
          <details key={key} open={conversions.size === 1}>
            <summary>{words(first.conversion_type)}, {exactly(first.conversion_date)} <bdi>{Object.entries(first.values).map(([currency, amount]) => `${number(amount)} ${currency}`).join(", ")}</bdi></summary>
            <div class="wide" tabIndex={0} role="region" aria-label={text("attribution")}><table>
              <thead><tr><th scope="col">{text("touchpoint")}</th>{models.map((each) => <th scope="col" class="points" key={each.attribution_model}>{words(each.attribution_model)}</th>)}</tr></thead>
              <tbody>{first.touchpoints.map((touch, index) => (
                <tr key={touch.event_id}>
                  <th scope="row"><bdi>{eventName(touch.engagement_type)}{touch.name && `: ${touch.name}`}</bdi><span class="evidence"> · {touch.channel}, {exactly(touch.date)}</span></th>
                  {models.map((each) => <td class="points" key={each.attribution_model}>{percent((each.touchpoints.find((other) => other.event_id === touch.event_id) ?? each.touchpoints[index])?.weight ?? 0)}</td>)}
                </tr>
              ))}</tbody>
            </table></div>
          </details>
        );
      })}
    </section>
  );
}
