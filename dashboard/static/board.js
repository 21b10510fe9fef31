// The lead board. It reads /api/leads every two seconds and shows what moved; everything that came
// from outside goes into the page as text, never as markup.

const REFRESH_MS = 2000;
const PAGE = 50;
const MOST = 500;
const SHOWN_MS = 6000;
const TEMPERATURES = {
  burning: ["🔥", "Burning"],
  hot: ["🌶️", "Hot"],
  warm: ["☀️", "Warm"],
  cold: ["❄️", "Cold"],
};
const NAMES = ["name", "first_name", "last_name"]; // the panel's title says them
// What somebody typed becomes a link only if it is an address and nothing else: no "?cc=", no "*21*".
const REACHED_BY = {
  phone: { form: /^\+[1-9][0-9]{6,14}$/, link: "tel:" },
  email: { form: /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$/, link: "mailto:" },
};
const KINDS = { limit: "limit of the score", decay: "decay", mean: "mean of the visits" };
const MOTION = !matchMedia("(prefers-reduced-motion: reduce)").matches;

const by = (id) => document.getElementById(id);
const BOARD_MODEL = "temperature";
const SESSION_MODEL = "web_session";
const view = { q: "", model: BOARD_MODEL, anonymous: null, band: "", limit: PAGE, lead: null, asOf: null };
const rows = new Map(); // lead id -> its element, what it showed, the running movement
let sequence = 0;
let shownTag = null; // names the state of the lead that the panel shows
let clockSkew = 0;

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function ask(path, tag = null) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(tag && { "If-None-Match": tag }) };
  const response = await fetch(path, { headers, signal: AbortSignal.timeout(15000) });
  if (response.status === 304) return null;
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer?.error?.reason ?? `the server answered ${response.status}`);
  return { ...answer, tag: response.headers.get("ETag") };
}

// Words

const signed = (points) => `${points < 0 ? "−" : "+"}${number(Math.abs(points))}`;
const number = (points) => String(Math.round(points * 100) / 100);
const direction = (points) => (points < 0 ? "down" : "up");
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
const words = (text) => String(text).replaceAll("_", " ").replace(/\b(qr|sms)\b/, (found) => found.toUpperCase());

function ago(moment) {
  if (!moment) return "never";
  const seconds = Math.max(0, (Date.now() + clockSkew - Date.parse(moment)) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 86400 * 60) return plural(Math.floor(seconds / 86400), "day", "days") + " ago";
  return new Date(moment).toLocaleDateString(undefined, { dateStyle: "medium" });
}

const exactly = (moment) => new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
const time = (moment) => el("time", { datetime: moment, title: exactly(moment) }, ago(moment));

function shown(value) {
  if (Array.isArray(value)) return value.join(", ");
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? value.toLocaleString() : String(value);
}

function factOf([name, value]) {
  const way = typeof value === "string" ? REACHED_BY[name] : undefined;
  return [words(name), way?.form.test(value) ? el("a", { href: way.link + value }, value) : shown(value)];
}

function badge(band) {
  if (!band) return el("span", { class: "badge" }, "–");
  const [emoji, label] = TEMPERATURES[band] ?? ["", words(band)];
  const known = band in TEMPERATURES ? ` ${band}` : "";
  return el("span", { class: `badge${known}` }, emoji ? el("span", { "aria-hidden": "true" }, emoji) : null, label);
}

const titleOf = (lead) => lead.name || lead.email || lead.phone || (lead.identified ? lead.lead_id : `Visitor ${lead.lead_id.replace(/^anon:/, "")}`);
const bandOf = (bands) => Object.values(bands ?? {}).find((band) => band) ?? null;

const count = (sign, times, one, many) => el("span", { class: times ? null : "none" }, `${sign} ${plural(times, one, many)}`);

function countsOf(lead) {
  if (view.model === SESSION_MODEL || !lead.identified) {
    return [count("👣", lead.sessions, "visit", "visits"), count("📄", lead.page_views, "page", "pages")];
  }
  return [
    count("📱", lead.qr_scan_count, "scan", "scans"),
    count("📄", lead.catalog_views, "view", "views"),
    count("💬", lead.messages_count, "msg", "msgs"),
  ];
}

