"""/api/leads: the board, one lead with the reason for every point, its ledger; /api/events/{id}.

Reads only. A lead is of one moment, whatever is shown of it (`gateway.api.lead_as_of`): its lines add up to its totals. Without
its features, its scores are what the ledger says.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import quote
from zlib import crc32

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api import statements
from gateway.api.causes import EventsById, by_id, cause_of
from gateway.api.contact_times import contact_times_in_row
from gateway.api.execution_shapes import short_execution_json
from gateway.api.explained_lead import LeadRequest, explain_lead
from gateway.api.found_leads import found_lead
from gateway.api.identity_joins import identities_json
from gateway.api.lead_as_of import Knowledge, execution_then
from gateway.api.lead_flags import bands_and_flags
from gateway.api.lead_merges import merges_json, merges_of_lead
from gateway.api.lead_pages import (
    PAGE,
    After,
    Limit,
    Offset,
    leads_page,
    next_offset,
    page_of,
    page_start,
)
from gateway.api.next_stages import next_stage_of_row
from gateway.api.overrides import override_in_row
from gateway.api.past_list import ListedLead, leads_then
from gateway.api.points import plain
from gateway.api.score_shapes import current_score_json
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.door.addresses import searched_addresses
from gateway.ports import EventKey, EventOutcome, location_of_outcome
from gateway.store import ReadStore, Row, StoreSnapshot
from gateway.subject import subjects_of
from gateway.wait import LookUpOutcomes
from projections import queries
from projections.lead_lists import LeadFilters, first_waking
from projections.past_leads import select_past_engagements
from projections.past_lists import past_page
from projections.row_keys import hashed_key
from projections.workflow_queries import executions_of_lead
from schemas.envelope import ANONYMOUS_PREFIX, Moment
from schemas.moment import millis, moment
from schemas.topics import visitor_key
from scoring.features.identity import is_anonymous
from scoring.features.signals import decimals_of

BOARD_MODEL = "temperature"
LONGEST_SEARCH = 320
"""Characters: a name and an e-mail address."""
MOST_OWNERS = 20
LEDGER_PAGE = 100
MINUTE_MS = 60_000
ENGAGEMENTS = 30
EXECUTIONS = 10
NO_NUL = r"^[^\x00]*$"

AsOf = Annotated[
    str | None,
    Query(
        description="A moment (RFC 3339). Lists have the past; one lead, the future, too.",
        json_schema_extra={"format": "date-time"},
    ),
]
ModelName = Annotated[str, Query(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


EXAMPLES = example_bodies("leads")
router = APIRouter(tags=["leads"])


@router.get(
    "/api/leads",
    summary="The board: leads, the highest score first",
    description="With `as_of`, the leads as they were recorded by then: scores, stages and profiles of that moment. "
    "A page has the highest rounded scores first, then the newest leads; leads that the model has not scored come "
    "last. `next` is the cursor of the next page: send it as `after`, with the same `sort` and filters. Any page is quick, and "
    "while scores change, a lead that keeps its score comes exactly once. `offset` counts leads instead, up to 100,000.",
    responses=answer_docs(EXAMPLES["board"], "The page of leads, highest score first."),
)
async def board(
    request: Request,
    sort: ModelName = BOARD_MODEL,
    include_anonymous: Annotated[
        bool | None,
        Query(
            description="Whether anonymous visitors are listed, too. By default only if nobody is identified yet."
        ),
    ] = None,
    stage: Annotated[str | None, Query(max_length=32, pattern=NO_NUL)] = None,
    band: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=LONGEST_SEARCH,
            pattern=NO_NUL,
            description="Words, each a part of what the row says: name, company, owner, stage, budget, property, type of the last event, "
            "id, or an e-mail address or phone number in any spelling.",
        ),
    ] = None,
    assigned_to: Annotated[
        list[Annotated[str, Query(max_length=512, pattern=NO_NUL)]] | None,
        Query(
            max_length=MOST_OWNERS,
            description="Only leads of this sales person; an empty one lists those that are assigned to nobody. May be repeated.",
        ),
    ] = None,
    silent_days: Annotated[
        int | None,
        Query(ge=1, le=36_500, description="Only leads without an interaction for so many days."),
    ] = None,
    as_of: AsOf = None,
    snoozed: Annotated[
        bool | None,
        Query(
            description="false leaves out leads that somebody has put off until later; true lists only these. By default both."
        ),
    ] = None,
    limit: Limit = PAGE,
    after: After = None,
    offset: Offset = 0,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    now = services.ports.now()
    at = None if as_of is None else moment_of(as_of, "as_of")
    active = await services.ports.published(tenant)
    if at is not None:
        filters_of_now = {"assigned_to": assigned_to, "silent_days": silent_days, "snoozed": snoozed}
        _refuse_what_lists_lack(at, now, filters_of_now)
    if sort not in {BOARD_MODEL, *active.models}:
        raise RequestProblem(
            422, f"no such model; active are {', '.join(sorted(active.models))}", field="sort"
        )
    in_band, start = _band(active, sort, band), page_start(after, offset)
    waking: Row | None = None
    async with services.store.snapshot() as ask:
        anonymous = include_anonymous
        if anonymous is None:
            anonymous = not await ask(queries.any_identified(tenant))
        filters = LeadFilters(
            anonymous=anonymous,
            stage=stage,
            band=in_band,
            search=q or None,
            owners=assigned_to or (),
            silent_since=None if silent_days is None else now - timedelta(days=silent_days),
            addresses=searched_addresses(q, services.ports.phone_region) if q else (),
            snoozed=snoozed,
            now=now,
        )
        if at is None:
            page = await leads_page(ask, tenant, sort, filters, start, limit)
            (waking,) = await ask(first_waking(tenant, now))
            listed = await _leads_now(ask, active, tenant, page.rows, now)
        else:
            rows = await ask(past_page(tenant, sort, filters, at, limit=limit + 1, start=start))
            page = page_of(rows, limit)
            then = await leads_then(ask, services.ports.past_leads, active, tenant, page.rows, at)
            listed = list(map(_listed_then, then))
    return JsonAnswer(
        {
            "leads": listed,
            "next": page.following,
            "includes_anonymous": anonymous,
            "next_waking": waking["until"] if waking else None,
            "models": sorted(active.models, key=lambda name: (name != BOARD_MODEL, name)),
            "next_offset": None
            if page.following is None or after is not None
            else next_offset(offset, limit),
            "as_of": now if at is None else at,
        }
    )


async def _leads_now(
    ask: StoreSnapshot, active: ActiveRules, tenant: str, rows: Sequence[Row], now: datetime
) -> list[dict[str, Any]]:
    keys = [row["lead_key"] for row in rows]
    scores, visits = await _scores(ask, keys), await _visits(ask, keys)
    subjects = await subjects_of(ask, tenant, rows)
    return [
        {
            **_listed(row, _shaped(scores.get(row["lead_key"], {}), active), visits.get(row["lead_key"], 0)),
            "qualification_override": override_in_row(row, now),
            "speed_to_lead": contact_times_in_row(row, now),
            "next_stage": next_stage_of_row(active, row, subjects.get(row["lead_id"]), now),
            "history": "complete",
        }
        for row in rows
    ]


def _listed_then(lead: ListedLead) -> dict[str, Any]:
    return {
        **_listed(lead.row, lead.scores, lead.visits),
        "qualification_override": lead.override,
        "speed_to_lead": lead.speed_to_lead,
        "next_stage": lead.next_stage,
        "history": lead.history,
    }


def _refuse_what_lists_lack(at: datetime, now: datetime, filters_of_now: Mapping[str, object]) -> None:
    """Raises RequestProblem: histories say neither the future of every lead nor to whom it was assigned."""
    if at > now:
        raise RequestProblem(
            422,
            "a list is of now or of the past; the future is computed of one lead: /api/leads/ID?as_of=",
            field="as_of",
        )
    for name, value in filters_of_now.items():
        if value is not None:
            raise RequestProblem(
                422, f"lists of the past cannot be filtered by {name}: leave it out", field=name
            )


@router.get(
    "/api/leads/{lead_id:path}/ledger",
    summary="Every change of a lead's scores, newest first",
    responses=answer_docs(EXAMPLES["ledger"], "A page of changes."),
)
async def ledger(
    request: Request,
    lead_id: str,
    model: ModelName | None = None,
    cursor: Annotated[str | None, Query(pattern=r"^-?\d{1,15}_\d{1,18}$")] = None,
    limit: Limit = LEDGER_PAGE,
) -> Response:
    tenant = tenant_of(request)
    async with services_of(request).store.snapshot() as ask:
        await _existing_lead(ask, tenant, lead_id)
        entries = await ask(
            queries.ledger(tenant, lead_id, model=model, limit=limit + 1, before=_ledger_cursor(cursor))
        )
        return JsonAnswer(await _ledger(ask, tenant, lead_id, entries, limit=limit))


@router.get(
    "/api/leads/{lead_id:path}",
    summary="A lead: profile, scores line by line, ledger, identities",
    description="Everything in the answer is of one moment, `as_of`. The past is what was recorded by then; `known=now` is what today is "
    "known of then: late events, and merges since. The future is what lifecycle and models say if nothing happens until then.",
    responses=answer_docs(EXAMPLES["lead"], "The lead at the moment `as_of`.")
    | {
        304: {"description": "The copy that `If-None-Match` names is still the same."},
        307: {
            "description": "The id is that of an anonymous visitor (`anon:...`) who is this lead now: `Location`."
        },
    },
)
async def lead(
    request: Request,
    lead_id: str,
    as_of: AsOf = None,
    knowledge: Annotated[
        Knowledge,
        Query(
            alias="known",
            description="Of a moment that is over. then: as it was recorded by then. now: by what is known today.",
        ),
    ] = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    ports, store = services.ports, services.store
    now = ports.now()
    at = now if as_of is None else moment_of(as_of, "as_of")
    active = await ports.published(tenant)
    moment_of_lead = LeadRequest(now, None if as_of is None else at, knowledge)
    async with store.snapshot() as ask:
        rows = await ask(queries.lead(tenant, lead_id))
        if not rows and (known_as := await _lead_of_visitor(ask, tenant, lead_id)) is not None:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/api/leads/{quote(known_as, safe='')}{query}")
        row = found_lead(rows)
        executions = await ask(
            executions_of_lead(tenant, lead_id, limit=EXECUTIONS, until=moment_of_lead.until)
        )
        tag = None if as_of is not None else _tag(row, executions, now)
        if tag is not None and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        entries = await ask(
            queries.ledger(tenant, lead_id, limit=LEDGER_PAGE + 1, until=moment_of_lead.until)
        )
        explained = await explain_lead(ask, ports.past_leads, active, row, moment_of_lead)
        shown = explained.shown
        engagements = await ask(
            select_past_engagements(
                [hashed_key(each["identity"]) for each in shown.identities],
                at,
                known_today=knowledge == "now",
                limit=ENGAGEMENTS,
            )
            if moment_of_lead.is_past
            else queries.engagements(tenant, lead_id, limit=ENGAGEMENTS)
        )
        ledger = await _ledger(ask, tenant, lead_id, entries, limit=LEDGER_PAGE)
        identities = await identities_json(ask, row["lead_id"], shown.identities)
        merges = await merges_of_lead(ask, shown.row, at if as_of is not None else None)
    content = {
        "as_of": at,
        "known": knowledge,
        "history": shown.history,
        "lead": {
            **_lead(shown.row, explained.scores),
            "qualification_override": shown.override,
            "speed_to_lead": explained.speed_to_lead,
            "next_stage": explained.next_stage,
        },
        "profile": shown.row["fields"],
        "counts": shown.row["counts"],
        "revenue": _revenue(shown.row["revenue"]),
        **merges_json(merges),
        **ledger,
        "identities": identities,
        "sessions": [session_row(each) for each in shown.sessions],
        "engagements": [_engagement(each) for each in engagements],
        "stages": [_stage(each) for each in shown.stages],
        "workflows": [
            short_execution_json(execution_then(each, at) if moment_of_lead.is_past else each)
            for each in executions
        ],
        "scores": explained.scores,
    }
    return JsonAnswer(content, headers={"ETag": tag} if tag else None)


@router.get(
    "/api/events/{event_id:path}",
    summary="What became of an event that was sent with ?wait=",
    description="Event ids are unique within a visitor or lead: `visitor_id` or `lead_id` chooses one of several.",
    responses=answer_docs(EXAMPLES["event"], "What became of it.")
    | answer_docs(
        EXAMPLES["several_events"],
        "Several visitors or leads have an event with this id: `choices` has their addresses.",
        status=409,
    )
    | {404: {"description": "It is not applied yet, or it was sent without `?wait=`."}},
)
async def event(
    request: Request,
    event_id: str,
    visitor_id: Annotated[str | None, Query(max_length=128, pattern=NO_NUL)] = None,
    lead_id: Annotated[str | None, Query(max_length=128, pattern=NO_NUL)] = None,
) -> Response:
    tenant = tenant_of(request)
    key = None if visitor_id is None else visitor_key(tenant, visitor_id)
    rows = await services_of(request).store.rows(
        statements.select_outcomes_under(tenant, event_id, key=key, lead_id=lead_id)
    )
    outcomes = _outcomes(rows)
    if not outcomes:
        raise RequestProblem(
            404, "not applied yet, or it was sent without ?wait=", field="event_id", retry_after_s=1
        )
    if len(outcomes) > 1:
        reason = "several visitors or leads have an event with this id: add visitor_id or lead_id"
        choices = [location_of_outcome(each) for each in outcomes]
        return JsonAnswer({"error": {"field": "event_id", "reason": reason}, "choices": choices}, 409)
    (outcome,) = outcomes.values()
    return JsonAnswer({"event_id": event_id, **outcome._asdict()})


def outcomes_from(store: ReadStore) -> LookUpOutcomes:
    """Looks up what became of events that a caller waits for."""

    async def look(events: Sequence[EventKey]) -> Mapping[EventKey, EventOutcome]:
        return _outcomes(await store.rows(statements.select_outcomes(events)))

    return look


def _outcomes(rows: Sequence[Row]) -> dict[EventKey, EventOutcome]:
    """The last outcome of each event."""
    return {
        EventKey(row["tenant"], row["key"], row["event_id"]): EventOutcome(
            row["outcome"], row["lead_id"], row["scores"]
        )
        for row in rows
    }


def _revenue(amounts: Mapping[str, Any] | None) -> dict[str, Decimal] | None:
    """By currency, with its decimals, which a number of JSON has lost."""
    if amounts is None:
        return None
    return {
        currency: Decimal(str(amount)).quantize(Decimal(1).scaleb(-decimals_of(currency)))
        for currency, amount in amounts.items()
    }


# Questions


async def _existing_lead(ask: StoreSnapshot, tenant: str, lead_id: str) -> Row:
    return found_lead(await ask(queries.lead(tenant, lead_id)))


async def _lead_of_visitor(ask: StoreSnapshot, tenant: str, lead_id: str) -> str | None:
    """Whom an anonymous visitor turned out to be; None: it is no visitor's id, or nobody knows."""
    if not is_anonymous(lead_id):
        return None
    rows = await ask(queries.lead_of_visitor(tenant, lead_id.removeprefix(ANONYMOUS_PREFIX)))
    return next((row["lead_id"] for row in rows if row["lead_id"] != lead_id), None)


