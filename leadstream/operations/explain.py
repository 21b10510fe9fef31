"""`leadstream explain`: reads one lead from the read models and passes it to `explanations`.

It only reads, with or without a running server. For now and the past it shows the recorded scores. For the
future it evaluates the current state, as if no event happened until then, and the output says so.
"""

import asyncio
import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from authoring.active_models import ActiveRules
from gateway.answers import RequestProblem
from gateway.api.causes import EventsById, by_id, cause_of
from gateway.api.execution_shapes import outcome_text
from gateway.api.lead_pages import leads_page
from gateway.api.leads import BOARD_MODEL
from gateway.api.overrides import override_in_history, override_in_row
from gateway.api.statements import select_events_named, select_lead_of_visitor
from gateway.store import ReadStore, Row, StoreSnapshot
from gateway.subject import subject_of
from leadstream.active_models import published_port
from leadstream.console import Failure
from leadstream.operations import explanations
from projections import queries
from projections.lead_lists import FIRST_PAGE, LeadFilters
from projections.workflow_queries import executions_of_lead
from schemas.envelope import ANONYMOUS_PREFIX
from schemas.moment import millis
from scoring.models.flags import RaisedFlag, raised_flags
from scoring.models.model import (
    ONE_POINT,
    ExplainedLine,
    LineLabel,
    Model,
    Subject,
    explain_flags,
    score_lead,
)
from scoring.models.model import explain_score as explained_by

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


class ExplainedLead(NamedTuple):
    """The rows of a lead in the read models, at one moment."""

    lead: Row
    scores: Sequence[Row]
    lines: Sequence[Row]
    ledger: Sequence[Row]
    identities: Sequence[Row]
    stages: Sequence[Row]
    bands: Sequence[Row]
    overrides: Sequence[Row]
    executions: Sequence[Row]
    events: EventsById


def explain_lead(database_url: str, request: ExplainRequest, now: datetime) -> list[str]:
    """The lead in words, a line each. Raises Failure."""
    try:
        return asyncio.run(_explanation(database_url, request, now))
    except RequestProblem as cause:
        raise Failure(f"The read models cannot be read: {cause.reason}.") from cause


async def _explanation(database_url: str, request: ExplainRequest, now: datetime) -> list[str]:
    active = await published_port(database_url)(request.tenant)
    zone = ZoneInfo(active.zone.time_zone)
    clock = explanations.ExplanationClock(now, zone)
    at = None if request.as_of is None else _read_moment(request.as_of, zone)
    until = None if at is None or at > now else at
    store = ReadStore(database_url)
    await store.open()
    try:
        async with store.snapshot() as ask:
            facts = await _lead_facts(ask, request, until)
        subject = (
            None if until else await subject_of(store, request.tenant, request.lead_id, facts.lead["stage"])
        )
    finally:
        await store.close()
    return list(_lines_of_lead(request, facts, subject, active, clock, at))


def _lines_of_lead(
    request: ExplainRequest,
    facts: ExplainedLead,
    subject: Subject | None,
    active: ActiveRules,
    clock: explanations.ExplanationClock,
    at: datetime | None,
) -> Iterator[str]:
    lead = facts.lead
    if at is not None and at < lead["created_at"]:
        raise Failure(
            f"{request.lead_id} did not exist then: it was first seen {clock.date(lead['created_at'])}."
        )
    yield from explanations.lead_summary(
        lead, facts.stages, facts.identities, clock, past=at is not None and at <= clock.now
    )
    override = (
        override_in_history(facts.overrides, at)
        if at is not None and at <= clock.now
        else override_in_row(lead, at or clock.now)
    )
    if override is not None:
        yield f"  {explanations.override_in_words(override, clock)}"
    if lead["redirect"]:
        yield f"  Merged into {lead['redirect']}, which scores for it: leadstream explain {lead['redirect']}"
    if at is not None:
        yield f"  {'As it was' if at <= clock.now else 'As it will be, if nothing happens,'} {clock.date(at)}"
    if at is not None and at > clock.now:
        refuses = queries.refuses_profiling(lead)
        scores = [] if refuses else _future_scores(active, subject, at)
    else:
        scores = [_current_score(row, facts.lines, active, subject, clock.now) for row in facts.scores]
    if request.model is not None and request.model not in {*active.models, *(each.model for each in scores)}:
        raise Failure(f"There is no model {request.model!r}; active are {', '.join(sorted(active.models))}.")
    for score in sorted(scores, key=_board_model_first):
        if request.model not in {None, score.model}:
            continue
        yield ""
        yield from explanations.breakdown_lines(score, clock)
    causes = list(
        islice(
            explanations.with_time_merged(_causes_of_changes(facts, clock, request.model), clock),
            request.changes,
        )
    )
    if causes:
        yield ""
        yield "Latest changes"
        yield from (f"  {line}" for line in explanations.history_lines(causes, clock))
    if facts.executions:
        yield ""
        yield "Latest workflows"
        shown = [{**row, "outcome": outcome_text(row)} for row in facts.executions]
        yield from (f"  {line}" for line in explanations.execution_lines(shown, clock))


# Reading


