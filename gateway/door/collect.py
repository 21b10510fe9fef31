"""POST /v1/events: the collector.

It answers 2xx only after the log has the accepted events; a batch loses only its bad events. It knows no
database, so that events are taken while Postgres is unavailable. A port resolves which lead an address belongs
to, and no response reveals it: write keys are public.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway import metrics
from gateway.access import READ_SCOPE, WRITE_SCOPE, AccessDenied, Caller, client_address, collector_caller
from gateway.answers import JsonAnswer, RequestProblem, answer_to_problem
from gateway.documented import PROBLEM_EXAMPLE, answer_docs, example_bodies
from gateway.door.admission import RequestFacts, admit_event, misspelling_hint, read_producer_event
from gateway.door.body import EventBatch, read_body, sent_at_of, split_batch
from gateway.door.cors import answer_preflight, cors_headers
from gateway.door.erased import check_not_erased
from gateway.door.lead_signatures import with_signed_lead
from gateway.door.merge_checks import merge_refusals, unique_fields_of
from gateway.door.pace import PacedSteps, run_paced
from gateway.door.recent_events import MOST_EVENTS, RecentEvents
from gateway.door.resolving import with_resolved_leads
from gateway.door.services import DoorServices, door_of
from gateway.door.storable import NOT_STORED_REASON, storable_events
from gateway.ports import EventKey, EventOutcome, LogUnavailable, Ports, event_key, location_of_outcome
from gateway.query_parameters import write_key_parameter
from schemas.decode import Refusal, encode_source, key_of
from schemas.envelope import DEFAULT_TENANT, Event, tag_of
from schemas.events import (
    EVENT_TYPES,
    LeadAssigned,
    LeadErased,
    LeadsMerged,
    LeadSnoozed,
    MergeUndone,
    NoteAdded,
    StageChanged,
    TaskCreated,
    WorkflowRequested,
)
from schemas.record import Outgoing
from schemas.topics import EVENTS

LONGEST_WAIT_SECONDS = 10.0
STAFF_EVENT_TYPES = (
    LeadsMerged,
    MergeUndone,
    StageChanged,
    LeadErased,
    LeadAssigned,
    LeadSnoozed,
    TaskCreated,
    NoteAdded,
    WorkflowRequested,
)
"""Decisions of staff about leads: a visitor's browser may not send them."""
EXAMPLES = example_bodies("collect")
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "anyOf": [{"required": ["visitor_id"]}, {"required": ["lead_id"]}],
    "properties": {
        "type": {
            "type": "string",
            "enum": [tag_of(kind) for kind in EVENT_TYPES],
            "description": "What happened. docs/producing.md has the fields of each type.",
        },
        "event_id": {
            "type": "string",
            "description": "An id that is unique within the visitor or lead, so that sending again counts once. "
            "Without it, one is made.",
        },
        "occurred_at": {
            "type": "string",
            "format": "date-time",
            "description": "When it happened, by your clock. Without it, now.",
        },
        "visitor_id": {"type": "string", "description": "A browser, a chat or another device."},
        "lead_id": {"type": "string", "description": "The person, by an id of a system of yours."},
        "lead_signature": {
            "type": "string",
            "description": "The signature of lead_id, which a public key needs where the tenant signs ids: docs/access.md. "
            "It is not stored.",
        },
        "session_id": {
            "type": "string",
            "description": "Your id of the visit. Another one begins another visit.",
        },
        "source": {"type": "string", "description": "Where it comes from. Without it, web."},
        "context": {
            "type": "object",
            "additionalProperties": True,
            "description": "Where it happened: url, title, referrer and other fields of docs/producing.md.",
        },
    },
    "additionalProperties": True,
}
BATCH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["events"],
    "properties": {
        "sent_at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "Your clock as you send. The moments of the events are corrected by what it is wrong. Null: they are not.",
        },
        "events": {
            "type": "array",
            "items": EVENT_SCHEMA,
            "description": "The events, in the order in which they happened.",
        },
    },
}


def _answer_docs(example: str, description: str) -> dict[str, Any]:
    content = {"application/json": {"example": EXAMPLES[example]}}
    return {"description": description, "content": content}


