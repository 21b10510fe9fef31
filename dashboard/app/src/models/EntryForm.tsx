// The form of one rule or criterion. What is typed goes into the text after a moment; the text's own changes come back into the
// fields, except into the one that is being typed in.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Refused } from "../api";
import { text } from "../text";
import { edit, type Edit, reasonOf } from "./editing";

export type Field = {
  name: string; label: string; kind: "text" | "number" | "switch" | "choice" | "list";
  /** For a choice, those that there are; for a text, those that are proposed. */
  options?: readonly string[];
  hint?: string; optional?: boolean;
  shown?: (value: string) => string;
};
export type Values = Record<string, string | number | boolean | null>;

const TYPE_WAIT_MS = 400;

type Props = {
  entry: "rule" | "criterion"; fields: readonly Field[]; values: Values; disabled?: readonly string[];
  /** Null: it is new, and made by a button. `close`: it is made, or deleted. */
  id: number | null; close: () => void; read: (values: Values) => Record<string, unknown>; isLocked: boolean;
};

export function EntryForm({ entry, fields, values, id, close, read, disabled = [], isLocked }: Props) {
  const form = useRef<HTMLFormElement>(null);
  const wrong = useSignal<{ field: string | null; reason: string } | null>(null);
  const waiting = useMemo<{ timer?: ReturnType<typeof setTimeout> }>(() => ({}), []);
  const prefix = `${entry}-${id ?? "new"}`;

  useEffect(() => {
    for (const field of fields) {
      const input = form.current?.elements.namedItem(field.name);
      if (!(input instanceof HTMLInputElement || input instanceof HTMLSelectElement) || input === document.activeElement) continue;
      if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = Boolean(values[field.name]);
      else input.value = String(values[field.name] ?? "");
    }
  }, [JSON.stringify(values)]);
  useEffect(() => () => clearTimeout(waiting.timer), []);

  const typed = (): Values => Object.fromEntries(fields.map((field) => {
    const input = form.current?.elements.namedItem(field.name) as HTMLInputElement | null;
    return [field.name, field.kind === "switch" ? Boolean(input?.checked) : field.kind === "number" ? (input?.value === "" ? null : Number(input?.value)) : input?.value ?? ""];
  }));
  const act = async (change: Edit) => {
    try {
      await edit(change);
      wrong.value = null;
      return true;
    } catch (error) {
      wrong.value = { field: error instanceof Refused ? error.field : null, reason: reasonOf(error) };
      return false;
    }
  };
  const send = async () => {
    clearTimeout(waiting.timer);
    const all = read(typed());
    for (const name of disabled) delete all[name];
    if (id === null) {
      if (await act({ entry, action: "create", fields: all })) close();
    } else {
      const were = read(values);
      const changed = Object.fromEntries(Object.entries(all).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(were[name])));
      if (Object.keys(changed).length) {
        // An operator and its value belong together.
        if ("operator" in changed && "value" in all) changed.value = all.value;
        await act({ entry, action: "change", id, fields: changed });
      } else wrong.value = null;
    }
  };
  const soon = () => {
    if (id === null) return;
    clearTimeout(waiting.timer);
    waiting.timer = setTimeout(() => { void send(); }, TYPE_WAIT_MS);
  };
  return (
    <form class="entry-form" ref={form} onInput={soon} onChange={() => { if (id !== null) void send(); }} onSubmit={(event) => { event.preventDefault(); void send(); }}>
      <fieldset disabled={isLocked}>
        {fields.map((field) => {
          const key = `${prefix}-${field.name}`;
          const isWrong = wrong.value?.field === field.name;
          const described = [isWrong && `${key}-wrong`, field.hint && `${key}-hint`].filter(Boolean).join(" ") || undefined;
          const shared = { id: key, name: field.name, disabled: disabled.includes(field.name), "aria-invalid": isWrong ? true : undefined, "aria-describedby": described };
          return (
            <div class={`input ${field.kind}`} key={field.name}>
              <label for={key}>{field.label}</label>
              {field.kind === "choice" ? (
                <select {...shared} defaultValue={String(values[field.name] ?? "")}>
                  {field.options?.map((each) => <option key={each} value={each} selected={each === values[field.name]}>{field.shown?.(each) ?? each}</option>)}
                </select>
              ) : field.kind === "switch" ? <input {...shared} type="checkbox" defaultChecked={Boolean(values[field.name])} />
                : field.kind === "number" ? <input {...shared} type="number" step="any" defaultValue={String(values[field.name] ?? "")} required={!field.optional} />
                : <input {...shared} type="text" dir="auto" autocomplete="off" maxLength={2_000} defaultValue={String(values[field.name] ?? "")} list={field.options && `${key}-options`} required={!field.optional} />}
              {field.options && field.kind !== "choice" && <datalist id={`${key}-options`}>{field.options.map((each) => <option key={each} value={each} />)}</datalist>}
              {field.hint && <p class="soft" id={`${key}-hint`}>{field.hint}</p>}
              {isWrong && <p class="wrong" id={`${key}-wrong`}>{wrong.value?.reason}</p>}
            </div>
          );
        })}
        <p class="entry-buttons">
          {id === null ? <button type="submit" class="primary">{text("addIt")}</button>
            : <button type="button" onClick={() => void act({ entry, action: "delete", id }).then((isDone) => { if (isDone) close(); })}>{text("deleteIt")}</button>}
        </p>
      </fieldset>
      <p class="wrong" role="status">{wrong.value && !fields.some((field) => field.name === wrong.value?.field) ? wrong.value.reason : ""}</p>
    </form>
  );
}
