// A text of TOML: of a model, or of an experiment. CodeMirror lives in a shadow root: there it adopts its style sheets, which the Content-Security-Policy
// admits; in the document it would add <style> elements, which the policy refuses.

import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { toml } from "@codemirror/legacy-modes/mode/toml";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { ReadonlySignal, Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { text as catalogue } from "../text";
import * as model from "./editing";
import type { Problem } from "./editing";

export type EditedText = {
  text: ReadonlySignal<string>; setText: (next: string) => void; cursorLine?: Signal<number>; goTo: ReadonlySignal<{ line: number } | null>;
  checked: ReadonlySignal<{ text: string; problem: Problem | null } | null>;
};

// Custom properties reach into the shadow root, so both colour schemes come from the page's own style sheet.
const colours = HighlightStyle.define([
  { tag: tags.comment, color: "var(--code-comment)" },
  { tag: [tags.string, tags.atom], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool], color: "var(--code-number)" },
  { tag: [tags.propertyName, tags.keyword], color: "var(--code-name)" },
]);
const theme = EditorView.theme({
  "&": { backgroundColor: "var(--paper)", color: "var(--ink)", fontSize: "13px", maxHeight: "100%" },
  "&.cm-focused": { outline: "3px solid var(--accent)", outlineOffset: "-3px" },
  ".cm-scroller": { fontFamily: "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace", lineHeight: "1.55" },
  ".cm-gutters": { backgroundColor: "var(--paper)", color: "var(--soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--accent) 9%, transparent)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "color-mix(in srgb, var(--accent) 25%, transparent)" },
  ".cm-tooltip": { backgroundColor: "var(--paper)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "6px" },
  ".cm-diagnostic": { padding: "6px 10px", maxWidth: "24rem", whiteSpace: "normal" },
});

export default function TextEditor({ label, edited = model }: { label: string; edited?: EditedText }) {
  const { text, setText, cursorLine, goTo, checked } = edited;
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return undefined;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: text.value,
        extensions: [
          lineNumbers(), lintGutter(), history(), drawSelection(), bracketMatching(), highlightActiveLine(), highlightActiveLineGutter(),
          StreamLanguage.define(toml), syntaxHighlighting(colours), theme, EditorState.tabSize.of(2), EditorView.lineWrapping,
          EditorState.phrases.of({ "Go to line": catalogue("line") }),
          keymap.of([...defaultKeymap, ...historyKeymap, ...lintKeymap]), // Tab leaves the editor
          EditorView.contentAttributes.of({ "aria-label": label, "aria-describedby": "text-problem", spellcheck: "false", dir: "ltr" }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) setText(update.state.doc.toString());
            if (cursorLine && (update.selectionSet || update.docChanged)) cursorLine.value = update.state.doc.lineAt(update.state.selection.main.head).number;
          }),
        ],
      }),
    });
    const stops = [
      text.subscribe((next) => replace(view, next)),
      checked.subscribe((answer) => {
        if (!answer || answer.text !== view.state.doc.toString()) return;
        const found = answer.problem;
        const line = found && view.state.doc.line(Math.min(found.line, view.state.doc.lines));
        const at = (column: number) => (line ? Math.min(line.from + column - 1, line.to) : 0);
        view.dispatch(setDiagnostics(view.state, found ? [{ from: at(found.column), to: at(found.end_column), severity: "error", message: found.reason }] : []));
      }),
      goTo.subscribe((aim) => {
        if (!aim) return;
        const line = view.state.doc.line(Math.max(1, Math.min(aim.line, view.state.doc.lines)));
        view.dispatch({ selection: { anchor: line.from }, effects: EditorView.scrollIntoView(line.from, { y: "center" }) });
      }),
    ];
    return () => { stops.forEach((stop) => stop()); view.destroy(); };
  }, []);
  return <div class="editor" ref={host} dir="ltr" />;
}

/** Only what differs, so that the cursor and the history of changes stay. */
function replace(view: EditorView, next: string): void {
  const now = view.state.doc.toString();
  if (now === next) return;
  let from = 0;
  while (from < now.length && from < next.length && now[from] === next[from]) from += 1;
  let tail = 0;
  while (tail < now.length - from && tail < next.length - from && now[now.length - 1 - tail] === next[next.length - 1 - tail]) tail += 1;
  view.dispatch({ changes: { from, to: now.length - tail, insert: next.slice(from, next.length - tail) } });
}
