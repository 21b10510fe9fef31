"""/api/session, /api/questions, /api/answer, /api/behavior and the rest of what a chat sends to a capture bot's API.

A session is a visitor, and its id the visitor's id. What a chat sends becomes events of the log, through the same
door as all others; the answer waits until they show in the scores (202: they do not yet). `lead_score` here is the
model `chatbot`.

Write keys are public, so they may send, and read the flow and which of its questions are open. Scores show only to
tokens with the scope `read`.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.access import READ_SCOPE, AccessDenied, Caller, api_caller, collector_caller
from gateway.answers import JsonAnswer, RequestProblem, answer_to_problem
from gateway.api.chat_sessions import (
    NO_SESSION,
    ChatSession,
    chat_score,
    flow_of_caller,
    score_json,
    session_of,
    session_or_none,
    whole_second,
)
from gateway.api.chat_shapes import choice_shape, flow_shape, progress_shape
from gateway.api.services import services_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.cors import answer_preflight, cors_headers
from gateway.door.json_body import json_object, known_fields_of
from gateway.door.recording import record_events
from gateway.door.services import door_of
from gateway.ports import event_key, location_of_outcome
from gateway.query_parameters import write_key_parameter
from projections import queries
from schemas.broken_text import refuse_broken_ids, repair_broken_text
from schemas.envelope import DEFAULT_TENANT, Identifier, tag_of
from schemas.events import QuestionsCompleted, SessionStarted
from schemas.refusal import Refusal
from scoring.chat import conversation as chats
from scoring.chat.flow import ChatFlow, question_numbered

LARGEST_BODY = 50_000
APPLY_SECONDS = 5.0
SESSION_PREFIX = "sess_"
NAMED_BY_CALLERS = {
    "visitor_id": "session_id",
    "text": "answer_text",
    "time_taken_s": "time_taken",
    "fields": "profile_data",
    "name": "action",
    "properties": "metadata",
}
"""Fields of events, and what they are called here."""
EXAMPLES = example_bodies("capture_bot")

T = TypeVar("T", bound=Struct)
Shown = dict[str, Any]
SessionId = Annotated[Identifier, Meta(description="The session's id, which is the visitor's.")]
Endpoint = Callable[..., Awaitable[Response]]
Language = Annotated[str | None, Query(max_length=16, description="One of the flow's languages.")]
BodyLanguage = Annotated[
    str, Meta(max_length=16, description="The flow's language in which the answer says what comes next.")
]
SessionQuery = Annotated[
    str | None, Query(max_length=128, description="The session whose open questions are wanted.")
]


class SessionStart(Struct):
    """Without `session_id` a new session begins; with one that exists, it goes on."""

    utm_source: Annotated[str, Meta(description="Where the visitor came from, as its link says.")] | None = (
        None
    )
    utm_medium: Annotated[str, Meta(description="By which medium: cpc, email ...")] | None = None
    utm_campaign: Annotated[str, Meta(description="By which campaign.")] | None = None
    session_id: SessionId | None = None
    language: BodyLanguage | None = None


class ChatAnswer(Struct):
    session_id: SessionId
    question_id: Annotated[int, Meta(description="A question's id; the greeting's or the contact's.")] | str
    answer_text: (
        Annotated[str, Meta(description="Any text answers any question.")]
        | Annotated[
            list[str],
            Meta(max_length=100, description="Where the question takes several options: each of them."),
        ]
    )
    time_taken: Annotated[float, Meta(description="Seconds from the question to the answer.")] | None = None
    language: BodyLanguage | None = None


class ChatBehavior(Struct):
    session_id: SessionId
    action: Annotated[
        str, Meta(description="clicked_demo, clicked_product, cta_clicked ..., or a name of the bot's own.")
    ]
    metadata: (
        Annotated[dict[str, Any], Meta(description="What belongs to it: product_id, text ...")] | None
    ) = None
    language: BodyLanguage | None = None


class ChatProfile(Struct):
    session_id: SessionId
    profile_data: Annotated[
        dict[str, Any], Meta(description="Fields of the profile: name, email, phone, business_type ...")
    ]
    language: BodyLanguage | None = None


router = APIRouter(prefix="/api", tags=["capture bot"], dependencies=[Depends(write_key_parameter)])


# Sending


async def start_session(request: Request) -> Response:
    return await _readable_elsewhere(request, _start(request))


async def _start(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY) or b"{}", SessionStart)
    session_id = body.session_id or f"{SESSION_PREFIX}{uuid.uuid4().hex}"
    before = NO_SESSION if body.session_id is None else await session_or_none(request, caller, session_id)
    flow, now = await flow_of_caller(request, caller), services_of(request).ports.now()
    spoken = _language(flow, body.language)
    shown: Shown = {
        "session_id": session_id,
        "message": "Session started successfully",
        "timestamp": whole_second(now),
    }
    if before.conversation.has(tag_of(SessionStarted)):
        shown["message"] = "Session resumed"
        return JsonAnswer(
            shown | progress_shape(flow, before.conversation, before.conversation.answered(), spoken)
        )
    utm = {"source": body.utm_source, "medium": body.utm_medium, "name": body.utm_campaign}
    location = await _record(request, caller, session_id, [chats.started(utm)])
    return JsonAnswer(shown if location is None else shown | {"location": location}, 202 if location else 200)


async def answer(request: Request) -> Response:
    return await _readable_elsewhere(request, _answer(request))


async def _answer(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY), ChatAnswer)
    flow = await flow_of_caller(request, caller)
    number, spoken = _number(flow, body.question_id), _language(flow, body.language)
    text = body.answer_text if isinstance(body.answer_text, str) else ", ".join(body.answer_text)
    if not text.strip():
        raise RequestProblem(
            422, "missing: any text answers a question, but there is none", field="answer_text"
        )
    before = (await session_or_none(request, caller, body.session_id)).conversation
    question = question_numbered(flow, number)
    if question is not None:
        events = chats.answered(before, flow, question, body.answer_text, body.time_taken)
    elif number == flow.greeting:
        events = [chats.greeting_replied(before, text)]
    else:
        events = chats.contact_answered(before, text)
    shown: Shown = {"success": True, "session_id": body.session_id, "question_id": number}
    if question is not None:
        shown |= {"answer_text": events[0]["text"], "other": "other" in events[0]}
    answered = frozenset() if question is None else frozenset({number})
    return await _after(request, caller, body.session_id, flow, spoken, events, shown, answered)


async def behavior(request: Request) -> Response:
    return await _readable_elsewhere(request, _behavior(request))


async def _behavior(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY), ChatBehavior)
    if body.action in {"answered_question", "question_answered"}:
        raise RequestProblem(
            422, "send answers to POST /api/answer, with the question and the text", field="action"
        )
    flow = await flow_of_caller(request, caller)
    spoken = _language(flow, body.language)
    before = (await session_or_none(request, caller, body.session_id)).conversation
    event = chats.behaved(before, body.action, body.metadata or {})
    shown = {"success": True, "session_id": body.session_id, "action": body.action}
    return await _after(request, caller, body.session_id, flow, spoken, [event], shown)


async def update_profile(request: Request) -> Response:
    return await _readable_elsewhere(request, _profile(request))


async def _profile(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY), ChatProfile)
    flow = await flow_of_caller(request, caller)
    spoken = _language(flow, body.language)
    before = (await session_or_none(request, caller, body.session_id)).conversation
    events = chats.contact_shared(before, body.profile_data)
    if not events:
        raise RequestProblem(422, "missing: at least one field, such as business_type", field="profile_data")
    shown: Shown = {"success": True, "session_id": body.session_id, "updated": sorted(body.profile_data)}
    return await _after(request, caller, body.session_id, flow, spoken, events, shown)


async def _after(
    request: Request,
    caller: Caller,
    session_id: str,
    flow: ChatFlow,
    language: str,
    events: Sequence[Mapping[str, Any]],
    shown: Shown,
    answered: frozenset[int] = frozenset(),
) -> Response:
    """Records the events, and that all questions are answered if they are by now; answers with what is open."""
    location = await _record(request, caller, session_id, events)
    session = await session_or_none(request, caller, session_id)
    answered |= session.conversation.answered()
    complete = all(each.id in answered for each in flow.questions)
    if complete and not session.conversation.has(tag_of(QuestionsCompleted)):
        location = await _record(request, caller, session_id, [chats.completed()]) or location
        session = await session_or_none(request, caller, session_id)
    shown = shown | progress_shape(flow, session.conversation, answered, language)
    if location is not None:
        return JsonAnswer(shown | {"location": location}, 202)
    return JsonAnswer(shown | await _score_for(request, caller, session))


async def _score_for(request: Request, caller: Caller, session: ChatSession) -> Shown:
    """Nothing for a caller that may only write."""
    if READ_SCOPE not in caller.scopes or session.lead_id is None:
        return {}
    services, tenant = services_of(request), caller.tenant or DEFAULT_TENANT
    try:
        leads = await services.store.rows(queries.lead(tenant, session.lead_id))
        score = await chat_score(services, tenant, session.lead_id)
    except RequestProblem:  # the log has the events, whatever cannot be looked up now
        return {}
    return score_json(score, leads[0]) if leads else {}


async def _record(
    request: Request, caller: Caller, session_id: str, events: Sequence[Mapping[str, Any]]
) -> str | None:
    """Where to look for the events' outcome if it does not show in time; None: it shows."""
    named = [{**each, "visitor_id": session_id} for each in events]
    try:
        recorded = await record_events(request, caller, named)
    except Refusal as refusal:
        field, dot, rest = (refusal.field or "").partition(".")
        raise RequestProblem(
            422, refusal.reason, field=NAMED_BY_CALLERS.get(field, field) + dot + rest
        ) from None
    keys = [event_key(each) for each in recorded]
    applied = await services_of(request).applied(keys, APPLY_SECONDS)
    return next((location_of_outcome(key) for key in keys if key not in applied), None)


