// Requests to the gateway. A token of this tab goes first; else the browser sends the session's cookie.

import { signal } from "@preact/signals";
import { zone } from "./text";

export class Refused extends Error {
  constructor(readonly status: number, reason: string, readonly field: string | null = null) {
    super(reason);
  }
}

export type Person = { name: string; email: string; role: string; csrf_token: string };

/** Who has signed in; null: nobody, or a token is used. */
export const person = signal<Person | null>(null);
/** The gateway refuses us: the page asks for a token or a sign-in. */
export const isLocked = signal(false);

const PATIENCE_MS = 15_000;

export const token = (): string | null => sessionStorage.getItem("token");

export function useToken(text: string): void {
  sessionStorage.setItem("token", text);
  isLocked.value = false;
}

export function keyHeaders(): Record<string, string> {
  const key = token();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export async function read<T>(path: string, stop?: AbortSignal): Promise<T> {
  return answered<T>(path, { headers: keyHeaders() }, stop);
}

export async function send<T>(path: string, body: unknown, method = "POST"): Promise<T> {
  const headers = { ...keyHeaders(), "Content-Type": "application/json", ...(person.value && { "X-CSRF-Token": person.value.csrf_token }) };
  return answered<T>(path, { method, headers, body: method === "DELETE" ? null : JSON.stringify(body) });
}

async function answered<T>(path: string, request: RequestInit, stop?: AbortSignal): Promise<T> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const response = await fetch(path, { ...request, signal: stop ? AbortSignal.any([stop, patience]) : patience });
  const answer = await response.json().catch(() => null);
  if (response.ok) {
    if (answer === null && response.status !== 204) throw new TypeError("the answer did not come whole"); // the page has gone on, or the network is away
    isLocked.value = false;
    return answer as T;
  }
  if (response.status === 401 || (response.status === 403 && token() && !request.method)) isLocked.value = true;
  throw new Refused(response.status, answer?.error?.reason ?? `the server answered ${response.status}`, answer?.error?.field);
}

/** What the caller may do: read, write, author ... */
export const scopes = signal<readonly string[]>([]);

export async function readPerson(): Promise<void> {
  const answer = await read<{ person: Person | null; scopes: string[]; zone: string }>("/api/session").catch(() => null);
  person.value = answer?.person ?? null;
  scopes.value = answer?.scopes ?? [];
  if (answer) zone.value = answer.zone;
}

export const may = (scope: string): boolean => scopes.value.includes(scope) || scopes.value.includes("admin");

/** Ends the session, or forgets the token of this tab. */
export async function signOut(): Promise<void> {
  sessionStorage.removeItem("token");
  if (person.value) await fetch("/sign-out", { method: "POST", headers: { "X-CSRF-Token": person.value.csrf_token }, redirect: "manual" });
  location.assign("/sign-in");
}
