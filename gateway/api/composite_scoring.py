"""/api/lead-tracking/scoring: a lead's score by the model `composite`, with its components.

`total_score` keeps its decimals, and is that of the moment `as_of`; lists elsewhere show it rounded. A component is
the sum of its rules, 0 to 100, before it is weighed. "Calculate" evaluates now; if the result differs from what is stored,
it goes through the log.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.access import READ_SCOPE
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.bulk_scores import (
    SeveralLeads,
    active_model,
    calculate_lead,
    progress_answer,
    running_recalculation,
    start_recalculation,
)
from gateway.api.found_leads import found_lead, found_scorable_lead, lead_id_as_sent, refuse_unscorable
from gateway.api.lead_as_of import LeadAsOf
from gateway.api.lead_moment import AsKnown, AsOf, lead_request, lead_there_at
from gateway.api.points import plain, points
from gateway.api.recalculations import Recalculation
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, refuse_fields, struct_of
from gateway.store import Row
from gateway.subject import subject_of
from projections import queries
from schemas.moment import millis
from scoring.models.model import Model, Subject
from scoring.models.points import ONE_WEIGHT
from scoring.models.score import ExplainedLine, explain_score, score_lead

MODEL = "composite"
PREFIX = "/api/lead-tracking/scoring"
GRADE, TEMPERATURE = "grade", "temperature"
"""The model's sets of bands."""
LARGEST_BODY = 1_000_000
EXAMPLES = example_bodies("composite_scoring")
UNDER_WAY = answer_docs(
    EXAMPLES["recalculation_under_way"],
    "Some are not calculated yet: ask at `location` how far it is.",
    status=202,
)

router = APIRouter(prefix=PREFIX, tags=["scoring"])


@router.post(
    "/bulk-calculate",
    summary="Calculate the scores of all leads, or of several",
    openapi_extra=request_docs(EXAMPLES["bulk"], body_schema_of(SeveralLeads), required=False),
    responses={
        **answer_docs(EXAMPLES["recalculation"], "All are calculated. Without a body, all leads are."),
        **UNDER_WAY,
    },
)
@router.post("/bulk-calculate/", include_in_schema=False)
async def bulk_calculate(request: Request) -> Response:
    services = services_of(request)
    tenant, _ = authorized_caller(request)
    started = await start_recalculation(services, tenant, MODEL, await _requested_leads(request))
    return progress_answer(started, _location_of(started))


@router.get(
    "/bulk-calculate/{recalculation_id}",
    summary="How far a calculation of several scores is",
    responses={
        **answer_docs(EXAMPLES["recalculation"], "It has ended. It is known until the server restarts."),
        **UNDER_WAY,
    },
)
@router.get("/bulk-calculate/{recalculation_id}/", include_in_schema=False)
async def bulk_progress(
    request: Request, recalculation_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
) -> Response:
    started = running_recalculation(services_of(request), tenant_of(request), recalculation_id)
    return progress_answer(started, _location_of(started))


@router.post(
    "/{lead_id:path}/calculate",
    summary="Calculate a lead's score now",
    responses={
        **answer_docs({**EXAMPLES["score"], "calculated": True}, "The score as of now. It needs no body."),
        **answer_docs(
            {**EXAMPLES["score"], "calculated": False},
            "The result is not stored yet: `calculated` is false.",
            status=202,
        ),
    },
)
@router.post("/{lead_id:path}/calculate/", include_in_schema=False)
async def calculate(request: Request, lead_id: str) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    refuse_fields(await read_body(request, LARGEST_BODY))
    active, now = await services.ports.published(tenant), services.ports.now()
    lead = found_scorable_lead(await services.store.rows(queries.lead(tenant, lead_id)), "calculate that")
    current = await calculate_lead(services, tenant, active, MODEL, lead_id, now)
    status = 200 if current else 202
    if READ_SCOPE not in caller.scopes:  # a token that may only write sees no score
        return JsonAnswer({"lead_id": lead_id_as_sent(lead_id), "calculated": current}, status)
    return JsonAnswer(
        {**await _score_json(services, active, tenant, lead, now), "calculated": current}, status
    )