# The flow


async def questions(request: Request, session_id: SessionQuery = None, language: Language = None) -> Response:
    return await _readable_elsewhere(request, _questions(request, session_id, language))


async def _questions(request: Request, session_id: str | None, language: str | None) -> Response:
    caller = _any_caller(request)
    flow = await flow_of_caller(request, caller)
    spoken = _language(flow, language)
    shown: Shown = flow_shape(flow, spoken)
    if session_id is not None:
        session = await session_of(services_of(request), caller, session_id)
        shown |= progress_shape(flow, session.conversation, session.conversation.answered(), spoken)
    return JsonAnswer(shown)


async def product_menu(request: Request, language: Language = None) -> Response:
    return await _readable_elsewhere(request, _choices(request, language, "products"))


async def cta_options(request: Request, language: Language = None) -> Response:
    return await _readable_elsewhere(request, _choices(request, language, "cta_options"))


async def _choices(request: Request, language: str | None, name: str) -> Response:
    flow = await flow_of_caller(request, _any_caller(request))
    spoken = _language(flow, language)
    choices = flow.products if name == "products" else flow.ctas
    return JsonAnswer({name: [choice_shape(each, spoken) for each in choices]})


# Callers, bodies, shapes


def _sender(request: Request) -> Caller:
    door = door_of(request)
    caller = collector_caller(request, door.ports.access)
    door.event_buckets.take(caller.key, 1, time.monotonic())
    return caller


