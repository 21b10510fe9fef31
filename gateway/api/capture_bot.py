"""/api/session, /api/questions, /api/answer, /api/behavior, /api/lead, /api/score and the rest of a capture bot's API.

A session is a visitor, and its id the visitor's id. What a chat sends becomes events of the log, through the same
door as all others; the answer waits until they show in the scores (202: they do not yet). `lead_score` here is the
model `chatbot`.

Write keys are public, so they may send, and read the flow and which of its questions are open. Scores and leads
need a token with the scope `read`: a stranger who types somebody's e-mail address becomes that lead.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from msgspec import DecodeError, Meta, Struct, ValidationError, convert, json
from starlette.responses import Response

from gateway.access import READ_SCOPE, AccessDenied, Caller, api_caller, collector_caller
from gateway.answers import JsonAnswer, RequestProblem, answer_to_problem
from gateway.api.leads import plain
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.cors import answer_preflight, cors_headers
from gateway.door.recording import record_events
from gateway.door.services import door_of
from gateway.ports import event_key, location_of_outcome
from gateway.query_parameters import write_key_parameter
from gateway.store import Row
from projections import chat, queries
from schemas.broken_text import refuse_broken_ids, repair_broken_text
from schemas.envelope import DEFAULT_TENANT, Identifier, tag_of
from schemas.events import QuestionsCompleted, SessionStarted
from schemas.moment import millis, moment
from schemas.refusal import Refusal, explain_error, json_type_name
from scoring.chat import conversation as chats
from scoring.chat.conversation import ChatEvent, Conversation
from scoring.chat.flow import (
    ChatFlow,
    FlowOffer,
    FlowQuestion,
    parts_of,
    question_numbered,
)
from scoring.chat.replies import next_reply
from scoring.models.model import built_in_models, compile_model

LARGEST_BODY = 50_000
APPLY_SECONDS = 5.0
CLAIM_LOOKS = 20
"""So often a lead that a session is becoming is looked up, ..."""
CLAIM_PAUSE = 0.1
"""... after so many seconds each."""
DEFAULT_WINDOW, LONGEST_WINDOW = 90, 365
SESSION_PREFIX = "sess_"
UNQUALIFIED = "Unqualified"
PROFILE = (
    "business_type",
    "location",
    "staff_size",
    "monthly_sales",
    "features_interested",
)
"""Fields of the profile that a lead's summary has."""
EXPORTED = ("location", "business_type", "staff_size", "monthly_sales")
"""Those that its export has as they are."""
NAMED_BY_CALLERS = {
    "visitor_id": "session_id",
    "text": "answer_text",
    "time_taken_s": "time_taken",
    "fields": "profile_data",
    "name": "action",
    "properties": "metadata",
}
"""Fields of events, and what they are called here."""
RULE_ACTIONS = {
    "Opened the chat": "session_opened",
    "Replied to greeting": "replied_to_greeting",
    "Questions answered": "answered_question",
    "All questions answered": "answered_all_questions",
    "Shared contact": "shared_contact",
    "Product interest": "clicked_product",
    "Asked for a demo": "demo_requested",
    "Clicked a CTA": "cta_clicked",
    "Quick replies": "quick_reply",
    "Detailed answers": "detailed_answer",
}
"""The rules of the built-in model, and the actions that they give points for; other rules have actions of their names."""
EXAMPLES = example_bodies("capture_bot")

T = TypeVar("T", bound=Struct)
Shown = dict[str, Any]
SessionId = Annotated[Identifier, Meta(description="The session's id, which is the visitor's.")]
PathSessionId = Annotated[str, Path(description="The session's id.")]
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
        Annotated[str, Meta(description="Any text answer_docs any question.")]
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


class ChatSession(NamedTuple):
    """What is recorded of a session. `lead_id` None: nothing yet."""

    conversation: Conversation
    lead_id: str | None
    started: Row | None
    """Its `session_started`."""


NO_SESSION = ChatSession(Conversation(), None, None)

router = APIRouter(prefix="/api", tags=["capture bot"], dependencies=[Depends(write_key_parameter)])


# Sending


async def start_session(request: Request) -> Response:
    return await _readable_elsewhere(request, _start(request))


