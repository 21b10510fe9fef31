"""/api/lead-qualification/lead-scores: the scores of the model `rules`, as callers of rule-based qualification know them.

`score` is the rounded total, and `qualification_stage` the band that the criteria decide. A score has the id of the
change that made it. "Calculate" evaluates now; if the result differs from what is stored, it goes through the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Query, Request
from msgspec import Struct
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.access import READ_SCOPE
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.bulk_scores import (
    LeadNumber,
    SeveralLeads,
    active_model,
    calculate_lead,
    progress_answer,
    running_recalculation,
    start_recalculation,
)
from gateway.api.execution_shapes import short_execution_json
from gateway.api.found_leads import found_lead, found_scorable_lead, lead_id_as_sent
from gateway.api.lead_as_of import computed_scores, execution_then
from gateway.api.lead_moment import AsKnown, AsOf, LeadRequest, lead_at, lead_request, lead_there_at
from gateway.api.lead_pages import PAGE, After, Limit, Offset, page_of, page_start
from gateway.api.leads import NO_NUL
from gateway.api.overrides import override_in_history, override_in_row
from gateway.api.points import plain
from gateway.api.recalculations import Recalculation
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.api.window import Anonymous
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.store import Row, StoreSnapshot
from projections import queries
from projections.lead_lists import LeadFilters, current_scores
from projections.lead_scores import points_by_group, recalculations_of, score_distribution
from projections.workflow_queries import executions_by_causes
from schemas.moment import millis, moment
from schemas.topics import lead_key
from scoring.models.model import ONE_POINT, Model, rounded_points

MODEL = "rules"
SCALE = "stage"
"""The set of the model's bands that is the qualification stage."""
PREFIX = "/api/lead-qualification/lead-scores"
LARGEST_BODY = 1_000_000
HISTORY = 100
MOST_EXECUTIONS = 1_000
"""Workflows that are listed beside a page of the history."""
RANGES = ("score_0_20", "score_20_40", "score_40_60", "score_60_80", "score_80_100")
EXAMPLES = example_bodies("lead_scores")
UNDER_WAY = answer_docs(
    EXAMPLES["recalculation_under_way"],
    "Some are not calculated yet: ask at `location` how far it is.",
    status=202,
)

router = APIRouter(prefix=PREFIX, tags=["lead scores"])


class OneLead(Struct):
    lead_id: LeadNumber


# Reading


