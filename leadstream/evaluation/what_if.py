"""A draft of a model tried on all of a tenant's leads: on what is stored of them, or on a replay.

Reads one moment of the store beside a running server, in steps of bounded work, and writes nothing. What
the draft counts that no model in force counts is zero on stored leads; the answer says so, and what a
replay would cost. A replay folds the archive twice, with the model in force and with the draft.
"""

import time
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg

from gateway.ports import Progress, WhatIf
from leadstream.evaluation.model_sets import ModelSet, draft_of, model_set_for
from leadstream.evaluation.recorded_events import events_of, recorded
from projections.connection import Connection, connect
from projections.tables import READ_OPTIONS
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.evaluation.what_if import (
    NO_CURRENT_SCORE,
    CurrentScore,
    EvaluationTime,
    LeadComparison,
    MoveCounts,
    add,
    changes_important_clicks,
    compare,
    conclusion,
    fires,
    merged,
    report,
    uncounted,
)
from scoring.features.identity import is_anonymous
from scoring.models.model import Conclusion, Model
from streams.replay import CHUNK, Replay, lead_as_of, subject_of
from streams.score_leads.lead_rules import Rules
from streams.score_leads.lead_stage import stage_if
from streams.score_leads.lead_state import LeadState

AT_ONCE = 500
"""Leads between two words of progress: a few milliseconds."""
SAMPLE = 200
"""Events by which the pace of a replay is measured."""
_PAGE = 4_000

Step = Progress | dict[str, Any]


class WhatIfRun(NamedTuple):
    tenant: str
    held: ModelSet
    rules: Rules
    """As they are, and with the draft among them."""
    published: Rules
    draft: Model
    text: str

    when: EvaluationTime
    in_force: Model | None
    uncounted: tuple[str, ...]
    qualifies: bool
    """The lifecycle reads the model: the draft may move leads to other stages."""


