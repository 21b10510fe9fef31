// Every version with its author, time and reason; what differs between two, by rules; and the way back.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, send } from "../api";
import { navigate, query, withQuery } from "../route";
import { ago, exactly, number, text, words } from "../text";
import { apiPath, author, mayPublish, modelName, openModel, published, reasonOf } from "./editing";

type Listed = { version: number; at: string | null; by: string | null; note: string | null; change: string | null; fire: boolean; retired: boolean; shared: boolean };
type Change = { of: "rule" | "criterion" | "setting"; change: "added" | "removed" | "changed"; name: string; section: string | null; fields: { field: string; before: string | null; after: string | null }[] };
type Compared = { from: number; to: number; diff: string; changes: Change[] };

export type Versioned = { path: (rest: string) => string; current: number | undefined; mayRollBack: boolean; reopen: () => Promise<void> };
const model = (): Versioned => ({ path: (rest) => apiPath(rest), current: published.value?.version, mayRollBack: mayPublish.value, reopen: () => openModel(modelName.value, null, new AbortController().signal) });

/** The versions of the model that is open, or of another text. */
export function Versions({ of = model() }: { of?: Versioned }) {
  const versions = useSignal<Listed[]>([]);
  const next = useSignal<number | null>(null);
  const compared = useSignal<Compared | null>(null);
  const failure = useSignal<string | null>(null);
  const pair = query.value.get("compare");

  const load = async (offset = 0) => {
    const page = await read<{ versions: Listed[]; next_offset: number | null }>(of.path(`/versions?limit=50&offset=${offset}`));
    versions.value = offset ? [...versions.value, ...page.versions] : page.versions;
    next.value = page.next_offset;
  };
  useEffect(() => { load().catch((error) => { failure.value = reasonOf(error); }); }, [of.path(""), of.current]);
  useEffect(() => {
    compared.value = null;
    if (!pair) return;
    read<Compared>(of.path(`/versions?diff=${encodeURIComponent(pair)}`)).then((answer) => { compared.value = answer; failure.value = null; }, (error) => { failure.value = reasonOf(error); });
  }, [pair, of.path("")]);

  const [from, to] = (pair ?? "").split("..").map(Number);
  const choose = (side: "from" | "to", version: number) => {
    const older = side === "from" ? version : from || Math.max(0, version - 1);
    const newer = side === "to" ? version : to || (of.current ?? version);
    navigate(withQuery({ compare: `${older}..${newer}` }), true);
  };
  return (
    <section class="part" aria-labelledby="versions">
      <h3 id="versions">{text("versions")}</h3>
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
      <p class="soft">{text("compareHint")}</p>
      <div class="wide"><table class="versions">
        <thead><tr><th scope="col">{text("compareFrom")}</th><th scope="col">{text("compareTo")}</th><th scope="col">{text("version")}</th><th scope="col">{text("when")}</th><th scope="col">{text("byWhom")}</th><th scope="col">{text("reason")}</th><th scope="col"><span class="unseen">{text("rollBack")}</span></th></tr></thead>
        <tbody>{versions.value.map((each) => (
          <tr key={each.version}>
            {(["from", "to"] as const).map((side) => (
              <td key={side}><input type="radio" name={`compare-${side}`} aria-label={`${text(side === "from" ? "compareFrom" : "compareTo")} ${number(each.version)}`} disabled={each.retired}
                checked={(side === "from" ? from : to) === each.version} onChange={() => choose(side, each.version)} /></td>
            ))}
            <th scope="row">{number(each.version)}{each.version === of.current && <span class="soft"> · {text("active")}</span>}</th>
            <td>{each.at && <time dateTime={each.at} title={exactly(each.at)}>{ago(each.at)}</time>}</td>
            <td dir="auto">{each.by ?? (each.shared ? "Leadstream" : "")}</td>
            <td dir="auto">{[each.note, each.change && words(each.change)].filter(Boolean).join(" · ")}{each.fire && ` · ${text("fired")}`}{each.retired && text("retired")}</td>
            <td>{!each.retired && each.version !== of.current && <RollBack version={each.version} of={of} />}</td>
          </tr>
        ))}</tbody>
      </table></div>
      {next.value !== null && <p><button type="button" onClick={() => void load(next.value ?? 0)}>{text("more")}</button></p>}
      {compared.value && <Difference compared={compared.value} />}
    </section>
  );
}

function RollBack({ version, of }: { version: number; of: Versioned }) {
  const isAsked = useSignal(false);
  const note = useSignal("");
  const failure = useSignal<string | null>(null);
  const go = async () => {
    try {
      await send(of.path("/rollback"), { version, note: note.value.trim() || null, ...(author() && { by: author() }) });
      await of.reopen();
    } catch (error) {
      failure.value = reasonOf(error);
    }
  };
  if (!isAsked.value) {
    return <button type="button" disabled={!of.mayRollBack} title={of.mayRollBack ? undefined : text("mayNotPublish")} onClick={() => { isAsked.value = true; }}>{text("rollBack")}<span class="unseen"> {number(version)}</span></button>;
  }
  return (
    <form class="roll-back" onSubmit={(event) => { event.preventDefault(); void go(); }}>
      <label class="unseen" for={`why-${version}`}>{text("reason")}</label>
      <input id={`why-${version}`} type="text" required maxLength={512} placeholder={text("reason")} autocomplete="off" onInput={(event) => { note.value = event.currentTarget.value; }} />
      <button type="submit" class="primary">{text("rollBackTo", { version: number(version) })}</button>
      <button type="button" onClick={() => { isAsked.value = false; }}>{text("cancel")}</button>
      {failure.value && <p class="wrong" role="alert">{failure.value}</p>}
    </form>
  );
}

function Difference({ compared }: { compared: Compared }) {
  const { changes } = compared;
  return (
    <section class="difference" aria-labelledby="difference">
      <h4 id="difference">{text("difference", { from: number(compared.from), to: number(compared.to) })}</h4>
      {changes.length === 0 && <p class="soft">{text("noDifference")}</p>}
      <ul class="entries">{changes.map((each) => (
        <li key={`${each.of} ${each.section} ${each.name}`}>
          <p><span class={`change-kind ${each.change}`}>{text(`change_${each.change}`)}</span> <b dir="auto">{each.name}</b> <span class="soft">{each.section ? words(each.section) : text("setting")}</span></p>
          {each.change === "changed" && <ul class="fields">{each.fields.map((field) => (
            <li key={field.field}><span class="soft">{words(field.field)}:</span> <bdi><del>{field.before ?? "–"}</del></bdi> → <bdi><ins>{field.after ?? "–"}</ins></bdi></li>
          ))}</ul>}
          {each.change === "added" && <p class="soft"><bdi>{each.fields.filter((field) => field.field !== "name" && field.after !== null).map((field) => `${words(field.field)} ${field.after}`).join(", ")}</bdi></p>}
        </li>
      ))}</ul>
      <details><summary>{text("asText")}</summary><pre tabIndex={0} dir="ltr">{compared.diff.split("\n").map((line, at) => (
        <span key={at} class={line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : undefined}>{line}{"\n"}</span>
      ))}</pre></details>
    </section>
  );
}
