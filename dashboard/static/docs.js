// A plain reader's view of /openapi.json, which needs nothing from elsewhere.

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children.filter(Boolean));
  return made;
}

const printed = (value) => el("pre", {}, el("code", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2)));

function examplesOf(content = {}) {
  return Object.values(content).flatMap((kind) => [
    ...(kind.example === undefined ? [] : [kind.example]),
    ...Object.values(kind.examples ?? {}).map((each) => each.value),
  ]);
}

function endpoint(path, method, said) {
  const parameters = (said.parameters ?? []).map((each) => el("tr", {},
    el("th", { scope: "row" }, `${each.name}${each.required ? " (needed)" : ""}`), el("td", {}, each.description ?? each.schema?.type ?? "")));
  const sent = examplesOf(said.requestBody?.content);
  const answers = Object.entries(said.responses ?? {}).flatMap(([status, each]) => [
    el("p", {}, el("b", {}, status), ` ${each.description ?? ""}`), ...examplesOf(each.content).map(printed)]);
  return el("details", { class: "model" },
    el("summary", {}, el("span", { class: "badge" }, method), el("b", {}, path), el("span", { class: "muted" }, said.summary ?? "")),
    el("div", { class: "endpoint" }, said.description ? el("p", {}, said.description) : null,
      parameters.length ? el("table", {}, el("tbody", {}, ...parameters)) : null,
      sent.length ? el("h3", {}, "Request") : null, ...sent.map(printed), el("h3", {}, "Answers"), ...answers));
}

const openapi = await (await fetch("/openapi.json")).json();
const main = document.getElementById("endpoints");
main.append(el("h2", {}, openapi.info.title), el("p", {}, openapi.info.description ?? ""));
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, said] of Object.entries(methods)) main.append(endpoint(path, method, said));
}
