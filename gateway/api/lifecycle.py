"""/api/lead-tracking/lifecycle: the stage of a lead, its history, and moving a lead by hand.

A move is an event in the log like any other: it is answered once it is applied, with what is stored then
(202: the folds have not come to it in time). It decides nothing that the lifecycle's rules say.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Request
from msgspec import Struct
from starlette.responses import Response

from gateway.access import READ_SCOPE
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import found_lead, found_unmerged_lead, lead_id_as_sent, merged_into
from gateway.api.lead_moment import (
    AsKnown,
    AsOf,
    LeadRequest,
    identity_keys_of,
    lead_request,
    lead_there_at,
)
from gateway.api.points import plain
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.ports import event_key, location_of_outcome
from gateway.store import Row, StoreSnapshot
from projections import queries
from projections.lifecycle import ENGAGEMENT_MODEL_AND_GROUP, PastStages, select_stage_spans
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import ANONYMOUS_PREFIX, Line
from schemas.events import Stage, StageChanged
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.calendar import DAY_MS, DAY_SECONDS
from scoring.features.identity import is_anonymous
from scoring.lifecycle.lifecycle import Transition, compile_lifecycle
from scoring.models.model import Model, built_in_models, compile_model

LARGEST_BODY_BYTES = 10_000
APPLY_SECONDS = 5.0
EXAMPLES = example_bodies("lifecycle")
CURRENT_STAGE_ANSWER = answer_docs(EXAMPLES["current"], "The stage that the lead is in.")


class Move(Struct):
    """`reason` and `by` go into the lead's history."""

    stage: Stage
    reason: Line | None = None
    by: Line | None = None


router = APIRouter(prefix="/api/lead-tracking/lifecycle", tags=["lifecycle"])


async def _spans(
    services: ApiServices, tenant: str, lead_id: str, request: LeadRequest | None = None
) -> tuple[Row, list[dict[str, Any]]]:
    now, active = services.ports.now(), await services.ports.published(tenant)
    models, then = active.models, None
    async with services.store.snapshot() as ask:
        lead = found_lead(await _leads(ask, tenant, lead_id))
        if request is not None and request.as_of is not None:
            shown = await lead_there_at(ask, services.ports.past_leads, active, lead, request)
            lead, models, now = shown.row, shown.active.models, shown.at
            then = PastStages(
                shown.stages,
                lead["created_at"],
                lead["stage"],
                identity_keys_of(shown),
                shown.at,
                request.known_today,
            )
        spans = await ask(select_stage_spans(tenant, lead_id, then))
    weight = weight_of_engagement(models)
    return lead, [_span_json(each, now, weight) for each in spans]


@router.get(
    "/rules",
    summary="What moves leads from stage to stage: text and table",
    responses=answer_docs(EXAMPLES["rules"], "The transitions in force."),
)
@router.get("/rules/", include_in_schema=False)
async def rules(request: Request) -> Response:
    text = (await services_of(request).ports.published(tenant_of(request))).lifecycle
    lifecycle = compile_lifecycle(text)
    transitions = [_transition_json(each) for each in lifecycle.transitions]
    return JsonAnswer({"lifecycle": lifecycle.name, "transitions": transitions, "text": text})


@router.post(
    "/{lead_id:path}/transition",
    summary="Move a lead to a stage",
    openapi_extra=request_docs(EXAMPLES["transition"], body_schema_of(Move)),
    responses=answer_docs(EXAMPLES["moved"], "The stage that the lead is in now.")
    | {202: {"description": "The move does not show yet: the stage before, and `location`."}},
)
@router.post("/{lead_id:path}/transition/", include_in_schema=False)
async def transition(request: Request, lead_id: str) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    move = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), Move)
    async with services.store.snapshot() as ask:
        found_unmerged_lead(await _leads(ask, tenant, lead_id), "move that")
    event = _stage_changed_event(tenant, lead_id, move, services.ports.now())
    await services.ports.append([Outgoing(EVENTS, key_of(event), encode_source(event))])
    key = event_key(event)
    outcome = (await services.applied([key], APPLY_SECONDS)).get(key)
    receipt = {"event_id": event.event_id, "applied": outcome is not None}
    if READ_SCOPE not in caller.scopes:  # a token that may only write sees no more
        return JsonAnswer(receipt, 202 if outcome is None else 200)
    try:
        current = _current_json(
            *await _spans(services, tenant, lead_id if outcome is None else outcome.lead_id)
        )
    except RequestProblem:  # the log has the move, whatever cannot be looked up now
        return JsonAnswer({**receipt, "location": location_of_outcome(key)}, 202)
    return JsonAnswer(receipt | current, 202 if outcome is None else 200)


