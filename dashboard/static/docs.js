// The API as /openapi.json describes it, and a form to try each operation from. Nothing comes from elsewhere.
// The token stays in this tab, as on the board.

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children.filter((each) => each !== null && each !== undefined && each !== ""));
  return made;
}

const printed = (value) => el("pre", { tabindex: "0" }, el("code", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2)));
const token = document.getElementById("token");
token.value = sessionStorage.getItem("token") ?? "";
token.addEventListener("input", () => sessionStorage.setItem("token", token.value.trim()));

function examplesOf(content = {}) {
  return Object.values(content).flatMap((kind) => [
    ...(kind.example === undefined ? [] : [kind.example]),
    ...Object.values(kind.examples ?? {}).map((each) => each.value),
  ]);
}

// Fields

function typeOf(schema) {
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) return [...new Set(alternatives.map(typeOf))].join(" | ");
  const types = [schema.type ?? []].flat().join(" | ");
  return schema.items ? types.replace("array", `array of ${typeOf(schema.items)}`) : [types, schema.format].filter(Boolean).join(", ");
}

function rowsOf(schema, path = "") {
  const rows = Object.entries(schema.properties ?? {}).flatMap(([name, each]) => [
    el("tr", {}, el("th", { scope: "row" }, `${path}${name}`),
      el("td", { class: "kind" }, `${typeOf(each)}${schema.required?.includes(name) ? "" : ", may be missing"}`), el("td", {}, ...prose(each.description))),
    ...rowsOf(each, `${path}${name}.`),
  ]);
  const inside = [...(schema.anyOf ?? []), ...(schema.items ? [schema.items] : [])].flatMap((each) => rowsOf(each, path));
  const values = typeof schema.additionalProperties === "object" ? rowsOf(schema.additionalProperties, `${path}*.`) : [];
  return [...rows, ...inside, ...values];
}

function fieldsOf(content = {}) {
  const rows = Object.values(content).filter((kind) => kind.schema && !kind.schema.$ref).flatMap((kind) => rowsOf(kind.schema));
  return rows.length ? el("details", {}, el("summary", {}, "Fields"), el("table", { class: "fields" }, el("tbody", {}, ...rows))) : null;
}

// Trying

function curlOf(method, address, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl", ...(method === "GET" ? [] : [`-X ${method}`]), quoted(new URL(address, location).href)];
  if (token.value) parts.push(`-H "Authorization: Bearer $TOKEN"`);
  if (body) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(body)}`);
  return parts.join(" ");
}

// A change by a signed-in browser needs the session's token against forged requests.
async function csrf(method) {
  if (token.value || method === "GET") return {};
  const answer = await fetch("/api/session", { cache: "no-store" }).catch(() => null);
  const session = answer?.ok ? await answer.json() : null;
  return session?.person ? { "X-CSRF-Token": session.person.csrf_token } : {};
}

async function send(method, address, body, result) {
  const headers = { ...(token.value && { Authorization: `Bearer ${token.value.trim()}` }), ...(body && { "Content-Type": "application/json" }), ...(await csrf(method)) };
  const began = performance.now();
  result.replaceChildren(el("p", { class: "status" }, "Waiting …"));
  try {
    const answer = await fetch(address, { method, headers, body: body || undefined, cache: "no-store" });
    const text = await answer.text();
    const isJson = (answer.headers.get("content-type") ?? "").includes("json");
    const link = answer.headers.get("link");
    result.replaceChildren(
      el("p", { class: `status ${answer.ok ? "good" : "bad"}` }, `${answer.status} ${answer.statusText} in ${Math.round(performance.now() - began)} ms`),
      ...(link ? [el("p", {}, `Link: ${link}`)] : []), printed(isJson && text ? JSON.parse(text) : text), printed(curlOf(method, address, body)));
  } catch (error) {
    result.replaceChildren(el("p", { class: "status bad" }, `No answer: ${error.message}`), printed(curlOf(method, address, body)));
  }
  result.focus();
}

function addressOf(path, inputs) {
  const query = new URLSearchParams();
  let address = path;
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === "query" && input.value) query.set(parameter.name, input.value);
  }
  return query.size ? `${address}?${query}` : address;
}

/** The description's text and the names in it, which stand between backticks. */
function prose(text) {
  return (text ?? "").split("`").map((part, number) => (number % 2 ? el("code", {}, part) : part));
}

function contentOf(path, method, operation) {
  const inputs = (operation.parameters ?? []).filter((each) => each.in !== "header").map((parameter) => ({
    parameter, input: el("input", { "aria-label": parameter.name, placeholder: parameter.schema?.default ?? "" }),
  }));
  const rows = inputs.map(({ parameter, input }) => el("tr", {},
    el("th", { scope: "row" }, `${parameter.name}${parameter.required ? " (needed)" : ""}`),
    el("td", { class: "kind" }, typeOf(parameter.schema ?? {})), el("td", {}, input), el("td", {}, ...prose(parameter.description))));
  const request = operation.requestBody?.content;
  const [first, ...others] = examplesOf(request);
  const body = request ? el("textarea", { class: "body", "aria-label": "Body", spellcheck: "false" }, JSON.stringify(first, null, 2)) : null;
  const result = el("div", { class: "result", tabindex: "-1", role: "status" });
  const button = el("button", { type: "button" }, `Send ${method}`);
  button.addEventListener("click", () => send(method, addressOf(path, inputs), body?.value, result));
  const answers = Object.entries(operation.responses ?? {}).flatMap(([status, each]) => [
    el("p", {}, el("b", {}, status), " ", ...prose(each.description)),
    ...(status.startsWith("2") ? [...examplesOf(each.content).map(printed), fieldsOf(each.content)] : [])]);
  return el("div", { class: "endpoint" }, operation.description ? el("p", {}, ...prose(operation.description)) : null,
    rows.length ? el("h3", {}, "Parameters") : null, rows.length ? el("table", { class: "fields" }, el("tbody", {}, ...rows)) : null,
    body ? el("h3", {}, "Request") : null, body, ...others.map(printed), fieldsOf(request),
    el("p", { class: "send" }, button), result, el("h3", {}, "Answers"), ...answers);
}

function endpoint(path, method, operation) {
  const made = el("details", { class: "model", id: operation.operationId },
    el("summary", {}, el("span", { class: "badge" }, method), el("b", {}, path), el("span", { class: "muted" }, operation.summary ?? "")));
  made.addEventListener("toggle", () => { if (made.open && made.childElementCount === 1) made.append(contentOf(path, method, operation)); });
  return made;
}

const openapi = await (await fetch("/openapi.json")).json();
const main = document.getElementById("endpoints");
main.append(el("h2", {}, openapi.info.title), el("p", {}, ...prose(openapi.info.description)));
const groups = new Map();
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const tag = operation.tags?.[0] ?? "";
    if (!groups.has(tag)) groups.set(tag, el("section", {}, el("h2", {}, tag)));
    groups.get(tag).append(endpoint(path, method.toUpperCase(), operation));
  }
}
main.append(...groups.values());
document.getElementById("find").addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of groups.values()) {
    const shown = [...section.querySelectorAll("details.model")].filter((each) => {
      each.hidden = !words.every((word) => each.firstChild.textContent.toLowerCase().includes(word));
      return !each.hidden;
    });
    section.hidden = !shown.length;
  }
});
if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.setAttribute("open", "");