async def _lead_facts(ask: StoreSnapshot, request: ExplainRequest, until: datetime | None) -> ExplainedLead:
    tenant, lead_id = request.tenant, request.lead_id
    leads = await ask(queries.lead(tenant, lead_id))
    if not leads:
        raise Failure(await _no_such_lead_text(ask, tenant, lead_id))
    scores = (
        queries.scores(tenant, lead_id) if until is None else queries.last_changes(tenant, lead_id, until)
    )
    score_rows, lines, ledger, identities, stages, bands, overrides, executions = await ask.all(
        scores,
        queries.breakdowns(tenant, lead_id, until),
        queries.ledger(tenant, lead_id, model=request.model, limit=MOST_LEDGER_ENTRIES, until=until),
        queries.identities_of(tenant, lead_id),
        queries.stages(tenant, lead_id),
        queries.bands(tenant, lead_id),
        queries.overrides(tenant, lead_id),
        executions_of_lead(tenant, lead_id, limit=request.changes, until=until),
    )
    ids = sorted({event for row in [*ledger, *stages] if (event := _event_of(row["caused_by"]))})
    events = await ask(select_events_named(tenant, lead_id, ids)) if ids else ()
    past = [row for row in stages if until is None or row["at"] <= until]
    return ExplainedLead(
        leads[0], score_rows, lines, ledger, identities, past, bands, overrides, executions, by_id(events)
    )


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


def _board_model_first(score: explanations.ExplainedScore) -> tuple[bool, bool, str]:
    """Sorts the board's model first, and models without a line for the lead last."""
    return score.model != BOARD_MODEL, not score.lines, score.model


def _current_score(
    row: Row, lines: Sequence[Row], active: ActiveRules, subject: Subject | None, now: datetime
) -> explanations.ExplainedScore:
    """The latest score of a model, with its lines.

    The ledger lacks changes that leave the total the same (a sixteenth message where ten count). So the lines
    are computed from the features, if they sum to the score now or when it was recorded; else they are the ledger's.
    """
    name, at = row["model"], row["as_of"] if "as_of" in row else row["at"]
    model = active.models.get(name)
    order = {entry: index for index, entry in enumerate(model.line_labels if model else ())}
    recorded_lines = sorted(
        (
            explanations.BreakdownLine(line["group"], line["rule"], line["kind"], line["points"])
            for line in lines
            if line["model"] == name
        ),
        key=lambda line: (
            order.get(LineLabel(line.group, line.rule, line.kind), len(order)),
            not line.group,
            line,
        ),
    )
    score = explanations.ExplainedScore(name, row["total"], row["bands"], recorded_lines)
    if model is None or subject is None:
        return score
    score = score._replace(
        of_ended_visits=model.scores_sessions, flags=_flags_of(model, subject, active, row["bands"], at)
    )
    evident: list[ExplainedLine] = []
    for moment in (now, at):
        evident = explained_by(model, subject, millis(moment), active.zone, active.idle_ms)
        if Decimal(sum(line.points for line in evident)) / ONE_POINT == row["total"]:
            return _score_with_evidence(score, evident)._replace(as_of=None if moment == now else at)
    texts = {line[:4]: line.evidence for line in map(_line_with_evidence, evident)}
    return score._replace(lines=[line._replace(evidence=texts.get(line[:4], "")) for line in recorded_lines])


def _flags_of(
    model: Model, subject: Subject, active: ActiveRules, bands: Mapping[str, str | None], at: datetime
) -> list[RaisedFlag]:
    """The flags with their evidence, if the features of that moment raise the same ones."""
    evident = explain_flags(model, subject, millis(at), active.zone, active.idle_ms)
    recorded = raised_flags(bands, model.flags)
    same = [flag.name for flag in evident] == [flag.name for flag in recorded]
    return evident if same else recorded


def _score_with_evidence(
    score: explanations.ExplainedScore, evident: Sequence[ExplainedLine]
) -> explanations.ExplainedScore:
    """The score with the lines computed from the features, in the model's order, and the rules without points."""
    return score._replace(
        lines=[_line_with_evidence(line) for line in evident if line.points],
        nothing_for=[line.rule for line in evident if not line.points],
    )


def _line_with_evidence(line: ExplainedLine) -> explanations.BreakdownLine:
    points = Decimal(line.points) / ONE_POINT
    return explanations.BreakdownLine(
        line.group, line.rule, line.kind, points, explanations.evidence_to_show(line.text, line.rule)
    )


def _future_scores(
    active: ActiveRules, subject: Subject | None, at: datetime
) -> list[explanations.ExplainedScore]:
    if subject is None:
        raise Failure("The future needs the lead's features, which this store does not keep.")
    return [_future_score(name, model, subject, active, at) for name, model in sorted(active.models.items())]


def _future_score(
    name: str, model: Model, subject: Subject, active: ActiveRules, at: datetime
) -> explanations.ExplainedScore:
    concluded = score_lead(model, subject, millis(at), active.zone, active.idle_ms)
    evident = explained_by(model, subject, millis(at), active.zone, active.idle_ms)
    return _score_with_evidence(
        explanations.ExplainedScore(
            name,
            Decimal(concluded.total) / ONE_POINT,
            concluded.bands,
            [],
            flags=_flags_of(model, subject, active, concluded.bands, at),
        ),
        evident,
    )


# Changes


def _causes_of_changes(
    facts: ExplainedLead, clock: explanations.ExplanationClock, model: str | None
) -> Iterator[explanations.ExplainedCause]:
    """The ledger by cause, the latest first, with the changes of stage and band of each cause."""
    stages, bands = _rows_by_cause(facts.stages), _rows_by_cause(facts.bands)
    for (at, caused_by), rows in groupby(facts.ledger, key=_cause_key):
        entries = sorted(rows, key=lambda row: str(row["model"]))
        event = cause_of(facts.events, _event_of(caused_by), at)
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