@router.get(
    "/{lead_id:path}",
    summary="A lead's score with its components, grade and temperature",
    responses=answer_docs(EXAMPLES["score"], "The score as of now."),
)
async def score(request: Request, lead_id: str, as_of: AsOf = None, knowledge: AsKnown = "then") -> Response:
    services, tenant = services_of(request), tenant_of(request)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    active = await services.ports.published(tenant)
    statement = queries.lead(tenant, lead_id.removesuffix("/"))
    if as_of is None:
        lead = found_scorable_lead(await services.store.rows(statement), "ask for that")
        return JsonAnswer(await _score_json(services, active, tenant, lead, moment_of_lead.now))
    async with services.store.snapshot() as ask:
        lead = found_lead(await ask(statement))
        refuse_unscorable(lead)
        then = await lead_there_at(ask, services.ports.past_leads, active, lead, moment_of_lead)
    lead = found_scorable_lead([then.row], "ask for that")
    return JsonAnswer(_past_score_json(then))


def _past_score_json(then: LeadAsOf) -> dict[str, Any]:
    """Raises RequestProblem, if the features of that moment are not kept."""
    if then.subject is None:
        raise RequestProblem(409, "the features of that moment are not kept", field="as_of")
    model = active_model(then.active, MODEL)
    return {
        "lead_id": lead_id_as_sent(then.row["lead_id"]),
        "as_of": then.at,
        "score": components_json(then.active, model, then.subject, millis(then.at)),
    }


async def _score_json(
    services: ApiServices, active: ActiveRules, tenant: str, lead: Row, now: datetime
) -> dict[str, Any]:
    subject = await subject_of(services.store, tenant, lead["lead_id"], lead["stage"])
    if subject is None:
        raise RequestProblem(503, "the lead is not scored yet", field="lead_id", retry_after_s=1)
    model = active_model(active, MODEL)
    return {
        "lead_id": lead_id_as_sent(lead["lead_id"]),
        "as_of": now,
        "score": components_json(active, model, subject, millis(now)),
    }


def components_json(active: ActiveRules, model: Model, subject: Subject, now: int) -> dict[str, Any]:
    """The score at a moment, as the document of lead tracking prints it."""
    concluded = score_lead(model, subject, now, active.zone, active.idle_ms)
    lines = explain_score(model, subject, now, active.zone, active.idle_ms)
    weights = {group.name: Decimal(group.weight) / ONE_WEIGHT for group in model.groups}
    components = {
        name: plain(Decimal(str(points(_sum_of(lines, name)))) / weight if weight else Decimal(0))
        for name, weight in weights.items()
    }
    return {
        "total_score": points(concluded.total),
        "grade": concluded.bands.get(GRADE),
        "temperature": concluded.bands.get(TEMPERATURE),
        "components": components,
        "score_factors": {**components, "weights": {name: plain(each) for name, each in weights.items()}},
        "decay": points(sum(line.points for line in lines if line.kind == "decay")),
    }


def _sum_of(lines: Sequence[ExplainedLine], group: str) -> int:
    """With the group's cap, before the limits and the decay of the total."""
    return sum(line.points for line in lines if line.group == group)


def _location_of(recalculation: Recalculation) -> str:
    return f"{PREFIX}/bulk-calculate/{recalculation.id}"


async def _requested_leads(request: Request) -> SeveralLeads:
    """All leads, if the body is empty."""
    body = await read_body(request, LARGEST_BODY)
    if not body.strip():
        return SeveralLeads(recalculate_all=True)
    content = json_object(body)
    if not content:
        return SeveralLeads(recalculate_all=True)
    return struct_of(content, SeveralLeads)