async def _start(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY) or b"{}", SessionStart)
    session_id = body.session_id or f"{SESSION_PREFIX}{uuid.uuid4().hex}"
    before = NO_SESSION if body.session_id is None else await _session_or_none(request, caller, session_id)
    flow, now = await _flow(request, caller), services_of(request).ports.now()
    spoken = _language(flow, body.language)
    shown: Shown = {
        "session_id": session_id,
        "message": "Session started successfully",
        "timestamp": _second(now),
    }
    if before.conversation.has(tag_of(SessionStarted)):
        shown["message"] = "Session resumed"
        return JsonAnswer(
            shown | _progress(flow, before.conversation, before.conversation.answered(), spoken)
        )
    utm = {"source": body.utm_source, "medium": body.utm_medium, "name": body.utm_campaign}
    location = await _record(request, caller, session_id, [chats.started(utm)])
    return JsonAnswer(shown if location is None else shown | {"location": location}, 202 if location else 200)


async def answer(request: Request) -> Response:
    return await _readable_elsewhere(request, _answer(request))


async def _answer(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY), ChatAnswer)
    flow = await _flow(request, caller)
    number, spoken = _number(flow, body.question_id), _language(flow, body.language)
    text = body.answer_text if isinstance(body.answer_text, str) else ", ".join(body.answer_text)
    if not text.strip():
        raise RequestProblem(
            422, "missing: any text answers a question, but there is none", field="answer_text"
        )
    before = (await _session_or_none(request, caller, body.session_id)).conversation
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
    flow = await _flow(request, caller)
    spoken = _language(flow, body.language)
    before = (await _session_or_none(request, caller, body.session_id)).conversation
    event = chats.behaved(before, body.action, body.metadata or {})
    shown = {"success": True, "session_id": body.session_id, "action": body.action}
    return await _after(request, caller, body.session_id, flow, spoken, [event], shown)


async def update_profile(request: Request) -> Response:
    return await _readable_elsewhere(request, _profile(request))


async def _profile(request: Request) -> Response:
    caller = _sender(request)
    body = _read(await read_body(request, LARGEST_BODY), ChatProfile)
    flow = await _flow(request, caller)
    spoken = _language(flow, body.language)
    before = (await _session_or_none(request, caller, body.session_id)).conversation
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
    session = await _session_or_none(request, caller, session_id)
    answered |= session.conversation.answered()
    complete = all(each.id in answered for each in flow.questions)
    if complete and not session.conversation.has(tag_of(QuestionsCompleted)):
        location = await _record(request, caller, session_id, [chats.completed()]) or location
        session = await _session_or_none(request, caller, session_id)
    shown = shown | _progress(flow, session.conversation, answered, language)
    if location is not None:
        return JsonAnswer(shown | {"location": location}, 202)
    return JsonAnswer(shown | await _score_for(request, caller, session))


async def _score_for(request: Request, caller: Caller, session: ChatSession) -> Shown:
    """Nothing for a caller that may only write."""
    if READ_SCOPE not in caller.scopes or session.lead_id is None:
        return {}
    try:
        score = await _score_row(services_of(request), caller.tenant or DEFAULT_TENANT, session.lead_id)
    except RequestProblem:  # the log has the events, whatever cannot be looked up now
        return {}
    return {"lead_score": _points(score), "classification": _band(score)}


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
    flow = await _flow(request, caller)
    spoken = _language(flow, language)
    shown: Shown = {
        "language": spoken,
        "languages": flow.languages,
        "greeting": {
            "id": flow.greeting,
            "text": flow.greeting_text[spoken],
            "variants": {name: {"text": text[spoken]} for name, text in flow.greeting_variants.items()},
        },
        "questions": [_question(flow, each, spoken) for each in flow.questions],
        "contact": {"id": flow.contact, "text": flow.contact_text[spoken], "step": "contact"},
        "thanks": flow.thanks[spoken],
    }
    if session_id is not None:
        session = await _session(services_of(request), caller, session_id)
        shown |= _progress(flow, session.conversation, session.conversation.answered(), spoken)
    return JsonAnswer(shown)


async def product_menu(request: Request, language: Language = None) -> Response:
    return await _readable_elsewhere(request, _choices(request, language, "products"))


async def cta_options(request: Request, language: Language = None) -> Response:
    return await _readable_elsewhere(request, _choices(request, language, "cta_options"))


async def _choices(request: Request, language: str | None, name: str) -> Response:
    flow = await _flow(request, _any_caller(request))
    spoken = _language(flow, language)
    choices = flow.products if name == "products" else flow.ctas
    return JsonAnswer({name: [_choice(each, spoken) for each in choices]})


# Leads


async def lead_summary(request: Request, session_id: PathSessionId) -> Response:
    session, lead, score = await _lead(request, session_id)
    fields = lead["fields"]
    return JsonAnswer(
        {
            "session_id": _plain_id(session_id),
            "lead_data": {
                **{name: lead[name] for name in ("name", "email", "phone")},
                **{name: fields.get(name) for name in PROFILE},
                "lead_score": _points(score),
                "classification": _band(score),
                "utm_source": session.started and session.started["campaign_source"],
                "created_at": _opened(session, lead),
                "updated_at": _second(lead["as_of"]),
            },
            "behaviors": await _behaviors(request, session, lead),
        }
    )