async def _scores(ask: StoreSnapshot, lead_keys: Sequence[int]) -> dict[int, dict[str, Row]]:
    """Lead key -> model -> its current score."""
    scores: dict[int, dict[str, Row]] = {}
    for row in await ask(statements.select_scores_of(lead_keys)) if lead_keys else ():
        scores.setdefault(row["lead_key"], {})[row["model"]] = row
    return scores


async def _visits(ask: StoreSnapshot, lead_keys: Sequence[int]) -> dict[int, int]:
    """Lead key -> the number of its web sessions."""
    rows = await ask(statements.select_session_counts(lead_keys)) if lead_keys else ()
    return {row["lead_key"]: row["sessions"] for row in rows}


def _tag(row: Row, executions: Sequence[Row], now: datetime) -> str:
    """Every change of a lead writes its row again, from a later record of the log. What becomes of an execution does not, nor
    does time, by which totals and days change: so an answer is the same for the rest of its minute.
    """
    states = "|".join(f"{each['execution_id']} {each['status']} {each['attempts']}" for each in executions)
    return (
        f'"{row["position"]}-{millis(row["as_of"])}-{crc32(states.encode()):x}-{millis(now) // MINUTE_MS:x}"'
    )


async def _ledger(
    ask: StoreSnapshot, tenant: str, lead_id: str, rows: Sequence[Row], *, limit: int
) -> dict[str, Any]:
    """A page of the ledger, from one entry more than it has if there are more."""
    entries = rows[:limit]
    ids = sorted({cause for entry in entries if (cause := _event_of(entry["caused_by"])) is not None})
    events = by_id(await ask(statements.select_events_named(tenant, lead_id, ids)) if ids else ())
    last = entries[-1] if len(rows) > limit else None
    return {
        "ledger": [_entry(entry, events) for entry in entries],
        "next_cursor": None if last is None else f"{millis(last['at'])}_{last['position']}",
    }


