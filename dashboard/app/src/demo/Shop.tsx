// An invented shop, as a customer's web site is: it knows nothing of Leadstream but the line of its scripts.

import { useSignal } from "@preact/signals";
import { text } from "../text";

type Shown = { leadstream?: (verb: string, fields?: object) => void };

const PAGES = ["/demo", "/demo/features", "/demo/pricing"];
const PLANS: [string, number][] = [["Start", 0], ["Shop", 29], ["Chain", 99]];

export function Shop({ page }: { page: string }) {
  const names = [text("shopHome"), text("shopFeatures"), text("shopPricing")];
  return (
    <section class="shop" aria-label={text("demoShop")}>
      <nav aria-label={text("demoShop")}><b>YouShop</b>{PAGES.map((each, index) => (
        <a key={each} href={each} aria-current={each === page ? "page" : undefined}>{names[index]}</a>
      ))}</nav>
      {page === "/demo/features" ? <Features /> : page === "/demo/pricing" ? <Pricing /> : <Home />}
    </section>
  );
}

/** The words of the buttons are those that the model of visits looks for. */
function Home() {
  const isRequested = useSignal(false);
  const ask = () => {
    isRequested.value = true;
    (window as Shown).leadstream?.("demo_requested", { text: "Get a Demo" });
  };
  return <>
    <h2>{text("shopClaim")}</h2>
    <p>{text("shopAbout")}</p>
    <p class="shop-buttons">
      <button type="button" class="primary" data-ls-click="Get a Demo" onClick={ask}>{text("shopDemo")}</button>
      <Film />
    </p>
    {isRequested.value && <p role="status">{text("shopDemoAsked")}</p>}
    <Newsletter />
  </>;
}

function Film() {
  const runs = useSignal(false);
  return <button type="button" data-ls-click="Watch the video" aria-pressed={runs.value} onClick={() => { runs.value = !runs.value; }}>{runs.value ? "⏸" : "▶"} {text("shopVideo")}</button>;
}

function Features() {
  return <>
    <h2>{text("shopFeatures")}</h2>
    <ul>{[text("shopBilling"), text("shopPayments"), text("shopInventory")].map((each) => <li key={each}>{each}</li>)}</ul>
    <p class="shop-buttons"><Film /></p>
  </>;
}

function Pricing() {
  const compares = useSignal(false);
  return <>
    <h2>{text("shopPricing")}</h2>
    <p class="shop-buttons">{PLANS.map(([name, price]) => <span class="plan" key={name}><b>{name}</b> {price} €</span>)}</p>
    <p class="shop-buttons"><button type="button" data-ls-click="Compare" aria-expanded={compares.value} onClick={() => { compares.value = !compares.value; }}>{text("shopCompare")}</button></p>
    {compares.value && <ul>{PLANS.map(([name, price], index) => <li key={name}>{name}: {[text("shopBilling"), text("shopPayments"), text("shopInventory")].slice(0, index + 1).join(", ")} ({price} €)</li>)}</ul>}
    <Newsletter />
  </>;
}

function Newsletter() {
  const isSent = useSignal(false);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    isSent.value = true;
  };
  return isSent.value ? <p role="status">{text("shopThanks")}</p> : (
    <form name="offer" onSubmit={submit}>
      <h3>{text("shopOffer")}</h3>
      <label class="field"><span>{text("shopName")}</span><input type="text" name="name" autocomplete="off" /></label>{" "}
      <label class="field"><span>{text("shopEmail")}</span><input type="email" name="email" autocomplete="off" required placeholder="ada@acme.example" /></label>{" "}
      <button type="submit">{text("shopSend")}</button>
    </form>
  );
}
