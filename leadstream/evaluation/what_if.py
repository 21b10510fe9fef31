"""Compares a draft of a model with the active model on all leads of a tenant: on their stored state, or on a
replay.

It reads a snapshot of the store beside a running server, in steps of bounded work, and writes nothing. A
signal that no active model counts is zero on stored leads; the result names such signals and estimates the
cost of a replay. A replay folds the archive twice, with the active model and with the draft.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import psycopg

from gateway.ports import RunWhatIf, StepsDone
from leadstream.evaluation.fire_preview import fire_result
from leadstream.evaluation.model_sets import ModelSet, compile_draft, model_set_for
from leadstream.evaluation.recorded_events import count_events, recorded_events
from leadstream.evaluation.stored_leads import LEADS_PER_PROGRESS, stored_parts
from projections.connection import Connection, connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.evaluation.what_if import (
    NO_CURRENT_SCORE,
    CurrentScore,
    EvaluationTime,
    LeadComparison,
    MoveCounts,
    add_comparison,
    changes_important_clicks,
    compare_lead,
    conclusion_or_empty,
    counts_json,
    fired_thresholds,
    sum_of_counts,
    uncounted_signals,
)
from scoring.features.identity import is_anonymous
from scoring.models.model import Conclusion, Model
from streams.replay import CHUNK_RECORDS, Replay, lead_as_of, subject_of
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import stage_after_conclusions
from streams.score_leads.lead_state import LeadState

SAMPLE_EVENTS = 200
"""How many events measure the pace of a replay."""

WhatIfStep = StepsDone | dict[str, Any]


class WhatIfRun(NamedTuple):
    tenant: str
    current: ModelSet
    rules: LeadRules
    """The active rules."""
    draft_rules: LeadRules
    """The active rules with the draft among them."""
    draft: Model
    text: str
    """The draft's text."""
    when: EvaluationTime
    active: Model | None
    uncounted: tuple[str, ...]
    qualifies: bool
    """Whether the lifecycle reads the model, so that the draft can move leads to other stages."""


def what_if(
    database_url: str, tenant: str, model: str, text: str, now: int, *, replay: bool = False
) -> Iterator[WhatIfStep]:
    """Yields progress, and at last the result. Raises ModelError."""
    draft = compile_draft(text, model)
    current = model_set_for(database_url, tenant)
    rules, draft_rules = current.rules, current.with_draft(text).rules
    run = WhatIfRun(
        tenant,
        current,
        rules,
        draft_rules,
        draft,
        text,
        current.when(now),
        rules.models.get(draft.name),
        uncounted_signals(draft, rules.models.values()),
        any(each.model == draft.name for each in draft_rules.lifecycle.qualifications),
    )
    began = time.perf_counter()
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        identified, anonymous, unread = MoveCounts(), MoveCounts(), 0
        for step in _compare_replayed(connection, run) if replay else _compare_stored(connection, run):
            if isinstance(step, StepsDone):
                yield step
                continue
            lead, compared = step
            if compared is None:
                unread += 1
                continue
            counts = anonymous if is_anonymous(lead) else identified
            add_comparison(counts, (tenant, lead), compared, run.active, draft)
        workflows: list[dict[str, Any]] = []
        for part in fire_result(connection, tenant, draft, current, text, now):
            if isinstance(part, StepsDone):
                yield part
            else:
                workflows = part["workflows"]
        leads = sum_of_counts([identified, anonymous]).leads
        seconds = time.perf_counter() - began
        yield {
            "model": draft.name,
            "tenant": tenant,
            "version_in_force": current.models[draft.name].version if run.active else None,
            "tenants_own": draft.name in current.own,
            "replayed": replay,
            "needs_replay": None if replay or not run.uncounted else _replay_needed_result(connection, run),
            "leads": _with_lead_names(connection, tenant, counts_json(identified)),
            "anonymous": counts_json(anonymous),
            "workflows": workflows,
            "not_readable_yet": unread,
            "seconds": round(seconds, 3),
            "leads_per_second": round(leads / seconds),
        }


def what_if_port(database_url: str, now: Callable[[], int]) -> RunWhatIf:
    """The what-if as the gateway calls it."""

    def run_what_if(tenant: str, model: str, text: str) -> Iterator[WhatIfStep]:
        return what_if(database_url, tenant, model, text, now())

    return run_what_if