async def lead_export(request: Request, session_id: PathSessionId) -> Response:
    session, lead, score = await _lead(request, session_id)
    flow = await flow_of(services_of(request), tenant_of(request))
    fields = lead["fields"]
    return JsonAnswer(
        {
            "name": lead["name"],
            **{name: fields.get(name) for name in EXPORTED},
            "features_interested": parts_of(fields.get("features_interested")),
            "contact_info": lead["phone"] or lead["email"],
            "email": lead["email"],
            "phone": lead["phone"],
            "lead_score": _points(score),
            "lead_type": _band(score),
            "utm_source": session.started and session.started["campaign_source"],
            "session_start_time": _opened(session, lead),
            "assigned_to": lead["assigned_to"] or flow.assigned_to,
        }
    )


async def lead_score(request: Request, session_id: PathSessionId) -> Response:
    session, lead, score = await _lead(request, session_id)
    return JsonAnswer(
        {
            "session_id": _plain_id(session_id),
            "lead_score": _points(score),
            "classification": _band(score),
            "score_breakdown": await _behaviors(request, session, lead),
        }
    )


async def chat_analytics(
    request: Request,
    days: Annotated[
        int, Query(ge=1, le=LONGEST_WINDOW, description="Local days, today included.")
    ] = DEFAULT_WINDOW,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    zone = (await services.ports.published(tenant)).zone
    now = services.ports.now()
    since = moment(zone.start_of(zone.day_of(millis(now)) - days + 1))
    (totals,) = await services.store.rows(chat.chat_totals(tenant, since))
    sessions = totals["sessions"]
    return JsonAnswer(
        {
            "total_sessions": sessions,
            "completed_sessions": totals["completed"],
            "leads": {"SQL": totals["sql"], "MQL": totals["mql"], UNQUALIFIED: totals["unqualified"]},
            "conversion_rate": _share(totals["sql"], sessions),
            "completion_rate": _share(totals["completed"], sessions),
            "average_score": None if totals["average"] is None else plain(round(totals["average"], 2)),
            "average_response_time": totals["response"] and round(totals["response"], 2),
            "days": days,
            "since": since,
            "as_of": _second(now),
        }
    )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


async def _behaviors(request: Request, session: ChatSession, lead: Row) -> list[Shown]:
    """What the person did, with the points of each; what gave none stands at the end."""
    services, tenant = services_of(request), tenant_of(request)
    lines = await services.store.rows(queries.breakdowns(tenant, lead["lead_id"]))
    points: dict[str, Decimal] = {}
    for line in lines:
        if line["model"] == chat.MODEL:
            action = RULE_ACTIONS.get(line["rule"]) or re.sub(r"\W+", "_", line["rule"].lower()).strip("_")
            points[action] = points.get(action, Decimal(0)) + line["points"]
    order = {action: n for n, action in enumerate(RULE_ACTIONS.values())}
    scored = sorted(points, key=lambda action: (order.get(action, len(order)), action))
    return [
        {"action": action, "score": plain(points.get(action, Decimal(0)))}
        for action in dict.fromkeys([*scored, *session.conversation.actions()])
    ]


# Sessions


async def _session(services: ApiServices, caller: Caller, session_id: str) -> ChatSession:
    if "\0" in session_id:
        return NO_SESSION
    rows = await services.store.rows(chat.chat_events(caller.tenant or DEFAULT_TENANT, session_id))
    if not rows:
        return NO_SESSION
    return ChatSession(
        Conversation(tuple(ChatEvent(row["event_id"], row["type"], row["about"]) for row in rows)),
        max(rows, key=lambda row: row["attached_at"])["lead_id"],
        next((row for row in rows if row["type"] == tag_of(SessionStarted)), None),
    )


async def _session_or_none(request: Request, caller: Caller, session_id: str) -> ChatSession:
    """The door takes events while the read models are unavailable."""
    try:
        return await _session(services_of(request), caller, session_id)
    except RequestProblem:
        return NO_SESSION


async def _lead(request: Request, path_id: str) -> tuple[ChatSession, Row, Row | None]:
    """The session, its lead, and that lead's score by the chat. A session that is being claimed is looked up again,
    since its identity may show before its lead.
    """
    services, session_id = services_of(request), _plain_id(path_id)
    tenant, caller = authorized_caller(request)
    for _ in range(CLAIM_LOOKS):
        session = await _session(services, caller, session_id)
        if session.lead_id is None:
            raise RequestProblem(
                404, "no session has this id: POST /api/session/start begins one", field="session_id"
            )
        if rows := await services.store.rows(queries.lead(tenant, session.lead_id)):
            return session, rows[0], await _score_row(services, tenant, session.lead_id)
        await asyncio.sleep(CLAIM_PAUSE)
    raise RequestProblem(503, "the session is being assigned to a lead: try again", retry_after_s=1)


async def _score_row(services: ApiServices, tenant: str, lead_id: str) -> Row | None:
    rows = await services.store.rows(queries.scores(tenant, lead_id))
    return next((row for row in rows if row["model"] == chat.MODEL), None)


def _points(score: Row | None) -> int:
    return 0 if score is None else int(score["rounded"])


def _band(score: Row | None) -> str:
    return UNQUALIFIED if score is None else str(score["bands"].get(chat.SCALE, UNQUALIFIED))


def _opened(session: ChatSession, lead: Row) -> datetime:
    return _second(lead["created_at"] if session.started is None else session.started["occurred_at"])


def _second(at: datetime) -> datetime:
    """Without its fraction, as the bot's clients know times."""
    return at.replace(microsecond=0)


def _plain_id(path_id: str) -> str:
    """The address may end with a slash."""
    return path_id.removesuffix("/")


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


async def _flow(request: Request, caller: Caller) -> ChatFlow:
    return await flow_of(services_of(request), caller.tenant or DEFAULT_TENANT)


async def flow_of(services: ApiServices, tenant: str) -> ChatFlow:
    """That of the tenant's model; the built-in one, if the model has none."""
    model = (await services.ports.published(tenant)).models.get(chat.MODEL)
    return (model and model.flow) or _built_in_flow()


@lru_cache(maxsize=1)
def _built_in_flow() -> ChatFlow:
    flow = compile_model(built_in_models()[chat.MODEL]).flow
    if flow is None:
        raise LookupError(f"the built-in model {chat.MODEL} has no flow")
    return flow


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


def _progress(flow: ChatFlow, conversation: Conversation, answered: frozenset[int], language: str) -> Shown:
    reply = next_reply(flow, conversation, answered, language)
    question = reply.question
    return {
        "answered": [each.id for each in flow.questions if each.id in answered],
        "next_question": None if question is None else _question(flow, question, language),
        "completed": question is None,
        "reply": reply.text,
        "asks": "question" if question else "contact" if reply.asks_contact else None,
    }


def _question(flow: ChatFlow, question: FlowQuestion, language: str) -> Shown:
    return {
        "id": question.id,
        "text": question.text[language],
        "options": question.options[language],
        "step": question.step,
        "order": flow.questions.index(question) + 1,
        "profile_field": question.profile_field,
        "several": question.several,
    }


def _choice(choice: FlowOffer, language: str) -> Shown:
    about = choice.about[language] or None
    return {"id": choice.id, "text": choice.text[language], "description": about, "action": choice.action}


def _read(body: bytes, kind: type[T]) -> T:
    """Texts that were cut in the middle of a character are repaired, as in every event; ids are not."""
    try:
        content = json.decode(repair_broken_text(body))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestProblem(422, f"the body must be an object, not {json_type_name(content)}")
    try:
        decoded = convert(content, kind)
        refuse_broken_ids(decoded)
    except ValidationError as error:
        refusal = explain_error(error, content, kind)
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
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


def _answered(path: str, summary: str, endpoint: Endpoint, about: str | None = None) -> None:
    _route("GET", path, summary, endpoint, responses=answer_docs(EXAMPLES[path[1:]], about or summary))


def _of_session(path: str, summary: str, endpoint: Endpoint) -> None:
    """The session's id may end with a slash, so one address takes both forms."""
    router.add_api_route(
        f"{path}/{{session_id:path}}",
        endpoint,
        methods=["GET"],
        summary=summary,
        responses=answer_docs(EXAMPLES[path[1:]], summary),
    )


_answered("/questions", "The flow of the chat, and what of it is open", questions)
_answered("/product-menu", "The products of the flow", product_menu)
_answered("/cta-options", "The calls to action of the flow", cta_options)
_answered(
    "/analytics/leads",
    "What the chat's sessions came to",
    chat_analytics,
    "Rates are shares from 0 to 1, times in seconds.",
)
_of_session("/lead/summary", "A session's lead with its score", lead_summary)
_of_session("/lead/export", "A session's lead as a CRM takes it", lead_export)
_of_session("/score", "A session's score", lead_score)
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
