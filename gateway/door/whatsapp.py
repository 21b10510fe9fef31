"""/v1/whatsapp/{number}: the webhook of a WhatsApp number, whose messages become events through the same door as those
of POST /v1/events.

GET proves to Meta that the address is ours. POST takes notifications that Meta has signed, and answers 2xx once the log
has the events, since Meta repeats a notification until then. It knows no database.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import PlainTextResponse, Response

from gateway import metrics
from gateway.access import AccessDenied
from gateway.answers import JsonAnswer, RequestProblem
from gateway.documented import OBJECT_SCHEMA, answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.messenger_events import decoded, record
from gateway.door.services import door_of
from gateway.door.whatsapp_messages import SOURCE, events_of
from gateway.door.whatsapp_numbers import SIGNATURE_HEADER, WhatsappNumber
from gateway.ports import Ports

LARGEST_NOTIFICATION = 3_000_000
"""Bytes; Meta sends no larger ones."""
EXAMPLES = example_bodies("whatsapp")
NumberName = Annotated[str, Path(description="The name of the number.")]

router = APIRouter(tags=["whatsapp"])


@router.get(
    "/v1/whatsapp/{number}",
    summary="Verify the webhook of a WhatsApp number",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The challenge, as it came.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "1158201444"}},
        },
        403: {"description": "The verify token is wrong."},
        404: {"description": "No number has this name."},
    },
)
async def verify_webhook(
    request: Request,
    number: NumberName,
    mode: Annotated[
        str,
        Query(
            alias="hub.mode",
            max_length=64,
            description="Always `subscribe`: Meta asks whether the address is ours.",
        ),
    ] = "",
    verify_token: Annotated[
        str,
        Query(
            alias="hub.verify_token",
            max_length=512,
            description="The verify token, as the settings have it.",
        ),
    ] = "",
    challenge: Annotated[
        str, Query(alias="hub.challenge", max_length=512, description="A text to be returned.")
    ] = "",
) -> Response:
    receiver = _number(door_of(request).ports, number)
    if mode != "subscribe" or not receiver.has_verify_token(verify_token):
        raise AccessDenied(403, "hub.verify_token is not the verify token of this number")
    return PlainTextResponse(challenge)


@router.post(
    "/v1/whatsapp/{number}",
    summary="Take messages of a WhatsApp number",
    description="The webhook. The header X-Hub-Signature-256 has Meta's signature of the body.",
    openapi_extra=request_docs(EXAMPLES["notification"], OBJECT_SCHEMA)
    | {
        "parameters": [
            {
                "name": SIGNATURE_HEADER,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "`sha256=` and the HMAC of the body by the app secret, in hex.",
            }
        ]
    },
    responses={
        **answer_docs(EXAMPLES["answer"], "The events are in the log."),
        401: {"description": "The signature is missing or wrong."},
        404: {"description": "No number has this name."},
        503: {"description": "The log takes nothing now; try again after Retry-After seconds."},
    },
)
async def take_notification(request: Request, number: NumberName) -> Response:
    door = door_of(request)
    receiver = _number(door.ports, number)
    body = await read_body(request, LARGEST_NOTIFICATION)
    if not receiver.has_signed(body, request.headers.get(SIGNATURE_HEADER, "")):
        metrics.REFUSED.labels("access").inc()
        raise AccessDenied(401, f"{SIGNATURE_HEADER} is missing or not the signature of this body")
    notification = events_of(number, decoded(body))
    door.event_buckets.take(f"{SOURCE}:{number}", len(notification.events) or 1, time.monotonic())
    recorded = await record(receiver.tenant, notification.events, door.ports) if notification.events else []
    return JsonAnswer(
        {
            "events": [event.event_id for event in recorded],
            "statuses": notification.statuses,
            "skipped": notification.skipped,
        }
    )


def _number(ports: Ports, name: str) -> WhatsappNumber:
    number = ports.whatsapp_numbers.get(name)
    if number is None:
        raise RequestProblem(404, "no number has this name: LEADSTREAM_WHATSAPP lists them", field="number")
    return number
