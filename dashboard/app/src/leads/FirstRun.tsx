// What to do while there is no lead at all: three ways to the first score.

import { useSignal } from "@preact/signals";
import { text } from "../text";

function Code({ title, code }: { title: string; code: string }) {
  const isCopied = useSignal(false);
  return (
    <section class="way">
      <h3>{title}</h3>
      <pre tabIndex={0} dir="ltr"><code>{code}</code></pre>
      <button type="button" onClick={() => { void navigator.clipboard?.writeText(code).then(() => { isCopied.value = true; }); }}>{text(isCopied.value ? "copied" : "copy")}</button>
    </section>
  );
}

export function FirstRun() {
  const event = JSON.stringify({ type: "qr_scanned", lead_id: "ahmad", source: "telegram" });
  return (
    <section class="card">
      <h2>{text("firstTitle")}</h2>
      <p>{text("firstText")}</p>
      <Code title={text("firstSnippet")} code={`<script async src="${location.origin}/track.js"></script>`} />
      <Code title={text("firstCurl")} code={`curl ${location.origin}/v1/events \\\n  -H 'Content-Type: application/json' \\\n  -d '${event}'`} />
      <Code title={text("firstImport")} code="leadstream import access-log access.log.gz" />
    </section>
  );
}
