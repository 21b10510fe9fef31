// Keys of programs: made, and revoked. A secret is shown once.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, send } from "../api";
import { ago, exactly, text } from "../text";
import { reasonOf } from "../workflows/workflow";

type Key = { id: string; name: string; scopes: string[]; created_at: string; created_by: string; expires_at: string | null; last_used_at: string | null };

const SCOPES = ["collect", "read", "write", "author", "admin"];

export function Keys() {
  const keys = useSignal<readonly Key[] | null>(null);
  const problem = useSignal<string | null>(null);
  const secret = useSignal<string | null>(null);
  const load = () => read<{ keys: Key[] }>("/api/keys").then((answer) => { keys.value = answer.keys; problem.value = null; }, (error) => { problem.value = reasonOf(error); });
  useEffect(() => { void load(); }, []);
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const fields = new FormData(form);
    try {
      secret.value = (await send<{ secret: string }>("/api/keys", { name: fields.get("name"), scopes: fields.getAll("scope") })).secret;
      form.reset();
    } catch (error) {
      problem.value = reasonOf(error);
      return;
    }
    void load();
  };
  const revoke = async (key: Key) => {
    if (!window.confirm(text("revokeSure", { name: key.name }))) return;
    try {
      await send(`/api/keys/${key.id}`, null, "DELETE");
    } catch (error) {
      problem.value = reasonOf(error);
      return;
    }
    void load();
  };
  return (
    <section class="part" aria-labelledby="keys">
      <h3 id="keys">{text("keys")}</h3>
      {problem.value && <p class="wrong" role="alert" dir="auto">{problem.value}</p>}
      {secret.value && <p class="notice" role="status">{text("secretOnce")} <code dir="ltr" class="secret">{secret.value}</code> <button type="button" onClick={() => { secret.value = null; }}>{text("hide")}</button></p>}
      {!!keys.value?.length && <div class="wide" tabIndex={0} role="group" aria-labelledby="keys"><table><thead><tr><th scope="col">{text("keyName")}</th><th scope="col">{text("mayDo")}</th><th scope="col">{text("lastUsed")}</th><th scope="col">{text("expires")}</th><th scope="col"><span class="unseen">{text("revoke")}</span></th></tr></thead>
        <tbody>{keys.value.map((each) => (
          <tr key={each.id}><th scope="row"><bdi>{each.name}</bdi> <code dir="ltr" class="soft">{each.id}</code></th><td dir="ltr">{each.scopes.join(", ")}</td>
            <td>{ago(each.last_used_at)}</td><td>{each.expires_at ? exactly(each.expires_at) : text("never")}</td><td><button type="button" onClick={() => void revoke(each)}>{text("revoke")}</button></td></tr>
        ))}</tbody></table></div>}
      {keys.value?.length === 0 && <p class="soft">{text("noKeys")}</p>}
      <form class="arrival-filters" onSubmit={(event) => void make(event)}>
        <label class="field"><span>{text("keyName")}</span><input type="text" name="name" required maxLength={100} /></label>
        <fieldset class="scopes"><legend>{text("mayDo")}</legend>{SCOPES.map((each) => <label class="tick" key={each}><input type="checkbox" name="scope" value={each} defaultChecked={each === "collect"} /><span dir="ltr">{each}</span></label>)}</fieldset>
        <button type="submit" class="primary">{text("makeKey")}</button>
      </form>
    </section>
  );
}
