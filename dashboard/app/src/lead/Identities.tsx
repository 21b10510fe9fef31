// What makes up a lead, and why: the identifier by which each part was recognised, the event that had it, and when. And from whom it was kept apart.

import { leadAddress } from "../route";
import { ago, eventName, exactly, text } from "../text";
import type { Detail } from "./detail";

export function Identities({ identities }: { identities: Detail["identities"] }) {
  return (
    <section class="part"><h3>{text("knownAs")}</h3>
      <ul class="entries">{identities.map((each) => (
        <li class="entry" key={each.identity}><span class="soft">{text(each.kind === "visitor" ? "identityVisitor" : "identityLead")}</span>
          <div><p class="as-sent"><bdi>{each.name}</bdi></p><Why joined={each.joined} />
            {each.kept_apart.map((apart) => <p class="why" key={apart.lead_id}>{text("keptApart")} <a href={leadAddress(apart.lead_id)} dir="auto">{apart.lead_id}</a>{" "}
              (<bdi>{apart.by}</bdi>), <time dateTime={apart.at} title={exactly(apart.at)}>{ago(apart.at)}</time></p>)}</div></li>
      ))}</ul></section>
  );
}

function Why({ joined }: { joined: Detail["identities"][number]["joined"] }) {
  const { by, email, phone, lead_id: other, at, event_type: type } = joined;
  const value = email ?? phone ?? other ?? "";
  return (
    <p class="why joined">{text(`joined_${by}`)}
      {value && " "}{value && (by === "merge" ? <a href={leadAddress(value)} dir="auto">{value}</a> : <bdi>{value}</bdi>)}
      {type && by !== "merge" && <>, {eventName(type)}</>}, <time dateTime={at} title={exactly(at)}>{ago(at)}</time></p>
  );
}
