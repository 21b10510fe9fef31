import { render } from "preact";
import { useEffect } from "preact/hooks";
import { isLocked, person, readPerson, signOut, useToken } from "./api";
import { Bell } from "./Bell";
import { later } from "./later";
import { CallList } from "./leads/CallList";
import { liveState, runLive } from "./live";
import { PAGES } from "./pages";
import { isUnder, path, replaceOldAddress } from "./route";
import { chooseLanguage, language, LANGUAGES, text } from "./text";

const LeadPage = later(() => import("./lead/LeadPage"));
const InboxPage = later(() => import("./InboxPage"));
const LEAD = /^\/leads\/(.+)$/;

function App() {
  return <>
    <a class="skip" href="#main">{text("skip")}</a>
    <header class="bar">
      <h1><a href="/"><img src="/static/icon.svg" alt="" width="26" height="26" />Leadstream</a></h1>
      <nav class="pages" aria-label="Leadstream">
        {PAGES.filter((each) => each.isListed()).map(({ root, title }) => (
          <a key={root} href={root} aria-current={isUnder(root, path.value) ? "page" : undefined}>{text(title)}</a>
        ))}
        <a href="/docs">{text("apiPage")}</a>
      </nav>
      <p class={`live ${isLocked.value ? "off" : liveState.value}`} role="status"><span class="dot" aria-hidden="true" />{text(isLocked.value ? "locked" : liveState.value)}</p>
      <label class="language"><span class="unseen">{text("language")}</span>
        <select value={language.value} onChange={(event) => chooseLanguage(event.currentTarget.value)}>
          {Object.entries(LANGUAGES).map(([code, texts]) => <option key={code} value={code} lang={code}>{texts.name}</option>)}
        </select></label>
      {!isLocked.value && <Bell />}
      {person.value && <p class="who-am-i"><a href="/sign-in" title={person.value.email}>{person.value.name}</a> <span class="soft">{text(`role_${person.value.role}` as "role_sales")}</span>{" "}
        <button type="button" onClick={() => void signOut()}>{text("signOut")}</button></p>}
    </header>
    <main id="main" tabIndex={-1}>{isLocked.value ? <Gate /> : <Shown />}</main>
  </>;
}

function Shown() {
  if (path.value === "/inbox") return <InboxPage />;
  const lead = path.value.match(LEAD)?.[1];
  if (lead !== undefined) {
    const id = decoded(lead);
    return <LeadPage key={id} leadId={id} />;
  }
  const { Page } = PAGES.findLast((each) => isUnder(each.root, path.value)) ?? { Page: CallList };
  return <Page />;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function Gate() {
  const open = (event: SubmitEvent) => {
    event.preventDefault();
    const field = (event.currentTarget as HTMLFormElement).elements.namedItem("token") as HTMLInputElement;
    useToken(field.value.trim());
    field.value = "";
  };
  return (
    <form class="card gate" onSubmit={open}>
      <h2>{text("signInTitle")}</h2>
      <p><a class="primary" href={`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`}>{text("signIn")}</a></p>
      <p>{text("signInOr")}</p>
      <label class="field"><span>{text("token")}</span><input type="password" name="token" autocomplete="off" required /></label>
      <button type="submit">{text("openPage")}</button>
      <p class="soft">{text("tokenKept")}</p>
    </form>
  );
}

function Root() {
  useEffect(() => { void readPerson().then(runLive); }, []);
  useEffect(() => { if (!isLocked.value) void readPerson(); }, [isLocked.value]);
  return <App />;
}

replaceOldAddress();
render(<Root />, document.getElementById("app") as HTMLElement);