def what_if(
    database_url: str, tenant: str, model: str, text: str, now: int, *, replay: bool = False
) -> Iterator[Step]:
    """How far it is, again and again, and at last the result. Raises ModelError."""
    draft = draft_of(text, model)
    held = model_set_for(database_url, tenant)
    rules, published = held.rules, held.with_draft(text).rules
    trial = WhatIfRun(
        tenant,
        held,
        rules,
        published,
        draft,
        text,
        held.when(now),
        rules.models.get(draft.name),
        uncounted(draft, rules.models.values()),
        any(each.model == draft.name for each in published.lifecycle.qualifications),
    )
    began = time.perf_counter()
    with connect(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        known, anonymous, unread = MoveCounts(), MoveCounts(), 0
        for step in _replayed(connection, trial) if replay else _stored(connection, trial):
            if isinstance(step, Progress):
                yield step
                continue
            lead, compared = step
            if compared is None:
                unread += 1
                continue
            into = anonymous if is_anonymous(lead) else known
            add(into, (tenant, lead), compared, trial.in_force, draft)
        leads = merged([known, anonymous]).leads
        seconds = time.perf_counter() - began
        yield {
            "model": draft.name,
            "tenant": tenant,
            "version_in_force": held.models[draft.name].version if trial.in_force else None,
            "tenants_own": draft.name in held.own,
            "replayed": replay,
            "needs_replay": None if replay or not trial.uncounted else _needed(connection, trial),
            "leads": _named(connection, tenant, report(known)),
            "anonymous": report(anonymous),
            "not_readable_yet": unread,
            "seconds": round(seconds, 3),
            "leads_per_second": round(leads / seconds),
        }


def what_if_port(database_url: str, now: Callable[[], int]) -> WhatIf:
    """For the gateway."""

    def tried(tenant: str, model: str, text: str) -> Iterator[Step]:
        return what_if(database_url, tenant, model, text, now())

    return tried


# On stored leads


def _stored(
    connection: Connection, trial: WhatIfRun
) -> Iterator[Progress | tuple[str, LeadComparison | None]]:
    """None for a lead whose head is not projected yet."""
    row = connection.execute(
        "select count(*) from leads where tenant = %s and identities > 0", (trial.tenant,)
    ).fetchone()
    count, done = row[0] if row else 0, 0
    for key, parts in _parts(connection, trial.tenant):
        if len(parts) > 1 or "head" not in parts:  # a lead that holds nobody has nothing but its head
            if "head" in parts:
                lead = lead_as_of(LeadState(key, parts), trial.rules, trial.when.at)
                yield lead.lead_id, _tried(lead, trial)
            else:
                yield key, None
            done += 1
            if done % AT_ONCE == 0:
                yield Progress(done, max(done, count))
    yield Progress(done, done)


def _tried(lead: LeadState, trial: WhatIfRun) -> LeadComparison:
    def restage(after: Conclusion) -> str:
        return stage_if(trial.published, lead, {trial.draft.name: after})

    return compare(
        trial.in_force,
        trial.draft,
        subject_of(lead),
        trial.when,
        _said(lead, trial.draft),
        restage if trial.qualifies else None,
    )


def _said(lead: LeadState, draft: Model) -> CurrentScore:
    said = lead.head.emitted.get(draft.name)
    return NO_CURRENT_SCORE if said is None else CurrentScore(said.total, said.disarmed)


def _parts(connection: Connection, tenant: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    with connection.cursor(name="what_if", binary=True) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(
            "select key, part, value from lead_parts where key >= %s and key < %s order by partition, key",
            (f"{tenant}/l/", f"{tenant}/l0"),
        )
        for key, rows in groupby(cursor, key=itemgetter(0)):
            yield key, {part: value for _, part, value in rows}


# On a replay


def _replayed(
    connection: Connection, trial: WhatIfRun
) -> Iterator[Progress | tuple[str, LeadComparison | None]]:
    """Both models from the first event on, each among the others in force."""
    count, done = events_of(connection, trial.tenant), 0
    worlds = [Replay(trial.held.genesis()), Replay(trial.held.with_draft(trial.text).genesis())]
    events = recorded(connection, trial.tenant)
    while chunk := [Outgoing(EVENTS, each.key, each.value) for each in islice(events, CHUNK)]:
        for world in worlds:
            world.append(chunk)
            world.rest()
        done += len(chunk)
        yield Progress(done, max(done, count))
    for world in worlds:
        world.advance_to(trial.when.at)
    when, (before, after) = trial.when, worlds
    # Who is who depends on no model, so both worlds have the same leads.
    for one, other in zip(before.leads(), after.leads(), strict=True):
        if one.identities:
            was, now = subject_of(one), subject_of(other)
            old, new = conclusion(trial.in_force, was, when), conclusion(trial.draft, now, when)
            crossed = fires(trial.draft, _said(one, trial.draft), new)
            yield one.lead_id, LeadComparison(old, new, crossed, (was.stage, now.stage))


def _needed(connection: Connection, trial: WhatIfRun) -> dict[str, Any]:
    """Why a replay is needed, and about how long it takes: by the pace of the first few events."""
    sample = [
        Outgoing(EVENTS, key, bytes(value))
        for key, value in connection.execute(
            "select key, value from event_archive where key >= %s and key < %s limit %s",
            (f"{trial.tenant}/", f"{trial.tenant}0", SAMPLE),
        )
    ]
    replay, began = Replay(trial.held.with_draft(trial.text).genesis()), time.perf_counter()
    replay.append(sample)
    replay.rest()
    events = events_of(connection, trial.tenant)
    pace = (time.perf_counter() - began) / max(len(sample), 1)
    return {
        "signals": list(trial.uncounted),
        "changes_important_clicks": changes_important_clicks(trial.uncounted),
        "events": events,
        "seconds": round(2 * events * pace, 1),
    }


def _named(connection: Connection, tenant: str, told: dict[str, Any]) -> dict[str, Any]:
    """With the names of those who move most."""
    movers = told["movers"]
    names = dict(
        connection.execute(
            "select lead_id, name from leads where tenant = %s and lead_id = any(%s)",
            (tenant, [mover["lead_id"] for mover in movers]),
        ).fetchall()
    )
    return told | {"movers": [mover | {"name": names.get(mover["lead_id"])} for mover in movers]}