// The list

function rowOf(lead) {
  const score = lead.scores[view.model];
  const total = score ? score.rounded : 0;
  const known = rows.get(lead.lead_id);
  const element = known?.element ?? el("li", { class: "lead" });
  const seen = known?.model === view.model ? known : null;
  const moved = seen ? total - seen.total : 0;
  const movement = moved ? { points: moved, until: Date.now() + SHOWN_MS } : seen?.movement;
  const fresh = movement && movement.until > Date.now() ? movement : null;
  const name = titleOf(lead);
  const contact = [lead.phone, lead.email].filter((each) => each && each !== name);
  if (!contact.length && lead.stage && lead.stage !== "new") contact.push(words(lead.stage));
  element.dataset.id = lead.lead_id;
  element.setAttribute("aria-current", String(view.lead === lead.lead_id));
  const hadFocus = element.contains(document.activeElement);
  element.replaceChildren(
    badge(score ? bandOf(score.bands) : null),
    el("div", { class: "who" },
      el("div", { class: "name" },
        el("button", { class: "open", type: "button", dir: "auto", onclick: () => go(lead.lead_id) }, name),
        lead.do_not_score
          ? el("span", { class: "score", title: "does not wish to be scored" }, "not scored")
          : el("span", { class: "score", "aria-label": `score ${total}` }, `[${total}]`),
        fresh ? el("span", { class: `delta ${direction(fresh.points)}` }, `${fresh.points < 0 ? "▼" : "▲"} ${signed(fresh.points)}`) : null),
      el("div", { class: "sub" }, contact.join(" · ") || "\u00a0")),
    el("div", { class: "counts" }, ...countsOf(lead)),
    el("div", { class: "ago" }, lead.last_interaction_at ? time(lead.last_interaction_at) : ""),
  );
  if (hadFocus) element.querySelector(".open").focus({ preventScroll: true });
  if (moved) {
    element.classList.add("moved");
    setTimeout(() => element.classList.remove("moved"), 700);
  }
  rows.set(lead.lead_id, { element, total, model: view.model, movement: fresh });
  return element;
}

function showLeads(answer) {
  clockSkew = Date.parse(answer.as_of) - Date.now();
  const list = by("leads");
  const before = new Map([...list.children].map((each) => [each, each.getBoundingClientRect().top]));
  const elements = answer.leads.map(rowOf);
  if (elements.some((each, index) => list.children[index] !== each) || list.children.length !== elements.length) {
    list.replaceChildren(...elements);
  }
  if (MOTION) elements.forEach((each) => slide(each, before.get(each)));
  const present = new Set(answer.leads.map((lead) => lead.lead_id));
  for (const id of rows.keys()) if (!present.has(id)) rows.delete(id);
  by("more").hidden = answer.next_offset === null;
  by("more").disabled = view.limit >= MOST;
  by("more").textContent = view.limit >= MOST ? `The first ${MOST} are shown: search to find others` : "Show more";
  showModels(answer.models);
  by("anonymous").checked = answer.includes_anonymous;
  by("nobody").hidden = view.anonymous !== null || !answer.includes_anonymous || !answer.leads.length;
  showEmpty(answer.leads.length === 0);
}

function slide(element, from) {
  if (from === undefined) return;
  const by = from - element.getBoundingClientRect().top;
  if (Math.abs(by) > 1) element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 450, easing: "ease-out" });
}

function showModels(models) {
  const select = by("model");
  const names = models.length ? models : [view.model];
  if (!names.includes(view.model)) { // it was retired
    change({ model: names[0], band: "" });
    return;
  }
  if ([...select.options].map((each) => each.value).join() === names.join()) {
    select.value = view.model;
    return;
  }
  select.replaceChildren(...names.map((name) => el("option", { value: name }, words(name))));
  select.value = view.model;
}

