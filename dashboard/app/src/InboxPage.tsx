// Messages of workflows to the people of the tenant, and which of them are read: the page at /inbox.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { may, person, read, send } from "./api";
import { readUnread, unread } from "./Bell";
import { follow } from "./live";
import { leadAddress, navigate, query, withQuery } from "./route";
import { ago, exactly, number, text } from "./text";

type Message = { id: number; title: string; message: string; lead: string | number; created_at: string; read: boolean; read_by: string | null };

export default function InboxPage() {
  const messages = useSignal<readonly Message[] | null>(null);
  const problem = useSignal<string | null>(null);
  const onlyUnread = query.value.get("unread") === "true";
  const load = async () => {
    try {
      messages.value = (await read<{ notifications: Message[] }>(`/api/notifications?limit=100&unread=${onlyUnread}`)).notifications;
      problem.value = null;
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
    void readUnread();
  };
  const change = async (path: string) => {
    try {
      await send(path, { by: person.value?.email ?? null });
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
      return;
    }
    void load();
  };
  useEffect(() => {
    void load();
    return follow((changes) => { if (!changes || changes.notifications.length) void load(); });
  }, [onlyUnread]);
  useEffect(() => { document.title = `${text("inbox")} · Leadstream`; });
  const found = messages.value;
  return (
    <section class="card inbox">
      <h2>{text("inbox")}</h2>
      <p class="soft">{text("unread", { n: number(unread.value) })}</p>
      <div class="filters">
        <label class="tick"><input type="checkbox" checked={onlyUnread} onChange={(event) => navigate(withQuery({ unread: event.currentTarget.checked ? "true" : null }), true)} /><span>{text("onlyUnread")}</span></label>
        {may("write") && unread.value > 0 && <button type="button" onClick={() => void change("/api/notifications/read")}>{text("markAllRead")}</button>}
      </div>
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
      {!found && !problem.value && <p role="status">{text("loading")}</p>}
      {found?.length === 0 && <p class="soft">{text("noMessages")}</p>}
      <ul class="entries">{found?.map((each) => (
        <li class="entry" key={each.id}>
          <time dateTime={each.created_at} title={exactly(each.created_at)}>{ago(each.created_at)}</time>
          <div>
            <p class={each.read ? undefined : "unread"} dir="auto">{each.title}</p>
            <p dir="auto">{each.message}</p>
            <p class="why"><a href={leadAddress(String(each.lead))}>{text("open")}</a>{each.read_by && <> <bdi>{text("readBy", { name: each.read_by })}</bdi></>}</p>
            {may("write") && <button type="button" onClick={() => void change(`/api/notifications/${each.id}/${each.read ? "unread" : "read"}`)}>{text(each.read ? "markUnread" : "markRead")}</button>}
          </div>
        </li>
      ))}</ul>
    </section>
  );
}
