"""`leadstream explain`: reads what is known of one lead and hands it to `lead_words`.

Reads only, beside a running server or without one. Of now and of the past it tells what was said then;
the future is evaluated from what is known, as if nothing happened until then, and it says so.
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
from gateway.api.leads import BOARD_MODEL
from gateway.api.statements import events_named, lead_of_visitor
from gateway.store import Ask, ReadStore, Row
from gateway.subject import subject_of
from leadstream.console import Failure
from leadstream.in_force import published_port
from leadstream.operations import explanations as words
from projections import queries
from schemas.envelope import ANONYMOUS
from schemas.moment import millis
from scoring.models.model import ONE_POINT, Explained, Model, Subject, VectorEntry, conclude
from scoring.models.model import explain as explained_by

CHANGES = 10
ENTRIES = 500
"""Of the ledger, so many are read to find the latest changes; one cause makes an entry per model."""
LIKE = 50
SUGGESTED = 3


class ExplainRequest(NamedTuple):
    tenant: str
    lead_id: str
    model: str | None
    as_of: str | None
    """As the user wrote it."""
    changes: int = CHANGES


class LeadFacts(NamedTuple):
    """What the read models say of a lead, at one moment."""

    lead: Row
    scores: Sequence[Row]
    lines: Sequence[Row]
    ledger: Sequence[Row]
    identities: Sequence[Row]
    stages: Sequence[Row]
    bands: Sequence[Row]
    events: Mapping[str, Row]


def explain(database_url: str, asked: ExplainRequest, now: datetime) -> list[str]:
    """The lead in words, a line each. Raises Failure."""
    try:
        return asyncio.run(_explained(database_url, asked, now))
    except RequestProblem as cause:
        raise Failure(f"The read models cannot be read: {cause.reason}.") from cause


async def _explained(database_url: str, asked: ExplainRequest, now: datetime) -> list[str]:
    in_force = await published_port(database_url)(asked.tenant)
    zone = ZoneInfo(in_force.zone.time_zone)
    clock = words.Clock(now, zone)
    at = None if asked.as_of is None else _moment(asked.as_of, zone)
    until = None if at is None or at > now else at
    store = ReadStore(database_url)
    await store.open()
    try:
        async with store.moment() as ask:
            known = await _known(ask, asked, until)
        subject = None if until else await subject_of(store, asked.tenant, asked.lead_id, known.lead["stage"])
    finally:
        await store.close()
    return list(_told(asked, known, subject, in_force, clock, at))


def _told(
    asked: ExplainRequest,
    known: LeadFacts,
    subject: Subject | None,
    in_force: ActiveRules,
    clock: words.Clock,
    at: datetime | None,
) -> Iterator[str]:
    lead = known.lead
    if at is not None and at < lead["created_at"]:
        raise Failure(
            f"Nobody had heard of {asked.lead_id} then: it was first seen {clock.date(lead['created_at'])}."
        )
    yield from words.who(lead, known.stages, known.identities, clock, past=at is not None and at <= clock.now)
    if lead["redirect"]:
        yield f"  Merged into {lead['redirect']}, which scores for it: leadstream explain {lead['redirect']}"
    if at is not None:
        yield f"  {'As it was' if at <= clock.now else 'As it will be, if nothing happens,'} {clock.date(at)}"
    if at is not None and at > clock.now:
        scores = _to_come(in_force, subject, at)
    else:
        scores = [_score(row, known.lines, in_force, subject, clock.now) for row in known.scores]
    if asked.model is not None and asked.model not in {*in_force.models, *(each.model for each in scores)}:
        raise Failure(
            f"There is no model {asked.model!r}; in force are {', '.join(sorted(in_force.models))}."
        )
    for score in sorted(scores, key=_first_the_boards):
        if asked.model not in {None, score.model}:
            continue
        yield ""
        yield from words.breakdown(score, clock)
    causes = list(islice(words.gathered(_causes(known, clock, asked.model), clock), asked.changes))
    if causes:
        yield ""
        yield "Latest changes"
        yield from (f"  {line}" for line in words.history(causes, clock))


# Reading


async def _known(ask: Ask, asked: ExplainRequest, until: datetime | None) -> LeadFacts:
    tenant, lead_id = asked.tenant, asked.lead_id
    found = await ask(queries.lead(tenant, lead_id))
    if not found:
        raise Failure(await _unknown(ask, tenant, lead_id))
    scores = (
        queries.scores(tenant, lead_id) if until is None else queries.last_changes(tenant, lead_id, until)
    )
    said, lines, ledger, identities, stages, bands = await ask.all(
        scores,
        queries.breakdowns(tenant, lead_id, until),
        queries.ledger(tenant, lead_id, model=asked.model, limit=ENTRIES, until=until),
        queries.identities_of(tenant, lead_id),
        queries.stages(tenant, lead_id),
        queries.bands(tenant, lead_id),
    )
    ids = sorted({event for row in [*ledger, *stages] if (event := _event_of(row["caused_by"]))})
    events = await ask(events_named(tenant, lead_id, ids)) if ids else ()
    past = [row for row in stages if until is None or row["at"] <= until]
    return LeadFacts(
        found[0], said, lines, ledger, identities, past, bands, {row["event_id"]: row for row in events}
    )


def _event_of(caused_by: str) -> str | None:
    kind, _, event_id = caused_by.partition(":")
    return event_id if kind in {"event", "redirect"} else None


async def _unknown(ask: Ask, tenant: str, given: str) -> str:
    """No lead has this id: which one may be meant."""
    visitor = given.removeprefix(ANONYMOUS)
    behind = await ask(lead_of_visitor(tenant, visitor))
    if behind:
        lead_id = behind[0]["lead_id"]
        return f"{visitor} is a visitor, and behind it is the lead {lead_id}: leadstream explain {lead_id}"
    found = await _alike(ask, tenant, given)
    if not found:
        return (
            f"There is no lead {given!r} of tenant {tenant!r}: ids are on the board and at /api/leads?q=NAME."
        )
    ranked = sorted(found, key=lambda row: -_likeness(row, given))[:SUGGESTED]
    meant = " or ".join(
        f"{row['lead_id']} ({row['name'] or row['email'] or 'anonymous'})"
        if row["name"] or row["email"]
        else row["lead_id"]
        for row in ranked
    )
    return f"There is no lead {given!r}; did you mean {meant}?"


async def _alike(ask: Ask, tenant: str, given: str) -> Sequence[Row]:
    """Leads in whose name, e-mail, phone or id the text occurs; else its beginning, ever shorter."""
    for length in range(len(given), max(2, len(given) // 2 - 1), -1):
        filters = queries.Filters(anonymous=True, search=given[:length])
        found = await ask(queries.leads(tenant, model=BOARD_MODEL, filters=filters, limit=LIKE))
        if found:
            return found
    return ()


def _likeness(row: Row, given: str) -> float:
    texts = [row[name] for name in ("lead_id", "name", "email", "phone") if row[name]]
    return max(difflib.SequenceMatcher(None, given.casefold(), text.casefold()).ratio() for text in texts)


def _moment(text: str, zone: ZoneInfo) -> datetime:
    """A date is its midnight; without an offset, it is of the tenant's zone."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise Failure(
            f"--as-of {text!r} is no moment: give 2030-01-31, 2030-01-31T12:00 or 2030-01-31T12:00:00Z."
        ) from cause


