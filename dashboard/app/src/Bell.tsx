// How many messages of workflows nobody has read yet.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { read } from "./api";
import { follow } from "./live";
import { path } from "./route";
import { shortNumber, text } from "./text";

export const unread = signal(0);

export async function readUnread(): Promise<void> {
  const answer = await read<{ unread: number }>("/api/notifications?limit=1").catch(() => null);
  if (answer) unread.value = answer.unread;
}

export function Bell() {
  useEffect(() => {
    void readUnread();
    return follow((changes) => { if (!changes || changes.notifications.length) void readUnread(); });
  }, []);
  return (
    <a class="bell" href="/inbox" aria-current={path.value === "/inbox" ? "page" : undefined}>
      <span aria-hidden="true">🔔</span> {text("inbox")}{unread.value > 0 && " "}{unread.value > 0 && <b title={text("unread", { n: unread.value })}>{shortNumber(unread.value)}</b>}
    </a>
  );
}
