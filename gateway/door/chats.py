"""/v1/chats/{chat}: the webhook of any chat provider, whose messages become events by a mapping, through the same door
as those of POST /v1/events.

GET verifies the address where the provider asks for it. POST takes messages that prove that they come from the
provider, and answers 2xx once the log has the events, since providers repeat a message until then. It knows no
database.
"""

import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import PlainTextResponse, Response

from gateway import metrics
from gateway.access import AccessDenied
from gateway.answers import JsonAnswer, RequestProblem
from gateway.documented import OBJECT_SCHEMA, answer_docs, example_bodies
from gateway.door.body import read_body
from gateway.door.chat_accounts import ChatAccount, ChatRequest, has_secret, has_signed
from gateway.door.chat_messages import CHAT, MOST_MESSAGES, MessageEvents, events_of, found_at
from gateway.door.messenger_events import decoded, form_parameters, record
from gateway.door.pace import PacedSteps, TooLong, run_on_thread
from gateway.door.services import door_of
from gateway.ports import Ports

LARGEST_BODY = 1_000_000
LONGEST_CHALLENGE = 512
LONGEST_READING_SECONDS = 5.0
"""Of one body: a mapping that looks into the whole body for each message multiplies the two."""
EXAMPLES = example_bodies("chats")
ChatName = Annotated[str, Path(description="The name of the chat, as LEADSTREAM_CHATS has it.")]

router = APIRouter(tags=["chats"])


@router.get(
    "/v1/chats/{chat}",
    summary="Verify the webhook of a chat",
    description="The mapping of the chat names the parameters of the verify token and of the challenge.",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The challenge, as it came.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "1158201444"}},
        },
        403: {"description": "The verify token is wrong, or the mapping has no challenge."},
        404: {"description": "No chat has this name."},
    },
)
async def verify_address(request: Request, chat: ChatName) -> Response:
    account = _account(door_of(request).ports, chat)
    challenge = account.mapping.challenge
    stated = request.query_params.get(challenge.token or "", "")
    if challenge.token is None or not account.has_verify_token(stated):
        metrics.REFUSED.labels("access").inc()
        raise AccessDenied(403, f"{challenge.token or 'the request'} is not the verify token of this chat")
    return PlainTextResponse(request.query_params.get(challenge.answer or "", "")[:LONGEST_CHALLENGE])


@router.head("/v1/chats/{chat}", include_in_schema=False)
async def find_address(request: Request, chat: ChatName) -> Response:
    """Some providers look whether the address is there before they save it."""
    _account(door_of(request).ports, chat)
    return Response()


@router.post(
    "/v1/chats/{chat}",
    summary="Take messages of a chat",
    description="The webhook of a provider. The mapping of the chat says what is where in the body (JSON or a form), and "
    "how the request proves that it comes from the provider: by a signature, a secret or a bearer token.",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": dict(OBJECT_SCHEMA), "example": EXAMPLES["message"]},
                "application/x-www-form-urlencoded": {
                    "schema": dict(OBJECT_SCHEMA),
                    "example": EXAMPLES["form"],
                },
            },
        }
    },
    responses={
        **answer_docs(EXAMPLES["answer"], "The events are in the log. A mapping may name another answer."),
        401: {"description": "The signature or the secret is missing or wrong."},
        404: {"description": "No chat has this name."},
        503: {"description": "The log takes nothing now; try again after Retry-After seconds."},
    },
)
async def take_messages(request: Request, chat: ChatName) -> Response:
    door = door_of(request)
    account = _account(door.ports, chat)
    mapping = account.mapping
    body = await read_body(request, min(LARGEST_BODY, door.ports.max_body_bytes))
    url = _called_url(request, door.ports)
    try:
        result = await run_on_thread(
            _read_request(account, ChatRequest(url, request.headers, body)), LONGEST_READING_SECONDS
        )
    except TooLong:
        reason = f"it takes more than {LONGEST_READING_SECONDS:g} s to read: send fewer messages at once"
        raise RequestProblem(413, reason, field="body") from None
    if isinstance(result, str):
        return PlainTextResponse(result[:LONGEST_CHALLENGE])
    if result.messages > MOST_MESSAGES:
        raise RequestProblem(413, f"at most {MOST_MESSAGES:,} messages in one request", field="body")
    door.event_buckets.take(f"{CHAT}:{chat}", len(result.events) or 1, time.monotonic())
    recorded = await record(account.tenant, result.events, door.ports) if result.events else []
    if mapping.answer is not None:
        return Response(mapping.answer.text, media_type=mapping.answer.media_type)
    return JsonAnswer(
        {
            "events": [event.event_id for event in recorded],
            "ignored": result.ignored,
            "skipped": result.skipped,
        }
    )


def _read_request(account: ChatAccount, request: ChatRequest) -> PacedSteps[MessageEvents | str]:
    """The events of a request, or the challenge in it. Raises AccessDenied, RequestProblem."""
    mapping = account.mapping
    content = _proven_content(account, request)
    yield
    if mapping.challenge.field is not None:
        stated = found_at(mapping.challenge.field, content)
        if isinstance(stated, str):
            return stated
    return (yield from events_of(account.name, mapping, content))


def _proven_content(account: ChatAccount, request: ChatRequest) -> object:
    """The content of a body that comes from the provider. It is only read before that is proven where the proof is in it.
    Raises AccessDenied.
    """
    mapping = account.mapping
    parameters = form_parameters(request.body) if mapping.form else ()
    expression = mapping.authentication.field
    if expression is None and not has_signed(account, replace(request, parameters=parameters)):
        raise _unproven(account)
    content = dict(parameters) if mapping.form else decoded(request.body)
    if expression is not None and not has_secret(account, found_at(expression, content)):
        raise _unproven(account)
    return content


def _account(ports: Ports, name: str) -> ChatAccount:
    account = ports.chats.get(name)
    if account is None:
        raise RequestProblem(404, "no chat has this name: LEADSTREAM_CHATS lists them", field="chat")
    return account


def _called_url(request: Request, ports: Ports) -> str:
    """As the provider has called it: behind a proxy the request's own address is another one."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{ports.public_url.rstrip('/')}{request.url.path}{query}"


def _unproven(account: ChatAccount) -> AccessDenied:
    metrics.REFUSED.labels("access").inc()
    proof = account.mapping.authentication
    reasons = {
        "hmac": f"{proof.header} is missing or not the signature of this request",
        "header": f"{proof.header} is missing or not the secret of this chat",
        "bearer": "Authorization is missing or not the bearer token of this chat",
        "field": "the body lacks the secret of this chat",
    }
    return AccessDenied(401, reasons[proof.method])