# On stored leads


def _compare_stored(
    connection: Connection, run: WhatIfRun
) -> Iterator[StepsDone | tuple[str, LeadComparison | None]]:
    """Each lead with its comparison; None if its head is not projected yet."""
    row = connection.execute(
        "select count(*) from leads where tenant = %s and identities > 0", (run.tenant,)
    ).fetchone()
    count, done = row[0] if row else 0, 0
    for key, parts in stored_parts(connection, run.tenant):
        if len(parts) > 1 or "head" not in parts:  # a lead without identities has only its head
            if "head" in parts:
                lead = lead_as_of(LeadState(key, parts), run.rules, run.when.at)
                if not lead.refuses_profiling:
                    yield lead.lead_id, _comparison(lead, run)
            else:
                yield key, None
            done += 1
            if done % LEADS_PER_PROGRESS == 0:
                yield StepsDone(done, max(done, count))
    yield StepsDone(done, done)


def _comparison(lead: LeadState, run: WhatIfRun) -> LeadComparison:
    def restage(after: Conclusion) -> str:
        return stage_after_conclusions(run.draft_rules, lead, {run.draft.name: after})

    return compare_lead(
        run.active,
        run.draft,
        subject_of(lead),
        run.when,
        _current_score(lead, run.draft),
        restage if run.qualifies else None,
    )


def _current_score(lead: LeadState, draft: Model) -> CurrentScore:
    emitted = lead.head.emitted.get(draft.name)
    return NO_CURRENT_SCORE if emitted is None else CurrentScore(emitted.total, emitted.disarmed)


# On a replay


def _compare_replayed(
    connection: Connection, run: WhatIfRun
) -> Iterator[StepsDone | tuple[str, LeadComparison | None]]:
    """Replays all archived events twice: with the active model, and with the draft in its place. The tenant's other
    models stay the same. Then compares each lead.
    """
    count, done = count_events(connection, run.tenant), 0
    replays = [Replay(run.current.genesis()), Replay(run.current.with_draft(run.text).genesis())]
    events = recorded_events(connection, run.tenant)
    while chunk := [Outgoing(EVENTS, each.key, each.value) for each in islice(events, CHUNK_RECORDS)]:
        for replay_run in replays:
            replay_run.append(chunk)
            replay_run.fold_all()
        done += len(chunk)
        yield StepsDone(done, max(done, count))
    for replay_run in replays:
        replay_run.advance_to(run.when.at)
    when, (before, after) = run.when, replays
    # Identity depends on no model, so both replays have the same leads.
    for one, other in zip(before.leads(), after.leads(), strict=True):
        if one.identities and not one.refuses_profiling:
            was, now = subject_of(one), subject_of(other)
            old, new = conclusion_or_empty(run.active, was, when), conclusion_or_empty(run.draft, now, when)
            crossed = fired_thresholds(run.draft, _current_score(one, run.draft), new)
            yield one.lead_id, LeadComparison(old, new, crossed, (was.stage, now.stage))


def _replay_needed_result(connection: Connection, run: WhatIfRun) -> dict[str, Any]:
    """Why a replay is needed, and about how long it takes by the pace of the first few events."""
    sample = [
        Outgoing(EVENTS, key, bytes(value))
        for key, value in connection.execute(
            "select key, value from event_archive where key >= %s and key < %s limit %s",
            (f"{run.tenant}/", f"{run.tenant}0", SAMPLE_EVENTS),
        )
    ]
    replay, began = Replay(run.current.with_draft(run.text).genesis()), time.perf_counter()
    replay.append(sample)
    replay.fold_all()
    events = count_events(connection, run.tenant)
    pace = (time.perf_counter() - began) / max(len(sample), 1)
    return {
        "signals": list(run.uncounted),
        "recuts_clicks": changes_important_clicks(run.uncounted),
        "events": events,
        "seconds": round(2 * events * pace, 1),
    }


def _with_lead_names(connection: Connection, tenant: str, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with the names of the leads that move most."""
    movers = summary["movers"]
    names = dict(
        connection.execute(
            "select lead_id, name from leads where tenant = %s and lead_id = any(%s)",
            (tenant, [mover["lead_id"] for mover in movers]),
        ).fetchall()
    )
    return summary | {"movers": [mover | {"name": names.get(mover["lead_id"])} for mover in movers]}