function showBands() {
  const choices = [["", "All"], ...Object.entries(TEMPERATURES).map(([band, [emoji, label]]) => [band, `${emoji} ${label}`])];
  by("bands").hidden = view.model !== BOARD_MODEL;
  by("bands").replaceChildren(...choices.map(([band, label]) =>
    el("button", { type: "button", "aria-pressed": String(view.band === band), onclick: () => change({ band }) }, label)));
}

function showEmpty(nothing) {
  by("empty").hidden = !nothing;
  if (!nothing) return;
  const narrowed = view.q || view.band || view.anonymous === false;
  by("empty-title").textContent = narrowed ? "No lead matches" : "No leads yet";
  by("empty-text").textContent = narrowed
    ? "Change the search, the temperature, or include anonymous visitors."
    : "Scores appear here as soon as somebody does something. Send the first event:";
  by("empty-code").hidden = by("copy").hidden = Boolean(narrowed);
  const event = JSON.stringify({ type: "qr_scanned", lead_id: "ahmad", source: "telegram" });
  by("curl").textContent = `curl ${location.origin}/v1/events \\\n  -H 'Content-Type: application/json' \\\n  -d '${event}'`;
}

// One lead

function go(id) {
  location.hash = id === null ? "" : `lead=${encodeURIComponent(id)}`;
}

function route() {
  if (location.hash === "#visitors") change({ anonymous: true, model: SESSION_MODEL, band: "" });
  const found = location.hash.match(/^#lead=(.+)$/);
  let id = null;
  try { id = found ? decodeURIComponent(found[1]) : null; } catch { id = null; }
  const left = view.lead;
  view.lead = id;
  shownTag = null;
  for (const [each, { element }] of rows) element.setAttribute("aria-current", String(each === id));
  by("panel").hidden = id === null;
  document.body.classList.toggle("reading", id !== null);
  if (id !== null) {
    by("panel-title").textContent = id;
    by("panel-body").replaceChildren(el("p", { class: "muted" }, "Loading"));
    by("panel-title").focus();
    refreshDetail();
  } else if (left) rows.get(left)?.element.querySelector(".open")?.focus();
}

async function refreshDetail() {
  const id = view.lead;
  if (id === null) return;
  try {
    const detail = await ask(`/api/leads/${encodeURIComponent(id)}`, shownTag);
    if (view.lead !== id) return;
    if (detail) showDetail(detail);
    else for (const each of document.querySelectorAll("#panel time")) each.textContent = ago(each.dateTime);
  } catch (error) {
    if (view.lead === id && error.status === 404) by("panel-body").replaceChildren(el("p", {}, "This lead is not known."));
    else if (view.lead === id && !shownTag) by("panel-body").replaceChildren(el("p", {}, error.message));
  }
}

function showDetail(detail) {
  const { lead, tag } = detail;
  shownTag = tag;
  const opened = new Map([...document.querySelectorAll("#panel details")].map((each) => [each.dataset.model, each.open]));
  by("panel-title").textContent = titleOf(lead);
  const profile = Object.entries(detail.profile).filter(([name]) => !NAMES.includes(name));
  const facts = [
    ...profile.filter(([name]) => name in REACHED_BY).map(factOf),
    ["Stage", words(lead.stage)],
    ["Last interaction", lead.last_interaction_at ? time(lead.last_interaction_at) : "never"],
    ...profile.filter(([name]) => !(name in REACHED_BY)).map(factOf),
    ["Lead", lead.lead_id],
  ];
  by("panel-body").replaceChildren(
    detail.merged_into ? el("p", { class: "notice" }, "Merged into ", el("a", { href: `#lead=${encodeURIComponent(detail.merged_into)}` }, detail.merged_into)) : "",
    el("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", { dir: "auto" }, value)])),
    el("h3", {}, "Scores"),
    ...Object.entries(detail.scores).sort(([a], [b]) => (b === view.model) - (a === view.model))
      .map(([model, score]) => modelOf(model, score, opened.get(model) ?? model === view.model)),
    detail.sessions.length ? el("h3", {}, "Visits") : "",
    ...detail.sessions.map(sessionOf),
    el("h3", {}, "What happened"),
    detail.ledger.length ? el("ol", { class: "entries" }, ...grouped(detail.ledger).map(entryOf)) : el("p", { class: "muted" }, "No score has changed yet."),
    detail.workflows.length ? el("h3", {}, "Workflows") : "",
    detail.workflows.length ? el("ol", { class: "entries" }, ...detail.workflows.map(executionOf)) : "",
    el("h3", {}, "Known as"),
    el("ul", { class: "entries" }, ...detail.identities.map((each) => el("li", { class: "entry" },
      el("span", { class: "muted" }, each.kind), el("p", {}, each.name)))),
  );
}

