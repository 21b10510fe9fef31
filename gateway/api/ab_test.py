"""/api/ab-test/*: assigns a visitor's variant of an experiment and records reached goals, both in the log.

Like the collector it waits for no database: variants are assigned and exposures recorded while the read
models are unavailable, by the experiments that were last read. It answers 2xx only after the log has the record.
"""

import time
import uuid
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from msgspec import DecodeError, Struct, ValidationError, json
from starlette.responses import Response

from gateway import metrics
from gateway.access import WRITE_SCOPE, Caller, client_address, collector_caller
from gateway.answers import JsonAnswer, RequestProblem, answer_to_problem
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.body import read_body
from gateway.door.cors import answer_preflight, cors_headers
from gateway.door.erased import refuse_erased
from gateway.door.lead_signatures import SIGNATURE_FIELD, with_signed_lead
from gateway.door.services import door_of
from gateway.door.storable import NOT_STORED_REASON, storable_events
from gateway.ports import Ports
from gateway.query_parameters import write_key_parameter
from schemas.decode import Refusal, encode_source, key_of
from schemas.envelope import DEFAULT_TENANT, tag_of
from schemas.events import ConversionRecorded, ExperimentExposed
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.experiments.assignment import UNIT_LEAD, Experiment, assign_variant

T = TypeVar("T")
LARGEST_BODY_BYTES = 10_000
CALLERS_FIELD_NAMES = {"visitor_id": "session_id"}
"""Fields of events, and what they are called here."""


class Assignee(Struct):
    """Who is to be assigned: the session's id is the visitor's; a known person may be named beside it."""

    session_id: str | None = None
    lead_id: str | None = None
    lead_signature: str | None = None


class GoalReached(Assignee, kw_only=True):
    """A conversion, in the fields of `conversion_recorded`."""

    test_name: str
    conversion_type: str | None = None
    conversion_event: str | None = None
    """Another word for `conversion_type`."""
    conversion_id: str | None = None
    value: Any = None
    currency: str | None = None
    event_id: str | None = None


_decode_assignee = json.Decoder(Assignee).decode
_decode_goal = json.Decoder(GoalReached).decode


def _post_docs(endpoint: str, kind: type[Struct]) -> dict[str, Any]:
    request, response = EXAMPLES[endpoint]["request"], EXAMPLES[endpoint]["response"]
    return request_docs(request, body_schema_of(kind)) | {
        "responses": {
            **answer_docs(response, "It is in the log.", others=EXAMPLES[endpoint].get("others")),
            404: {"description": "No experiment has this name."},
            503: {"description": "The log takes nothing now; try again after Retry-After seconds."},
        },
    }


EXAMPLES = example_bodies("ab_test")
router = APIRouter(prefix="/api/ab-test", tags=["experiments"], dependencies=[Depends(write_key_parameter)])


async def _experiment_named(ports: Ports, caller: Caller, name: str) -> Experiment:
    active = (await ports.experiments(caller.tenant or DEFAULT_TENANT)).get(name)
    if active is None:
        raise RequestProblem(
            404, "no experiment has this name: GET /api/experiments lists them", field="test_name"
        )
    return active.experiment


def _caller(request: Request) -> Caller:
    door = door_of(request)
    caller = collector_caller(request, door.ports.access)
    door.ab_test_buckets.take(caller.key, 1, time.monotonic())
    return caller


async def _record_event(request: Request, caller: Caller, values: dict[str, Any]) -> None:
    ports = door_of(request).ports
    now = ports.now()
    facts = RequestFacts(
        tenant=caller.tenant,
        client_ip=client_address(request, ports.access),
        user_agent=request.headers.get("user-agent"),
        phone_region=ports.phone_region,
        own_sites=ports.own_sites,
    )
    present = {name: value for name, value in values.items() if value is not None}
    try:
        event = read_producer_event(json.encode(present), str(uuid.uuid4()), now)
        secrets = None if WRITE_SCOPE in caller.scopes else ports.identity_secrets.get(caller.tenant or "")
        event, _ = with_signed_lead(event, secrets)
        event = admit_event(event, facts, now)
    except Refusal as refusal:
        field = CALLERS_FIELD_NAMES.get(refusal.field or "", refusal.field)
        raise RequestProblem(422, refusal.reason, field=field) from None
    refuse_erased(ports.erased, [event])
    (stored,) = await storable_events([event], ports)
    if stored is None:
        raise RequestProblem(422, NOT_STORED_REASON, field="tracking_consent")
    with metrics.APPEND_SECONDS.time():
        await ports.append([Outgoing(EVENTS, key_of(stored), encode_source(stored))])
    metrics.ACCEPTED_EVENTS.labels("yes" if event.bot else "no").inc()