# Scores


def _first_the_boards(score: words.Score) -> tuple[bool, bool, str]:
    """And last those that know nothing of the lead."""
    return score.model != BOARD_MODEL, not score.lines, score.model


def _score(
    row: Row, lines: Sequence[Row], in_force: ActiveRules, subject: Subject | None, now: datetime
) -> words.Score:
    """What the model said last.

    The ledger is silent about what changes no total (a sixteenth message where ten count), so the lines
    are those of the features, if they sum to the score now, or did when it was said; else the ledger's.
    """
    name, at = row["model"], row["as_of"] if "as_of" in row else row["at"]
    model = in_force.models.get(name)
    places = {slot: place for place, slot in enumerate(model.slots if model else ())}
    told = sorted(
        (
            words.BreakdownLine(line["group"], line["rule"], line["kind"], line["points"])
            for line in lines
            if line["model"] == name
        ),
        key=lambda line: (
            places.get(VectorEntry(line.group, line.rule, line.kind), len(places)),
            not line.group,
            line,
        ),
    )
    score = words.Score(name, row["total"], row["bands"], told)
    if model is None or subject is None:
        return score
    evident: list[Explained] = []
    for moment in (now, at):
        evident = explained_by(model, subject, millis(moment), in_force.zone, in_force.idle_ms)
        if Decimal(sum(line.points for line in evident)) / ONE_POINT == row["total"]:
            return _evident(score, evident)._replace(as_of=None if moment == now else at)
    texts = {line[:4]: line.evidence for line in map(_line, evident)}
    return score._replace(lines=[line._replace(evidence=texts.get(line[:4], "")) for line in told])


def _evident(score: words.Score, evident: Sequence[Explained]) -> words.Score:
    """The score with the lines of the features, in the model's order, and what gives nothing."""
    return score._replace(
        lines=[_line(line) for line in evident if line.points],
        nothing_for=[line.rule for line in evident if not line.points],
    )


def _line(line: Explained) -> words.BreakdownLine:
    points = Decimal(line.points) / ONE_POINT
    return words.BreakdownLine(line.group, line.rule, line.kind, points, words.evidence(line.text, line.rule))


def _to_come(in_force: ActiveRules, subject: Subject | None, at: datetime) -> list[words.Score]:
    if subject is None:
        raise Failure("The future needs the lead's features, which this store does not keep.")
    return [_then(name, model, subject, in_force, at) for name, model in sorted(in_force.models.items())]


def _then(name: str, model: Model, subject: Subject, in_force: ActiveRules, at: datetime) -> words.Score:
    concluded = conclude(model, subject, millis(at), in_force.zone, in_force.idle_ms)
    evident = explained_by(model, subject, millis(at), in_force.zone, in_force.idle_ms)
    return _evident(words.Score(name, Decimal(concluded.total) / ONE_POINT, concluded.bands, []), evident)


# Changes


def _causes(known: LeadFacts, clock: words.Clock, model: str | None) -> Iterator[words.Cause]:
    """The ledger by cause, the latest first, with the stages and bands that it brought."""
    stages, bands = _by_cause(known.stages), _by_cause(known.bands)
    for (at, caused_by), rows in groupby(known.ledger, key=_place):
        entries = sorted(rows, key=lambda row: str(row["model"]))
        event = known.events.get(_event_of(caused_by) or "")
        yield words.Cause(
            at,
            words.why(caused_by, event, entries[0], clock),
            entries,
            stages.get((at, caused_by), ()) if model is None else (),
            bands.get((at, caused_by), ()),
            caused_by.startswith("due:"),
        )


def _place(row: Row) -> tuple[Any, str]:
    return row["at"], row["caused_by"]


def _by_cause(rows: Sequence[Row]) -> dict[tuple[Any, str], list[Row]]:
    found: dict[tuple[Any, str], list[Row]] = {}
    for row in rows:
        found.setdefault(_place(row), []).append(row)
    return found
