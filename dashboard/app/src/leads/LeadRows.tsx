// The rows of the list: only those that are visible exist. They stay in the order of their ids in the document and are placed by
// transform, so that a row that moves keeps the focus. The keyboard moves an active row; rows are no tab stops.

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { leadAddress, navigate } from "../route";
import { language, text } from "../text";
import { asOf, askReasons, choose, chosen, hasMore, hold, leads, loadMore, model, movements, orderWaits, reasons, showOrder } from "./leadList";
import { Row, rowId } from "./Row";

const ROW_HEIGHT = 80;
const NARROW_ROW_HEIGHT = 136;
const BEYOND = 6;
const narrow = matchMedia("(max-width: 60rem)");

export function LeadRows() {
  const scroller = useRef<HTMLDivElement>(null);
  const view = useSignal({ top: 0, height: 800 });
  const isNarrow = useSignal(narrow.matches);
  const active = useSignal<string | null>(null);
  const minute = useSignal(0);
  const height = isNarrow.value ? NARROW_ROW_HEIGHT : ROW_HEIGHT;
  const rows = leads.value;
  const first = Math.max(0, Math.floor(view.value.top / height) - BEYOND);
  const end = Math.min(rows.length, Math.ceil((view.value.top + view.value.height) / height) + BEYOND);
  const shown = rows.slice(first, end).map((lead, offset) => ({ lead, index: first + offset }));

  useLayoutEffect(() => {
    const at = scroller.current;
    if (!at) return undefined;
    const measure = () => { view.value = { top: at.scrollTop, height: at.clientHeight }; };
    const widen = () => { isNarrow.value = narrow.matches; };
    const watch = new ResizeObserver(measure);
    watch.observe(at);
    at.addEventListener("scroll", measure, { passive: true });
    narrow.addEventListener("change", widen);
    const clock = setInterval(() => { minute.value += 1; }, 15_000);
    return () => { watch.disconnect(); narrow.removeEventListener("change", widen); clearInterval(clock); };
  }, []);
  useEffect(() => { void askReasons(shown.map(({ lead }) => lead.lead_id)); });
  useEffect(() => { if (end > rows.length - 20 && hasMore.value) loadMore(); }, [end, rows.length]);
  const filtersText = model.value + String(rows[0]?.lead_id === undefined);
  useEffect(() => { active.value = null; }, [filtersText]);

  const move = (to: number) => {
    const lead = rows[Math.min(Math.max(to, 0), rows.length - 1)];
    const at = scroller.current;
    if (!lead || !at) return;
    active.value = lead.lead_id;
    const top = Math.min(Math.max(to, 0), rows.length - 1) * height;
    if (top < at.scrollTop) at.scrollTop = top;
    else if (top + height > at.scrollTop + at.clientHeight) at.scrollTop = top + height - at.clientHeight;
  };
  const onKey = (event: KeyboardEvent) => {
    const place = rows.findIndex((lead) => lead.lead_id === active.value);
    const page = Math.max(1, Math.floor(view.value.height / height) - 1);
    const steps: Record<string, number> = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: rows.length - 1 };
    const to = steps[event.key];
    if (to !== undefined) { event.preventDefault(); move(to); }
    if (event.target === scroller.current && active.value !== null && (event.key === " " || event.key === "x") && !asOf.value) { event.preventDefault(); choose(active.value); }
    if (event.target === scroller.current && event.key === "Escape") chosen.value = new Set();
    if (event.key === "Enter" && active.value !== null && event.target === scroller.current) navigate(leadAddress(active.value, asOf.value));
  };

  const chooseRow = (event: MouseEvent) => {
    const mark = event.target instanceof Element ? event.target.closest(".in-band") : null;
    const id = mark?.closest<HTMLElement>(".row")?.dataset["id"];
    if (id !== undefined && !asOf.value) choose(id);
  };

  return (
    <div class="rows">
      {orderWaits.value && <button type="button" class="order" onClick={showOrder}>{text("orderChanged")}</button>}
      <div class="scroller" id="leads" ref={scroller} role="grid" aria-multiselectable="true" tabIndex={0} aria-label={text("leadsList")} aria-rowcount={rows.length}
        aria-activedescendant={active.value === null ? undefined : rowId(active.value)} onKeyDown={onKey} onClick={chooseRow}
        onPointerEnter={(event) => { if (event.pointerType === "mouse") hold(true); }} onPointerLeave={() => hold(false)}
        onFocus={() => hold(true)} onBlur={() => hold(false)}>
        <div class="canvas" role="rowgroup" style={{ height: `${rows.length * height}px` }}>
          {shown.sort((a, b) => (a.lead.lead_id < b.lead.lead_id ? -1 : 1)).map(({ lead, index }) => (
            <Row key={lead.lead_id} lead={lead} model={model.value} index={index} top={index * height} height={height} language={language.value}
              isActive={active.value === lead.lead_id} isChosen={chosen.value.has(lead.lead_id)} reason={reasons.value.get(lead.lead_id)} movement={movements.value.get(lead.lead_id)?.points} minute={minute.value} />
          ))}
        </div>
      </div>
    </div>
  );
}