# Shapes


def _listed(row: Row, scores: Mapping[str, dict[str, Any]], visits: int) -> dict[str, Any]:
    page_views = row["counts"].get("page_viewed", 0)
    return {**_lead(row, scores), "page_views": page_views, "sessions": visits, "scores": scores}


def _lead(row: Row, scores: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The lead as it is now, with the temperature that `scores` have."""
    counts = row["counts"]
    scans, views, messages = (
        counts.get(signal, 0) for signal in ("qr_scanned", "catalog_viewed", "message_received")
    )
    warmth, refuses = scores.get(BOARD_MODEL), queries.refuses_profiling(row)
    return {
        **{name: row[name] for name in LEAD_FIELDS},
        "lead_score": None if refuses else warmth["rounded"] if warmth else 0,
        "temperature": warmth["bands"].get(BOARD_MODEL) if warmth else None,
        "do_not_score": refuses,
        "qr_scan_count": scans,
        "catalog_views": views,
        "messages_count": messages,
        "total_interactions": scans + views + messages,
        "snoozed_until": row["snoozed_until"],
    }


LEAD_FIELDS = (
    "lead_id",
    "identified",
    "name",
    "phone",
    "email",
    "company",
    "assigned_to",
    "stage",
    "created_at",
    "last_interaction_at",
)


def _shaped(scores: Mapping[str, Row], active: ActiveRules) -> dict[str, dict[str, Any]]:
    return {model: current_score_json(row, active.models.get(model)) for model, row in scores.items()}


def _entry(row: Row, events: EventsById) -> dict[str, Any]:
    event = cause_of(events, _event_of(row["caused_by"]), row["at"])
    return {
        "at": row["at"],
        "model": row["model"],
        "version": row["version"],
        "change": plain(row["change"]),
        "previous": plain(row["previous"]),
        "total": plain(row["total"]),
        "removed": row["removed"],
        **bands_and_flags(row["bands"]),
        "lines": [
            {"group": group, "rule": rule, "kind": kind, "points": line_points}
            for group, rule, kind, line_points in row["lines"]
        ],
        "caused_by": row["caused_by"],
        "event": None
        if event is None
        else {
            "event_id": event["event_id"],
            "type": event["type"],
            "occurred_at": event["occurred_at"],
            "source": event["source"],
            "name": (event["details"] or {}).get("name") if event["type"] == "custom" else None,
            "about": event["title"] or (event["details"] or {}).get("text") or event["url"],
        },
    }


def _event_of(caused_by: str) -> str | None:
    kind, _, event_id = caused_by.partition(":")
    return event_id if kind == "event" else None


def session_row(row: Row) -> dict[str, Any]:
    return {
        "session_id": row["producer_id"] or row["session_id"],
        "started_at": row["opened_at"],
        "last_at": row["last_at"],
        "duration_seconds": int((row["last_at"] - row["opened_at"]).total_seconds()),
        "pages": row["pages"],
        "clicks": row["clicks"] + row["important_clicks"],
        "score": None if row["score"] is None else plain(row["score"]),
        "ended": bool(row["ended"]),
    }


def _engagement(row: Row) -> dict[str, Any]:
    return {
        "event_id": row["event_id"],
        "type": row["type"],
        "occurred_at": row["occurred_at"],
        "source": row["source"],
        "channel": row["channel"],
        "channel_group": row["channel_group"],
        "title": row["title"],
        "url": row["url"],
        "details": row["details"],
        "late": row["late"],
    }


def _stage(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("stage", "previous", "reason", "at", "caused_by")}


# Parameters


def _band(active: ActiveRules, model: str, band: str | None) -> tuple[str, str] | None:
    """`hot`, or `temperature:hot` if several of the model's scales have a band of that name."""
    if band is None:
        return None
    scale, colon, name = band.rpartition(":")
    sorting = active.models.get(model)
    if sorting is None:
        raise RequestProblem(422, f"no model {model} is active, so nobody is in a band of it", field="band")
    sets = sorting.band_sets
    for each, bands in sets.items():
        if (not colon or each == scale) and name in bands:
            return each, name
    names = sorted({name for bands in sets.values() for name in bands})
    raise RequestProblem(422, f"{model} has no such band; it has {', '.join(names) or 'none'}", field="band")


def _ledger_cursor(cursor: str | None) -> queries.LedgerCursor | None:
    if cursor is None:
        return None
    at, _, position = cursor.partition("_")
    return queries.LedgerCursor(moment(int(at)), int(position))


def moment_of(text: str, parameter: str) -> datetime:
    try:
        return msgspec.convert(text, Moment)
    except msgspec.ValidationError:
        raise RequestProblem(422, "a time like 2030-01-31T12:00:00Z is needed", field=parameter) from None