def _any_caller(request: Request) -> Caller:
    """Who may send, or read."""
    try:
        return _sender(request)
    except AccessDenied as denied:
        if denied.status != 403:
            raise
        return api_caller(request, services_of(request).ports.access, READ_SCOPE)


def _number(flow: ChatFlow, question_id: int | str) -> int:
    """The id of a question, of the greeting or of the contact."""
    numbers = [flow.greeting, *(each.id for each in flow.questions), flow.contact]
    match = next((number for number in numbers if str(number) == str(question_id).strip()), None)
    if match is None:
        raise RequestProblem(
            422, f"the flow has no such question: it has {', '.join(map(str, numbers))}", field="question_id"
        )
    return match


def _language(flow: ChatFlow, language: str | None) -> str:
    if language is None:
        return flow.language
    if language not in flow.languages:
        raise RequestProblem(422, f"the flow is in {', '.join(flow.languages)}", field="language")
    return language


def _read(body: bytes, kind: type[T]) -> T:
    """Texts that were cut in the middle of a character are repaired, as in every event; ids are not."""
    decoded = known_fields_of(json_object(repair_broken_text(body)), kind)
    try:
        refuse_broken_ids(decoded)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    return decoded


async def _readable_elsewhere(request: Request, response: Awaitable[Response]) -> Response:
    """As a page of another site may read it."""
    try:
        readable = await response
    except RequestProblem as problem:
        return answer_to_problem(problem, cors_headers(request))
    readable.headers.update(cors_headers(request))
    return readable


def _route(method: str, path: str, summary: str, endpoint: Endpoint, **documented: Any) -> None:
    """Under the address with a slash at its end, and without."""
    for address, shown in ((path, True), (f"{path}/", False)):
        router.add_api_route(
            address, endpoint, methods=[method], summary=summary, include_in_schema=shown, **documented
        )


def _sent(method: str, path: str, summary: str, endpoint: Any, name: str, kind: type[Struct]) -> None:
    example = EXAMPLES[name]
    _route(
        method,
        path,
        summary,
        endpoint,
        openapi_extra=request_docs(
            example["request"], body_schema_of(kind), required=kind is not SessionStart
        ),
        responses=answer_docs(example["response"], "It is in the log, and in the scores.")
        | {202: {"description": "It is in the log; `location` has what becomes of it."}},
    )


_sent("POST", "/session/start", "Begin a chat, or go on with it", start_session, "start", SessionStart)
_sent("POST", "/answer", "Answer a question", answer, "answer", ChatAnswer)
_sent("POST", "/behavior", "Record what the person did in the chat", behavior, "behavior", ChatBehavior)
_sent("POST", "/lead/profile", "Fill fields of the lead's profile", update_profile, "profile", ChatProfile)


def _answered(path: str, summary: str, endpoint: Endpoint) -> None:
    _route("GET", path, summary, endpoint, responses=answer_docs(EXAMPLES[path[1:]], summary))


_answered("/questions", "The flow of the chat, and what of it is open", questions)
_answered("/product-menu", "The products of the flow", product_menu)
_answered("/cta-options", "The calls to action of the flow", cta_options)
for _path in (
    "/session/start",
    "/answer",
    "/behavior",
    "/lead/profile",
    "/questions",
    "/product-menu",
    "/cta-options",
):
    for _address in (_path, f"{_path}/"):
        router.add_api_route(_address, answer_preflight, methods=["OPTIONS"], include_in_schema=False)