@router.get(
    "/",
    summary="The scores of all leads, the highest first",
    responses=answer_docs(
        EXAMPLES["list"], "An array. The header `Link` has the address of the next page, if there is one."
    ),
)
@router.get("", include_in_schema=False)
async def scores(
    request: Request,
    *,
    lead_id: Annotated[
        str | None, Query(max_length=128, pattern=NO_NUL, description="Only this lead.")
    ] = None,
    qualification_stage: Annotated[
        str | None,
        Query(max_length=100, pattern=NO_NUL, description="Only leads in it: mql, sql, hot or none."),
    ] = None,
    min_score: Annotated[int | None, Query(ge=-(2**31), lt=2**31, description="The least score.")] = None,
    include_anonymous: Annotated[
        bool, Query(description="List visitors without a known identity, too.")
    ] = False,
    limit: Limit = PAGE,
    after: After = None,
    offset: Offset = 0,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    model = active_model(active, MODEL)
    if as_of is not None:
        if lead_id is None:
            reason = (
                "the score of one lead is shown as of a moment: name it; for lists there is /api/leads?as_of="
            )
            raise RequestProblem(422, reason, field="lead_id")
        moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
        shown_then = await _score_then(services, active, tenant, lead_id, moment_of_lead)
        stage = _stage_filter(model, qualification_stage)
        matching = [
            each
            for each in shown_then
            if (stage is None or each["qualification_stage"] == stage[1])
            and (min_score is None or each["score"] >= min_score)
        ]
        return JsonAnswer(matching)
    filters = LeadFilters(
        anonymous=include_anonymous or lead_id is not None,
        lead_id=lead_id,
        band=_stage_filter(model, qualification_stage),
        minimum=min_score,
    )
    start = page_start(after, offset)
    async with services.store.snapshot() as ask:
        page = page_of(await ask(current_scores(tenant, MODEL, filters, limit=limit + 1, start=start)), limit)
        shown = await _with_breakdowns(ask, tenant, model, page.rows, services.ports.now())
    return JsonAnswer(
        shown, headers=None if page.following is None else _next_page(request, after=page.following)
    )


@router.get(
    "/history/",
    summary="Every change of a lead's score, the newest first",
    responses=answer_docs(
        EXAMPLES["history"],
        "An array. The header `Link` has the address of the older changes, if there are any.",
    ),
)
@router.get("/history", include_in_schema=False)
async def history(
    request: Request,
    lead_id: Annotated[str, Query(max_length=128, pattern=NO_NUL)],
    limit: Limit = HISTORY,
    cursor: Annotated[
        str | None, Query(pattern=r"^-?\d{1,15}_\d{1,18}$", description="From the header `Link`.")
    ] = None,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    active = await services.ports.published(tenant)
    model = active_model(active, MODEL)
    before = None
    if cursor is not None:
        at, _, position = cursor.partition("_")
        before = queries.LedgerCursor(moment(int(at)), int(position))
    async with services.store.snapshot() as ask:
        lead = found_lead(await ask(queries.lead(tenant, lead_id)))
        if as_of is not None:
            then = await lead_there_at(ask, services.ports.past_leads, active, lead, moment_of_lead)
            lead, model = {**then.row, "lead_key": lead["lead_key"]}, active_model(then.active, MODEL)
        until = moment_of_lead.until
        rows = await ask(
            queries.ledger(tenant, lead_id, model=MODEL, limit=limit + 1, until=until, before=before)
        )
        entries = rows[:limit]
        newest = queries.LedgerCursor(entries[0]["at"], entries[0]["position"]) if entries else None
        sums = await ask(points_by_group([lead["lead_key"]], MODEL, newest)) if entries else ()
        overrides = await ask(queries.overrides(tenant, lead_id))
        causes = sorted({entry["caused_by"] for entry in entries})
        by_causes = executions_by_causes(tenant, lead["lead_id"], causes, limit=MOST_EXECUTIONS)
        executions = await ask(by_causes) if entries else ()
        if until is not None:
            executions = [execution_then(each, until) for each in executions if each["at"] <= until]
        triggered = _by_change(executions)
    points = _points(sums).get(lead["lead_key"], {})
    shown: list[dict[str, Any]] = []
    for entry in entries:
        score, previous = _whole(entry["total"]), _whole(entry["previous"])
        made = _Change(entry["at"], entry["position"], previous)
        override = override_in_history(overrides, entry["at"])
        score_then = _shape(tenant, lead, model, score, entry["bands"], made, points, entry["at"], override)
        score_then["removed"] = entry["removed"]
        shown.append({**score_then, "workflows": triggered.get((entry["at"], entry["caused_by"]), [])})
        points = _before(points, entry["lines"])
    more = len(rows) > limit
    oldest = f"{millis(entries[-1]['at'])}_{entries[-1]['position']}" if more else ""
    return JsonAnswer(shown, headers=_next_page(request, cursor=oldest) if more else None)


def _by_change(executions: Sequence[Row]) -> dict[tuple[datetime, str], list[dict[str, Any]]]:
    """What workflows did, by the moment and cause of the change of the score that came with it."""
    by_change: dict[tuple[datetime, str], list[dict[str, Any]]] = {}
    for row in executions:
        by_change.setdefault((row["at"], row["caused_by"]), []).append(short_execution_json(row))
    return by_change


@router.get(
    "/distribution/",
    summary="How many leads have which score, and the average",
    responses=answer_docs(
        EXAMPLES["distribution"],
        "Each range without its end, the last one with it. Without leads the average is 0.",
    ),
)
@router.get("/distribution", include_in_schema=False)
async def distribution(
    request: Request,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    rows = await services.store.rows(score_distribution(tenant, MODEL, anonymous=include_anonymous))
    leads = {int(row["number"]): row["leads"] for row in rows}
    count = sum(leads.values())
    points = Decimal(sum(row["points"] for row in rows))
    average = (points / count).quantize(Decimal("0.1"), ROUND_HALF_UP) if count else Decimal(0)
    return JsonAnswer(
        {**{name: leads.get(number, 0) for number, name in enumerate(RANGES)}, "avg_score": plain(average)}
    )


@router.get(
    "/recalculations/",
    summary="The nightly recalculations of all leads, the newest first",
    responses=answer_docs(
        EXAMPLES["recalculations"],
        "An array of at most 30. None are expected to find a lead that differs.",
    ),
)
@router.get("/recalculations", include_in_schema=False)
async def nightly_recalculations(request: Request) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    return JsonAnswer([_nightly(row) for row in await services.store.rows(recalculations_of(tenant))])


# Calculating


@router.post(
    "/calculate/",
    summary="Calculate a lead's score now",
    openapi_extra=request_docs(EXAMPLES["lead"], body_schema_of(OneLead)),
    responses={
        **answer_docs(EXAMPLES["score"], "The score as of now."),
        202: {"description": "The new score does not show yet: the one before, and `location`."},
    },
)
@router.post("/calculate", include_in_schema=False)
async def calculate(request: Request) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    lead_id = str(struct_of(await _body(request), OneLead).lead_id)
    active = await services.ports.published(tenant)
    model, now = active_model(active, MODEL), services.ports.now()
    found_scorable_lead(await services.store.rows(queries.lead(tenant, lead_id)), "calculate that")
    current = await calculate_lead(services, tenant, active, MODEL, lead_id, now)
    location = f"{PREFIX}/?lead_id={lead_id_as_sent(lead_id)}"
    if READ_SCOPE not in caller.scopes:  # a token that may only write sees no score
        return JsonAnswer({"lead": lead_id_as_sent(lead_id), "calculated": current}, 200 if current else 202)
    async with services.store.snapshot() as ask:
        rows = await ask(current_scores(tenant, MODEL, LeadFilters(anonymous=True, lead_id=lead_id), limit=1))
        shown = await _with_breakdowns(ask, tenant, model, rows, now)
    if not shown:
        raise RequestProblem(503, "the lead is not scored yet", field="lead_id", retry_after_s=1)
    if not current:
        return JsonAnswer(shown[0] | {"location": location}, 202)
    return JsonAnswer(shown[0] | {"calculated_at": max(now, rows[0]["as_of"])})


@router.post(
    "/bulk_calculate/",
    summary="Calculate the scores of several leads, or of all",
    openapi_extra=request_docs(EXAMPLES["bulk"], body_schema_of(SeveralLeads), required=False),
    responses={
        **answer_docs(EXAMPLES["recalculation"], "All are calculated."),
        **UNDER_WAY,
    },
)
@router.post("/bulk_calculate", include_in_schema=False)
async def bulk_calculate(request: Request) -> Response:
    services = services_of(request)
    tenant, _ = authorized_caller(request)
    body = await _body(request, empty={"recalculate_all": True})
    asked_for = struct_of(body, SeveralLeads)
    started = await start_recalculation(services, tenant, MODEL, asked_for)
    return progress_answer(started, _location_of(started))


@router.get(
    "/bulk_calculate/{recalculation_id}/",
    summary="How far a calculation of several leads is",
    responses={
        **answer_docs(EXAMPLES["recalculation"], "It has ended. It is known until the server restarts."),
        **UNDER_WAY,
    },
)
@router.get("/bulk_calculate/{recalculation_id}", include_in_schema=False)
async def bulk_progress(
    request: Request, recalculation_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
) -> Response:
    started = running_recalculation(services_of(request), tenant_of(request), recalculation_id)
    return progress_answer(started, _location_of(started))


def _location_of(recalculation: Recalculation) -> str:
    return f"{PREFIX}/bulk_calculate/{recalculation.id}/"


# Shapes


class _Change(NamedTuple):
    """What made a score: the entry of the ledger, and the rounded total before it."""

    at: datetime
    position: int
    previous: int


def _shape(
    tenant: str,
    lead: Row,
    model: Model,
    score: int,
    bands: Mapping[str, str | None],
    change: _Change | None,
    points: Mapping[str, Decimal],
    calculated_at: datetime,
    override: Mapping[str, Any] | None,
) -> dict[str, Any]:
    previous = 0 if change is None else change.previous
    return {
        "id": _score_id(tenant, lead["lead_id"], change),
        "lead": lead_id_as_sent(lead["lead_id"]),
        "lead_name": lead["name"] or lead["company"] or lead["lead_id"],
        "score": score,
        "previous_score": previous,
        "score_change": score - previous,
        "score_breakdown": {
            **{group.name: plain(points.get(group.name, Decimal(0))) for group in model.groups},
            **{name: plain(each) for name, each in sorted(points.items()) if name not in _groups(model)},
        },
        "qualification_stage": bands.get(SCALE),
        "calculated_at": calculated_at,
        **({} if override is None else {"qualification_override": override}),
    }


async def _score_then(
    services: ApiServices, active: ActiveRules, tenant: str, lead_id: str, request: LeadRequest
) -> list[dict[str, Any]]:
    """None, if there was no such lead then, or the model did not score it. Computed, or else what the ledger says."""
    async with services.store.snapshot() as ask:
        leads = await ask(queries.lead(tenant, lead_id))
        if not leads or queries.refuses_profiling(leads[0]):
            return []
        then = await lead_at(ask, services.ports.past_leads, active, leads[0], request)
        key, model = leads[0]["lead_key"], active_model(then.active, MODEL)
        entries, sums = await ask.all(
            queries.ledger(tenant, lead_id, model=MODEL, limit=1, until=request.until),
            points_by_group([key], MODEL, until=request.until),
        )
    if then.history == "not_yet_recorded" or queries.refuses_profiling(then.row) or then.has_nobody:
        return []
    last = entries[0] if entries else None
    if last is not None and last["removed"]:
        return []
    made = None if last is None else _Change(last["at"], last["position"], _whole(last["previous"]))
    points, computed = _points(sums).get(key, {}), computed_scores(then).get(MODEL)
    if computed is None:
        score, bands = (0, {}) if last is None else (_whole(last["total"]), last["bands"])
    else:
        score, bands, points = computed["rounded"], computed["bands"], _points_of_lines(computed["lines"])
    return [_shape(tenant, then.row, model, score, bands, made, points, then.at, then.override)]


def _points_of_lines(lines: Sequence[Mapping[str, Any]]) -> dict[str, Decimal]:
    """As `_points`, of the lines of a computed score."""
    points: dict[str, Decimal] = {}
    for line in lines:
        name = line["group"] or line["kind"]
        points[name] = points.get(name, Decimal(0)) + Decimal(str(line["points"]))
    return {name: each for name, each in points.items() if each}


def _score_id(tenant: str, lead_id: str, change: _Change | None) -> int:
    """The first 53 bits of a hash of what the ledger knows the score by: a number that JSON keeps exactly. The view
    `reports.lead_scores` has the same.
    """
    made = "" if change is None else f"{millis(change.at)} {change.position}"
    text = f"{lead_key(tenant, lead_id)} {MODEL} {made}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 11


async def _with_breakdowns(
    ask: StoreSnapshot, tenant: str, model: Model, rows: Sequence[Row], now: datetime
) -> list[dict[str, Any]]:
    keys = [row["lead_key"] for row in rows]
    points = _points(await ask(points_by_group(keys, MODEL)) if keys else ())
    shown = []
    for row in rows:
        made = None
        if row["changed_at"] is not None:
            made = _Change(row["changed_at"], row["changed_position"], _whole(row["previous"]))
        shown.append(
            _shape(
                tenant,
                row,
                model,
                row["rounded"],
                row["bands"],
                made,
                points.get(row["lead_key"], {}),
                row["as_of"],
                override_in_row(row, now),
            )
        )
    return shown


def _points(sums: Iterable[Row]) -> dict[int, dict[str, Decimal]]:
    """Lead key -> group -> its points. What belongs to no group (the limit, decay) is under its kind."""
    points: dict[int, dict[str, Decimal]] = {}
    for row in sums:
        of_lead, name = points.setdefault(row["lead_key"], {}), row["group"] or row["kind"]
        of_lead[name] = of_lead.get(name, Decimal(0)) + row["points"]
    return {key: {name: each for name, each in groups.items() if each} for key, groups in points.items()}


def _before(points: Mapping[str, Decimal], lines: Sequence[Any]) -> dict[str, Decimal]:
    """The points before a change with these lines."""
    earlier = dict(points)
    for group, _rule, kind, change in lines:
        name = group or kind
        earlier[name] = earlier.get(name, Decimal(0)) - Decimal(str(change))
    return {name: each for name, each in earlier.items() if each}


def _groups(model: Model) -> set[str]:
    return {group.name for group in model.groups}


def _whole(total: Decimal) -> int:
    return rounded_points(int(total * ONE_POINT))


def _next_page(request: Request, **changed: object) -> dict[str, str]:
    """A relative address, so that it is right behind any proxy."""
    address = request.url.remove_query_params("offset").include_query_params(**changed)
    return {"Link": f'<{address.path}?{address.query}>; rel="next"'}


def _nightly(row: Row) -> dict[str, Any]:
    return {
        "scheduled_for": row["scheduled_for"],
        "status": "running" if row["ended_at"] is None else "done",
        "started_by": row["started_by"],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "checked": row["checked"],
        "differing": row["differing"],
        "differences": row["differences"],
    }


# Parameters


def _stage_filter(model: Model, stage: str | None) -> tuple[str, str] | None:
    if stage is None:
        return None
    stages = model.band_sets.get(SCALE, ())
    if stage not in stages:
        raise RequestProblem(
            422, f"no such stage; there are {', '.join(stages) or 'none'}", field="qualification_stage"
        )
    return SCALE, stage


async def _body(request: Request, *, empty: dict[str, Any] | None = None) -> dict[str, Any]:
    body = await read_body(request, LARGEST_BODY)
    if empty is not None and not body.strip():
        return empty
    return json_object(body)
