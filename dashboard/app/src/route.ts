// The address as signals: the state of every view is in it. A click on a link of ours changes it without a load.

import { computed, signal } from "@preact/signals";

const address = signal(location.pathname + location.search);

export const path = computed(() => new URL(address.value, location.origin).pathname);
export const query = computed(() => new URL(address.value, location.origin).searchParams);

export function navigate(to: string, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", to);
  address.value = location.pathname + location.search;
}

/** The address of this page with other parameters; an empty one is left out. */
export function withQuery(changes: Record<string, string | null>): string {
  const parameters = new URLSearchParams(query.value);
  for (const [name, value] of Object.entries(changes)) {
    if (value) parameters.set(name, value);
    else parameters.delete(name);
  }
  const text = parameters.toString();
  return path.value + (text && `?${text}`);
}

export const leadAddress = (leadId: string): string => `/leads/${encodeURIComponent(leadId)}`;

/** Whether a page has this address: its own, or one below it. */
export const isUnder = (root: string, pathname: string): boolean => pathname === root || (root !== "/" && pathname.startsWith(`${root}/`));

/** The demo's shop, which tracks its visitors. */
export const isShop = (pathname: string): boolean => isUnder("/demo", pathname);

/** Addresses that this application shows. dashboard/pages.py serves it under the same. */
const ROOTS = ["/", "/leads", "/inbox", "/lead-analytics", "/models", "/workflows", "/experiments", "/flows", "/inspector", "/operations", "/demo"];

/** Addresses of older versions: the panel of a lead, the list of visitors; and those of requirement 4's admin panel. */
export function replaceOldAddress(): void {
  const lead = location.hash.match(/^#lead=(.+)$/)?.[1];
  if (lead) navigate(`/leads/${lead}`, true);
  else if (location.hash === "#visitors") navigate("/?anonymous=true&model=web_session", true);
  else if (/^\/admin\/lead_qualification(\/|$)/.test(location.pathname)) navigate(`/models/rules${location.search}`, true);
  else if (/^\/admin(\/|$)/.test(location.pathname)) navigate(`/models${location.search}`, true);
}

addEventListener("popstate", () => { address.value = location.pathname + location.search; });
addEventListener("hashchange", replaceOldAddress);
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || event.defaultPrevented || link.target || link.origin !== location.origin) return;
  if (link.hash || !ROOTS.some((root) => isUnder(root, link.pathname))) return;
  // Between the shop and our pages the browser loads, so that the shop's scripts see the shop alone.
  if (isShop(link.pathname) !== isShop(location.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
});