@router.get(
    "/{lead_id:path}/history",
    summary="Every stage that a lead was in, with what happened there",
    responses=answer_docs(EXAMPLES["history"], "The stages in order; the last one is the current one."),
)
@router.get("/{lead_id:path}/history/", include_in_schema=False)
async def history(
    request: Request, lead_id: str, as_of: AsOf = None, knowledge: AsKnown = "then"
) -> Response:
    services = services_of(request)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    lead, spans = await _spans(services, tenant_of(request), lead_id, moment_of_lead)
    return JsonAnswer(
        {
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            "merged_into": merged_into(lead),
            "current_stage": spans[-1]["stage"],
            "history": spans,
        }
    )


@router.get("/{lead_id:path}/current", summary="The stage that a lead is in", responses=CURRENT_STAGE_ANSWER)
@router.get("/{lead_id:path}/current/", include_in_schema=False)
async def current(
    request: Request, lead_id: str, as_of: AsOf = None, knowledge: AsKnown = "then"
) -> Response:
    services = services_of(request)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    return JsonAnswer(_current_json(*await _spans(services, tenant_of(request), lead_id, moment_of_lead)))


async def _leads(ask: StoreSnapshot, tenant: str, lead_id: str) -> Sequence[Row]:
    return [] if "\0" in lead_id else await ask(queries.lead(tenant, lead_id))


def _stage_changed_event(tenant: str, lead_id: str, move: Move, now: datetime) -> StageChanged:
    """The event of an anonymous lead names its visitor."""
    event = StageChanged(
        event_id=f"stage-{uuid.uuid4()}",
        occurred_at=now,
        recorded_at=now,
        tenant=tenant,
        visitor_id=lead_id.removeprefix(ANONYMOUS_PREFIX) if is_anonymous(lead_id) else None,
        lead_id=None if is_anonymous(lead_id) else lead_id,
        source="crm",
        reply=True,
        stage=move.stage,
        reason=move.reason,
        by=move.by,
    )
    try:
        decode_source(encode_source(event))
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    return event


# Shapes


def _current_json(lead: Row, spans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"lead_id": lead_id_as_sent(lead["lead_id"]), "merged_into": merged_into(lead), **spans[-1]}


def weight_of_engagement(models: Mapping[str, Model]) -> Decimal:
    """What a point of the component counts in the total, in the active model, else in the built-in one."""
    name, group = ENGAGEMENT_MODEL_AND_GROUP
    model = models.get(name) or compile_model(built_in_models()[name])
    milli = next((each.weight for each in model.groups if each.name == group), 1000)
    return Decimal(milli or 1000) / 1000


def _span_json(row: Row, now: datetime, weight: Decimal) -> dict[str, Any]:
    until = row["exited_at"] or max(now, row["entered_at"])
    return {
        "stage": row["stage"],
        "previous_stage": row["previous_stage"],
        "entered_at": row["entered_at"],
        "exited_at": row["exited_at"],
        "duration_days": round((until - row["entered_at"]).total_seconds() / DAY_SECONDS, 2),
        "touchpoints_count": row["touches"],
        "engagement_score": plain(round(row["engagement"] / weight, 6)),
        "transition_reason": row["note"] or row["reason"] or None,
        "by": row["by"],
        "is_current_stage": row["exited_at"] is None,
    }


def _transition_json(transition: Transition) -> dict[str, Any]:
    condition = transition.qualified_by
    return {
        "to": transition.to,
        "from": transition.sources,
        "when": transition.signals,
        "since": transition.since,
        "qualified_by": condition
        and {"model": condition.model, "set": condition.scale, "bands": condition.bands},
        "inactive_days": None if transition.inactive is None else transition.inactive // DAY_MS,
        "reason": transition.reason,
    }
