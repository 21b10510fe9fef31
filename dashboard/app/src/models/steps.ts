// Long work on the server: lines of progress, and at last the result (NDJSON). Whoever aborts ends the work there, too.

import { keyHeaders, person, Refused } from "../api";

export type Progress = { done: number; of: number };

export async function readSteps<T>(path: string, body: unknown, stop: AbortSignal, progress: (step: Progress) => void): Promise<T> {
  const csrf = person.value && { "X-CSRF-Token": person.value.csrf_token };
  const headers = { ...keyHeaders(), ...csrf, "Content-Type": "application/json", Accept: "application/x-ndjson" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: stop });
  if (!response.ok || !response.body) {
    const answer = await response.json().catch(() => null);
    throw new Refused(response.status, answer?.error?.reason ?? `the server answered ${response.status}`, answer?.error?.field);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  let last: T | null = null;
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop() ?? "";
    for (const line of lines.filter(Boolean)) {
      const step = JSON.parse(line);
      if (step.error) throw new Refused(422, step.error.reason, step.error.field);
      if ("done" in step && "of" in step) progress(step);
      else last = step;
    }
    if (done) break;
  }
  if (last === null) throw new Refused(500, "the answer has no result");
  return last;
}