COLLECT_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [EVENT_SCHEMA, BATCH_SCHEMA, {"type": "array", "items": EVENT_SCHEMA}]},
                "examples": EXAMPLES["request"],
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "An event a line."},
                "example": '{"type": "page_viewed", "visitor_id": "browser-7"}\n',
            },
        },
    },
    "parameters": [
        {
            "name": "wait",
            "in": "query",
            "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS},
            "description": "Answer once the events show in the scores, for at most so many seconds.",
        }
    ],
    "responses": {
        "200": _answer_docs(
            "response",
            "Every event is in the log (and, with `wait`, in the scores). One that the visitor has not consented to is not stored: "
            "its status is `not_stored`, and `not_stored` counts them.",
        ),
        "202": _answer_docs("later", "In the log; what does not show yet has a `location` to look at."),
        "207": _answer_docs("some_refused", "Some were refused, each with the field and the reason."),
        "422": answer_docs(
            EXAMPLES["all_refused"],
            "All were refused; or a parameter is wrong (then with `error`).",
            status=422,
            others={"a parameter": PROBLEM_EXAMPLE},
        )[422],
        "503": {"description": "The log takes nothing now; try again after Retry-After seconds."},
    },
}


router = APIRouter(dependencies=[Depends(write_key_parameter)])


@router.post("/v1/events", openapi_extra=COLLECT_DOCS, tags=["events"], summary="Send events")
async def take_events(request: Request) -> Response:
    try:
        answer = await _take_batch(request, door_of(request))
    except RequestProblem as refusal:
        metrics.REFUSED.labels(_refusal_class(refusal)).inc()
        return answer_to_problem(refusal, cors_headers(request))
    answer.headers.update(cors_headers(request))
    return answer


router.add_api_route("/v1/events", answer_preflight, methods=["OPTIONS"], include_in_schema=False)


async def _take_batch(request: Request, door: DoorServices) -> JsonAnswer:
    ports = door.ports
    caller = collector_caller(request, ports.access)
    wait = _wait_seconds_of(request)
    try:
        body = await read_body(request, ports.max_body_bytes)
        batch = await run_paced(split_batch(body, request.headers.get("content-type", ""), ports.max_batch))
    except RequestProblem as refusal:
        ports.recent.refuse(caller.tenant or DEFAULT_TENANT, b"", refusal.field, refusal.reason)
        raise
    door.event_buckets.take(caller.key, len(batch.raws), time.monotonic())
    facts = _request_facts(request, ports, caller, batch, reply=wait > 0)
    admitted, answers = await run_paced(_admit_all(batch, facts, ports, staff=WRITE_SCOPE in caller.scopes))
    decided = await storable_events(admitted, ports)
    unconsented = _mark_not_stored(answers, decided)
    stored = [event for event in decided if event is not None]
    refusals = await merge_refusals(stored, ports)
    conflicts = _mark_refused(answers, refusals)
    _remember(ports.recent, caller.tenant, batch, answers)
    admitted = [event for event, reason in zip(stored, refusals, strict=True) if reason is None]
    if ports.resolve is not None:
        admitted = await with_resolved_leads(
            admitted,
            ports.resolve,
            by=ports.identify_by,
            region=ports.phone_region,
            unique=await unique_fields_of(admitted, ports),
        )
    if admitted:
        await _append_events(admitted, ports)
    refused = len(answers) - len(admitted) - unconsented
    if refused:
        metrics.REFUSED.labels("event").inc(refused)
    status = 200 if not refused else 207 if admitted or unconsented else 409 if refused == conflicts else 422
    if wait > 0 and admitted:
        seen = await door.applied([event_key(event) for event in admitted], wait)
        all_seen = _add_outcomes(answers, admitted, seen, caller)
        status = status if all_seen or refused else 202
    counts = {"accepted": len(admitted), "refused": refused}
    if unconsented:
        counts["not_stored"] = unconsented
    return JsonAnswer({**counts, "events": answers}, status)


def _remember(
    recent: RecentEvents, tenant: str | None, batch: EventBatch, answers: list[dict[str, Any]]
) -> None:
    """What is not taken, with the reason. What is taken is remembered when the log has it."""
    for answer in answers[-MOST_EVENTS:]:
        raw = batch.raws[answer["index"]]
        if answer["status"] == "refused":
            recent.refuse(tenant or DEFAULT_TENANT, raw, answer["field"], answer["reason"])
        elif answer["status"] == "not_stored":
            recent.leave_out(tenant or DEFAULT_TENANT, answer["reason"])


def _mark_not_stored(answers: list[dict[str, Any]], decided: Sequence[Event | None]) -> int:
    """Says of each event that nobody has consented to that it is not stored; returns how many there are."""
    taken = [answer for answer in answers if answer["status"] == "accepted"]
    unconsented = [answer for answer, event in zip(taken, decided, strict=True) if event is None]
    for answer in unconsented:
        answer.pop("bot", None)
        answer |= {"status": "not_stored", "reason": NOT_STORED_REASON}
    return len(unconsented)


