// People who may sign in, and what each may do.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read, send } from "../api";
import { ago, text } from "../text";
import { reasonOf } from "../workflows/workflow";

type User = { id: string; email: string; name: string; role: string; disabled_at: string | null; last_signed_in_at: string | null };

const ROLES = ["viewer", "sales", "marketer", "admin"] as const;

export function People() {
  const users = useSignal<readonly User[] | null>(null);
  const problem = useSignal<string | null>(null);
  const password = useSignal<string | null>(null);
  const load = () => read<{ users: User[] }>("/api/users").then((answer) => { users.value = answer.users; problem.value = null; }, (error) => { problem.value = reasonOf(error); });
  useEffect(() => { void load(); }, []);
  const change = async (request: () => Promise<unknown>) => {
    try {
      await request();
    } catch (error) {
      problem.value = reasonOf(error);
      return;
    }
    void load();
  };
  const add = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const fields = new FormData(form);
    void change(async () => {
      const made = await send<{ password?: string }>("/api/users", { email: fields.get("email"), role: fields.get("role"), generate_password: true });
      password.value = made.password ?? null;
      form.reset();
    });
  };
  return (
    <section class="part" aria-labelledby="people">
      <h3 id="people">{text("people")}</h3>
      {problem.value && <p class="wrong" role="alert" dir="auto">{problem.value}</p>}
      {password.value && <p class="notice" role="status">{text("passwordOnce")} <code dir="ltr" class="secret">{password.value}</code> <button type="button" onClick={() => { password.value = null; }}>{text("hide")}</button></p>}
      {users.value?.length === 0 && <p class="soft">{text("noPeople")}</p>}
      {!!users.value?.length && <div class="wide" tabIndex={0} role="group" aria-labelledby="people"><table><thead><tr><th scope="col">{text("person")}</th><th scope="col">{text("role")}</th><th scope="col">{text("lastUsed")}</th><th scope="col"><span class="unseen">{text("disable")}</span></th></tr></thead>
        <tbody>{users.value.map((each) => (
          <tr key={each.id}><th scope="row">{each.name !== each.email && <bdi>{each.name}</bdi>} <span class="soft" dir="ltr">{each.email}</span></th>
            <td><select aria-label={`${text("role")}: ${each.email}`} value={each.role} onChange={(event) => void change(() => send(`/api/users/${each.id}`, { role: event.currentTarget.value }, "PATCH"))}>{ROLES.map((role) => <option key={role} value={role}>{text(`role_${role}`)}</option>)}</select></td>
            <td>{ago(each.last_signed_in_at)}</td>
            <td><button type="button" onClick={() => void change(() => send(`/api/users/${each.id}`, { disabled: !each.disabled_at }, "PATCH"))}>{text(each.disabled_at ? "enable" : "disable")}</button></td></tr>
        ))}</tbody></table></div>}
      <form class="arrival-filters" onSubmit={add}>
        <label class="field"><span>{text("emailAddress")}</span><input type="email" name="email" required maxLength={200} /></label>
        <label class="field"><span>{text("role")}</span><select name="role">{ROLES.map((role) => <option key={role} value={role}>{text(`role_${role}`)}</option>)}</select></label>
        <button type="submit" class="primary">{text("addPerson")}</button>
      </form>
    </section>
  );
}