// What each rule gives after its own cap, which the evidence names.
function netted(lines) {
  const net = [];
  for (const line of lines) {
    const capped = line.kind === "rule cap" && net.find((each) => each.group === line.group && each.rule === line.rule);
    if (capped) capped.points += line.points;
    else net.push({ ...line });
  }
  return net.filter((line) => Math.abs(line.points) >= 0.005);
}

function modelOf(model, score, open) {
  const groups = new Map();
  for (const line of netted(score.lines)) groups.set(line.group, [...(groups.get(line.group) ?? []), line]);
  const body = [...groups].flatMap(([group, lines]) => [
    el("tr", {}, el("th", { class: "group", scope: "colgroup" }, group ? words(group) : "In all"),
      el("td", { class: "points" }, number(lines.reduce((sum, line) => sum + line.points, 0)))),
    ...lines.map((line) => el("tr", {},
      el("th", { scope: "row" }, line.kind === "points" ? line.rule : el("span", { class: "kind" }, nameOf(line)), evidenceOf(line)),
      el("td", { class: `points ${direction(line.points)}` }, signed(line.points)))),
  ]);
  return el("details", { class: "model", "data-model": model, open },
    el("summary", {}, el("b", {}, words(model)), bandOf(score.bands) ? badge(bandOf(score.bands)) : null, el("span", { class: "total" }, number(score.total))),
    body.length ? el("table", {}, el("tbody", {}, ...body)) : el("p", { class: "muted" }, "No points yet."));
}

function nameOf({ group, rule, kind }) {
  if (kind === "points") return rule;
  return kind.endsWith(" cap") ? `cap on ${rule || words(group)}` : KINDS[kind] ?? kind;
}

function evidenceOf(line) {
  if (!line.text) return null;
  const text = line.text.startsWith(`${line.rule}: `) ? line.text.slice(line.rule.length + 2) : line.text;
  return el("span", { class: "evidence" }, words(text));
}

function causeOf(entry) {
  if (entry.event) {
    const { type, about } = entry.event;
    return about ? `${words(type)}: ${about}` : words(type);
  }
  const [kind, ...rest] = entry.caused_by.split(":");
  const [name, version] = rest.slice(-2);
  const told = { due: "time passed", model: `model ${name}, version ${version}, was published`, settings: `settings, version ${version}, were published`, attached: "a visitor was recognised as this lead", detached: "a visitor turned out to be somebody else", redirect: "leads were merged or parted" };
  return told[kind] ?? entry.caused_by;
}

function grouped(ledger) {
  const groups = [];
  for (const entry of ledger) {
    const last = groups.at(-1);
    if (last && last[0].at === entry.at && last[0].caused_by === entry.caused_by) last.push(entry);
    else groups.push([entry]);
  }
  return groups;
}

function entryOf(entries) {
  const main = entries.find((each) => each.model === view.model) ?? entries.find((each) => each.change) ?? entries[0];
  const told = [main, ...entries.filter((each) => each !== main)];
  return el("li", { class: "entry" },
    el("span", { class: main.change ? `change ${direction(main.change)}` : "change" }, main.change ? signed(main.change) : "="),
    el("div", {},
      el("p", {}, causeOf(main)),
      ...told.map((entry) => el("p", { class: "why" },
        entry.change ? `${words(entry.model)} ${number(entry.previous)} → ${number(entry.total)}` : `${words(entry.model)}: ${words(bandOf(entry.bands) ?? number(entry.total))}`,
        entry.change ? ` (${netted(entry.lines).map(lineOf).join(", ")})` : "")),
      time(main.at)));
}