def _mark_refused(answers: list[dict[str, Any]], refusals: Sequence[str | None]) -> int:
    """Says of each merge that joins two people that it is refused; returns how many there are."""
    taken = [answer for answer in answers if answer["status"] == "accepted"]
    for answer, reason in zip(taken, refusals, strict=True):
        if reason is not None:
            del answer["event_id"]
            answer |= {"status": "refused", "field": "into", "reason": reason}
    return len(refusals) - refusals.count(None)


def _admit_all(
    batch: EventBatch, facts: RequestFacts, ports: Ports, *, staff: bool
) -> PacedSteps[tuple[list[Event], list[dict[str, Any]]]]:
    now = ports.now()
    secrets = None if staff else ports.identity_secrets.get(facts.tenant or "")
    admitted: list[Event] = []
    answers: list[dict[str, Any]] = []
    for index, raw in enumerate(batch.raws):
        yield
        try:
            event, unsigned = with_signed_lead(_read_event(raw, now, staff=staff), secrets)
            event = admit_event(event, facts, now)
            check_not_erased(ports.erased, event)
        except Refusal as refusal:
            answers.append(
                {"index": index, "status": "refused", "field": refusal.field, "reason": refusal.reason}
            )
        else:
            admitted.append(event)
            answer = {"index": index, "event_id": event.event_id, "status": "accepted"}
            if event.bot is not None:
                answer["bot"] = event.bot
            if hints := [hint for hint in (unsigned, misspelling_hint(event)) if hint is not None]:
                answer["hint"] = "; ".join(hints)
            answers.append(answer)
    return admitted, answers


def _read_event(raw: bytes, now: datetime, *, staff: bool) -> Event:
    event = read_producer_event(raw, str(uuid.uuid4()), now)
    if isinstance(event, STAFF_EVENT_TYPES) and not staff:
        raise Refusal(
            "type", "only an API token with the scope write may send this type: write keys are public"
        )
    return event


async def _append_events(events: list[Event], ports: Ports) -> None:
    records = await run_paced(_records_of(events))
    with metrics.APPEND_SECONDS.time():
        await ports.append(records)
    bots = sum(event.bot is not None for event in events)
    metrics.ACCEPTED_EVENTS.labels("yes").inc(bots)
    metrics.ACCEPTED_EVENTS.labels("no").inc(len(events) - bots)


def _records_of(events: list[Event]) -> PacedSteps[list[Outgoing]]:
    records = []
    for event in events:
        records.append(Outgoing(EVENTS, key_of(event), encode_source(event)))
        yield
    return records


def _request_facts(
    request: Request, ports: Ports, caller: Caller, batch: EventBatch, *, reply: bool
) -> RequestFacts:
    return RequestFacts(
        tenant=caller.tenant,
        client_ip=client_address(request, ports.access),
        user_agent=request.headers.get("user-agent"),
        sent_at=batch.sent_at or sent_at_of(request.headers.get("x-sent-at")),
        reply=reply,
        phone_region=ports.phone_region,
        page=request.headers.get("origin") or request.headers.get("referer"),
        own_sites=ports.own_sites,
    )


def _wait_seconds_of(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise RequestProblem(422, f"seconds from 0 to {LONGEST_WAIT_SECONDS:g}", field="wait")
    return seconds


def _add_outcomes(
    answers: list[dict[str, Any]],
    admitted: list[Event],
    seen: Mapping[EventKey, EventOutcome],
    caller: Caller,
) -> bool:
    """Adds what became of each event; scores only for callers that may read. False if one is missing."""
    accepted = (answer for answer in answers if answer["status"] == "accepted")
    for answer, event in zip(accepted, admitted, strict=True):
        outcome = seen.get(event_key(event))
        if outcome is None:
            answer["location"] = location_of_outcome(event_key(event))
            continue
        answer["outcome"] = outcome.outcome
        if READ_SCOPE in caller.scopes:
            answer["lead_id"] = outcome.lead_id
            answer["scores"] = outcome.scores
    return not any("location" in answer for answer in answers)


def _refusal_class(refusal: RequestProblem) -> str:
    match refusal:
        case AccessDenied(status=429):
            return "rate"
        case AccessDenied():
            return "access"
        case LogUnavailable():
            return "log"
        case _:
            return "body"