async def _assign_variant(request: Request, test_name: str) -> Response:
    caller = _caller(request)
    who = await _decoded(request, _decode_assignee)
    ports = door_of(request).ports
    experiment = await _experiment_named(ports, caller, test_name)
    assigned = assign_variant(experiment, _unit_id(experiment, who), ports.now())
    if assigned.included:
        exposed = {
            "type": tag_of(ExperimentExposed),
            "event_id": _exposure_id(test_name, assigned.variant.name, who),
            "visitor_id": who.session_id,
            "lead_id": who.lead_id,
            SIGNATURE_FIELD: who.lead_signature,
            "experiment": test_name,
            "variant": assigned.variant.name,
        }
        await _record_event(request, caller, exposed)
    return JsonAnswer(
        {
            "test_name": test_name,
            "variant": assigned.variant.name,
            "config": assigned.variant.config,
            "in_experiment": assigned.included,
        }
    )


async def _record_conversion(request: Request) -> Response:
    caller = _caller(request)
    reached = await _decoded(request, _decode_goal)
    experiment = await _experiment_named(door_of(request).ports, caller, reached.test_name)
    conversion = reached.conversion_type or reached.conversion_event
    if not conversion:
        raise RequestProblem(422, "missing: what was reached, such as demo_request", field="conversion_type")
    event = {
        "type": tag_of(ConversionRecorded),
        "event_id": reached.event_id,
        "visitor_id": reached.session_id,
        "lead_id": reached.lead_id,
        SIGNATURE_FIELD: reached.lead_signature,
        "conversion_type": conversion,
        "conversion_id": reached.conversion_id,
        "value": reached.value,
        "currency": reached.currency,
        "context": {"source_type": "experiment", "source_id": reached.test_name},
    }
    await _record_event(request, caller, event)
    goals = [goal for goal in experiment.goals if goal.counts(tag_of(ConversionRecorded), conversion)]
    answer = {
        "success": True,
        "test_name": reached.test_name,
        "conversion_type": conversion,
        "goals": [goal.name for goal in goals],
    }
    if not goals:
        answer["hint"] = "recorded, but no goal of this experiment counts it: see GET /api/experiments/NAME"
    return JsonAnswer(answer)


@router.post(
    "/variant/{test_name}",
    summary="A visitor's variant of an experiment",
    openapi_extra=_post_docs("variant", Assignee),
)
async def variant(request: Request, test_name: str) -> Response:
    return await _readable_elsewhere(request, _assign_variant(request, test_name))


@router.post(
    "/conversion",
    summary="Record that a goal was reached",
    openapi_extra=_post_docs("conversion", GoalReached),
)
async def conversion(request: Request) -> Response:
    return await _readable_elsewhere(request, _record_conversion(request))


for path, endpoint in (("/variant/{test_name}", variant), ("/conversion", conversion)):
    router.add_api_route(f"{path}/", endpoint, methods=["POST"], include_in_schema=False)
    for address in (path, f"{path}/"):
        router.add_api_route(address, answer_preflight, methods=["OPTIONS"], include_in_schema=False)


async def _readable_elsewhere(request: Request, answer: Awaitable[Response]) -> Response:
    """As a page of another site may read it."""
    try:
        response = await answer
    except RequestProblem as problem:
        return answer_to_problem(problem, cors_headers(request))
    response.headers.update(cors_headers(request))
    return response


async def _decoded(request: Request, reader: Callable[[bytes], T]) -> T:
    body = await read_body(request, LARGEST_BODY_BYTES)
    try:
        return reader(body)
    except ValidationError as error:
        raise RequestProblem(422, str(error), field="body") from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}", field="body") from None


def _unit_id(experiment: Experiment, who: Assignee) -> str:
    """Whose id decides."""
    field, unit_id = (
        ("lead_id", who.lead_id) if experiment.unit == UNIT_LEAD else ("session_id", who.session_id)
    )
    if not unit_id:
        raise RequestProblem(422, "missing: this experiment assigns by it", field=field)
    return unit_id


def _exposure_id(experiment: str, variant: str, who: Assignee) -> str:
    """The same for the same exposure, so that asking again counts once."""
    exposure = json.encode([experiment, variant, who.session_id, who.lead_id])
    return f"exposed-{blake2b(exposure, digest_size=16).hexdigest()}"