function executionOf(execution) {
  const { workflow_name: name, reason, action_type: action, outcome, executed_at: at } = execution;
  return el("li", { class: "entry" },
    el("span", { class: "change" }, "⚙"),
    el("div", {},
      el("p", { dir: "auto" }, name),
      el("p", { class: "why" }, `${words(action)}: ${outcome}`),
      el("p", { class: "why", dir: "auto" }, reason),
      time(at)));
}

const lineOf = (line) => `${signed(line.points)} ${nameOf(line)}`;

function sessionOf(session) {
  const minutes = Math.floor(session.duration_seconds / 60);
  const length = minutes ? `${minutes} min` : `${Math.round(session.duration_seconds)} s`;
  return el("div", { class: "entry" },
    el("span", { class: "change" }, session.score === null ? "–" : number(session.score)),
    el("div", {},
      el("p", {}, `${length}, ${plural(session.pages, "page", "pages")}, ${plural(session.clicks, "click", "clicks")}`, session.ended ? "" : " (still open)"),
      time(session.started_at)));
}

// The loop

function change(what) {
  Object.assign(view, { limit: PAGE }, what);
  showBands();
  refresh();
}

async function refresh() {
  const mine = ++sequence;
  const query = new URLSearchParams({ sort: view.model, limit: view.limit });
  if (view.q) query.set("q", view.q);
  if (view.anonymous !== null) query.set("include_anonymous", view.anonymous);
  if (view.band && view.model === BOARD_MODEL) query.set("band", view.band);
  try {
    const answer = await ask(`/api/leads?${query}`);
    if (mine !== sequence) return;
    by("gate").hidden = by("notice").hidden = true;
    showLeads(answer);
    tellLive("on", "live");
    await refreshDetail();
  } catch (error) {
    if (mine !== sequence) return;
    if (error.status === 422 && (view.band || view.model !== BOARD_MODEL)) { // perhaps what was chosen was retired
      change({ model: BOARD_MODEL, band: "" });
      return;
    }
    const gated = error.status === 401 || (error.status === 403 && sessionStorage.getItem("token"));
    by("gate").hidden = !gated;
    by("notice").hidden = gated || !(error instanceof Refused);
    by("notice").textContent = error.message;
    tellLive("off", gated ? "locked" : "no answer, trying again");
  }
}

function tellLive(state, text) {
  by("live").className = `live ${state}`;
  if (by("live-text").textContent !== text) by("live-text").textContent = text;
}

// Who has signed in; a token in this tab goes first, and then nobody is shown.
async function showPerson() {
  const answer = await ask("/api/session").catch(() => null);
  by("person").hidden = !answer?.person;
  if (answer?.person) by("person-name").textContent = answer.person.name;
}

async function loop() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((done) => setTimeout(done, REFRESH_MS));
  }
}

let typing = 0;
by("q").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: event.target.value.trim() }), 250);
});
by("controls").addEventListener("submit", (event) => event.preventDefault());
by("model").addEventListener("change", (event) => change({ model: event.target.value, band: "" }));
by("anonymous").addEventListener("change", (event) => change({ anonymous: event.target.checked }));
by("more").addEventListener("click", () => change({ limit: Math.min(view.limit + PAGE, MOST) }));
by("close").addEventListener("click", () => go(null));
by("copy").addEventListener("click", () => navigator.clipboard?.writeText(by("curl").textContent));
by("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", by("token").value.trim());
  by("token").value = "";
  refresh();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.lead !== null) go(null);
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
    event.preventDefault();
    by("q").focus();
  }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
addEventListener("hashchange", route);
showBands();
showPerson();
route();
loop();
