// Starting and stopping an experiment, with the reason; and a copy under a new name.

import { useSignal } from "@preact/signals";
import { send } from "../api";
import { navigate } from "../route";
import { text } from "../text";
import { byMe } from "./editing";
import { type Experiment, experimentAddress, experimentPath, mayEdit, reasonOf } from "./experiment";

export const NAME = "[a-z][a-z0-9_\\-]{0,63}";

export function StartStop({ experiment, changed }: { experiment: Experiment; changed: () => Promise<void> }) {
  const asked = useSignal<"start" | "stop" | "copy" | null>(null);
  const typed = useSignal("");
  const winner = useSignal("");
  const isBusy = useSignal(false);
  const failure = useSignal<string | null>(null);
  const isRunning = experiment.status === "running";
  const ask = (what: "start" | "stop" | "copy") => () => { asked.value = asked.value === what ? null : what; typed.value = ""; failure.value = null; };
  const go = async () => {
    if (asked.value === "copy") {
      navigate(`${experimentAddress(typed.value.trim())}?view=edit&copy=${encodeURIComponent(experiment.name)}`);
      return;
    }
    isBusy.value = true;
    try {
      await send(experimentPath(experiment.name, `/${asked.value}`), { note: typed.value.trim() || null, ...byMe(), ...(asked.value === "stop" && { winner: winner.value || null }) });
      asked.value = null;
      await changed();
    } catch (error) {
      failure.value = reasonOf(error);
    }
    isBusy.value = false;
  };
  if (!mayEdit()) return <p class="hint">{text("mayNotPublish")}</p>;
  return <>
    <p class="choices">
      {isRunning
        ? <button type="button" aria-expanded={asked.value === "stop"} onClick={ask("stop")}>{text("trialStop")}</button>
        : <button type="button" class="primary" aria-expanded={asked.value === "start"} onClick={ask("start")}>{text(experiment.status === "draft" ? "trialStart" : "trialStartAgain")}</button>}
      <button type="button" aria-expanded={asked.value === "copy"} onClick={ask("copy")}>{text("trialCopy")}</button>
    </p>
    {asked.value && <form class="part start-stop" onSubmit={(event) => { event.preventDefault(); void go(); }}>
      {asked.value === "stop" && <div class="input"><label for="winner">{text("trialWhoWins")}</label>
        <select id="winner" value={winner.value} onChange={(event) => { winner.value = event.currentTarget.value; }}>
          <option value="">{text("trialControlWins", { control: experiment.control })}</option>
          {experiment.variants.slice(1).map((each) => <option key={each.name} value={each.name}>{each.name}</option>)}</select></div>}
      {asked.value === "copy"
        ? <div class="input"><label for="copy-name">{text("trialNewName")}</label><input id="copy-name" type="text" dir="ltr" required pattern={NAME} title={text("trialNameHint")} autocomplete="off" value={typed.value} onInput={(event) => { typed.value = event.currentTarget.value; }} /><p class="soft">{text("trialNameHint")}</p></div>
        : <div class="input"><label for="start-note">{text("reason")}</label><input id="start-note" type="text" dir="auto" maxLength={512} required autocomplete="off" value={typed.value} onInput={(event) => { typed.value = event.currentTarget.value; }} /></div>}
      <p class="choices"><button type="submit" class="primary" disabled={isBusy.value}>{text(asked.value === "stop" ? "trialStopNow" : asked.value === "start" ? "trialStartNow" : "trialCopyNow")}</button>
        <button type="button" onClick={() => { asked.value = null; }}>{text("cancel")}</button></p>
      {failure.value && <p class="wrong" role="alert"><bdi>{failure.value}</bdi></p>}
    </form>}
  </>;
}
