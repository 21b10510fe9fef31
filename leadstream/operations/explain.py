"""`leadstream explain`: reads one lead from the read models and passes it to `explanations`.

It only reads, with or without a running server. Numbers are those of `gateway.api.explained_lead`, as `GET /api/leads/{id}`
shows them of the same moment.
"""

import asyncio
import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import select

from authoring.active_models import ActiveRules
from authoring.new_signals import lines_that_read
from gateway.answers import RequestProblem
from gateway.api.causes import EventsById, by_id, cause_of
from gateway.api.execution_shapes import outcome_text
from gateway.api.explained_lead import ExplainedLead, explain_lead
from gateway.api.lead_as_of import Knowledge, execution_then
from gateway.api.lead_merges import LeadMerges, merges_of_lead
from gateway.api.lead_moment import LeadRequest, row_of_leads_at
from gateway.api.lead_pages import leads_page
from gateway.api.leads import BOARD_MODEL
from gateway.api.statements import select_events_named, select_lead_of_visitor
from gateway.store import ReadStore, Row, StoreSnapshot
from leadstream.active_models import published_port
from leadstream.console import Failure
from leadstream.operations import explanations
from leadstream.operations.explained_merges import merge_lines
from leadstream.past_leads import PAST_LEADS
from projections import queries
from projections.backfills import left_of
from projections.lead_lists import FIRST_PAGE, LeadFilters
from projections.public_rows import BackfillRow
from projections.public_tables import backfills
from projections.workflow_queries import executions_of_lead
from schemas.control import EVERY_TENANT
from schemas.envelope import ANONYMOUS_PREFIX

CHANGES_SHOWN = 10
MOST_LEDGER_ENTRIES = 500
"""How many entries of the ledger are read to find the latest changes. One cause makes an entry per model."""
MOST_SIMILAR_LEADS = 50
LEADS_SUGGESTED = 3


class ExplainRequest(NamedTuple):
    tenant: str
    lead_id: str
    model: str | None
    as_of: str | None
    """The moment as the user wrote it."""
    changes: int = CHANGES_SHOWN
    knowledge: Knowledge = "then"


class LeadHistories(NamedTuple):
    """What happened to a lead up to one moment."""

    ledger: Sequence[Row]
    bands: Sequence[Row]
    executions: Sequence[Row]
    events: EventsById
    merges: LeadMerges


def explanation_of_lead(database_url: str, request: ExplainRequest, now: datetime) -> list[str]:
    """The lead in words, a line each. Raises Failure."""
    try:
        return asyncio.run(_explanation(database_url, request, now))
    except RequestProblem as cause:
        raise Failure(f"The lead cannot be explained: {cause.reason}.") from cause


async def _explanation(database_url: str, request: ExplainRequest, now: datetime) -> list[str]:
    active = await published_port(database_url)(request.tenant)
    zone = ZoneInfo(active.zone.time_zone)
    moment = LeadRequest(
        now, None if request.as_of is None else _read_moment(request.as_of, zone), request.knowledge
    )
    store = ReadStore(database_url)
    await store.open()
    try:
        async with store.snapshot() as ask:
            lead = await _lead_row(ask, request.tenant, request.lead_id)
            explained = await explain_lead(ask, PAST_LEADS, active, lead, moment)
            histories = await _lead_histories(ask, request, moment, explained)
            (counting,) = await ask.all(
                select(backfills).where(
                    (backfills.c.tenant == request.tenant) | (backfills.c.tenant == EVERY_TENANT),
                    backfills.c.completed_at.is_(None),
                )
            )
    finally:
        await store.close()
    lines = list(_lines_of_lead(request, explained, histories, active, moment))
    return lines + [_line_of_backfill(row) for row in counting if row["model"] in explained.scores]


def _line_of_backfill(row: Row) -> str:
    """Which lines of a model do not count every event of the past, and how much is left to count."""
    counted = BackfillRow(**row)
    names = ", ".join(lines_that_read(counted.text, set(counted.signals.values())))
    left = left_of(counted)
    if counted.from_now:
        return f"{counted.model}: {names} counts from {counted.requested_at:%Y-%m-%d} on only."
    how_much = "" if left is None else f" ({left[0]} of {left[1]} records are left)"
    return f"{counted.model}: earlier events are still being counted for {names}{how_much}."


def _lines_of_lead(
    request: ExplainRequest,
    explained: ExplainedLead,
    histories: LeadHistories,
    active: ActiveRules,
    moment: LeadRequest,
) -> Iterator[str]:
    shown, scores = explained.shown, explained.scores
    clock = explanations.ExplanationClock(
        moment.at, ZoneInfo(shown.active.zone.time_zone), is_now=moment.as_of is None
    )
    if shown.history == "not_yet_recorded":
        raise Failure(
            f"{request.lead_id} was not known then: it was first seen {clock.date(shown.row['created_at'])}."
        )
    if request.model is not None and request.model not in {*active.models, *shown.active.models, *scores}:
        raise Failure(f"There is no model {request.model!r}; active are {', '.join(sorted(active.models))}.")
    yield from explanations.lead_summary(explained, clock, in_future=moment.at > moment.now)
    yield from merge_lines(histories.merges, request.lead_id, clock)
    for model in sorted(scores, key=lambda name: _board_model_first(name, scores[name])):
        if request.model in {None, model}:
            yield ""
            yield from explanations.breakdown_lines(
                explanations.explained_score(model, scores[model], shown.active.models.get(model))
            )
    causes = list(
        islice(
            explanations.with_time_merged(
                _causes_of_changes(explained, histories, clock, request.model), clock
            ),
            request.changes,
        )
    )
    if causes:
        yield ""
        yield "Latest changes"
        yield from (f"  {line}" for line in explanations.history_lines(causes, clock))
    if histories.executions:
        yield ""
        yield "Latest workflows"
        executions = [
            {**row, "outcome": outcome_text(execution_then(row, moment.at) if moment.is_past else row)}
            for row in histories.executions
        ]
        yield from (f"  {line}" for line in explanations.execution_lines(executions, clock))


