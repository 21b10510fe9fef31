"""/api/lead, /api/score and /api/analytics/leads of a capture bot's API: what became of the sessions of its chats.

They need a token with the scope `read`: a stranger who types somebody's e-mail address becomes that lead. `lead_score`
here is the model `chatbot`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.chat_sessions import (
    UNQUALIFIED,
    ChatSession,
    chat_score,
    flow_of,
    score_json,
    session_of,
    whole_second,
)
from gateway.api.points import plain
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.query_parameters import write_key_parameter
from gateway.store import Row
from projections import chat, queries
from schemas.moment import millis, moment
from scoring.chat.flow import parts_of

CLAIM_LOOKS = 20
"""So often a lead that a session is becoming is looked up, ..."""
CLAIM_PAUSE = 0.1
"""... after so many seconds each."""
DEFAULT_WINDOW, LONGEST_WINDOW = 90, 365
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

Shown = dict[str, Any]
PathSessionId = Annotated[str, Path(description="The session's id.")]
Endpoint = Callable[..., Awaitable[Response]]

router = APIRouter(prefix="/api", tags=["capture bot"], dependencies=[Depends(write_key_parameter)])


async def lead_summary(request: Request, session_id: PathSessionId) -> Response:
    session, lead, score = await _lead(request, session_id)
    fields = lead["fields"]
    return JsonAnswer(
        {
            "session_id": _plain_id(session_id),
            "lead_data": {
                **{name: lead[name] for name in ("name", "email", "phone")},
                **{name: fields.get(name) for name in PROFILE},
                **score_json(score, lead),
                "utm_source": session.started and session.started["campaign_source"],
                "created_at": _opened(session, lead),
                "updated_at": whole_second(lead["as_of"]),
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
            **score_json(score, lead, "lead_type"),
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
            **score_json(score, lead),
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
            "as_of": whole_second(now),
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


async def _lead(request: Request, path_id: str) -> tuple[ChatSession, Row, Row | None]:
    """The session, its lead, and that lead's score by the chat. A session that is being claimed is looked up again,
    since its identity may show before its lead.
    """
    services, session_id = services_of(request), _plain_id(path_id)
    tenant, caller = authorized_caller(request)
    for _ in range(CLAIM_LOOKS):
        session = await session_of(services, caller, session_id)
        if session.lead_id is None:
            raise RequestProblem(
                404, "no session has this id: POST /api/session/start begins one", field="session_id"
            )
        if rows := await services.store.rows(queries.lead(tenant, session.lead_id)):
            return session, rows[0], await chat_score(services, tenant, session.lead_id)
        await asyncio.sleep(CLAIM_PAUSE)
    raise RequestProblem(503, "the session is being assigned to a lead: try again", retry_after_s=1)


def _opened(session: ChatSession, lead: Row) -> datetime:
    return whole_second(lead["created_at"] if session.started is None else session.started["occurred_at"])


def _plain_id(path_id: str) -> str:
    """The address may end with a slash."""
    return path_id.removesuffix("/")


def _of_session(path: str, summary: str, endpoint: Endpoint) -> None:
    """The session's id may end with a slash, so one address takes both forms."""
    router.add_api_route(
        f"{path}/{{session_id:path}}",
        endpoint,
        methods=["GET"],
        summary=summary,
        responses=answer_docs(EXAMPLES[path[1:]], summary),
    )


_of_session("/lead/summary", "A session's lead with its score", lead_summary)
_of_session("/lead/export", "A session's lead as a CRM takes it", lead_export)
_of_session("/score", "A session's score", lead_score)
for _path in ("/analytics/leads", "/analytics/leads/"):
    router.add_api_route(
        _path,
        chat_analytics,
        methods=["GET"],
        summary="What the chat's sessions came to",
        include_in_schema=not _path.endswith("/"),
        responses=answer_docs(EXAMPLES["analytics/leads"], "Rates are shares from 0 to 1, times in seconds."),
    )