# Reading


async def _lead_row(ask: StoreSnapshot, tenant: str, lead_id: str) -> Row:
    leads = await ask(queries.lead(tenant, lead_id))
    if not leads:
        raise Failure(await _no_such_lead_text(ask, tenant, lead_id))
    return leads[0]


async def _lead_histories(
    ask: StoreSnapshot, request: ExplainRequest, moment: LeadRequest, explained: ExplainedLead
) -> LeadHistories:
    tenant, lead_id, until = request.tenant, request.lead_id, moment.until
    ledger, bands, executions = await ask.all(
        queries.ledger(tenant, lead_id, model=request.model, limit=MOST_LEDGER_ENTRIES, until=until),
        queries.bands(tenant, lead_id),
        executions_of_lead(tenant, lead_id, limit=request.changes, until=until),
    )
    causes = {event for row in [*ledger, *explained.shown.stages] if (event := _event_of(row["caused_by"]))}
    events = await ask(select_events_named(tenant, lead_id, sorted(causes))) if causes else ()
    row_of = row_of_leads_at(ask, PAST_LEADS, explained.shown.active, tenant, moment)
    merges = await merges_of_lead(ask, explained.shown.row, until, row_of)
    return LeadHistories(ledger, bands, executions, by_id(events), merges)


def _event_of(caused_by: str) -> str | None:
    kind, _, event_id = caused_by.partition(":")
    return event_id if kind in {"event", "redirect"} else None


async def _no_such_lead_text(ask: StoreSnapshot, tenant: str, lead_id: str) -> str:
    """The error text for an id that no lead has. It suggests similar leads."""
    visitor = lead_id.removeprefix(ANONYMOUS_PREFIX)
    owners = await ask(select_lead_of_visitor(tenant, visitor))
    if owners:
        owner = owners[0]["lead_id"]
        return f"{visitor} is a visitor of the lead {owner}: leadstream explain {owner}"
    similar = await _similar_leads(ask, tenant, lead_id)
    if not similar:
        return f"There is no lead {lead_id!r} of tenant {tenant!r}: ids are on the board and at /api/leads?q=NAME."
    ranked = sorted(similar, key=lambda row: -_likeness(row, lead_id))[:LEADS_SUGGESTED]
    suggestions = " or ".join(
        f"{row['lead_id']} ({row['name'] or row['email'] or 'anonymous'})"
        if row["name"] or row["email"]
        else row["lead_id"]
        for row in ranked
    )
    return f"There is no lead {lead_id!r}; did you mean {suggestions}?"


async def _similar_leads(ask: StoreSnapshot, tenant: str, text: str) -> Sequence[Row]:
    """Leads whose name, e-mail, phone or id contains the text; if there are none, an ever shorter beginning of it."""
    for length in range(len(text), max(2, len(text) // 2 - 1), -1):
        filters = LeadFilters(anonymous=True, search=text[:length])
        page = await leads_page(ask, tenant, BOARD_MODEL, filters, FIRST_PAGE, MOST_SIMILAR_LEADS)
        if page.rows:
            return page.rows
    return ()


def _likeness(row: Row, lead_id: str) -> float:
    texts = [row[name] for name in ("lead_id", "name", "email", "phone") if row[name]]
    return max(difflib.SequenceMatcher(None, lead_id.casefold(), text.casefold()).ratio() for text in texts)


def _read_moment(text: str, zone: ZoneInfo) -> datetime:
    """A date means its midnight. A time without an offset is in the tenant's zone."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise Failure(
            f"--as-of {text!r} is no moment: write 2030-01-31, 2030-01-31T12:00 or 2030-01-31T12:00:00Z."
        ) from cause


# Scores


def _board_model_first(model: str, score: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """Sorts the board's model first, and models without a line for the lead last."""
    return model != BOARD_MODEL, not score["lines"], model


# Changes


def _causes_of_changes(
    explained: ExplainedLead,
    histories: LeadHistories,
    clock: explanations.ExplanationClock,
    model: str | None,
) -> Iterator[explanations.ExplainedCause]:
    """The ledger by cause, the latest first, with the changes of stage and band of each cause."""
    stages, bands = _rows_by_cause(explained.shown.stages), _rows_by_cause(histories.bands)
    for (at, caused_by), rows in groupby(histories.ledger, key=_cause_key):
        entries = sorted(rows, key=lambda row: str(row["model"]))
        event = cause_of(histories.events, _event_of(caused_by), at)
        yield explanations.ExplainedCause(
            at,
            explanations.cause_in_words(caused_by, event, entries[0], clock),
            entries,
            stages.get((at, caused_by), ()) if model is None else (),
            bands.get((at, caused_by), ()),
            caused_by.startswith("due:"),
        )


def _cause_key(row: Row) -> tuple[Any, str]:
    return row["at"], row["caused_by"]


def _rows_by_cause(rows: Sequence[Row]) -> dict[tuple[Any, str], list[Row]]:
    by_cause: dict[tuple[Any, str], list[Row]] = {}
    for row in rows:
        by_cause.setdefault(_cause_key(row), []).append(row)
    return by_cause
